package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"countersign.dev/e2e/harness"
)

// children are the processes below another that run a program of this name.
func children(t *testing.T, pid int, name string) []int {
	t.Helper()
	found, err := harness.Descendants(pid)
	must(t, err)
	var list []int
	for _, p := range found {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p)); err == nil && filepath.Base(exe) == name {
			list = append(list, p)
		}
	}
	return list
}

// mustAsk waits until a sign-in shows in the menu, and in a notification or,
// where there is nobody to show one, in a dialog.
func (d *desk) mustAsk(t *testing.T, ctx context.Context) {
	t.Helper()
	_, err := d.tray.Await(ctx, "Sign in to")
	must(t, err)
	_, err = d.AwaitFrame(ctx, "--class", noteClass+"|"+dialogClass)
	must(t, err)
}

// Whatever breaks of the desktop while a push waits, nothing is approved by it,
// and the terminal still approves.
func TestDesktopFaults(t *testing.T) {
	t.Parallel()
	whole := t
	d := sit(t, deskOptions{number: "ALWAYS"})
	for _, fault := range []struct {
		name string
		do   func(t *testing.T, ctx context.Context)
		mend func(t *testing.T, ctx context.Context)
	}{
		{"the dialog is killed", func(t *testing.T, ctx context.Context) {
			d.openFromNote(t, ctx)
			for _, pid := range children(t, d.agent.PID(), "zenity") {
				must(t, syscall.Kill(pid, syscall.SIGKILL))
			}
			must(t, d.NoFrame(ctx, "--class", dialogClass))
			d.note(t, ctx) // and it can be opened again
		}, func(t *testing.T, ctx context.Context) {}},
		{"the notification service is killed", func(t *testing.T, ctx context.Context) {
			d.notifications.Kill()
			d.dialog(t, ctx) // opens by itself now
		}, func(t *testing.T, ctx context.Context) {
			var err error
			d.notifications, err = d.StartNotifications(ctx)
			must(t, err)
		}},
		{"the panel is killed", func(t *testing.T, ctx context.Context) {
			d.panel.Kill()
			_, err := d.tray.Await(ctx, "Sign in to")
			must(t, err)
		}, func(t *testing.T, ctx context.Context) {
			var err error
			d.panel, err = d.StartPanel(ctx, true)
			must(t, err)
		}},
		{"the tray is killed", func(t *testing.T, ctx context.Context) {
			d.tray.Kill()
		}, func(t *testing.T, ctx context.Context) { d.startTray(whole) }},
		{"the session bus ends", func(t *testing.T, ctx context.Context) {
			d.Session.Kill()
		}, func(t *testing.T, ctx context.Context) {
			must(t, d.Session.Start(ctx))
			d.notifications.Kill()
			d.panel.Kill()
			var err error
			d.panel, err = d.StartPanel(ctx, true)
			must(t, err)
			d.notifications, err = d.StartNotifications(ctx)
			must(t, err)
			d.heard, err = d.Session.Overhear()
			must(t, err)
			must(t, d.tray.Reconnect(ctx, d.Desktop))
		}},
		{"the agent is restarted", func(t *testing.T, ctx context.Context) {
			must(t, d.agent.Stop())
			must(t, d.tray.AwaitTooltip(ctx, "the agent is not running"))
			must(t, d.agent.Restart(ctx))
		}, func(t *testing.T, ctx context.Context) {}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			ctx := deadline(t)
			tx := d.push(t, ctx, "demo-strict")
			d.mustAsk(t, ctx)
			fault.do(t, ctx)
			mustStillWait(t, tx)
			outcome, err := d.agent.Decide(ctx, "approve", "--number", tx.Number()).Outcome(ctx)
			must(t, err)
			if outcome.Outcome != "approved" {
				t.Errorf("the terminal says %+v", outcome)
			}
			mustSignIn(t, ctx, tx)
			fault.mend(t, ctx)
			d.quiet(t, ctx)
		})
	}
}

// No bus, no display: the agent runs, says so, and the terminal approves.
func TestDesktopOfNothing(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{AgentArgs: []string{"--desktop", "auto"}})
	must(t, stage.Org.NumberChallenge(deadline(t), "NEVER"))
	agent := newAgent(t, stage, nil, harness.Alice)
	ctx := deadline(t)
	s, err := agent.Status(ctx)
	must(t, err)
	if len(s.FrontEnds) != 0 {
		t.Errorf("front ends: %v", s.FrontEnds)
	}
	out, err := agent.Run(ctx, "doctor")
	if !strings.Contains(string(out), "no notification") || !strings.Contains(string(out), "no dialog") {
		t.Errorf("doctor says, %v:\n%s", err, out)
	}
	d := &desk{stage: stage}
	tx := d.push(t, ctx, "demo-strict")
	outcome, err := agent.Decide(ctx, "approve").Outcome(ctx)
	must(t, err)
	if outcome.Outcome != "approved" {
		t.Errorf("the terminal says %+v", outcome)
	}
	mustSignIn(t, ctx, tx)
}
