package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// browse opens an address as a browser does, redirects and all, and returns the
// page it ends at.
func browse(t *testing.T, address string) (page string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// add enrols by a sign-in in the browser.
func (a *agent) add(t *testing.T, in api.BeginEnrolment) (account api.Account, page string, err error) {
	t.Helper()
	e, err := a.client.BeginEnrolment(t.Context(), in)
	if err != nil {
		return api.Account{}, "", err
	}
	page = browse(t, e.URL)
	account, err = a.client.AwaitEnrolment(t.Context(), e.ID)
	return account, page, err
}

func TestEnrolInTheBrowser(t *testing.T) {
	for _, bound := range []bool{false, true} {
		org := oktatest.NewOrg(t)
		if bound {
			org.BindTokens("n")
		}
		a := startAgent(t, testConfig(t))
		got, page, err := a.add(t, api.BeginEnrolment{Org: org.URL + "/", Username: "Alice", Name: "Work"})
		if err != nil {
			t.Fatal(err)
		}
		if got.State != "active" || got.User != oktatest.Login || got.Name != "Work" || strings.Join(got.Methods, " ") != "push signed_nonce totp" {
			t.Errorf("%+v", got)
		}
		if !strings.Contains(page, oktatest.Login+" can sign in to "+strings.TrimPrefix(org.URL, "http://")) {
			t.Errorf("the page: %s", page)
		}
		if scope := org.Authorizations()[0].Get("scope"); scope != "openid profile okta.myAccount.appAuthenticator.manage" {
			t.Errorf("scope %q", scope)
		}
		if len(org.Revoked()) != 1 {
			t.Errorf("%d tokens revoked", len(org.Revoked()))
		}
		// It answers challenges, and a second account says which device it is.
		if status := a.post(t, org.URL, org.Challenge(nil)); status != http.StatusOK {
			t.Errorf("challenge: %d", status)
		}
		if _, _, err := a.add(t, api.BeginEnrolment{Org: org.URL}); err != nil {
			t.Fatal(err)
		}
		if second := org.Enrolments()[1].Device; second.ID == "" || second.ClientInstanceKey != nil || second.Attestation == nil {
			t.Errorf("%+v", second)
		}
		records := a.audit(t)
		if records[0].Event != "enrolment" || records[0].Outcome != "done" || records[0].Account != got.ID {
			t.Errorf("%+v", records[0])
		}
	}
}

// Every way it can end, in words for the person, and nothing left behind.
func TestEnrolmentInTheBrowserFails(t *testing.T) {
	refused := func(code okta.ErrorCode, causes ...string) oktatest.Reply {
		e := okta.NewError(code, causes...)
		return oktatest.Reply{Status: e.HTTPStatus, Body: fmt.Sprintf(`{"errorCode":%q,"errorSummary":%q}`, e.Code, e.Summary)}
	}
	for _, row := range []struct {
		name    string
		break_  func(*oktatest.Org, *api.BeginEnrolment)
		code    string
		begun   bool // an address was given out
		pending bool
	}{
		{"org down", func(o *oktatest.Org, _ *api.BeginEnrolment) { o.Close() }, "org_unreachable", false, false},
		{"not an org", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply("/.well-known/", oktatest.Reply{Status: 404, ContentType: "text/html", Body: "<html>"})
		}, "org_unexpected_answer", false, false},
		{"no authenticator", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply(okta.AuthenticatorConfigurationPath, oktatest.Reply{Status: 200, Body: "[]"})
		}, "no_authenticator", false, false},
		{"no sign-in", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply("/.well-known/openid-configuration", oktatest.Reply{Status: 200, Body: "{}"})
		}, "org_unexpected_answer", false, false},
		{"sign-in elsewhere", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply("/.well-known/openid-configuration", oktatest.Reply{Status: 200, Body: fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":"https://evil.example/","token_endpoint":"https://evil.example/"}`, o.URL)})
		}, "org_unexpected_answer", false, false},
		{"plain http elsewhere", func(_ *oktatest.Org, in *api.BeginEnrolment) { in.Org = "http://org.example.com" }, "org_insecure", false, false},
		{"look-alike letters", func(_ *oktatest.Org, in *api.BeginEnrolment) { in.Org = "https://ex\u0430mple.com" }, "bad_org_url", false, false},
		{"a path", func(_ *oktatest.Org, in *api.BeginEnrolment) { in.Org += "/admin" }, "bad_org_url", false, false},
		{"nothing", func(_ *oktatest.Org, in *api.BeginEnrolment) { in.Org = "" }, "bad_org_url", false, false},
		{"denied", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.SignsIn(oktatest.SignIn{Error: "access_denied", Detail: "Not you."})
		}, "sign_in_denied", true, false},
		{"policy", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.SignsIn(oktatest.SignIn{Error: "unmet_authentication_requirements"})
		}, "sign_in_refused", true, false},
		{"another user", func(o *oktatest.Org, in *api.BeginEnrolment) {
			in.Username = "bob@example.com"
		}, "other_user", true, false},
		{"the org enrols another user", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.SignsIn(oktatest.SignIn{UserID: "00uSomebodyElse"})
		}, "other_user", true, false},
		{"code refused", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply("/oauth2/v1/token", oktatest.Reply{Status: 400, Body: `{"error":"invalid_grant","error_description":"expired"}`})
		}, "sign_in_not_accepted", true, false},
		{"id token of another app", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.SignsIn(oktatest.SignIn{Claims: func(c map[string]any) { c["aud"] = "other" }})
		}, "sign_in_not_proven", true, false},
		{"sign-in too old", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply(okta.AppAuthenticatorsPath, refused(okta.CodeForbidden))
		}, "recent_sign_in_needed", true, false},
		{"user verification", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply(okta.AppAuthenticatorsPath, refused(okta.CodeUVRequired))
		}, "user_verification_needed", true, false},
		{"user suspended", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply(okta.AppAuthenticatorsPath, refused(okta.CodeUserSuspended))
		}, "org_suspended", true, false},
		{"token refused", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply(okta.AppAuthenticatorsPath, refused(okta.CodeInvalidToken))
		}, "sign_in_not_accepted", true, false},
		{"too many", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply(okta.AppAuthenticatorsPath, refused(okta.CodeTooManyRequests))
		}, "org_busy", true, true},
		{"server error", func(o *oktatest.Org, _ *api.BeginEnrolment) {
			o.Reply(okta.AppAuthenticatorsPath, oktatest.Reply{Status: 500, Body: "{}"})
		}, "org_busy", true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			org, a := oktatest.NewOrg(t), startAgent(t, testConfig(t))
			in := api.BeginEnrolment{Org: org.URL}
			row.break_(org, &in)
			_, page, err := a.add(t, in)
			var refusal *api.Error
			if !errors.As(err, &refusal) || refusal.Code != row.code || refusal.Message == "" {
				t.Fatalf("%#v %v, want %s", err, err, row.code)
			}
			if row.begun && (!strings.Contains(page, "Nothing was added") || strings.Contains(page, "did not come to an end")) {
				t.Errorf("the page: %s", page)
			}
			if row.begun && len(org.TokenRequests()) > 0 && row.name != "code refused" && len(org.Revoked()) != 1 {
				t.Errorf("%d tokens revoked", len(org.Revoked()))
			}
			list, err := a.client.Accounts(t.Context())
			if want := map[bool]int{false: 0, true: 1}[row.pending]; err != nil || len(list.Accounts) != want {
				t.Fatalf("%+v, %v", list, err)
			}
			if !row.pending {
				return
			}
			// The same person's next sign-in finishes it, with the keys of before.
			org.Reply(okta.AppAuthenticatorsPath, oktatest.Reply{})
			got, _, err := a.add(t, in)
			if err != nil || got.ID != list.Accounts[0].ID || got.State != "active" {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
}

func TestEnrolmentIsCancelled(t *testing.T) {
	org, a := oktatest.NewOrg(t), startAgent(t, testConfig(t))
	e, err := a.client.BeginEnrolment(t.Context(), api.BeginEnrolment{Org: org.URL})
	if err != nil {
		t.Fatal(err)
	}
	if e.Org != org.URL || !strings.HasPrefix(e.URL, org.URL+"/oauth2/v1/authorize?") || time.Until(e.ExpiresAt) < 9*time.Minute {
		t.Errorf("%+v", e)
	}
	if err := a.client.CancelEnrolment(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	var refusal *api.Error
	if _, err := a.client.AwaitEnrolment(t.Context(), e.ID); !errors.As(err, &refusal) || refusal.Code != "sign_in_cancelled" {
		t.Errorf("%v", err)
	}
	if page := browse(t, e.URL); strings.Contains(page, "can sign in") {
		t.Errorf("the page: %s", page)
	}
	if len(org.Enrolments()) != 0 {
		t.Error("enrolled")
	}
	for _, call := range []func() error{
		func() error { _, err := a.client.AwaitEnrolment(t.Context(), "nope"); return err },
		func() error { return a.client.CancelEnrolment(t.Context(), "nope") },
	} {
		if err := call(); !errors.As(err, &refusal) || refusal.Code != "enrolment_unknown" || refusal.Status != 404 {
			t.Errorf("%v", err)
		}
	}
}

// C8: neither the log at its most talkative nor the record of decisions holds
// anything of a sign-in that could be used again.
func TestSignInLeavesNoSecrets(t *testing.T) {
	var log locked
	c := testConfig(t)
	c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	org := oktatest.NewOrg(t)
	org.BindTokens("n")
	a := startAgent(t, c)
	if _, _, err := a.add(t, api.BeginEnrolment{Org: org.URL}); err != nil {
		t.Fatal(err)
	}
	org.SignsIn(oktatest.SignIn{Login: "bob@example.com"})
	if _, _, err := a.add(t, api.BeginEnrolment{Org: org.URL, Username: "alice"}); err == nil {
		t.Fatal("bob was enrolled for alice")
	}
	said := log.String() + fmt.Sprintf("%+v", a.audit(t))
	_ = a.stop()
	said += log.String()
	q := org.Authorizations()[0]
	secrets := map[string]string{"token": org.Revoked()[0], "state": q.Get("state"), "nonce": q.Get("nonce"), "seed": oktatest.Seed}
	for _, form := range org.TokenRequests() {
		if form.Get("grant_type") == okta.GrantJWTBearer { // the listener's, as soon as there is an account
			secrets["assertion "+form.Get("assertion")] = form.Get("assertion")
			continue
		}
		secrets["code "+form.Get("code")] = form.Get("code")
		secrets["verifier "+form.Get("code_verifier")] = form.Get("code_verifier")
	}
	for name, secret := range secrets {
		if secret == "" || strings.Contains(said, secret) {
			t.Errorf("the log or the record holds the %s", name)
		}
	}
	if !strings.Contains(said, "another user") {
		t.Fatalf("nothing was said: the test proves nothing: %s", said)
	}
}

// Only a few wait at once, a cancelled one makes room, and whoever stops waiting
// for one does not end it.
func TestFewEnrolmentsAtOnce(t *testing.T) {
	org, a := oktatest.NewOrg(t), startAgent(t, testConfig(t))
	var list []api.Enrolment
	for range maxEnrolments {
		e, err := a.client.BeginEnrolment(t.Context(), api.BeginEnrolment{Org: org.URL})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	var refusal *api.Error
	if _, err := a.client.BeginEnrolment(t.Context(), api.BeginEnrolment{Org: org.URL}); !errors.As(err, &refusal) || refusal.Code != "too_many_enrolments" {
		t.Fatalf("%v", err)
	}
	if err := a.client.CancelEnrolment(t.Context(), list[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := a.client.BeginEnrolment(t.Context(), api.BeginEnrolment{Org: org.URL}); err != nil {
		t.Fatalf("no room: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.client.AwaitEnrolment(ctx, list[1].ID); err == nil {
		t.Fatal("ended")
	}
	browse(t, list[1].URL)
	if got, err := a.client.AwaitEnrolment(t.Context(), list[1].ID); err != nil || got.State != "active" {
		t.Fatalf("%+v, %v", got, err)
	}
}

// However many came to an end before it, one more sign-in may begin, and the
// last ends are still known.
func TestEndedEnrolmentsMakeRoom(t *testing.T) {
	var held enrolments
	now := time.Now()
	var last string
	for range 100 {
		now = now.Add(time.Second)
		id, one, err := held.add(now, func() {})
		if err != nil {
			t.Fatal(err)
		}
		one.ended, last = now, id
		close(one.done)
	}
	if _, _, err := held.add(now, func() {}); err != nil {
		t.Fatal(err)
	}
	if len(held.held) != maxEnded+1 {
		t.Errorf("%d are held", len(held.held))
	}
	if _, err := held.get(last); err != nil {
		t.Errorf("the last end: %v", err)
	}
	if _, _, err := held.add(now.Add(2*keepEnrolments), func() {}); err != nil || len(held.held) != 2 {
		t.Errorf("%d are held after a while, %v", len(held.held), err)
	}
}

// A stopping agent does not wait for people.
func TestStopWhileSomebodySignsIn(t *testing.T) {
	org, a := oktatest.NewOrg(t), startAgent(t, testConfig(t))
	e, err := a.client.BeginEnrolment(t.Context(), api.BeginEnrolment{Org: org.URL})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := a.stop(); err != nil || time.Since(start) > 2*time.Second {
		t.Fatalf("%v after %s", err, time.Since(start))
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Get(u.Query().Get("redirect_uri")); err == nil {
		resp.Body.Close()
		t.Fatal("still listens")
	}
}
