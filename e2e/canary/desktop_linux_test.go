package canary

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
)

// C8: a PIN that is typed into the dialog, wrong and right, and a code that the
// tray copies: at debug level they are in no log, not on the message bus, not in
// what others see of the processes, and in no file of the person's.
func TestC8CanariesOnTheDesktop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var c cage
	c.add("PIN", pin)
	c.add("PIN", wrongPIN)
	d, err := harness.StartDesktop(ctx)
	must(t, err)
	defer d.Close()
	heard, err := d.Session.Overhear()
	must(t, err)
	defer heard.Close()
	panel, err := d.Session.PlayPanel()
	must(t, err)
	defer panel.Close()
	notes, err := d.Session.PlayNotifications()
	must(t, err)
	defer notes.Close()
	stage, err := harness.NewStage(ctx, programs, harness.StageOptions{
		AgentEnv: d.Env(), AgentArgs: []string{"--desktop", "auto", "--log-level", "debug"}, OrgArgs: []string{"--log-level", "debug"},
	})
	must(t, err)
	defer func() { must(t, stage.Close()) }()
	must(t, stage.Org.NumberChallenge(ctx, "NEVER"))
	agent, err := stage.StartAgent(ctx)
	must(t, err)
	_, err = agent.Tell(ctx, pin+"\n", "pin", "set", "--stdin")
	must(t, err)
	link, err := stage.Org.EnrolmentLink(ctx, harness.Alice)
	must(t, err)
	_, err = agent.Tell(ctx, link+"\n"+pin+"\n", "account", "add", "-", "--pin-stdin")
	must(t, err)
	tray, err := d.StartTray(ctx, programs, agent)
	must(t, err)
	defer tray.End()

	page, err := stage.Org.BeginTransaction(ctx, stage.Org.NewSignIn("demo-uv", "", "http://localhost:1/callback"))
	must(t, err)
	must(t, page.Choice(ctx, harness.Alice, harness.Password))
	must(t, page.Choose(ctx, "push"))
	select {
	case note := <-notes.Shown:
		must(t, notes.Press(note.ID, "default"))
	case <-ctx.Done():
		t.Fatal("no notification")
	}
	for _, typed := range []string{wrongPIN, pin} {
		window, err := d.AwaitFrame(ctx, "--class", "zenity")
		must(t, err)
		_, err = d.Tool(ctx, "xdotool", "windowactivate", "--sync", window.ID)
		must(t, err)
		time.Sleep(1700 * time.Millisecond) // what is answered sooner than anybody reads does not count
		must(t, d.Type(ctx, typed))
		searchProcesses(t, &c, agent.PID())
		must(t, d.Keys(ctx, "Return"))
		must(t, d.NoWindow(ctx, window.ID))
	}
	for page.Last.Success == nil {
		must(t, ctx.Err())
		must(t, page.Poll(ctx))
	}

	must(t, tray.Press(ctx, "One-time codes", "Copy the code of"))
	var copied string
	for len(copied) != 6 {
		must(t, ctx.Err())
		copied, _ = d.Tool(ctx, "xclip", "-selection", "clipboard", "-out") // an error while there is nothing
	}
	searchProcesses(t, &c, agent.PID(), tray.PID())
	for _, p := range []*harness.Process{agent.Process, tray.Process} {
		log, err := os.ReadFile(p.Log)
		must(t, err)
		c.search(t, p.Name+" log", log, nil)
		if bytes.Contains(log, []byte(copied)) {
			t.Errorf("%s logs the code", p.Name)
		}
	}
	if said := heard.Text(); len(said) == 0 || !bytes.Contains(said, []byte("Notify")) {
		t.Error("nothing was heard on the bus: this proves nothing about it")
	} else {
		c.search(t, "session bus", said, nil)
	}
	for _, dir := range []string{d.Home, agent.State} {
		c.searchFiles(t, dir, nil)
	}
}

// searchProcesses looks at what others on the machine can see of processes and
// of those below them.
func searchProcesses(t *testing.T, c *cage, pids ...int) {
	t.Helper()
	seen := 0
	for _, root := range pids {
		below, err := harness.Descendants(root)
		must(t, err)
		for _, pid := range append(below, root) {
			for _, file := range []string{"cmdline", "environ"} {
				if content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file)); err == nil {
					c.search(t, fmt.Sprintf("%s of %s", file, strings.ReplaceAll(string(content[:min(len(content), 60)]), "\x00", " ")), content, nil)
					seen++
				}
			}
		}
	}
	if seen < 2*len(pids) {
		t.Errorf("only %d files of processes were seen", seen)
	}
}
