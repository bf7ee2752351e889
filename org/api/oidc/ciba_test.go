package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"countersign.dev/okta"
	"countersign.dev/org/signin"
)

// devices stands in for the engine: StartBackchannel remembers who is asked,
// CompleteBackchannel gives an approval back once.
type devices struct {
	f       *fixture
	mu      sync.Mutex
	asked   []signin.Backchannel
	err     error // of StartBackchannel
	outcome error // of CompleteBackchannel; nil approves
	fetched bool
}

func (d *devices) StartBackchannel(_ context.Context, b signin.Backchannel) (okta.Secret, time.Time, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return "", time.Time{}, errors.Join(errors.New("starting"), d.err)
	}
	d.asked = append(d.asked, b)
	life := b.ExpiresIn
	if life == 0 {
		life = 5 * time.Minute
	}
	return "request-1", d.f.now.Add(life), nil
}

func (d *devices) CompleteBackchannel(_ context.Context, id okta.Secret, clientID string) (signin.Completed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.outcome != nil {
		return signin.Completed{}, errors.Join(errors.New("completing"), d.outcome)
	}
	if id != "request-1" || d.fetched || len(d.asked) == 0 || d.asked[0].ClientID != clientID {
		return signin.Completed{}, signin.ErrSessionExpired
	}
	d.fetched = true
	b := d.asked[0]
	return signin.Completed{
		Intent: signin.Intent{ClientID: b.ClientID, AuthorizationServer: b.AuthorizationServer, Scopes: b.Scopes, ACRValues: b.ACRValues},
		UserID: d.f.user.ID, AMR: []string{"okta_verify", "swk"}, AuthTime: d.f.now, EnrolmentID: "pfd1", DeviceID: "guo1", KeyID: "KEY",
	}, nil
}

func ask(changes ...string) url.Values {
	v := url.Values{"client_id": {"post"}, "client_secret": {postSecret.Reveal()}, "scope": {"openid email"}, "login_hint": {"alice@example.com"}}
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == "" {
			v.Del(changes[i])
		} else {
			v.Set(changes[i], changes[i+1])
		}
	}
	return v
}

func poll(changes ...string) url.Values {
	v := ask("scope", "", "login_hint", "", "grant_type", okta.GrantCIBA, "auth_req_id", "request-1")
	for i := 0; i+1 < len(changes); i += 2 {
		v.Set(changes[i], changes[i+1])
	}
	return v
}

func TestCIBA(t *testing.T) {
	for _, server := range []string{"/oauth2/v1", "/oauth2/default/v1"} {
		f := setUp(t)
		f.clients()
		r := f.post(server+"/bc/authorize", ask("binding_message", "Till 4: 12 €", "request_expiry", "120", "acr_values", "urn:okta:loa:1fa:any x"), "User-Agent", "till")
		if got := body(t, r); r.StatusCode != 200 || got != `{"auth_req_id":"request-1","expires_in":120,"interval":5}` {
			t.Fatalf("%d %s", r.StatusCode, got)
		}
		want := signin.Backchannel{ClientID: "post", AuthorizationServer: map[bool]string{true: "default"}[strings.Contains(server, "default")],
			Scopes: []string{"openid", "email"}, LoginHint: "alice@example.com", BindingMessage: "Till 4: 12 €",
			ACRValues: []string{"urn:okta:loa:1fa:any"}, ExpiresIn: 2 * time.Minute, ClientIP: "192.0.2.1", UserAgent: "till"}
		if d := cmp.Diff(want, f.back.asked[0]); d != "" {
			t.Error(d)
		}
		answer := func(want string) {
			t.Helper()
			if r := f.post(server+"/token", poll()); r.StatusCode != 400 || oauthError(t, r) != want {
				t.Errorf("%d, want %s", r.StatusCode, want)
			}
		}
		f.back.outcome = signin.ErrAuthorizationPending
		answer("authorization_pending") // the first question needs no wait
		answer("slow_down")
		f.now = f.now.Add(5 * time.Second)
		answer("slow_down") // it is ten seconds now, and now fifteen
		f.now = f.now.Add(15 * time.Second)
		answer("authorization_pending")
		f.now = f.now.Add(15 * time.Second)
		// Neither another client nor the other server learns anything of it.
		other := map[string]string{"/oauth2/v1": "/oauth2/default/v1", "/oauth2/default/v1": "/oauth2/v1"}[server]
		f.back.outcome = nil
		for name, r := range map[string]*http.Response{
			"other server": f.post(other+"/token", poll()),
			"other client": f.post(server+"/token", url.Values{"grant_type": {okta.GrantCIBA}, "auth_req_id": {"request-1"}},
				"Authorization", basicAuth("basic client", basicSecret)),
			"unknown": f.post(server+"/token", poll("auth_req_id", "request-2")),
		} {
			if got := oauthError(t, r); r.StatusCode != 400 || got != "invalid_grant" {
				t.Errorf("%s: %d %s", name, r.StatusCode, got)
			}
		}
		r = f.post(server+"/token", poll())
		var got tokenAnswer
		if err := json.Unmarshal([]byte(body(t, r)), &got); err != nil || r.StatusCode != 200 || got.IDToken == "" || got.TokenType != "Bearer" || got.RefreshToken != "" {
			t.Fatalf("%d %+v", r.StatusCode, got)
		}
		f.now = f.now.Add(time.Minute)
		answer("invalid_grant") // it was fetched

		// The ID token is a hint at the server that gave it, to the client that got it.
		f.back.asked, f.back.fetched = nil, false
		hinted := ask("login_hint", "", "id_token_hint", got.IDToken)
		f.now = f.now.Add(2 * time.Hour) // it may have expired
		if r := f.post(server+"/bc/authorize", hinted); r.StatusCode != 200 || f.back.asked[0].UserID != f.user.ID || f.back.asked[0].LoginHint != "" {
			t.Errorf("hint: %d %+v", r.StatusCode, f.back.asked)
		}
		if r := f.post(other+"/bc/authorize", hinted); r.StatusCode != 400 || oauthError(t, r) != "invalid_request" {
			t.Errorf("hint at the other server: %d", r.StatusCode)
		}
		basics := url.Values{"scope": {"openid"}, "id_token_hint": {got.IDToken}}
		if r := f.post(server+"/bc/authorize", basics, "Authorization", basicAuth("basic client", basicSecret)); oauthError(t, r) != "invalid_request" {
			t.Errorf("hint of another client: %d", r.StatusCode)
		}
		if r := f.post(server+"/bc/authorize", ask("login_hint", "", "id_token_hint", got.AccessToken)); oauthError(t, r) != "invalid_request" {
			t.Errorf("an access token as hint: %d", r.StatusCode)
		}
	}
}

func TestCIBARefusals(t *testing.T) {
	f := setUp(t)
	f.clients()
	for name, c := range map[string]struct {
		form   url.Values
		status int
		code   string
	}{
		"wrong secret":         {ask("client_secret", basicSecret.Reveal()), 401, "invalid_client"},
		"a public client":      {ask("client_id", "web", "client_secret", ""), 400, "access_denied"},
		"without the grant":    {ask("client_id", "no-ciba"), 401, "invalid_client"},
		"no scope":             {ask("scope", ""), 400, "invalid_scope"},
		"no openid":            {ask("scope", "offline_access"), 400, "invalid_scope"},
		"unknown scope":        {ask("scope", "openid nope"), 400, "invalid_scope"},
		"the org's own scope":  {ask("scope", "openid "+okta.ScopeManage), 400, "invalid_scope"},
		"no hint":              {ask("login_hint", ""), 400, "invalid_request"},
		"two hints":            {ask("id_token_hint", "x"), 400, "invalid_request"},
		"bad hint":             {ask("login_hint", "", "id_token_hint", "a.b.c"), 400, "invalid_request"},
		"long hint":            {ask("login_hint", strings.Repeat("a", 257)), 400, "invalid_request"},
		"long message":         {ask("binding_message", strings.Repeat("ü", 251)), 400, "invalid_binding_message"},
		"two lines":            {ask("binding_message", "Till 4\nApprove!"), 400, "invalid_binding_message"},
		"turned around":        {ask("binding_message", "Till \u202e4"), 400, "invalid_binding_message"},
		"broken message":       {ask("binding_message", "\xff"), 400, "invalid_binding_message"},
		"no time":              {ask("request_expiry", "0"), 400, "invalid_request"},
		"too long":             {ask("request_expiry", "301"), 400, "invalid_request"},
		"too long, in the way": {ask("requested_expiry", "301"), 400, "invalid_request"},
		"a negative time":      {ask("requested_expiry", "-1"), 400, "invalid_request"},
		"a time in words":      {ask("requested_expiry", "soon"), 400, "invalid_request"},
		"two times":            {ask("request_expiry", "10", "requested_expiry", "20"), 400, "invalid_request"},
		"a request object":     {ask("request", "x"), 400, "invalid_request"},
		"a long parameter":     {ask("acr_values", strings.Repeat("a", 3000)), 400, "invalid_request"},
	} {
		if r := f.post("/oauth2/v1/bc/authorize", c.form); r.StatusCode != c.status || oauthError(t, r) != c.code {
			t.Errorf("%s: %d, want %d %s", name, r.StatusCode, c.status, c.code)
		}
	}
	if len(f.back.asked) != 0 {
		t.Errorf("somebody was asked: %+v", f.back.asked)
	}
	for err, want := range map[error]struct {
		status int
		code   string
	}{
		signin.ErrUnknownUser: {400, "invalid_request"}, signin.ErrThrottled: {429, "invalid_grant"},
		signin.ErrDenied: {400, "access_denied"}, errors.New("disk"): {500, "server_error"},
	} {
		f.back.err = err
		if r := f.post("/oauth2/v1/bc/authorize", ask()); r.StatusCode != want.status || oauthError(t, r) != want.code {
			t.Errorf("%v: %d, want %d %s", err, r.StatusCode, want.status, want.code)
		}
	}
	f.back.err = signin.ErrNoCIBAEnrolment
	r := f.post("/oauth2/v1/bc/authorize", ask())
	var refusal okta.Error
	if err := json.Unmarshal([]byte(body(t, r)), &refusal); err != nil || r.StatusCode != 400 || refusal.Code != okta.CodeNoCIBAEnrolment {
		t.Errorf("no enrolment: %d %+v", r.StatusCode, refusal)
	}
	f.back.err = nil
	if r := f.post("/oauth2/v1/bc/authorize", ask("request_expiry", "10", "requested_expiry", "10")); r.StatusCode != 200 {
		t.Errorf("one time by two names: %d %s", r.StatusCode, body(t, r))
	}
	for err, code := range map[error]string{signin.ErrDenied: "access_denied", signin.ErrSessionExpired: "expired_token", signin.ErrAuthorizationPending: "authorization_pending"} {
		f.back.outcome, f.now = err, f.now.Add(10*time.Second)
		if r := f.post("/oauth2/v1/token", poll()); r.StatusCode != 400 || oauthError(t, r) != code {
			t.Errorf("%v: %d, want %s", err, r.StatusCode, code)
		}
	}
	if r := f.post("/oauth2/v1/token", poll("client_id", "no-ciba")); r.StatusCode != 400 || oauthError(t, r) != "unauthorized_client" {
		t.Errorf("polling without the grant: %d", r.StatusCode)
	}
	v := poll()
	v.Del("auth_req_id")
	if r := f.post("/oauth2/v1/token", v); r.StatusCode != 400 || oauthError(t, r) != "invalid_request" {
		t.Errorf("polling for nothing: %d", r.StatusCode)
	}
}

// E7: of any number of questions at once one gets the tokens.
func TestParallelPolls(t *testing.T) {
	f := setUp(t)
	f.clients()
	if r := f.post("/oauth2/v1/bc/authorize", ask()); r.StatusCode != 200 {
		t.Fatal(body(t, r))
	}
	var mu sync.Mutex
	got := map[int]int{}
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			r := f.post("/oauth2/v1/token", poll())
			mu.Lock()
			defer mu.Unlock()
			got[r.StatusCode]++
		})
	}
	wg.Wait()
	if got[200] != 1 || got[400] != 29 {
		t.Errorf("%v", got)
	}
}
