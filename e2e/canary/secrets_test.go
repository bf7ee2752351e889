package canary

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/okta"
	"countersign.dev/org/directory"
)

const (
	password   = "Canary-of-the-password-1"
	passphrase = "canary of the passphrase, in words"
	wrongWord  = "Canary-of-a-wrong-password-2"
	pin        = "canary-of-the-PIN-1"
	nextPIN    = "canary-of-another-PIN-2"
	wrongPIN   = "canary-of-a-wrong-PIN-3"
)

// story is the stage of the run: everything between agent, page and org goes
// through a proxy that takes the secrets down.
type story struct {
	t     *testing.T
	cage  cage
	stage *harness.Stage
	agent *harness.Agent
	local *client.Client
	said  bytes.Buffer // what the command line printed
}

func newStory(t *testing.T) *story {
	t.Helper()
	dir := t.TempDir()
	ctx := t.Context()
	s := &story{t: t}
	state := filepath.Join(dir, "org")
	must(t, harness.FoundOrg(ctx, state))
	hash, err := directory.NewHasher(1).Hash(ctx, password)
	must(t, err)
	db, err := harness.OpenOrgDatabase(state)
	must(t, err)
	_, err = db.ExecContext(ctx, `UPDATE users SET password_hash = ?`, string(hash))
	must(t, errors.Join(err, db.Close()))

	ports, err := harness.FreePorts(1)
	must(t, err)
	target := "127.0.0.1:" + strconv.Itoa(ports[0])
	proxy, err := harness.StartProxy(target, nil)
	must(t, err)
	t.Cleanup(proxy.Close)
	proxy.Observe(s.cage.watch)
	file := filepath.Join(dir, "passphrase")
	must(t, os.WriteFile(file, []byte(passphrase+"\n"), 0o600))
	s.stage, err = harness.NewStage(ctx, programs, harness.StageOptions{
		Dir: dir, Listen: target,
		OrgArgs:   []string{"--base-url", "http://localhost:" + proxy.Port(), "--log-level", "debug"},
		AgentArgs: []string{"--vault-key", "passphrase", "--passphrase-file", file, "--log-level", "debug"},
	})
	must(t, err)
	t.Cleanup(func() {
		if err := s.stage.Stop(); err != nil {
			t.Error(err)
		}
	})
	s.agent, err = s.stage.StartAgent(ctx)
	must(t, err)
	s.local = client.New(s.agent.Socket)
	s.cage.add("admin token", s.stage.Org.AdminToken)
	s.cage.add("password", password)
	s.cage.add("password", wrongWord)
	s.cage.add("passphrase", passphrase)
	for _, one := range []string{pin, nextPIN, wrongPIN} {
		s.cage.add("PIN", one)
	}
	return s
}

// run runs a command line that may fail, and keeps what it prints.
func (s *story) run(args ...string) {
	s.t.Helper()
	s.tell("", args...)
}

// tell is run with something on standard input.
func (s *story) tell(in string, args ...string) {
	s.t.Helper()
	cmd := s.agent.Command(s.t.Context(), args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	fmt.Fprintf(&s.said, "$ %s\n%s", args[0], out)
}

func (s *story) link(user string) string {
	s.t.Helper()
	link, err := s.stage.Org.EnrolmentLink(s.t.Context(), user)
	must(s.t, err)
	parsed, err := okta.ParseEnrolmentLink(link)
	must(s.t, err)
	s.cage.add("token of a link", parsed.Token.Reveal())
	return link
}

// page begins a sign-in and proves the password.
func (s *story) page(flow *harness.SignIn, user, word string) *harness.Transaction {
	s.t.Helper()
	address := strings.Replace(flow.AuthorizeURL(), "scope=", "scope=offline_access+", 1) // a refresh token, too
	page, err := s.stage.Org.BeginAt(s.t.Context(), address)
	must(s.t, err)
	_ = page.Choice(s.t.Context(), user, word) // a wrong one is refused
	return page
}

func (s *story) flow(app string) *harness.SignIn {
	return s.stage.Org.NewSignIn(app, "", "http://localhost:3000/callback")
}

// hand gives the page's challenge to the agent.
func (s *story) hand(page *harness.Transaction) {
	s.t.Helper()
	body, err := json.Marshal(map[string]string{"challengeRequest": page.Last.CurrentAuthenticator.Value.ContextualData.Challenge.Value.Request})
	must(s.t, err)
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/challenge", s.agent.Port), bytes.NewReader(body))
	must(s.t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", s.stage.Org.URL)
	res, err := http.DefaultClient.Do(r)
	must(s.t, err)
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
}

// answer decides the next prompt by one that is made from it.
func (s *story) answer(ctx context.Context, decide func(api.Prompt) api.Decision) (wait func()) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	events, err := s.local.Subscribe(ctx, "canary")
	must(s.t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range events {
			if err != nil {
				return
			}
			if e.Type == "prompt" && e.Prompt != nil {
				_, _ = s.local.DecidePrompt(ctx, e.Prompt.ID, decide(*e.Prompt))
				return
			}
		}
	}()
	return func() { <-done; cancel() }
}

// finish takes a page that was approved to its tokens.
func (s *story) finish(page *harness.Transaction, flow *harness.SignIn) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for page.Last.Success == nil {
		must(s.t, ctx.Err())
		must(s.t, page.Poll(ctx))
	}
	to, _, err := page.Leave(ctx)
	must(s.t, err)
	u, err := url.Parse(to)
	must(s.t, err)
	tokens, err := flow.Redeem(ctx, u.Query().Get("code"))
	must(s.t, err)
	s.cage.add("id token", tokens.IDToken)
	if _, err := flow.Redeem(ctx, u.Query().Get("code")); err == nil { // once only
		s.t.Error("a code was redeemed twice")
	}
}

// C8: the stories of the product, at debug level, with secrets that can be told:
// none of them is in what the programs print, log, record, hand out or store,
// in any form.
func TestC8CanariesAtDebugLevel(t *testing.T) {
	s := newStory(t)
	ctx := t.Context()
	approve := func(p api.Prompt) api.Decision { return api.Decision{Action: "approve"} }

	// Enrolments: by link, by one that is used up, by a sign-in in the browser.
	s.tell(pin+"\n", "pin", "set", "--stdin")
	link := s.link(harness.Alice)
	s.tell(link+"\n"+wrongPIN+"\n", "account", "add", "-", "--pin-stdin")
	s.tell(link+"\n"+pin+"\n", "account", "add", "-", "--pin-stdin")
	s.run("account", "add", link)
	s.run("account", "add", s.link(harness.Bob), "--json")
	s.run("account", "add", strings.Replace(s.link(harness.Bob), "localhost", "127.0.0.1", 1))
	begun, err := s.local.BeginEnrolment(ctx, api.BeginEnrolment{Org: s.stage.Org.URL})
	must(t, err)
	at, err := s.stage.Org.BeginAt(ctx, begun.URL)
	must(t, err)
	must(t, at.Choice(ctx, harness.Bob, password))
	if at.Last.Success == nil { // who has a device has to use it
		must(t, at.Choose(ctx, "signed_nonce"))
		wait := s.answer(ctx, approve)
		s.hand(at)
		must(t, at.Poll(ctx))
		_ = wait // not asked, maybe
	}
	back, _, err := at.Leave(ctx)
	must(t, err)
	res, err := http.Get(back)
	must(t, err)
	res.Body.Close()
	_, err = s.local.AwaitEnrolment(ctx, begun.ID)
	must(t, err)

	// Sign-ins: unasked, approved, denied, by push, by code; wrong words.
	flow := s.flow("demo-web")
	page := s.page(flow, harness.Alice, password)
	must(t, page.Choose(ctx, "signed_nonce"))
	s.hand(page)
	s.finish(page, flow)
	s.page(s.flow("demo-web"), harness.Alice, wrongWord)
	for _, action := range []string{"approve", "deny"} {
		flow = s.flow("demo-strict")
		page = s.page(flow, harness.Alice, password)
		must(t, page.Choose(ctx, "signed_nonce"))
		wait := s.answer(ctx, func(api.Prompt) api.Decision { return api.Decision{Action: action} })
		s.hand(page)
		wait()
		if action == "approve" {
			s.finish(page, flow)
		}
	}
	// By the PIN, after a wrong one.
	flow = s.flow("demo-uv")
	page = s.page(flow, harness.Alice, password)
	must(t, page.Choose(ctx, "signed_nonce"))
	verified := s.answer(ctx, func(p api.Prompt) api.Decision {
		if _, err := s.local.DecidePrompt(ctx, p.ID, api.Decision{Action: "approve", PIN: api.PIN(wrongPIN)}); err == nil {
			t.Error("a wrong PIN approved")
		}
		return api.Decision{Action: "approve", PIN: api.PIN(pin)}
	})
	s.hand(page)
	verified()
	s.finish(page, flow)
	s.tell(wrongPIN+"\n"+nextPIN+"\n", "pin", "change", "--stdin")
	s.tell(pin+"\n"+nextPIN+"\n", "pin", "change", "--stdin")

	for _, right := range []bool{true, false} {
		flow = s.flow("demo-strict")
		page = s.page(flow, harness.Alice, password)
		number := make(chan string, 1)
		wait := s.answer(ctx, func(p api.Prompt) api.Decision {
			want := <-number
			for _, n := range p.Numbers {
				if (n == want) == right {
					return api.Decision{Action: "approve", Number: n}
				}
			}
			return api.Decision{Action: "deny"}
		})
		must(t, page.Choose(ctx, "push"))
		number <- page.Number()
		wait()
		if right {
			s.finish(page, flow)
		}
	}
	s.run("code", "get", harness.Alice)
	code, err := s.agent.Code(ctx, harness.Alice)
	must(t, err)
	page = s.page(s.flow("demo-web"), harness.Alice, password)
	must(t, page.Choose(ctx, "totp"))
	_ = page.Submit(ctx, "challenge-authenticator", map[string]any{"credentials": map[string]string{"totp": code, "passcode": code}})

	// Errors that might quote what they were given.
	for _, path := range []string{"/oauth2/v1/token?token=canary-in-a-query-1", "/nowhere?code=canary-in-a-query-2", "/oauth2/v1/authorize?token=canary-in-a-query-3"} {
		if res, err := http.Get(s.stage.Org.URL + path); err == nil {
			res.Body.Close()
		}
	}
	wrong := harness.RunningOrg(s.stage.Org.URL, "canary-of-a-wrong-admin-token", "")
	_ = wrong.Administer(ctx, http.MethodPost, "/api/v1/users/"+harness.Alice+"/enrolment-links", nil, nil)
	_ = wrong.Administer(ctx, http.MethodPost, okta.AppAuthenticatorsPath, map[string]string{"sharedSecret": "canary-of-a-seed-nobody-has"}, nil)

	// The documents of the local API, as people and scripts see them.
	for _, args := range [][]string{
		{"status"}, {"account", "list"}, {"prompt", "list"}, {"code", "list"}, {"audit"}, {"doctor"}, {"device"}, {"key", "list"}, {"verification", "list"},
	} {
		s.run(args...)
		s.run(append(args, "--json")...)
	}
	accounts, err := s.local.Accounts(ctx)
	must(t, err)
	for _, a := range accounts.Accounts {
		s.run("account", "show", a.ID, "--json")
	}
	s.run("account", "remove", accounts.Accounts[0].ID)

	// What others on the machine can see of the processes.
	for _, p := range []*harness.Process{s.agent.Process, s.stage.Org.Process} {
		for _, file := range []string{"cmdline", "environ"} {
			if content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID(), file)); err == nil {
				s.cage.search(t, p.Name+" "+file, content, nil)
			}
		}
	}
	must(t, s.stage.Stop())

	kinds := s.cage.kinds()
	t.Log(kinds)
	for _, what := range []string{"admin token", "password", "passphrase", "PIN", "token of a link", "seed of the codes", "access token", "refresh token", "authorization code",
		"state handle", "state token", "code verifier", "signed answer", "assertion", "SSWS authorization", "cookie sid"} {
		if kinds[what] == 0 {
			t.Errorf("no %s was ever seen: this proves nothing about it", what)
		}
	}
	s.cage.search(t, "command line", s.said.Bytes(), nil)
	for _, p := range []*harness.Process{s.agent.Process, s.stage.Org.Process} {
		log, err := os.ReadFile(p.Log)
		must(t, err)
		if p == s.agent.Process && !bytes.Contains(log, []byte("level=DEBUG")) || len(log) == 0 {
			t.Errorf("%s logged nothing at debug level", p.Name)
		}
		s.cage.search(t, p.Name+" log", log, nil)
	}
	if n := s.cage.searchFiles(t, s.agent.State, nil); n < 4 {
		t.Errorf("the agent's state has %d files", n)
	}
	// The org keeps its admin token in a file, and must know what codes are made
	// from; both are readable by the org alone.
	seed := map[string]string{"seed of the codes": "needed in clear to check a code"}
	if n := s.cage.searchFiles(t, filepath.Join(s.stage.Dir, "org"), map[string]map[string]string{
		"admin-token": {"admin token": "its place"}, "org.db": seed, "org.db-wal": seed,
	}); n < 2 {
		t.Errorf("the org's state has %d files", n)
	}
}
