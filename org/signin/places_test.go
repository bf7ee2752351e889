package signin_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

// What is new about a sign-in is named, and raises the risk.
func TestUnusualActivity(t *testing.T) {
	w := signintest.New(t)
	numbering(t, w, directory.NumberHighRisk)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	signIn := func(in signin.Intent, finish bool) (*okta.ChallengeContext, string) {
		t.Helper()
		w.Clock.Advance(time.Minute)
		in.ClientID, in.Mode, in.PageOrigin = signintest.Web, signin.Redirect, signintest.BaseURL
		h, err := w.Engine.Start(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
		must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
		must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
		v = at(t, must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push")), signin.StepChallenge, "")
		token := pending(t, w, agent)
		if finish {
			answered(t, w, token, agent.Answer(t, w, token, signintest.Pick(v.Challenge.Number)), true)
			at(t, must(t)(w.Engine.Poll(ctx, v.StateHandle)), signin.StepDone, "")
		} else {
			must(t)(w.Engine.Cancel(ctx, v.StateHandle))
		}
		return signintest.Claims(t, token).Context, v.Challenge.Number
	}
	const linux, mac = "Mozilla/5.0 (X11; Linux x86_64) Chrome/130", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605"
	for i, c := range []struct {
		in       signin.Intent
		finish   bool
		unusual  []string
		risk, os string
		location string
	}{
		// Who has no habits yet is asked for the number all the same.
		{signin.Intent{Browser: "b1", ClientIP: "127.0.0.1", UserAgent: linux}, true, nil, "LOW", "LINUX", "This computer"},
		{signin.Intent{Browser: "b1", ClientIP: "127.0.0.1", UserAgent: linux}, true, nil, "LOW", "LINUX", "This computer"},
		{signin.Intent{Browser: "b2", ClientIP: "127.0.0.1", UserAgent: linux}, false, []string{"ANOMALOUS_DEVICE"}, "MEDIUM", "LINUX", "This computer"},
		{signin.Intent{Browser: "b1", ClientIP: "10.1.2.3", UserAgent: linux}, false, []string{"ANOMALOUS_LOCATION"}, "MEDIUM", "LINUX", "Local network"},
		// What came to nothing is not remembered.
		{signin.Intent{Browser: "b2", ClientIP: "203.0.113.7", UserAgent: mac}, true, []string{"ANOMALOUS_DEVICE", "ANOMALOUS_LOCATION"}, "HIGH", "MAC_OS_X", ""},
		{signin.Intent{Browser: "b2", ClientIP: "203.0.113.7", UserAgent: mac}, true, nil, "LOW", "MAC_OS_X", ""},
		// An embedded page has no browser's name; the one of its maker is known,
		// but anybody can send that.
		{signin.Intent{ClientIP: "127.0.0.1", UserAgent: mac}, true, nil, "LOW", "MAC_OS_X", "This computer"},
		{signin.Intent{ClientIP: "127.0.0.1", UserAgent: "curl"}, false, []string{"ANOMALOUS_DEVICE"}, "MEDIUM", "UNKNOWN", "This computer"},
	} {
		x, number := signIn(c.in, c.finish)
		if !slices.Equal(x.UnusualActivities, c.unusual) || x.RiskLevel != c.risk || x.ClientOS != c.os || x.ClientLocation != c.location ||
			x.ShowUserLocation != (c.location != "") || x.ClientIP != c.in.ClientIP || (number == "") != (i == 1 || i == 5) {
			t.Errorf("%d: %+v, number %q", i, x, number)
		}
	}
	// Neither address nor name of the browser is kept as such, nor without bound.
	w.Write(t, func(tx store.Tx) error {
		for i := range 100 {
			if _, err := tx.ExecContext(ctx, `INSERT INTO sign_in_places (user_id, kind, digest, last_seen) VALUES (?, ?, ?, ?)`,
				w.Alice.ID, []string{"browser", "address"}[i%2], fmt.Sprint("old", i), i); err != nil {
				return err
			}
		}
		return nil
	})
	signIn(signin.Intent{Browser: "many", ClientIP: "203.0.113.7", UserAgent: mac}, true)
	w.Write(t, func(tx store.Tx) error {
		var n, plain int
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN digest LIKE '%many%' OR digest LIKE '%203.%' THEN 1 ELSE 0 END), 0)
			FROM sign_in_places`).Scan(&n, &plain)
		if n != 64 || plain != 0 {
			t.Errorf("%d places, %d of them readable", n, plain)
		}
		return err
	})
}

// B2: somebody who has learnt a password makes their place a usual one by
// signing in where it suffices, to be spared the number where it does not.
func TestPasswordTeachesNoPlace(t *testing.T) {
	w := signintest.New(t)
	numbering(t, w, directory.NumberHighRisk)
	toPassword := func(app, browser string) signin.View {
		t.Helper()
		h, err := w.Engine.Start(ctx, signin.Intent{ClientID: app, Mode: signin.Redirect, PageOrigin: signintest.BaseURL,
			Browser: browser, ClientIP: "203.0.113.9", UserAgent: "Curl"})
		if err != nil {
			t.Fatal(err)
		}
		v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
		must(t)(w.Engine.Identify(ctx, v.StateHandle, signintest.AliceLogin))
		return must(t)(w.Engine.Password(ctx, v.StateHandle, signintest.Password))
	}
	at(t, toPassword(signintest.Enrol, "thief"), signin.StepDone, "")
	w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	v := toPassword(signintest.Web, "thief")
	if v = must(t)(w.Engine.Select(ctx, v.StateHandle, v.VerifyID, "push")); v.Challenge == nil || v.Challenge.Number == "" {
		t.Errorf("no number: %+v", v.Challenge)
	}
}

func TestLocate(t *testing.T) {
	for ip, want := range map[string]string{
		"127.0.0.1": "This computer", "::1": "This computer", "::ffff:127.0.0.1": "This computer", "127.9.9.9": "This computer",
		"10.0.0.1": "Local network", "192.168.1.4": "Local network", "172.16.0.1": "Local network", "fd00::1": "Local network", "fe80::1%eth0": "Local network",
		"203.0.113.7": "", "2001:db8::1": "", "172.32.0.1": "", "": "", "localhost": "", "10.0.0.1:80": "",
	} {
		if got := signin.Locate(ip); got != want {
			t.Errorf("%s: %q, want %q", ip, got, want)
		}
	}
}

// A session that a push made proves the push, and no resistance to phishing.
func TestSessionOfAPush(t *testing.T) {
	w := signintest.New(t)
	agent := w.EnrolAll(t, w.Alice.ID, jose.ProtectionSoftware)
	facts := func(amr ...string) signin.SessionFacts {
		return signin.SessionFacts{UserID: w.Alice.ID, AMR: amr, AuthTime: w.Clock.Now(), EnrolmentID: agent.Enrolment.ID}
	}
	w.Sessions["push"], w.Sessions["hardware"] = facts("pwd", "okta_verify", "swk", "mfa"), facts("pwd", "okta_verify", "hwk", "mfa")
	w.Sessions["code"], w.Sessions["nonce"] = facts("pwd", "okta_verify", "otp", "mfa"), facts("pwd", "okta_verify", "phr", "swk", "mfa")
	w.Sessions["name only"] = facts("pwd", "okta_verify")
	for id, apps := range map[okta.Secret][]string{
		"push": {signintest.Web}, "code": {signintest.Web}, "nonce": {signintest.Web, signintest.Resist},
		"hardware": {signintest.Web, signintest.Hardware}, "name only": nil,
	} {
		for _, app := range []string{signintest.Web, signintest.Strict, signintest.Verified, signintest.Hardware, signintest.Resist} {
			h, err := w.Engine.Start(ctx, signin.Intent{ClientID: app, SessionID: id, Mode: signin.Redirect, PageOrigin: signintest.BaseURL})
			if err != nil || h.Satisfied != slices.Contains(apps, app) {
				t.Errorf("%s at %s: %v %v", id.Reveal(), app, h.Satisfied, err)
			}
		}
	}
}
