package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

// proof is how the person shows that it is them, as the command line has it.
type proof struct {
	stdin bool    // --pin-stdin
	by    string  // --by METHOD
	typed api.PIN // read from standard input already
}

func (p *proof) flags(c *cobra.Command) {
	c.Flags().BoolVar(&p.stdin, "pin-stdin", false, "read the PIN from standard input")
	c.Flags().StringVar(&p.by, "by", "", "show that it is you by this: pin, fingerprint, password or security_key")
}

// need is whether something takes a verification.
type need int

const (
	may  need = iota // it is better with
	must             // it is not done without
)

// waysOf are the ways to verify the person: the PIN, and the others that are
// ready. An agent that does not say has none.
func waysOf(ctx context.Context, agent *client.Client) (pin api.Verification, others []string) {
	list, err := agent.Verification(ctx)
	if err != nil {
		return api.Verification{}, nil
	}
	for _, v := range list.Verification {
		switch {
		case v.Method == "pin":
			pin = v
		case v.State == "ready":
			others = append(others, v.Method)
		}
	}
	return pin, others
}

// proving calls do with what verifies the person: what the command line says, or
// at a terminal what they type, again and again while it is wrong. It may be
// nothing, for the agent to refuse or to do without.
func (a *app) proving(ctx context.Context, agent *client.Client, p proof, n need, do func(pin api.PIN, method string) error) error {
	if p.stdin && p.typed == nil {
		line, err := readLine(a.in, maxPIN)
		if err != nil {
			return err
		}
		p.typed = api.PIN(line)
	}
	if p.typed != nil {
		defer clear(p.typed)
		return do(p.typed, p.by)
	}
	_, person := a.terminal()
	switch {
	case p.by == "pin" && person: // it is asked for
		n = must
	case p.by != "":
		return a.provingBy(ctx, agent, p.by, do)
	case !person:
		return do(nil, "")
	}
	pin, others := waysOf(ctx, agent)
	if pin.State != "ready" {
		if n == must && len(others) > 0 && p.by == "" {
			return a.provingBy(ctx, agent, others[0], do)
		}
		return do(nil, p.by)
	}
	question := "PIN:"
	if n == may {
		question = "PIN, or Enter to go on without:"
	}
	for {
		typed, err := a.askSecret(ctx, question)
		if err != nil {
			return err
		}
		if len(typed) == 0 && n == must {
			return errors.New("no PIN was typed")
		}
		err = do(typed, "")
		clear(typed)
		if err == nil || !a.mayTryAgain(err) {
			return err
		}
	}
}

// provingBy calls do with a method besides the PIN.
func (a *app) provingBy(ctx context.Context, agent *client.Client, method string, do func(pin api.PIN, method string) error) error {
	if method == "security_key" {
		return a.byKey(ctx, agent, func(pin api.PIN) error { return do(pin, method) })
	}
	a.errs.line("show that it is you, by your %s", describe.Method(method))
	return do(nil, method)
}
