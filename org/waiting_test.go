package org_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/ids"
)

// served is an org on a port of its own, under the usual address.
func served(t *testing.T) (*org.Server, string) {
	t.Helper()
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := httpx.NewServer(s.Handler(), slog.New(slog.DiscardHandler))
	var running sync.WaitGroup
	for _, l := range []net.Listener{l, s.Returning()} {
		running.Go(func() { _ = web.Serve(l) })
	}
	t.Cleanup(func() {
		stop, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := web.Shutdown(stop); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	return s, l.Addr().String()
}

// pendingList waits for pushes of an enrolment, as its agent does.
func pendingList(t *testing.T, address string, a devicetest.Agent, e okta.Enrolment, lines ...string) (*http.Response, []okta.PendingChallenge) {
	token := a.PoP.Sign(t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(e.ID, e.User.ID, base, time.Now()))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		"http://"+address+okta.AppAuthenticatorsPath+"/"+e.ID+"/push/notifications", http.NoBody)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	req.Host = strings.TrimPrefix(base, "http://")
	req.Header.Set("Authorization", "SSWS "+token)
	for i := 0; i+1 < len(lines); i += 2 {
		req.Header.Set(lines[i], lines[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	var list []okta.PendingChallenge
	if resp.StatusCode == 200 {
		if err := json.Unmarshal(body, &list); err != nil {
			t.Error(err)
		}
	}
	return resp, list
}

// A push reaches the agents that wait for it, and no other; once it is answered
// each of them hears that, too. What the administrator takes away they hear at
// once.
func TestPushWakesWhoWaits(t *testing.T) {
	s, address := served(t)
	p := page{t, s}
	phone, atPhone := enrolByLink(t, s)
	desk, atDesk := enrolByLink(t, s)
	began := time.Now()
	type heard struct {
		resp *http.Response
		list []okta.PendingChallenge
	}
	wait := func(a devicetest.Agent, e okta.Enrolment, lines ...string) chan heard {
		c := make(chan heard, 1)
		go func() {
			resp, list := pendingList(t, address, a, e, append(lines, "Prefer", okta.PreferWait)...)
			c <- heard{resp, list}
		}()
		return c
	}
	onPhone, onDesk := wait(phone, atPhone), wait(desk, atDesk)

	sum := sha256.Sum256([]byte(ids.Secret()))
	w := p.post(base+"/oauth2/v1/interact", "application/x-www-form-urlencoded", url.Values{
		"client_id": {"demo-web"}, "scope": {"openid"}, "redirect_uri": {pageOrigin + "/callback"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}, "state": {"s"},
	}.Encode())
	var started struct {
		Handle string `json:"interaction_handle"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &started); err != nil || started.Handle == "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	at := p.idx(base+"/idp/idx/introspect", map[string]any{"interactionHandle": started.Handle})
	at = p.submit(at, "identify", map[string]any{"identifier": "alice@example.com"})
	at = p.submit(at, "challenge-authenticator", map[string]any{"credentials": map[string]string{"passcode": "Countersign-Demo-1"}})
	p.submit(at, "select-authenticator-authenticate", map[string]any{
		"authenticator": map[string]string{"id": atPhone.AuthenticatorID, "methodType": "push"}})

	phoneHeard, deskHeard := <-onPhone, <-onDesk
	if len(phoneHeard.list) != 1 || len(deskHeard.list) != 1 {
		t.Fatalf("%+v %+v", phoneHeard, deskHeard)
	}
	parsed, err := jose.Parse(phoneHeard.list[0].Challenge, jose.PushChallenge)
	if err != nil {
		t.Fatal(err)
	}
	var c okta.Challenge
	if err := parsed.Claims(&c); err != nil || c.AuthenticatorEnrolmentID != atPhone.ID {
		t.Errorf("%+v, %v", c, err)
	}

	// One answers, the other's list changes.
	onDesk = wait(desk, atDesk, "If-None-Match", deskHeard.resp.Header.Get("ETag"))
	now := time.Now()
	denial := phone.PoP.Sign(t, okta.TypePushBind, okta.Answer{
		Issuer: atPhone.ID, Subject: atPhone.User.ID, Audience: c.Issuer, ID: ids.New(""),
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now.Add(5 * time.Minute)), NotBefore: okta.DateOf(now.Add(-time.Minute)),
		TransactionID: c.TransactionID, Nonce: c.Nonce, MethodEnrolmentID: atPhone.Methods[okta.MethodPush].ID,
		KeyType: okta.KeyProofOfPossession, AMR: []string{},
		DeviceSignals: okta.DeviceSignals{ID: atPhone.Device.ID, ClientInstanceID: atPhone.Device.ClientInstanceID},
		Context:       okta.AnswerContext{UserConsent: okta.ConsentDenied, TransactionType: okta.TransactionLogin},
		Integrations:  []okta.SignalResult{}, SignalProviders: []okta.SignalResult{},
	})
	path, _ := strings.CutPrefix(c.VerificationURI, base)
	if w := call(s, "POST", path, okta.AnswerRequest{Method: okta.MethodPush, ChallengeResponse: denial}); w.Code != 204 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if deskHeard = <-onDesk; deskHeard.resp == nil || deskHeard.resp.StatusCode != 200 || len(deskHeard.list) != 0 {
		t.Errorf("%+v", deskHeard)
	}

	// The administrator suspends one device, and then everything of the user.
	admin := []string{"Authorization", "SSWS " + s.AdminToken().Reveal()}
	onPhone, onDesk = wait(phone, atPhone), wait(desk, atDesk)
	if w := call(s, "POST", "/api/v1/devices/"+atPhone.Device.ID+"/lifecycle/suspend", nil, admin...); w.Code != 204 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if h := <-onPhone; h.resp == nil || h.resp.StatusCode != 403 {
		t.Errorf("device suspended: %+v", h)
	}
	if w := call(s, "POST", "/api/v1/users/alice@example.com/lifecycle/suspend", nil, admin...); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if h := <-onDesk; h.resp == nil || h.resp.StatusCode != 423 {
		t.Errorf("user suspended: %+v", h)
	}
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("somebody waited till the end: %v", took)
	}
}

// A14: many agents that wait cost the whole org a few KiB each, and when it
// stops all of them are answered in time.
func TestManyAgentsWait(t *testing.T) {
	const enrolments, each = 100, 4
	s, address := served(t)
	used := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // the first one queues what the second frees
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse)
	}
	var requests []string
	for range enrolments {
		a, e := enrolByLink(t, s)
		for range each {
			requests = append(requests, "GET "+okta.AppAuthenticatorsPath+"/"+e.ID+"/push/notifications HTTP/1.1\r\nHost: localhost:8080\r\nPrefer: wait=60\r\nAuthorization: SSWS "+
				a.PoP.Sign(t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(e.ID, e.User.ID, base, time.Now()))+"\r\n\r\n")
		}
	}
	var conns []net.Conn
	connect := func(requests []string) {
		for _, r := range requests {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			if _, err := io.WriteString(c, r); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(30 * time.Second); s.Waiting() != len(conns); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d of %d wait", s.Waiting(), len(conns))
			}
		}
	}
	connect(requests[:100]) // with them come caches and pools
	before, goroutines := used(), runtime.NumGoroutine()
	connect(requests[100:])
	n := len(requests) - 100
	bytes, more := (used()-before)/n, runtime.NumGoroutine()-goroutines
	t.Logf("%d bytes and %d goroutines for %d, the agents' own end included", bytes, more, n)
	if more > n+20 || bytes > 16<<10 && !racing {
		t.Errorf("%d bytes each, %d goroutines for %d", bytes, more, n)
	}
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 2*time.Second && !racing {
		t.Errorf("closing took %v", took)
	}
	for _, c := range conns {
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(string(answer), "\r\n\r\n[]\n") {
			t.Errorf("%q, %v", answer, err)
		}
		c.Close()
	}
}
