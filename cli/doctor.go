package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"countersign.dev/cli/internal/layout"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

func (a *app) doctorCommand() *cobra.Command {
	window := false
	c := &cobra.Command{
		Use: "doctor [loopback]", Short: "Find out what is wrong and how to mend it",
		Args: cobra.MatchAll(takes(0, 1), oneOf), ValidArgs: []string{"loopback"},
		Long: "Check everything the agent needs, or only the way in for browsers (loopback), name what is wrong\nand how to mend it. Works without the agent, too.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !window {
				return a.doctor(cmd.Context(), strings.Join(args, ""))
			}
			if len(args) > 0 {
				return usageError(cmd, errors.New("a window shows everything: leave the topic out"))
			}
			return a.doctorWindow(cmd.Context())
		},
	}
	c.Flags().BoolVar(&window, "window", false, "show what the agent says of itself in a window on the desktop")
	return c
}

// doctorWindow has the agent show its report on the desktop.
func (a *app) doctorWindow(ctx context.Context) error {
	agent, err := a.agent()
	if err != nil {
		return err
	}
	defer agent.Close()
	if err := agent.ShowDoctor(ctx); err != nil {
		return failed("show the report", err)
	}
	return show(a, shown{Shown: true}, func(a *app, _ shown) {
		a.out.line("%s the report is in a window on the desktop", a.out.paint(green, "shown:"))
	})
}

// doctor joins what the agent knows about itself with what can be seen from
// outside, where the browsers are.
func (a *app) doctor(ctx context.Context, topic string) error {
	agent, err := a.agent()
	if err != nil {
		return err
	}
	defer agent.Close()
	code := exitDone
	var seen outside
	report, err := agent.Doctor(ctx, topic)
	if err != nil {
		code = agentCheck(&report, err)
	} else {
		seen.learn(ctx, agent)
	}
	report.Checks = merge(report.Checks, seen.examine(ctx))

	bad := 0
	for _, c := range report.Checks {
		if c.State == "failed" {
			bad++
		}
	}
	if err := show(a, report, (*app).printReport); err != nil {
		return err
	}
	if code == exitDone && bad > 0 {
		code = exitFailed
	}
	if code == exitDone {
		return nil
	}
	return &failure{tried: "examine the agent", err: errors.New(describe.Plural(bad, "check") + " failed"), code: code}
}

// merge adds what is seen from outside to what the agent says of itself. What
// both say is said once: of the agent's own port by the agent, which knows
// more; of ports that others hold by us, who know whether an agent is there.
func merge(inside, outside []api.Check) []api.Check {
	says := func(state string) bool {
		return slices.ContainsFunc(inside, func(c api.Check) bool { return c.State == state && c.Name == "loopback port" })
	}
	outside = slices.DeleteFunc(outside, func(c api.Check) bool {
		return (c.Name == "loopback_port" || c.Name == "loopback_page") && says(c.State)
	})
	inside = slices.DeleteFunc(inside, func(c api.Check) bool {
		return slices.ContainsFunc(outside, func(o api.Check) bool {
			return strings.ReplaceAll(c.Name, " ", "_") == o.Name && strings.HasPrefix(o.Name, "port_")
		})
	})
	return append(inside, outside...)
}

// agentCheck says as a check why the agent could not be asked.
func agentCheck(report *api.Report, err error) (code int) {
	var f *failure
	errors.As(failed("ask the agent", err), &f)
	report.Checks = []api.Check{{Name: "agent", State: "failed", Message: f.err.Error(), Hint: f.hint}}
	return f.code
}

func (a *app) printReport(r api.Report) {
	bad, odd := 0, 0
	for _, c := range r.Checks {
		switch c.State {
		case "failed":
			bad++
		case "warning":
			odd++
		}
	}
	switch {
	case bad > 0:
		a.out.line("%s", a.out.paint(red, describe.Plural(bad, "thing")+" must be mended"))
	case odd > 0:
		a.out.line("%s", a.out.paint(yellow, "works, with "+describe.Plural(odd, "warning")))
	default:
		a.out.line("%s", a.out.paint(green, "everything is in order"))
	}
	colours := map[string]string{"ok": green, "warning": yellow, "failed": red}
	name := func(c api.Check) string { return strings.ReplaceAll(clean(c.Name), "_", " ") }
	widest := 0
	for _, c := range r.Checks {
		widest = max(widest, layout.Width(name(c)))
	}
	widest = min(widest, 30) // an org's address must not push the rest off the screen
	a.out.line("")
	for _, c := range r.Checks {
		under := 7 + 2 + widest + 2
		a.out.hang(a.out.paint(colours[c.State], layout.Pad(clean(c.State), 7))+"  "+a.out.paint(dim, layout.Pad(name(c), widest))+"  ", under, clean(c.Message))
		if c.Hint != "" {
			if a.out.width > 0 && a.out.width-under < 30 {
				under = 2
			}
			a.out.hang(strings.Repeat(" ", under)+"hint: ", under+6, clean(c.Hint))
		}
	}
}

// learn asks the agent where it listens and for which pages.
func (o *outside) learn(ctx context.Context, agent *client.Client) {
	o.running = true
	if status, err := agent.Status(ctx); err == nil {
		o.port = status.Loopback.Port
	}
	if list, err := agent.Accounts(ctx); err == nil {
		for _, acc := range list.Accounts {
			if acc.State == "active" && o.origin == "" {
				o.origin = strings.TrimRight(acc.Org, "/")
			}
		}
	}
}
