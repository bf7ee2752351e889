package signin_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

func back(w *signintest.World, edits ...func(*signin.Backchannel)) signin.Backchannel {
	b := signin.Backchannel{ClientID: signintest.Back, AuthorizationServer: "default", Scopes: []string{"openid"}, LoginHint: "Alice@example.com",
		BindingMessage: "Order 7 + 50% tip / für Zoë", ClientIP: "127.0.0.1", UserAgent: "till/1.0"}
	for _, edit := range edits {
		edit(&b)
	}
	return b
}

func ask(t *testing.T, w *signintest.World, edits ...func(*signin.Backchannel)) okta.Secret {
	t.Helper()
	id, _, err := w.Engine.StartBackchannel(ctx, back(w, edits...))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func outcomeOf(t *testing.T, w *signintest.World, id okta.Secret, want error) signin.Completed {
	t.Helper()
	c, err := w.Engine.CompleteBackchannel(ctx, id, signintest.Back)
	if !errors.Is(err, want) || (want == nil) != (err == nil) || (err != nil && c.UserID != "") {
		t.Fatalf("%+v, %v; want %v", c, err, want)
	}
	return c
}

func TestBackchannel(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware, okta.TransactionLogin, okta.TransactionCIBA)
	plain := w.EnrolPush(t, w.Alice.ID) // takes sign-ins only
	id, expires, err := w.Engine.StartBackchannel(ctx, back(w))
	if err != nil || !expires.Equal(w.Clock.Now().Add(5*time.Minute)) {
		t.Fatal(expires, err)
	}
	if len(plain.Pending(t, w)) != 0 || !slices.Equal(w.Notified(), []string{agent.Enrolment.ID}) {
		t.Error("a device was asked that cannot show the request")
	}
	token := pending(t, w, agent)
	c := signintest.Claims(t, token)
	message, err := url.PathUnescape(c.Context.BindingMessage)
	if err != nil || message != back(w).BindingMessage || strings.ContainsAny(c.Context.BindingMessage, " %/") && !strings.Contains(c.Context.BindingMessage, "%25") {
		t.Errorf("binding message %q, %v", c.Context.BindingMessage, err)
	}
	if c.Context.TransactionType != "CIBA" || c.RequestReferrer != "" || c.Context.ChallengeTextItems != nil || c.Context.UnusualActivities != nil || c.UserMediation != okta.NeedRequired {
		t.Errorf("%+v %+v", c, c.Context)
	}
	outcomeOf(t, w, id, signin.ErrAuthorizationPending)
	if _, err := w.Engine.CompleteBackchannel(ctx, id, signintest.Web); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("another client: %v", err)
	}
	for name, e := range map[string]edit{
		"as a sign-in":     func(r *signintest.Reply) { r.Context.TransactionType = okta.TransactionLogin },
		"of no type":       func(r *signintest.Reply) { r.Context.TransactionType = "" },
		"of another type":  func(r *signintest.Reply) { r.Context.TransactionType = "ciba" },
		"by another's key": func(r *signintest.Reply) { r.Key = plain.PoP },
	} {
		t.Run(name, func(t *testing.T) { refused(t, w, token, agent.Answer(t, w, token, e), okta.CodeValidation, 400) })
	}
	answered(t, w, token, agent.Answer(t, w, token), true)
	done := outcomeOf(t, w, id, nil)
	if done.UserID != w.Alice.ID || done.EnrolmentID != agent.Enrolment.ID || !slices.Equal(done.AMR, []string{"okta_verify", "swk"}) ||
		done.Intent.ClientID != signintest.Back || done.Intent.AuthorizationServer != "default" || !slices.Equal(done.Intent.Scopes, []string{"openid"}) ||
		!done.AuthTime.Equal(w.Clock.Now()) || done.FromSession {
		t.Errorf("%+v", done)
	}
	outcomeOf(t, w, id, signin.ErrSessionExpired)
	outcomeOf(t, w, "", signin.ErrSessionExpired)
	// The id opens no page.
	id = ask(t, w)
	for name, err := range map[string]error{
		"introspect": second(w.Engine.Introspect(ctx, id, "")), "poll": second(w.Engine.Poll(ctx, id)), "resend": second(w.Engine.Resend(ctx, id)),
	} {
		if !errors.Is(err, signin.ErrSessionExpired) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Engine.Complete(ctx, id); !errors.Is(err, signin.ErrSessionExpired) {
		t.Errorf("complete: %v", err)
	}
}

func TestBackchannelRefusals(t *testing.T) {
	w := signintest.New(t)
	w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware, okta.TransactionCIBA)
	w.EnrolAll(t, w.Bob.ID, jose.ProtectionSoftware) // no CIBA
	for name, c := range map[string]struct {
		edit func(*signin.Backchannel)
		want error
	}{
		"nobody":            {func(b *signin.Backchannel) { b.LoginHint = "nobody@example.com" }, signin.ErrUnknownUser},
		"no id":             {func(b *signin.Backchannel) { b.LoginHint, b.UserID = "", "00u0" }, signin.ErrUnknownUser},
		"not assigned":      {func(b *signin.Backchannel) { b.ClientID = signintest.Private }, signin.ErrUnknownUser},
		"no device":         {func(b *signin.Backchannel) { b.LoginHint = signintest.BobLogin }, signin.ErrNoCIBAEnrolment},
		"wants a password":  {func(b *signin.Backchannel) { b.ClientID = signintest.Web }, signin.ErrDenied},
		"wants resistance":  {func(b *signin.Backchannel) { b.ClientID = signintest.Resist }, signin.ErrDenied},
		"neither":           {func(b *signin.Backchannel) { b.LoginHint = "" }, signin.ErrRequest},
		"both":              {func(b *signin.Backchannel) { b.UserID = w.Alice.ID }, signin.ErrRequest},
		"no client":         {func(b *signin.Backchannel) { b.ClientID = "" }, signin.ErrRequest},
		"unknown client":    {func(b *signin.Backchannel) { b.ClientID = "other" }, store.ErrNotFound},
		"long message":      {func(b *signin.Backchannel) { b.BindingMessage = strings.Repeat("ü", 251) }, signin.ErrRequest},
		"broken message":    {func(b *signin.Backchannel) { b.BindingMessage = "\xff" }, signin.ErrRequest},
		"negative lifetime": {func(b *signin.Backchannel) { b.ExpiresIn = -1 }, signin.ErrRequest},
	} {
		t.Run(name, func(t *testing.T) {
			if id, _, err := w.Engine.StartBackchannel(ctx, back(w, c.edit)); !errors.Is(err, c.want) || id != "" {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	if len(w.Notified()) != 0 {
		t.Error("a device was rung")
	}
	ask(t, w, func(b *signin.Backchannel) { b.LoginHint, b.UserID = "", w.Alice.ID })
}

func TestBackchannelDeniedAndLate(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware, okta.TransactionCIBA)
	for name, c := range map[string]struct {
		edits []edit
		taken bool
	}{
		"denied":   {[]edit{signintest.Deny}, true},
		"reported": {[]edit{signintest.Report}, true},
		"silent":   {[]edit{func(r *signintest.Reply) { r.Context.UserConsent = okta.ConsentNone }}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w.Clock.Advance(11 * time.Minute)
			id := ask(t, w)
			token := pending(t, w, agent)
			req := agent.Answer(t, w, token, c.edits...)
			if c.taken {
				answered(t, w, token, req, false)
			} else {
				refused(t, w, token, req, okta.CodeValidation, 400)
			}
			outcomeOf(t, w, id, signin.ErrDenied)
			outcomeOf(t, w, id, signin.ErrDenied)
		})
	}
	w.Clock.Advance(11 * time.Minute)
	// Nobody answers.
	id := ask(t, w, func(b *signin.Backchannel) { b.ExpiresIn = time.Minute })
	token := pending(t, w, agent)
	if c := signintest.Claims(t, token); c.ExpiresAt-c.IssuedAt != 60 {
		t.Errorf("%+v", c)
	}
	w.Clock.Advance(time.Minute)
	outcomeOf(t, w, id, signin.ErrSessionExpired)
	refused(t, w, token, agent.Answer(t, w, token), okta.CodeValidation, 400)
	// At the last moment, fetched a moment later; and too late.
	for wait, want := range map[time.Duration]error{5 * time.Second: nil, time.Minute: signin.ErrSessionExpired} {
		id = ask(t, w, func(b *signin.Backchannel) { b.ExpiresIn = time.Minute })
		w.Clock.Advance(time.Minute - time.Second)
		token = pending(t, w, agent)
		answered(t, w, token, agent.Answer(t, w, token), true)
		w.Clock.Advance(wait)
		outcomeOf(t, w, id, want)
	}
	// What holds at the end counts.
	id = ask(t, w)
	token = pending(t, w, agent)
	answered(t, w, token, agent.Answer(t, w, token), true)
	w.Write(t, func(tx store.Tx) error {
		return device.SetStatus(ctx, tx, agent.Enrolment.ID, device.StatusSuspended, w.Clock.Now())
	})
	outcomeOf(t, w, id, signin.ErrDenied)
}

// B1: a client does not ring anybody more often than a page does, and one that
// asks for nobody's good learns so.
func TestBackchannelIsThrottled(t *testing.T) {
	w := signintest.New(t)
	w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware, okta.TransactionCIBA)
	var sent, held atomic.Int32
	parallel(12, func(int) {
		switch _, _, err := w.Engine.StartBackchannel(ctx, back(w)); {
		case err == nil:
			sent.Add(1)
		case errors.Is(err, signin.ErrThrottled):
			held.Add(1)
		default:
			t.Error(err)
		}
	})
	if sent.Load() != 5 || held.Load() != 7 {
		t.Errorf("%d sent, %d held back", sent.Load(), held.Load())
	}
	// Neither the sweep nor an end of theirs makes room before its time.
	w.Clock.Advance(9 * time.Minute)
	w.Start(t, signintest.Web, signin.Redirect)
	if _, _, err := w.Engine.StartBackchannel(ctx, back(w)); !errors.Is(err, signin.ErrThrottled) {
		t.Errorf("%v", err)
	}
	w.Clock.Advance(time.Minute)
	ask(t, w)
}

// E7: an approval is fetched once, however many ask at once.
func TestParallelBackchannel(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware, okta.TransactionCIBA)
	id := ask(t, w)
	token := pending(t, w, agent)
	answered(t, w, token, agent.Answer(t, w, token), true)
	var won atomic.Int32
	parallel(50, func(int) {
		if _, err := w.Engine.CompleteBackchannel(ctx, id, signintest.Back); err == nil {
			won.Add(1)
		}
	})
	if won.Load() != 1 {
		t.Errorf("fetched %d times", won.Load())
	}
}

// A suspended user is nobody, also in between.
func TestBackchannelOfASuspendedUser(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware, okta.TransactionCIBA)
	id := ask(t, w)
	token := pending(t, w, agent)
	answered(t, w, token, agent.Answer(t, w, token), true)
	w.Write(t, func(tx store.Tx) error {
		return directory.SetUserStatus(ctx, tx, w.Alice.ID, directory.StatusSuspended, w.Clock.Now())
	})
	outcomeOf(t, w, id, signin.ErrDenied)
	if _, _, err := w.Engine.StartBackchannel(ctx, back(w)); !errors.Is(err, signin.ErrUnknownUser) {
		t.Errorf("%v", err)
	}
}
