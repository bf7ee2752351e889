package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
)

// adding is a `countersign account add ORG_URL --no-browser`, or another
// command that takes a sign-in, which waits for the person.
type adding struct {
	url  string // to open in the browser
	cmd  *exec.Cmd
	rest chan string // what it says after the address
}

var address = regexp.MustCompile(`https?://\S+`)

// addAccount starts the command and reads the address off it.
func addAccount(t *testing.T, ctx context.Context, a *harness.Agent, args ...string) *adding {
	t.Helper()
	return signInFor(t, ctx, a, "", append([]string{"account", "add"}, args...)...)
}

// signInFor starts a command that takes a sign-in, tells it what it asks on
// standard input, and reads the address off it.
func signInFor(t *testing.T, ctx context.Context, a *harness.Agent, in string, args ...string) *adding {
	t.Helper()
	add := &adding{cmd: a.Command(ctx, args...), rest: make(chan string, 1)}
	out, w := io.Pipe()
	add.cmd.Stdin, add.cmd.Stdout, add.cmd.Stderr = strings.NewReader(in), w, w
	must(t, add.cmd.Start())
	ended := make(chan struct{})
	go func() { add.cmd.Wait(); w.Close(); close(ended) }()
	t.Cleanup(func() { add.cmd.Process.Kill(); <-ended })
	found := make(chan string, 1)
	go func() {
		var rest strings.Builder
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if url := address.FindString(lines.Text()); url != "" && strings.Contains(url, "/authorize") {
				found <- url
			}
			rest.WriteString(lines.Text() + "\n")
		}
		close(found)
		add.rest <- rest.String()
	}()
	select {
	case url, ok := <-found:
		if !ok {
			t.Fatalf("%v ended without an address:\n%s", args, <-add.rest)
		}
		add.url = url
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	}
	return add
}

// end waits for the command and returns all that it said.
func (a *adding) end(t *testing.T, ctx context.Context) string {
	t.Helper()
	select {
	case said := <-a.rest:
		return said
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	}
	return ""
}

func accounts(t *testing.T, a *harness.Agent) []api.Account {
	t.Helper()
	out, err := a.Run(deadline(t), "account", "list", "--json")
	must(t, err)
	var list api.AccountList
	must(t, json.Unmarshal(out, &list))
	return list.Accounts
}

// A person adds an account from the browser: the command opens the org's
// sign-in page, they sign in there, and the device is enrolled. A second
// device takes the first one's word besides the password.
func TestAccountAddedInTheBrowser(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	first := newAgent(t, stage, stage.Ports[:1])
	second := newAgent(t, stage, stage.Ports[1:])
	ctx := deadline(t)

	page := newPage(t)
	add := addAccount(t, ctx, first, stage.Org.URL, "--no-browser")
	must(t, page.Open(ctx, add.url))
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.WaitForURL(ctx, "http://127.0.0.1:"))
	must(t, page.WaitForText(ctx, "close this page"))
	if said := add.end(t, ctx); !strings.Contains(said, harness.Alice) {
		t.Errorf("the command does not say who was enrolled:\n%s", said)
	}
	list := accounts(t, first)
	if len(list) != 1 || list[0].User != harness.Alice || list[0].State != "active" || len(list[0].Methods) != 3 {
		t.Fatalf("accounts: %+v", list)
	}

	page = newPage(t)
	add = addAccount(t, ctx, second, stage.Org.URL, "--no-browser", "--username", harness.Alice)
	must(t, page.Open(ctx, add.url))
	must(t, page.GoOn(ctx, harness.Alice, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the way back to the agent", "location.href.startsWith('http://127.0.0.1:')"))
	must(t, page.WaitForText(ctx, "close this page"))
	add.end(t, ctx)
	if list := accounts(t, second); len(list) != 1 || list[0].User != harness.Alice {
		t.Fatalf("accounts: %+v", list)
	}
}

// A11: an address that somebody else made, or a code brought back twice, adds
// nothing; and a person who gives up leaves nothing behind.
func TestAccountAddGivenUp(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil)
	ctx := deadline(t)
	add := addAccount(t, ctx, agent, stage.Org.URL, "--no-browser")
	page := newPage(t)
	must(t, page.Open(ctx, add.url))
	must(t, page.WaitFor(ctx, harness.FieldIdentifier))
	must(t, add.cmd.Process.Signal(os.Interrupt))
	if said := add.end(t, ctx); !strings.Contains(said, "interrupted") {
		t.Errorf("it said:\n%s", said)
	}
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.Until(ctx, "the way back, which leads nowhere", "location.href.startsWith('http://127.0.0.1:') || location.href.startsWith('chrome-error:')"))
	if list := accounts(t, agent); len(list) != 0 {
		t.Fatalf("accounts: %+v", list)
	}
}
