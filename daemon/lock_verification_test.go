package daemon

import (
	"context"
	"net/http"
	"testing"
	"time"

	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
	"countersign.dev/okta/oktatest"
)

// waitsForAFinger is a service whose reader waits for a finger that never comes.
type waitsForAFinger struct {
	verifier
	begun chan struct{}
}

func (w waitsForAFinger) Verify(ctx context.Context, _ verification.Request) (verification.Verified, error) {
	w.begun <- struct{}{}
	<-ctx.Done()
	return verification.Verified{}, verification.ErrCancelled
}

// C3: what the screen's lock finds waiting for a finger, or for the system's
// password, it ends: the touch that opens the screen is an answer to nothing
// else, and the locker gets the reader.
func TestC3LockEndsAVerificationThatWaits(t *testing.T) {
	for name, leave := range map[string]func(*agent){
		"lock":  func(a *agent) { a.lock() },
		"sleep": func(a *agent) { desk{a.Daemon}.Sleep() },
	} {
		t.Run(name, func(t *testing.T) {
			a := startAgent(t, testConfig(t))
			a.enrol(t, oktatest.NewOrg(t))
			a.heardFirst()
			core := *a.core.Load()
			reader := waitsForAFinger{core.verification, make(chan struct{})}
			core.verification = reader
			a.core.Store(&core)
			events := a.subscribed(t)
			asked := make(chan error, 1)
			go func() {
				_, err := a.prompts.Ask(t.Context(), prompt.Prompt{
					Kind: "push", App: "Payroll", Account: "acc", ExpiresAt: time.Now().Add(time.Minute),
					UserVerification: prompt.VerificationRequired, Methods: []string{"fingerprint"},
				})
				asked <- err
			}()
			e := <-events
			for e.Type != "prompt" {
				e = <-events
			}
			ends := map[string]func() error{
				"decision": func() error {
					_, err := front{a.Daemon}.DecidePrompt(t.Context(), e.Prompt.ID, api.Decision{Action: "approve", Verification: "fingerprint"}, peer.Self())
					return err
				},
				"beginning": func() error {
					_, err := front{a.Daemon}.present(t.Context(), &core, "a purpose", "A reason", audit.Record{}, nil, "fingerprint")
					return err
				},
			}
			ended := make(chan error, len(ends))
			for _, end := range ends {
				go func() { ended <- end() }()
				<-reader.begun
			}
			leave(a)
			for range ends {
				select {
				case err := <-ended:
					if r := refusalOf(t, err); r.Code != "verification_ended" || r.Status != http.StatusForbidden {
						t.Errorf("%+v", r)
					}
				case <-time.After(10 * time.Second):
					t.Fatal("the reader waits for a finger behind the lock")
				}
			}
			select {
			case err := <-asked:
				t.Errorf("the prompt is over: %v", err)
			default:
			}
		})
	}
}

// A reader does not wait for a finger on behalf of a prompt that is over: the
// touch is for the next one.
func TestVerificationEndsWithThePrompt(t *testing.T) {
	a := startAgent(t, testConfig(t))
	a.enrol(t, oktatest.NewOrg(t))
	core := *a.core.Load()
	reader := waitsForAFinger{core.verification, make(chan struct{})}
	core.verification = reader
	a.core.Store(&core)
	events := a.subscribed(t)
	ctx, withdraw := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		_, err := a.prompts.Ask(ctx, prompt.Prompt{
			Kind: "push", App: "Payroll", Account: "acc", ExpiresAt: time.Now().Add(time.Minute),
			UserVerification: prompt.VerificationRequired, Methods: []string{"fingerprint"},
		})
		asked <- err
	}()
	e := <-events
	for e.Type != "prompt" {
		e = <-events
	}
	decided := make(chan error, 1)
	go func() {
		_, err := front{a.Daemon}.DecidePrompt(t.Context(), e.Prompt.ID, api.Decision{Action: "approve", Verification: "fingerprint"}, peer.Self())
		decided <- err
	}()
	<-reader.begun
	withdraw()
	<-asked
	select {
	case err := <-decided:
		if r := refusalOf(t, err); r.Code != "prompt_withdrawn" {
			t.Errorf("%+v", r)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the reader waits for a finger for nobody")
	}
}
