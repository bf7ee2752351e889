package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/localapi"
	"countersign.dev/ipc/localapi/localapitest"
)

func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cs") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start serves an agent in memory and returns a client for it.
func start(t *testing.T, agent *localapitest.Agent) *Client {
	t.Helper()
	before := runtime.NumGoroutine()
	socket := filepath.Join(tempDir(t), "s")
	l, err := localapi.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := localapi.New(agent, localapi.Options{})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	c := New(socket)
	t.Cleanup(func() {
		c.Close()
		_ = s.Shutdown(context.Background())
		<-done
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
	return c
}

func TestCalls(t *testing.T) {
	ctx := t.Context()
	agent := &localapitest.Agent{PromptsHeld: []api.Prompt{{ID: "p/1 ?#", App: "Payroll"}}, Report: api.Report{Checks: []api.Check{{Name: "x", State: "ok"}}}}
	c := start(t, agent)
	account, err := c.AddAccount(ctx, api.AddAccount{Link: "oktaverify://alice@example.com/", Name: "Work"})
	if err != nil || account.Name != "Work" {
		t.Fatal(account, err)
	}
	if account, err = c.RenameAccount(ctx, account.ID, "Home"); err != nil || account.Name != "Home" {
		t.Error(account, err)
	}
	if got, err := c.Account(ctx, account.ID); err != nil || got.Name != "Home" {
		t.Error(got, err)
	}
	if list, err := c.Accounts(ctx); err != nil || len(list.Accounts) != 1 {
		t.Error(list, err)
	}
	if err := c.RemoveAccount(ctx, account.ID, true); err != nil || !agent.Removed[account.ID] {
		t.Error(err, agent.Removed)
	}
	if status, err := c.Status(ctx); err != nil || status.PendingPrompts != 1 {
		t.Error(status, err)
	}
	if list, err := c.Prompts(ctx, "tray"); err != nil || len(list.Prompts) != 1 || agent.Asked[0] != "tray" {
		t.Error(list, err)
	}
	if outcome, err := c.DecidePrompt(ctx, "p/1 ?#", api.Decision{Action: "deny"}); err != nil || outcome.Outcome != "denied" {
		t.Error(outcome, err)
	}
	if report, err := c.Doctor(ctx, "loopback"); err != nil || len(report.Checks) != 1 {
		t.Error(report, err)
	}
	var refused *api.Error
	if _, err := c.Account(ctx, "nope"); !errors.As(err, &refused) || refused.Status != 404 || refused.Code != "not_found" {
		t.Errorf("an unknown account: %v", err)
	}
	if _, err := c.DecidePrompt(ctx, "x", api.Decision{}); !errors.As(err, &refused) || refused.Code != "bad_action" {
		t.Errorf("the zero decision: %v", err)
	}
}

// What the PIN is for reaches the agent, and the agent's word comes back.
func TestPIN(t *testing.T) {
	ctx, pin := t.Context(), api.PIN("314159")
	agent := &localapitest.Agent{Methods: map[string]bool{"fingerprint": false}, PromptsHeld: []api.Prompt{{ID: "p-1", UserVerification: "required"}}}
	c := start(t, agent)
	if set, err := c.SetPIN(ctx, pin, nil); err != nil || set.Changed || set.State.State != "ready" {
		t.Fatal(set, err)
	}
	if set, err := c.SetPIN(ctx, api.PIN("271828"), pin); err != nil || !set.Changed {
		t.Fatal(set, err)
	}
	var refused *api.Error
	if _, err := c.DecidePrompt(ctx, "p-1", api.Decision{Action: "approve", PIN: pin}); !errors.As(err, &refused) || refused.Code != "wrong_pin" || refused.TriesLeft != 2 {
		t.Fatalf("%+v", err)
	}
	pin = api.PIN("271828")
	if _, err := c.DecidePrompt(ctx, "p-1", api.Decision{Action: "approve", PIN: pin}); err != nil || agent.Decided["p-1"].PIN.Reveal() != "271828" {
		t.Fatal(err)
	}
	if l, err := c.EnableVerification(ctx, "fingerprint", true, pin); err != nil || l.Verification[1].State != "ready" {
		t.Fatal(l, err)
	}
	if l, err := c.Verification(ctx); err != nil || len(l.Verification) != 4 {
		t.Fatal(l, err)
	}
	if l, err := c.RemovePIN(ctx, pin); err != nil || l.Verification[0].State != "not_set" {
		t.Fatal(l, err)
	}
	if _, err := c.SetPIN(ctx, pin, nil); err != nil {
		t.Fatal(err)
	}
	if r, err := c.ResetPIN(ctx); err != nil || r.Accounts == nil || agent.PIN != "" {
		t.Fatal(r, err)
	}
}

func TestNotRunning(t *testing.T) {
	dir := tempDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "stale")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for _, path := range []string{filepath.Join(dir, "nothing"), file, stale, dir} {
		if _, err := New(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v, want ErrNotRunning", path, err)
		}
	}
}

func TestSubscribe(t *testing.T) {
	agent := &localapitest.Agent{}
	c := start(t, agent)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := c.Subscribe(ctx, "tray")
	if err != nil {
		t.Fatal(err)
	}
	agent.Ask(api.Prompt{ID: "p-1", App: strings.Repeat("long", 50_000)})
	agent.Ask(api.Prompt{ID: "p-2"})
	var got []string
	for e, err := range events {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, e.Type)
		if e.Prompt != nil && e.Prompt.ID == "p-2" {
			agent.DropSubscribers()
		}
	}
	if want := "hello prompt prompt " + ErrStreamEnded.Error(); strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}

	// The reader's own end is the context's error.
	events, err = c.Subscribe(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range events {
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("after cancel: %v", err)
		}
	}
	agent.Lock()
	agent.Fail = &api.Error{Status: 503, Code: "stopping", Message: "stopping"}
	agent.Unlock()
	var refused *api.Error
	if _, err := c.Subscribe(t.Context(), ""); !errors.As(err, &refused) || refused.Code != "stopping" {
		t.Errorf("refused: %v", err)
	}
}

func TestAudit(t *testing.T) {
	agent := &localapitest.Agent{Records: []api.AuditRecord{{Seq: 1}, {Seq: 2}}}
	c := start(t, agent)
	read := func(o AuditOptions, more func(seq uint64)) (seqs []uint64) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		records, err := c.Audit(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		for r, err := range records {
			if err != nil {
				if !o.Follow {
					t.Error(err)
				}
				break
			}
			seqs = append(seqs, r.Seq)
			if more != nil {
				if more(r.Seq); r.Seq == 4 {
					cancel()
				}
			}
		}
		return seqs
	}
	if got := fmt.Sprint(read(AuditOptions{}, nil)); got != "[1 2]" {
		t.Error(got)
	}
	if got := fmt.Sprint(read(AuditOptions{From: 2, Verify: true}, nil)); got != "[2]" {
		t.Error(got)
	}
	got := read(AuditOptions{Follow: true}, func(seq uint64) {
		if seq == 2 || seq == 3 {
			agent.Record(api.AuditRecord{Seq: seq + 1})
		}
	})
	if fmt.Sprint(got) != "[1 2 3 4]" {
		t.Errorf("followed: %v", got)
	}
	agent.AuditErr = errors.New("changed")
	var refused *api.Error
	if _, err := c.Audit(t.Context(), AuditOptions{Verify: true}); !errors.As(err, &refused) || refused.Code != "audit_broken" {
		t.Errorf("a broken record: %v", err)
	}
}

// An agent that answers nonsense, or not in time, is an error and no answer.
func TestStrangeAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":   "",
		"no HTTP":   "hello\r\n\r\n",
		"html":      "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
		"bad error": "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
		"redirect":  "HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n",
	} {
		socket := filepath.Join(tempDir(t), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, answer)
			c.Close()
		}()
		if s, err := New(socket).Status(t.Context()); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
		l.Close()
		<-done
	}
}

// What security keys are asked reaches the agent.
func TestSecurityKeys(t *testing.T) {
	ctx, pin := t.Context(), api.PIN("2580")
	agent := &localapitest.Agent{Methods: map[string]bool{"security_key": false}, Plugged: []*localapitest.PluggedKey{{
		SecurityKey: api.SecurityKey{ID: "k/1", Product: "Test key"}, Tries: 8,
		Credentials: []api.KeyCredential{{ID: "AQ", RPID: "id.example.com"}},
	}}}
	c := start(t, agent)
	if l, err := c.SecurityKeys(ctx); err != nil || len(l.Keys) != 1 {
		t.Fatal(l, err)
	}
	if k, err := c.SetKeyPIN(ctx, "k/1", api.PIN("1234"), nil); err != nil || !k.PINSet {
		t.Fatal(k, err)
	}
	if k, err := c.SetKeyPIN(ctx, "k/1", pin, api.PIN("1234")); err != nil || !k.PINSet {
		t.Fatal(k, err)
	}
	if k, err := c.SecurityKey(ctx, "k/1"); err != nil || k.TriesLeft != 8 {
		t.Fatal(k, err)
	}
	var refused *api.Error
	if _, err := c.KeyCredentials(ctx, "k/1", api.PIN("0000")); !errors.As(err, &refused) || refused.Code != "wrong_key_pin" || refused.TriesLeft != 7 {
		t.Fatalf("%+v", err)
	}
	if l, err := c.KeyCredentials(ctx, "k/1", pin); err != nil || len(l.Credentials) != 1 {
		t.Fatal(l, err)
	}
	if l, err := c.DeleteKeyCredential(ctx, "k/1", api.DeleteKeyCredential{PIN: pin, ID: "AQ", Confirm: "id.example.com"}); err != nil || len(l.Credentials) != 0 {
		t.Fatal(l, err)
	}
	if l, err := c.ChangeFingerprint(ctx, "k/1", api.ChangeFingerprint{PIN: pin, Name: "thumb"}); err != nil || len(l.Fingerprints) != 1 {
		t.Fatal(l, err)
	}
	if l, err := c.KeyFingerprints(ctx, "k/1", pin); err != nil || l.Fingerprints[0].Name != "thumb" {
		t.Fatal(l, err)
	}
	if l, err := c.VerifyByKey(ctx, "k/1", pin); err != nil || l.Verification[3].State != "ready" {
		t.Fatal(l, err)
	}
	if l, err := c.SwitchVerification(ctx, "security_key", api.EnableVerification{Enabled: true, KeyPIN: pin}); err != nil || l.Verification[3].State != "ready" {
		t.Fatal(l, err)
	}
	if err := c.ResetKey(ctx, "k/1", "Test key"); err != nil || agent.Plugged[0].PIN != "" {
		t.Fatal(err)
	}
	if set, err := c.ReplacePIN(ctx, api.SetPIN{PIN: api.PIN("314159"), KeyPIN: pin}); err != nil || set.State.State != "ready" {
		t.Fatal(set, err)
	}
}

// The secrets of a sign-in with a key reach the agent, and a refusal names the key.
func TestSignInWithKey(t *testing.T) {
	agent := &localapitest.Agent{
		Plugged: []*localapitest.PluggedKey{{SecurityKey: api.SecurityKey{ID: "k1", Product: "Test key"}, PIN: "2580", Tries: 8}},
		KeyOrgs: map[string]*localapitest.KeyOrg{"https://id.example.com": {User: "bob", Password: "secret"}},
	}
	c := start(t, agent)
	in := api.KeySignIn{Org: "https://id.example.com", Username: "bob", Password: api.PIN("secret"), Enrol: true}
	var refused *api.Error
	if _, err := c.SignInWithKey(t.Context(), in); !errors.As(err, &refused) || refused.Code != "key_pin_needed" || refused.Key != "k1" || refused.Product != "Test key" || refused.TriesLeft != 8 {
		t.Fatalf("%+v", err)
	}
	in.PIN = api.PIN("2580")
	if done, err := c.SignInWithKey(t.Context(), in); err != nil || done.Key != "Test key" || !done.Enrolled {
		t.Fatal(done, err)
	}
}
