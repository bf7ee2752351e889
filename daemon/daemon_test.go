package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/daemon/vault"
	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

// agent is a whole agent in process, with its doors open.
type agent struct {
	*Daemon
	client *client.Client
	config Config
	stop   func() error
}

func testConfig(t testing.TB) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "cs") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Config{
		StateDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "run", "agent.sock"),
		LoopbackPorts: []int{0}, DeviceKey: "software", TPM: filepath.Join(dir, "no-tpm"), VaultKey: "file", Version: "test",
		session: &fakeSession{},
	}
}

func startAgent(t testing.TB, c Config) *agent {
	t.Helper()
	d, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return runAgent(t, d, c)
}

// runAgent runs an agent that was opened.
func runAgent(t testing.TB, d *Daemon, c Config) *agent {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	a := &agent{Daemon: d, client: client.New(c.Socket), config: c}
	a.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = a.stop() })
	return a
}

// enrol adds an account by link.
func (a *agent) enrol(t testing.TB, org *oktatest.Org) api.Account {
	t.Helper()
	got, err := a.client.AddAccount(t.Context(), api.AddAccount{Link: org.Link().URL()})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// post hands a challenge to the agent as a page does.
func (a *agent) post(t *testing.T, origin, token string) int {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"challengeRequest": token})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/challenge", a.port()), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", origin)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// The main job, in one process: enrol by link, a page hands over a challenge,
// the org gets an answer that verifies with the key it was told.
func TestEnrolAndAnswer(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	added := a.enrol(t, org)
	if added.State != "active" || added.Org != org.URL || added.User != oktatest.Login || added.Protection != "software" || !added.Development {
		t.Fatalf("%+v", added)
	}
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	answers := org.Answers()
	if len(answers) != 1 {
		t.Fatalf("%d answers", len(answers))
	}
	token, err := jose.Parse(answers[0].ChallengeResponse, jose.Answer)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Verify(*org.Enrolments()[0].Methods.SignedNonce.Keys.ProofOfPossession); err != nil {
		t.Fatal(err)
	}
	var claims okta.Answer
	if err := token.Claims(&claims); err != nil || claims.Issuer != added.EnrolmentID || claims.Context.OriginHeader != org.URL {
		t.Fatalf("%+v, %v", claims, err)
	}
	records := a.audit(t)
	if len(records) != 2 || records[0].Event != "enrolment" || records[1].Outcome != "approved" || records[1].Account != added.ID {
		t.Fatalf("%+v", records)
	}

	// B6: restart, and the captured challenge comes again.
	replay := org.Challenge(nil)
	if got := a.post(t, org.URL, replay); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	b := startAgent(t, a.config)
	if got := b.post(t, org.URL, replay); got != http.StatusConflict {
		t.Fatalf("replay after restart: %d", got)
	}
	if got := b.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK || len(org.Answers()) != 3 {
		t.Fatalf("after restart: %d", got)
	}
}

func (a *agent) audit(t *testing.T) (list []api.AuditRecord) {
	t.Helper()
	records, err := front{a.Daemon}.Audit(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range records {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// A front end approves, denies, and is told what became of it.
func TestPromptedAnswer(t *testing.T) {
	for _, row := range []struct {
		action, outcome string
		consent         okta.Consent
	}{
		{"approve", "approved", okta.ConsentApproved},
		{"deny", "denied", okta.ConsentDenied},
	} {
		t.Run(row.action, func(t *testing.T) {
			org := oktatest.NewOrg(t)
			a := startAgent(t, testConfig(t))
			a.enrol(t, org)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			events, err := front{a.Daemon}.Subscribe(ctx, "cli")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var status int
			wg.Go(func() {
				status = a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) {
					c.UserMediation, c.AppInstanceName = okta.NeedRequired, "Pay\u202eroll\x1b[2J"
				}))
			})
			var shown api.Prompt
			for e := range events {
				if e.Type == "prompt" {
					shown = *e.Prompt
					break
				}
			}
			if shown.App != "Payroll[2J" || shown.Org != org.URL || shown.Origin != org.URL || shown.User != oktatest.Login {
				t.Fatalf("%+v", shown)
			}
			got, err := a.client.DecidePrompt(t.Context(), shown.ID, api.Decision{Action: row.action})
			if err != nil || got.Outcome != row.outcome {
				t.Fatalf("%+v, %v", got, err)
			}
			wg.Wait()
			if status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			token, _ := jose.Parse(org.Answers()[0].ChallengeResponse, jose.Answer)
			var claims okta.Answer
			if err := token.Claims(&claims); err != nil || claims.Context.UserConsent != row.consent {
				t.Fatalf("%+v, %v", claims.Context, err)
			}
			// B5: the same prompt again is an error.
			_, err = a.client.DecidePrompt(t.Context(), shown.ID, api.Decision{Action: "approve"})
			var refusal *api.Error
			if !errors.As(err, &refusal) || refusal.Code != "prompt_decided" {
				t.Fatal(err)
			}
		})
	}
}

// A2, A3, A4: pages that do not belong to an account change nothing, and the
// record says so once.
func TestForeignPages(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	before := len(a.audit(t))
	for range 3 {
		for _, origin := range []string{"https://evil.example", "null", org.URL + ".evil.example", "http://localhost:1"} {
			if got := a.post(t, origin, org.Challenge(nil)); got != http.StatusForbidden {
				t.Errorf("%s: %d", origin, got)
			}
		}
	}
	if len(org.Answers()) != 0 {
		t.Fatal("answered")
	}
	if got := a.audit(t)[before:]; len(got) != 1 || got[0].Event != "page_refused" {
		t.Fatalf("%+v", got)
	}
}

// An origin that the org has published since is accepted: the agent asks once.
func TestUnknownOriginAsksTheOrg(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	_ = a.stop()
	start := org.Hits(okta.AuthenticatorConfigurationPath)
	a = startAgent(t, a.config)
	for org.Hits(okta.AuthenticatorConfigurationPath) == start {
		runtime.Gosched() // what it asks at its start is not what is counted
	}
	const page = "https://app.example.com"
	org.LoopbackOrigins(page)
	hits := org.Hits(okta.AuthenticatorConfigurationPath)
	if got := a.post(t, page, org.Challenge(func(c *okta.Challenge) { c.RequestReferrer = page + "/login" })); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	for range 5 {
		a.post(t, "https://evil.example", org.Challenge(nil))
	}
	if got := org.Hits(okta.AuthenticatorConfigurationPath) - hits; got > 1 {
		t.Fatalf("asked %d times", got)
	}
}

// C4, A12: a locked agent starts, says so, answers known pages with 503, and
// opens when the key comes back.
func TestLockedAgent(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(a.config.StateDir, "vault.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	b := startAgent(t, a.config)
	if got := b.post(t, org.URL, org.Challenge(nil)); got != http.StatusServiceUnavailable {
		t.Fatalf("status %d", got)
	}
	if got := b.post(t, "https://evil.example", org.Challenge(nil)); got != http.StatusForbidden {
		t.Fatalf("status %d", got)
	}
	s, err := b.client.Status(t.Context())
	if err != nil || s.VaultKey.State != "locked" || s.Accounts != 1 || len(s.Problems) == 0 || s.Problems[0].Code != "vault_locked" {
		t.Fatalf("%+v, %v", s, err)
	}
	_, err = b.client.AddAccount(t.Context(), api.AddAccount{Link: org.Link().URL()})
	var refusal *api.Error
	if !errors.As(err, &refusal) || refusal.Code != "locked" || refusal.Hint == "" {
		t.Fatal(err)
	}
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	b.unlocking.Store(0) // as after a while
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, _ := front{b.Daemon}.Subscribe(ctx, "")
	if got := b.post(t, org.URL, org.Challenge(nil)); got != http.StatusServiceUnavailable {
		t.Fatalf("status %d", got)
	}
	for e := range events {
		if e.Type == "status" {
			break
		}
	}
	if got := b.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Fatalf("after the unlock: %d", got)
	}
}

func TestPassphrase(t *testing.T) {
	c := testConfig(t)
	c.VaultKey, c.PassphraseFile = "auto", filepath.Join(filepath.Dir(c.StateDir), "pass")
	write := func(s string) {
		if err := os.WriteFile(c.PassphraseFile, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("correct horse\n")
	a := startAgent(t, c)
	if a.Ready().VaultKey != "passphrase" {
		t.Fatal(a.Ready())
	}
	_ = a.stop()
	write("wrong horse\n")
	if _, err := Open(t.Context(), c); !errors.Is(err, unlock.ErrWrongPassphrase) || Hint(err) == "" {
		t.Fatal(err)
	}
	write("correct horse\n")
	startAgent(t, c)
}

// Damaged state is refused by name, and the files stay as they are.
func TestDamagedState(t *testing.T) {
	for _, file := range []string{"accounts.sealed", "keys.sealed", "claims.log", "audit.log"} {
		for name, damage := range map[string]func([]byte) []byte{
			"bit":       func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
			"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		} {
			t.Run(file+" "+name, func(t *testing.T) {
				org := oktatest.NewOrg(t)
				a := startAgent(t, testConfig(t))
				a.enrol(t, org)
				a.post(t, org.URL, org.Challenge(nil))
				_ = a.stop()
				path := filepath.Join(a.config.StateDir, file)
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				broken := damage(bytes.Clone(whole))
				if err := os.WriteFile(path, broken, 0o600); err != nil {
					t.Fatal(err)
				}
				d, err := Open(t.Context(), a.config)
				if err == nil {
					defer d.Close()
					if strings.HasSuffix(file, ".log") && name == "truncated" {
						return // half a last line is what a crash leaves; the chain before it holds
					}
					t.Fatal("started over damaged state")
				}
				if backup := strings.TrimSuffix(file, ".sealed") + ".bak"; !strings.Contains(err.Error(), file) || Hint(err) == "" ||
					backup != file+".bak" && !strings.Contains(err.Error(), backup) {
					t.Fatalf("%v (hint %q)", err, Hint(err))
				}
				if now, _ := os.ReadFile(path); !bytes.Equal(now, broken) {
					t.Fatal("the damaged file was written over")
				}
			})
		}
	}
}

func TestSecondAgent(t *testing.T) {
	a := startAgent(t, testConfig(t))
	c := a.config
	c.Socket += "2"
	if _, err := Open(t.Context(), c); !errors.Is(err, vault.ErrInUse) || Hint(err) == "" {
		t.Fatal(err)
	}
	if _, err := a.client.Status(t.Context()); err != nil {
		t.Fatal("the first agent suffered:", err)
	}
}

// A9: the ports are taken. The agent runs all the same and names who has them.
func TestNoFreePort(t *testing.T) {
	squatter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	c := testConfig(t)
	c.LoopbackPorts = []int{squatter.Addr().(*net.TCPAddr).Port, second.Addr().(*net.TCPAddr).Port}
	a := startAgent(t, c)
	s, err := a.client.Status(t.Context())
	if err != nil || s.Loopback.State != "no_free_port" || s.Loopback.Port != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	i := len(s.Problems) - 1
	if s.Problems[i].Code != "no_free_port" || strings.Count(s.Problems[i].Message, fmt.Sprintf("process %d", os.Getpid())) != 1 {
		t.Fatalf("%+v", s.Problems)
	}
	if got := check(t, a, "loopback port"); got.State != "failed" || got.Hint == "" {
		t.Fatalf("%+v", got)
	}
}

// A9: a squatter sits on a port that browsers try first.
func TestDoctorNamesSquatter(t *testing.T) {
	org := oktatest.NewOrg(t)
	squatter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })}
	go server.Serve(squatter) //nolint:errcheck // ends with Close
	defer server.Close()
	port := squatter.Addr().(*net.TCPAddr).Port
	c := testConfig(t)
	c.LoopbackPorts = []int{port, 0}
	a := startAgent(t, c)
	a.enrol(t, org)
	a.config.LoopbackPorts[1] = a.port() // as if the list had named it
	if got := check(t, a, fmt.Sprintf("port %d", port)); got.State != "warning" || !strings.Contains(got.Message, fmt.Sprint(os.Getpid())) || !strings.Contains(got.Hint, "any page") {
		t.Fatalf("%+v", got)
	}
	if got := check(t, a, "loopback port"); got.State != "ok" {
		t.Fatalf("%+v", got)
	}
	if got := check(t, a, "org "+org.URL); got.State != "ok" {
		t.Fatalf("%+v", got)
	}
	org.Reply("/.well-known/", oktatest.Reply{Status: 200, ContentType: "text/html", Body: "<html>captive</html>"})
	if got := check(t, a, "org "+org.URL); got.State != "failed" || got.Hint == "" {
		t.Fatalf("%+v", got)
	}
	if got := a.post(t, org.URL, org.Challenge(nil)); got == http.StatusOK {
		t.Log("keys were cached")
	}
}

func check(t *testing.T, a *agent, name string) api.Check {
	t.Helper()
	r, err := front{a.Daemon}.Doctor(t.Context(), "loopback")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, r.Checks)
	return api.Check{}
}

// Stopping withdraws a waiting prompt and takes less than two seconds.
func TestStopsWhileAsking(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, _ := front{a.Daemon}.Subscribe(ctx, "cli")
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired })); got == http.StatusOK {
			t.Errorf("a stopping agent said 200")
		}
	})
	for e := range events {
		if e.Type == "prompt" {
			break
		}
	}
	start := time.Now()
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Fatalf("took %v", took)
	}
	wg.Wait()
	if len(org.Answers()) != 0 {
		t.Fatal("answered while stopping")
	}
}

func TestRemoveAccount(t *testing.T) {
	for _, row := range []struct {
		name  string
		reply oktatest.Reply
		local bool
		kept  bool
		code  string
	}{
		{name: "gone at both", reply: oktatest.Reply{}},
		{name: "org says gone", reply: oktatest.Reply{Status: 410, Body: `{"errorCode":"E0000154"}`}},
		{name: "404", reply: oktatest.Reply{Status: 404, Body: `{"errorCode":"E0000008"}`}, kept: true, code: "org_refused"},
		{name: "gone code, wrong status", reply: oktatest.Reply{Status: 404, Body: `{"errorCode":"E0000154"}`}, kept: true, code: "org_refused"},
		{name: "proxy's page", reply: oktatest.Reply{Status: 410, ContentType: "text/html", Body: "<html>"}, kept: true, code: "org_unexpected_answer"},
		{name: "server error", reply: oktatest.Reply{Status: 500, Body: `{"errorCode":"E0000009"}`}, kept: true, code: "org_busy"},
		{name: "suspended", reply: oktatest.Reply{Status: 423, Body: `{"errorCode":"E0000155"}`}, kept: true, code: "org_suspended"},
		{name: "here only", reply: oktatest.Reply{Status: 500, Body: `{}`}, local: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			org := oktatest.NewOrg(t)
			a := startAgent(t, testConfig(t))
			id := a.enrol(t, org).ID
			org.Reply(okta.AppAuthenticatorsPath+"/", row.reply)
			err := a.client.RemoveAccount(t.Context(), id, row.local)
			var refusal *api.Error
			if row.kept != (err != nil) || row.kept && (!errors.As(err, &refusal) || refusal.Code != row.code || !strings.Contains(refusal.Hint, "--local-only")) {
				t.Fatalf("%v", err)
			}
			list, err := a.client.Accounts(t.Context())
			if err != nil || (len(list.Accounts) == 1) != row.kept || row.kept && list.Accounts[0].State != "active" {
				t.Fatalf("%+v, %v", list, err)
			}
			want := http.StatusForbidden
			if row.kept {
				want = http.StatusOK
			}
			if got := a.post(t, org.URL, org.Challenge(nil)); got != want {
				t.Fatalf("status %d", got)
			}
		})
	}
}

// C2: what a program of the same user can ask for over the local API holds no
// way to sign, to export a key, or to add one silently to an account.
func TestLocalAPIIsNoSigner(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", a.config.Socket)
	}}
	defer transport.CloseIdleConnections()
	for _, path := range []string{"/v1/sign", "/v1/keys", "/v1/accounts/x/keys", "/challenge", "/probe", "/v1/export"} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+api.Host+path, strings.NewReader(`{}`))
		r.Header.Set("Content-Type", "application/json")
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}
