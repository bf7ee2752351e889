package cli

import (
	"context"
	"errors"
	"sync"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/ipc/describe"
)

// watchKeys tells the person on standard error when a security key waits for
// them, until it is stopped. An agent that does not tell is no reason not to go
// on.
func (a *app) watchKeys(ctx context.Context, agent *client.Client) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	events, err := agent.Subscribe(ctx, "")
	if err != nil {
		return cancel
	}
	var over sync.WaitGroup
	over.Go(func() {
		for e, err := range events {
			if err != nil {
				return
			}
			if e.Type != "security_key" || e.Key == nil {
				continue
			}
			switch {
			case e.Key.State == "touch":
				a.errs.line("touch your security key now: %s", clean(e.Key.Product))
			case e.Key.State == "sample" && e.Key.Left > 0:
				a.errs.line("once more, and again until it knows the finger: %d to go", e.Key.Left)
			}
		}
	})
	return func() { cancel(); over.Wait() }
}

// touching does what a security key may wait for the person for, and says so
// meanwhile.
func (a *app) touching(ctx context.Context, agent *client.Client, do func() error) error {
	stop := a.watchKeys(ctx, agent)
	defer stop()
	return do()
}

// needsKeyPIN says whether an error means that nothing is done without the PIN of
// the security key.
func needsKeyPIN(err error) bool {
	refused := (*api.Error)(nil)
	return errors.As(err, &refused) && refused.Code == "key_pin_needed"
}

// byKey calls do with the PIN of a security key: at first without one, since only
// the key knows whether it wants one, and then with what the person types, again
// and again while it is wrong. Nothing is tried twice by itself.
func (a *app) byKey(ctx context.Context, agent *client.Client, do func(pin api.PIN) error) error {
	err := a.touching(ctx, agent, func() error { return do(nil) })
	if _, person := a.terminal(); !person || !needsKeyPIN(err) {
		return err
	}
	var refused *api.Error
	errors.As(err, &refused)
	question := "PIN of the security key:"
	if refused.TriesLeft > 0 && refused.TriesLeft <= 3 { // it is blocked for good after them
		question = "PIN of the security key, " + describe.Tries(refused.TriesLeft) + ":"
	}
	for {
		pin, err := a.askSecret(ctx, question)
		if err != nil {
			return err
		}
		if len(pin) == 0 {
			return errors.New("no PIN was typed")
		}
		err = a.touching(ctx, agent, func() error { return do(pin) })
		clear(pin)
		if err == nil || !a.mayTryAgain(err) {
			return err
		}
		question = "PIN of the security key:"
	}
}
