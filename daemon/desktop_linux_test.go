package daemon

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/bus/bustest"
	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// notified is a private session bus with a notification service.
func notified(t *testing.T) *bustest.Notifications {
	t.Helper()
	address := bustest.Start(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	return bustest.NewNotifications(t, address, "actions", "body", "body-markup")
}

// A page's sign-in is approved, or denied, by a press on the notification, and
// the org hears of it.
func TestAnsweredOnTheDesktop(t *testing.T) {
	for label, consent := range map[string]okta.Consent{"Approve": okta.ConsentApproved, "Deny": okta.ConsentDenied} {
		t.Run(label, func(t *testing.T) {
			service := notified(t)
			org := oktatest.NewOrg(t)
			c := onDesktop(t, nil)
			c.surfaces.Now = calm()
			a := startAgent(t, c)
			a.enrol(t, org)
			if s, err := a.client.Status(t.Context()); err != nil || !slices.Equal(s.FrontEnds, []string{"notification"}) {
				t.Errorf("%v, %v", s.FrontEnds, err)
			}
			status := make(chan int, 1)
			go func() {
				status <- a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) {
					c.UserMediation, c.AppInstanceName = okta.NeedRequired, "Pay & <b>roll</b>"
				}))
			}()
			note := service.One()
			if note.Summary != "Sign in to Pay & <b>roll</b>?" || !strings.Contains(note.Body, oktatest.Login) || note.Key("This wasn't me") != "" {
				t.Errorf("%+v", note)
			}
			service.Press(note.ID, note.Key(label))
			if got := <-status; got != http.StatusOK {
				t.Errorf("status %d", got)
			}
			service.None()
			if got := lastClaims(t, org); got.Context.UserConsent != consent {
				t.Errorf("%+v", got.Context)
			}
		})
	}
}

// A push with a number and a PIN: the notification opens the dialog, and the
// tray's wish does, too; a locked screen puts everything away.
func TestAskedInADialog(t *testing.T) {
	service := notified(t)
	windows := &fakeWindows{}
	questions, answers := make(chan dialog.Question), make(chan dialog.Answer)
	windows.asked = func(ctx context.Context, q dialog.Question) (dialog.Answer, error) {
		select {
		case questions <- q:
		case <-ctx.Done():
			return dialog.Answer{}, ctx.Err()
		}
		select {
		case a := <-answers:
			return a, nil
		case <-ctx.Done():
			close(questions)
			return dialog.Answer{}, ctx.Err()
		}
	}
	question := func() dialog.Question {
		t.Helper()
		select {
		case q := <-questions:
			return q
		case <-time.After(30 * time.Second):
			t.Fatalf("no question; on the screen: %+v", service.Shown())
			return dialog.Question{}
		}
	}
	org := oktatest.NewOrg(t)
	a, _ := quickly(t, org, onDesktop(t, windows))
	events := a.subscribed(t)
	list, err := a.client.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	account := list.Accounts[0]
	org.PushChallenge(account.EnrolmentID, func(c *okta.Challenge) {
		c.UserVerification, c.UserMediation = okta.NeedRequired, okta.NeedRequired
	})
	p := nextPrompt(t, events)
	note := service.One()
	if note.Key("Approve") != "" || note.Key("Deny") != "" || note.Key("Open") != "default" {
		t.Errorf("%+v", note)
	}
	service.Press(note.ID, "default")
	service.None() // or else the one that comes when the dialog is closed is not to be told from it
	if q := question(); q.Entry != dialog.PIN || q.Heading != note.Summary || !q.Report {
		t.Errorf("%+v", q)
	}
	answers <- dialog.Answer{Verdict: dialog.Approve, PIN: api.PIN(wrongPIN)}
	if q := question(); q.Entry != dialog.PIN || !strings.HasPrefix(q.Problem, "The PIN is wrong, ") {
		t.Errorf("%+v", q)
	}
	answers <- dialog.Answer{} // closed
	service.One()
	if err := a.client.ShowPrompt(t.Context(), p.ID); err != nil {
		t.Error(err)
	}
	question()
	service.None()
	if refused := refusalOf(t, a.client.ShowPrompt(t.Context(), "nonsense")); refused.Code != "prompt_unknown" {
		t.Errorf("%+v", refused)
	}
	answers <- dialog.Answer{Verdict: dialog.Approve, PIN: api.PIN(testPIN)}
	until(t, "the answer", func() bool { return len(org.Answers()) > 0 })
	service.None()
	if got := lastClaims(t, org); got.Context.UserConsent != okta.ConsentApprovedUserVerification {
		t.Errorf("%+v", got.Context)
	}
	if refused := refusalOf(t, a.client.ShowPrompt(t.Context(), p.ID)); refused.Code != "prompt_decided" {
		t.Errorf("%+v", refused)
	}

	if err := a.client.ShowDoctor(t.Context()); err != nil {
		t.Error(err)
	}
	until(t, "the report", func() bool { return len(windows.tells()) == 1 })
	if lines := windows.tells()[0]; lines[0] != "Countersign doctor" || !slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "ok: front ends: 3 can ask you: cli, dialog, notification")
	}) {
		t.Errorf("%q", lines)
	}

	org.PushChallenge(account.EnrolmentID, func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired })
	p = nextPrompt(t, events)
	if err := a.client.ShowPrompt(t.Context(), p.ID); err != nil {
		t.Error(err)
	}
	question()
	a.lock()
	if _, open := <-questions; open {
		t.Error("asked behind the lock")
	}
	service.None()
	if refused := refusalOf(t, a.client.ShowPrompt(t.Context(), p.ID)); refused.Code != "on_hold" {
		t.Errorf("%+v", refused)
	}
	a.unlock()
	service.One()
}
