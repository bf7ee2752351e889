package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "The agent at a glance", Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			agent, err := a.agent()
			if err != nil {
				return err
			}
			defer agent.Close()
			status, err := agent.Status(cmd.Context())
			if err != nil {
				return failed("read the agent's status", err)
			}
			return show(a, status, (*app).printStatus)
		},
	}
}

func (a *app) printStatus(s api.Status) {
	state := a.out.paint(green, "ok")
	if len(s.Problems) > 0 {
		state = a.out.paint(yellow, "running, with "+describe.Plural(len(s.Problems), "problem"))
	}
	if s.Hold != nil {
		state = a.out.paint(yellow, "on hold")
		if len(s.Problems) > 0 {
			state += ", with " + describe.Plural(len(s.Problems), "problem")
		}
	}
	a.out.line("agent %s, %s, %s waiting", state, describe.Plural(s.Accounts, "account"), describe.Plural(s.PendingPrompts, "sign-in"))
	if s.Hold != nil {
		a.printHold(s.Hold)
	}
	for _, p := range s.Problems {
		a.out.hang(a.out.paint(yellow, "problem:")+" ", 9, clean(p.Message))
		if p.Hint != "" {
			a.out.hang("hint: ", 6, clean(p.Hint))
		}
	}
	frontEnds := clean(strings.Join(s.FrontEnds, ", "))
	if frontEnds == "" {
		frontEnds = "none"
	}
	a.out.line("")
	a.out.fields("",
		"version", clean(s.Agent.Version),
		"started", fmt.Sprintf("%s, process %d", describe.Ago(s.Agent.StartedAt, a.now()), s.Agent.PID),
		"device key", component(s.DeviceKey),
		"vault key", component(s.VaultKey),
		"browsers", loopbackState(s.Loopback),
		"front ends", frontEnds,
		"screen", describe.Screen(s.Session),
		"verification", a.verificationLine(s),
	)
	if s.PendingPrompts > 0 && s.Hold == nil {
		a.out.line("hint: see what is waiting with: countersign prompt list")
	}
}

// verificationLine names the ways to verify the person that are set up.
func (a *app) verificationLine(s api.Status) string {
	var ways []string
	for _, v := range s.Verification {
		if v.State == "ready" || v.State == "lockout" || v.State == "unavailable" && v.Method == "pin" {
			ways = append(ways, describe.Method(v.Method)+", "+verificationState(v, a.now()))
		}
	}
	line := strings.Join(ways, "; ")
	if line == "" && len(s.Verification) > 0 {
		line = "nothing yet: countersign pin set"
	}
	if s.GraceSeconds > 0 {
		line += "; once shown, it counts for " + describe.Span(time.Duration(s.GraceSeconds)*time.Second)
	}
	return line
}

func component(c api.Component) string {
	state := strings.ReplaceAll(clean(c.State), "_", " ")
	if c.State == "file_permissions_only" {
		state = "protected by file permissions only"
	}
	return clean(c.Kind) + ", " + state
}

func loopbackState(l api.Loopback) string {
	if l.Port == 0 {
		return "not listening: " + strings.ReplaceAll(clean(l.State), "_", " ")
	}
	return fmt.Sprintf("%s on port %d", clean(l.State), l.Port)
}
