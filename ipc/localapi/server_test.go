package localapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
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

// start serves agent on a socket until the test ends.
func start(t testing.TB, agent localapi.Agent, log *slog.Logger) (socket string) {
	t.Helper()
	before := runtime.NumGoroutine()
	dir, err := os.MkdirTemp("", "cs") // short: t.TempDir may pass the limit
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "run", "agent.sock")
	l, err := localapi.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := localapi.New(agent, localapi.Options{Log: log, Version: "v1.2.3"})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if _, err := os.Lstat(socket); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
		os.RemoveAll(dir)
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
	return socket
}

type reply struct {
	status int
	header http.Header
	body   string
	err    api.Error
}

// ask sends one request as it is. Headers are lines; a Host is added unless one
// is among them.
func ask(t testing.TB, socket, method, path, body string, headers ...string) reply {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, path)
	if len(headers) == 0 || !strings.HasPrefix(headers[0], "Host:") {
		b.WriteString("Host: agent\r\n")
	}
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("Connection: close\r\n\r\n" + body)
	_, _ = io.WriteString(c, b.String()) // may be refused before it is read
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return reply{}
	}
	defer res.Body.Close()
	all, _ := io.ReadAll(res.Body)
	r := reply{status: res.StatusCode, header: res.Header, body: string(all)}
	var wrapped api.ErrorBody
	if res.StatusCode >= 400 && json.Unmarshal(all, &wrapped) == nil && wrapped.Error != nil {
		r.err = *wrapped.Error
	}
	return r
}

const asJSON = "Content-Type: application/json"

func sample() *localapitest.Agent {
	return &localapitest.Agent{
		AccountsHeld: []api.Account{{ID: "acc-1", User: "alice@example.com", Org: "https://id.example.com", State: "active"}},
		PromptsHeld:  []api.Prompt{{ID: "p-1", App: "Payroll"}},
		Signals:      []api.Signal{{Name: "platform", Value: "LINUX", Known: true}},
		KeysHeld:     []api.Key{{ID: "K1", Account: "acc-1", Method: "push", Role: "proofOfPossession", Kind: "tpm", State: "ready"}},
		CodesHeld:    []api.CodeEntry{{ID: "acc-1", Name: "alice@example.com", Issuer: "id.example.com", Account: "acc-1", State: "active"}},
		Digits:       []api.Code{{Code: "012345", ExpiresInSeconds: 7}},
		Methods:      map[string]bool{"fingerprint": false},
		Without:      []string{"acc-1"},
		Plugged: []*localapitest.PluggedKey{{SecurityKey: api.SecurityKey{ID: "k1", Product: "Test key", Protocols: []string{"FIDO_2_0"}}, Tries: 8,
			Credentials: []api.KeyCredential{{ID: "AQ", RPID: "id.example.com", User: "alice"}}}},
		Records: []api.AuditRecord{{Seq: 1, Event: "challenge"}, {Seq: 2, Event: "challenge"}},
	}
}

func TestOperations(t *testing.T) {
	agent := sample()
	socket := start(t, agent, nil)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/status", "", 200, `"accounts":1,"pendingPrompts":1,"problems":[]`},
		{"GET", "/v1/accounts", "", 200, `{"accounts":[{"id":"acc-1"`},
		{"GET", "/v1/accounts/acc-1", "", 200, `"user":"alice@example.com"`},
		{"GET", "/v1/accounts/nope", "", 404, `"not_found"`},
		{"POST", "/v1/accounts", `{"link":"oktaverify://bob@example.com/?t=1"}`, 201, `"user":"bob@example.com"`},
		{"POST", "/v1/accounts", `{"link":"x"}`, 400, `"hint":"it begins with oktaverify://"`},
		{"PATCH", "/v1/accounts/acc-1", `{"name":"Work"}`, 200, `"name":"Work"`},
		{"DELETE", "/v1/accounts/acc-new?local_only=true", "", 204, ""},
		{"GET", "/v1/prompts?front_end=tray", "", 200, `"app":"Payroll"`},
		{"POST", "/v1/prompts/p-1/decision", `{"action":"approve","number":"42"}`, 200, `{"id":"p-1","outcome":"approved","reason":""}`},
		{"POST", "/v1/prompts/p-1/decision", `{"action":"approve"}`, 404, `"not_found"`},
		{"GET", "/v1/verification", "", 200, `{"verification":[{"method":"pin","state":"not_set"`},
		{"POST", "/v1/pin", `{"pin":"314159"}`, 200, `{"changed":false,"state":{"method":"pin","state":"ready","triesLeft":3},"without":[`},
		{"POST", "/v1/pin", `{"pin":"271828","oldPin":"000000"}`, 403, `"code":"wrong_pin","message":"the PIN is wrong; tries left: 2","triesLeft":2`},
		{"POST", "/v1/pin", `{"pin":"271828","oldPin":"314159"}`, 200, `"changed":true`},
		{"POST", "/v1/verification/fingerprint", `{"enabled":true,"pin":"271828"}`, 200, `{"method":"fingerprint","state":"ready"}`},
		{"POST", "/v1/verification/nose", `{"enabled":true}`, 404, `"not_found"`},
		{"DELETE", "/v1/pin", `{"pin":"271828"}`, 200, `"state":"not_set"`},
		{"POST", "/v1/pin/reset", `{}`, 200, `{"accounts":[`},
		{"POST", "/v1/pin/reset", ``, 415, `"code":"content_type"`},
		{"GET", "/v1/keys", "", 200, `{"keys":[{"id":"K1","account":"acc-1","name":"","method":"push","role":"proofOfPossession"`},
		{"POST", "/v1/accounts/acc-1/keys", `{"action":"rotate","to":"tpm","pin":"271828"}`, 201, `"id":"enr-1","org":"https://id.example.com"`},
		{"POST", "/v1/accounts/acc-1/keys", `{"action":"steal"}`, 400, `"bad_action"`},
		{"POST", "/v1/accounts/acc-1/keys", `{}`, 400, `"bad_action"`},
		{"POST", "/v1/accounts/nope/keys", `{"action":"rotate"}`, 404, `"not_found"`},
		{"POST", "/v1/accounts/acc-1/acknowledge", "", 200, `"id":"acc-1"`},
		{"GET", "/v1/codes", "", 200, `{"codes":[{"id":"acc-1","name":"alice@example.com","issuer":"id.example.com","account":"acc-1","state":"active"}]}`},
		{"POST", "/v1/codes/alice%40example.com/code", `{}`, 200, `{"name":"alice@example.com","issuer":"id.example.com","code":"012345","expiresInSeconds":7}`},
		{"POST", "/v1/codes/nope/code", `{}`, 404, `"not_found"`},
		{"GET", "/v1/device", "", 200, `{"signals":[{"name":"platform","value":"LINUX","known":true}]}`},
		{"GET", "/v1/audit", "", 200, "\n{\"seq\":2"},
		{"GET", "/v1/audit?from=2", "", 200, `{"seq":2`},
		{"GET", "/v1/audit?verify=true", "", 200, `{"seq":1`},
		{"GET", "/v1/doctor?topic=loopback", "", 200, `{"checks":[]}`},
		{"GET", "/v1/openapi.json", "", 200, `"openapi": "3.1.0"`},
		{"GET", "/v1/securitykeys", "", 200, `{"keys":[{"id":"k1","product":"Test key"`},
		{"GET", "/v1/securitykeys/k1", "", 200, `"protocols":["FIDO_2_0"]`},
		{"GET", "/v1/securitykeys/k2", "", 409, `"other_key"`},
		{"POST", "/v1/securitykeys/k1/pin", `{"pin":"2580"}`, 200, `"pinSet":true`},
		{"POST", "/v1/securitykeys/k1/credentials", `{}`, 403, `"key_pin_needed"`},
		{"POST", "/v1/securitykeys/k1/credentials", `{"pin":"0000"}`, 403, `"triesLeft":7`},
		{"POST", "/v1/securitykeys/k1/credentials", `{"pin":"2580"}`, 200, `{"credentials":[{"id":"AQ","rpId":"id.example.com","user":"alice"}],"left":24}`},
		{"DELETE", "/v1/securitykeys/k1/credentials", `{"pin":"2580","id":"AQ","confirm":"example.com"}`, 409, `"not_confirmed"`},
		{"DELETE", "/v1/securitykeys/k1/credentials", `{"pin":"2580","id":"AQ","confirm":"id.example.com"}`, 200, `{"credentials":[],"left":25}`},
		{"PUT", "/v1/securitykeys/k1/fingerprints", `{"pin":"2580","name":"thumb"}`, 200, `"name":"thumb"`},
		{"PUT", "/v1/securitykeys/k1/fingerprints", `{"pin":"2580"}`, 400, `"bad_fingerprint"`},
		{"PUT", "/v1/securitykeys/k1/fingerprints", `{"pin":"2580","name":"a","drop":"f1"}`, 400, `"bad_fingerprint"`},
		{"POST", "/v1/securitykeys/k1/fingerprints", `{"pin":"2580"}`, 200, `{"fingerprints":[{"id":"f1"`},
		{"POST", "/v1/securitykeys/k1/verification", `{"pin":"2580"}`, 200, `{"method":"security_key","state":"ready"}`},
		{"POST", "/v1/securitykeys/signin", `{"org":"https://id.example.com","username":"eve"}`, 403, `"sign_in_refused"`},
		{"POST", "/v1/securitykeys/k1/reset", `{"confirm":"test key"}`, 409, `"not_confirmed"`},
		{"POST", "/v1/securitykeys/k1/reset", `{"confirm":"Test key"}`, 204, ""},
	} {
		var headers []string
		if c.body != "" {
			headers = []string{"Content-Type: application/json; charset=utf-8"}
		}
		got := ask(t, socket, c.method, c.path, c.body, headers...)
		if got.status != c.status || !strings.Contains(got.body, c.want) {
			t.Errorf("%s %s: %d %s, want %d with %s", c.method, c.path, got.status, got.body, c.status, c.want)
		}
	}
	if local, ok := agent.Removed["acc-new"]; !ok || !local {
		t.Errorf("removed %v", agent.Removed)
	}
	if agent.Asked[0] != "tray" || agent.Decided["p-1"].Number != "42" || agent.DecidedBy["p-1"].PID != os.Getpid() {
		t.Errorf("the agent was told %q, %+v, %+v", agent.Asked, agent.Decided, agent.DecidedBy)
	}
}

func TestErrors(t *testing.T) {
	var log bytes.Buffer
	agent := sample()
	socket := start(t, agent, slog.New(slog.NewTextHandler(&log, nil)))
	agent.Fail = fmt.Errorf("read the room: %w", localapitest.ErrBroken)
	got := ask(t, socket, "GET", "/v1/status", "")
	if got.status != 500 || got.err.Code != "internal" || strings.Contains(got.body, "alice") {
		t.Errorf("an inner error reached the caller: %d %s", got.status, got.body)
	}
	if !strings.Contains(log.String(), "disk on fire") {
		t.Errorf("it is not in the log: %s", log.String())
	}
	agent.Fail = fmt.Errorf("wrapped: %w", &api.Error{Code: "locked", Message: "the vault is locked", Hint: "unlock it"})
	if got := ask(t, socket, "GET", "/v1/status", ""); got.status != 400 || got.err.Hint != "unlock it" {
		t.Errorf("%d %s", got.status, got.body)
	}
	agent.Fail = &api.Error{Status: 400, Code: "bad_link", Message: "no", Hint: "?t=…&f=…"}
	if got := ask(t, socket, "GET", "/v1/status", ""); !strings.Contains(got.body, "?t=…&f=…") {
		t.Errorf("not for a person's eyes: %s", got.body)
	}
	agent.Fail = nil
	agent.AuditErr = errors.New("entry 7 was changed")
	if got := ask(t, socket, "GET", "/v1/audit?verify=true", ""); got.status != 409 || got.err.Code != "audit_broken" || !strings.Contains(got.err.Message, "entry 7") {
		t.Errorf("%d %s", got.status, got.body)
	}
	// A record that cannot be looked at is not called broken.
	agent.AuditErr = &api.Error{Status: 503, Code: "locked", Message: "the vault is locked"}
	if got := ask(t, socket, "GET", "/v1/audit?verify=true", ""); got.status != 503 || got.err.Code != "locked" || strings.Contains(got.err.Message, "broken") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestEvents(t *testing.T) {
	agent := sample()
	socket := start(t, agent, nil)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET /v1/events?front_end=tray HTTP/1.1\r\nHost: agent\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%v %v", res, err)
	}
	lines := bufio.NewScanner(res.Body)
	event := func() (text string) {
		for lines.Scan() && lines.Text() != "" {
			text += lines.Text() + "\n"
		}
		return text
	}
	if got := event(); !strings.Contains(got, "event: hello\n") {
		t.Fatalf("first event: %s", got)
	}
	if got := agent.FrontEnds(); len(got) != 1 || got[0] != "tray" {
		t.Errorf("front ends: %v", got)
	}
	agent.Ask(api.Prompt{ID: "p-2", App: "line\nbreak"})
	if got := event(); !strings.HasPrefix(got, "id: 1\nevent: prompt\ndata: {") || !strings.Contains(got, `"app":"line\nbreak"`) {
		t.Errorf("second event: %s", got)
	}
	agent.DropSubscribers() // too slow
	if got := event(); got != "" || lines.Err() != nil {
		t.Errorf("after the end: %q, %v", got, lines.Err())
	}
}

// A subscriber that hangs up is forgotten, and Shutdown does not wait for those
// that stay.
func TestSubscribersEnd(t *testing.T) {
	agent := sample()
	socket := start(t, agent, nil)
	subscribe := func() net.Conn {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /v1/events?front_end=cli HTTP/1.1\r\nHost: agent\r\n\r\n")
		_, _ = c.Read(make([]byte, 1))
		return c
	}
	gone := subscribe()
	gone.Close()
	for deadline := time.Now().Add(5 * time.Second); len(agent.FrontEnds()) != 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("a subscriber that hung up still counts as a front end")
		}
	}
	defer subscribe().Close() // left to Shutdown
}

func TestAuditFollow(t *testing.T) {
	agent := sample()
	socket := start(t, agent, nil)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET /v1/audit?follow=true HTTP/1.1\r\nHost: agent\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(res.Body)
	next := func(want uint64) {
		t.Helper()
		var r api.AuditRecord
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &r) != nil || r.Seq != want {
			t.Fatalf("got %s (%v), want record %d", lines.Text(), lines.Err(), want)
		}
	}
	next(1)
	next(2)
	agent.Record(api.AuditRecord{Seq: 3})
	next(3)
	agent.DropSubscribers() // the server was too slow: it must not lose one
	agent.Record(api.AuditRecord{Seq: 4})
	next(4)
	agent.Record(api.AuditRecord{Seq: 5})
	next(5)
}

// The description holds every route, every parameter and every member of every
// type, and nothing that is not there.
func TestOpenAPI(t *testing.T) {
	socket := start(t, sample(), nil)
	var doc struct {
		Info  struct{ Version string }
		Paths map[string]map[string]struct {
			Parameters  []struct{ Name, In string }
			RequestBody map[string]any
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
				Required   []string
			}
		}
	}
	got := ask(t, socket, "GET", "/v1/openapi.json", "")
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Info.Version != "v1.2.3" {
		t.Errorf("version %q", doc.Info.Version)
	}
	n := 0
	for path, operations := range doc.Paths {
		for method, operation := range operations {
			n++
			// What is described exists: it is not answered with 404 or 405.
			target := strings.Replace(path, "{id}", "x", 1)
			r := ask(t, socket, strings.ToUpper(method), target+"?no_such=1", "", asJSON)
			if r.err.Code != "unknown_parameter" {
				t.Errorf("%s %s is described but answers %d %s", method, path, r.status, r.body)
			}
			if strings.Contains(path, "{id}") && (len(operation.Parameters) == 0 || operation.Parameters[0].In != "path") {
				t.Errorf("%s %s does not describe its id", method, path)
			}
		}
	}
	if n != 42 {
		t.Errorf("%d operations are described, want 42: extend this test with the new ones", n)
	}
	for _, path := range []string{api.PathStatus, api.PathAccounts, api.PathAccount, api.PathResume, api.PathEnrolments, api.PathEnrolment, api.PathPrompts, api.PathDecision, api.PathShowPrompt, api.PathPause, api.PathShowDoctor, api.PathVerification, api.PathMethod, api.PathPIN, api.PathResetPIN, api.PathKeys, api.PathAccountKeys, api.PathAcknowledge, api.PathCodes, api.PathCode, api.PathRekey, api.PathDevice, api.PathAudit, api.PathEvents, api.PathDoctor, api.PathOpenAPI,
		api.PathSecurityKeys, api.PathSecurityKey, api.PathKeyPIN, api.PathKeyCreds, api.PathKeyFingers, api.PathKeyReset, api.PathKeyVerifies, api.PathKeySignIn} {
		if doc.Paths[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
	for name, value := range map[string]any{
		"Status": api.Status{Verification: []api.Verification{{}}, GraceSeconds: 1}, "Agent": api.Agent{}, "Component": api.Component{}, "Loopback": api.Loopback{}, "Problem": api.Problem{},
		"AccountList": api.AccountList{}, "Account": api.Account{Development: true, PushesHeld: true, EnrolmentID: "x", LoopbackOrigins: []string{"x"}},
		"AddAccount": api.AddAccount{Name: "x"}, "RenameAccount": api.RenameAccount{}, "PromptList": api.PromptList{},
		"Prompt": api.Prompt{Choices: []api.Choice{{}}, Numbers: []string{"1"}, TransactionType: "x", BindingMessage: "x", Unusual: []string{"x"}, Client: "x", Repeats: 1, RequestedAt: time.Now(),
			VerificationMethods: []string{"pin"}, TriesLeft: 1, LockedUntil: time.Now(), Verified: true}, "Choice": api.Choice{UserVerification: "none"},
		"Decision":     api.Decision{Account: "x", Number: "x", Verification: "pin", Report: true},
		"Verification": api.Verification{TriesLeft: 1, Until: time.Now(), Hint: "x"}, "VerificationList": api.VerificationList{GraceSeconds: 1},
		"PINSet": api.PINSet{}, "AccountName": api.AccountName{}, "EnableVerification": api.EnableVerification{},
		"KeyList": api.KeyList{}, "Key": api.Key{}, "ChangeKeys": api.ChangeKeys{}, "Notice": api.Notice{},
		"CodeList": api.CodeList{}, "CodeEntry": api.CodeEntry{}, "Device": api.Device{}, "Signal": api.Signal{}, "GetCode": api.GetCode{}, "Code": api.Code{},
		"PromptOutcome": api.PromptOutcome{}, "AuditRecord": api.AuditRecord{Origin: "x", App: "x", Transaction: "x", KeyType: "x"},
		"Event":           api.Event{Prompt: &api.Prompt{}, Outcome: &api.PromptOutcome{}, Account: &api.Account{}, Audit: &api.AuditRecord{}},
		"SecurityKeyList": api.SecurityKeyList{}, "SecurityKey": api.SecurityKey{Model: "x", Path: "x", Extensions: []string{"x"}, Options: map[string]bool{"rk": true},
			PINSet: true, TriesLeft: 1, Advisories: []string{"x"}, Problem: &api.Error{}, Verifies: true, PluggedInAt: time.Now()},
		"KeyPIN": api.KeyPIN{}, "KeyCredentialList": api.KeyCredentialList{}, "KeyCredential": api.KeyCredential{RP: "x", Display: "x"},
		"ResetKey": api.ResetKey{}, "FingerprintList": api.FingerprintList{}, "KeyFingerprint": api.KeyFingerprint{}, "ChangeFingerprint": api.ChangeFingerprint{Name: "x", Drop: "x"},
		"KeyEvent": api.KeyEvent{Left: 1},
		"Rekey":    api.Rekey{Passphrase: "x", Current: "x"}, "Rekeyed": api.Rekeyed{Hints: []string{"x"}},
		"Report": api.Report{}, "Check": api.Check{Hint: "x"}, "Error": api.Error{Hint: "x", TriesLeft: 1, Until: time.Now()}, "ErrorBody": api.ErrorBody{},
	} {
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		if err := json.Unmarshal(b, &members); err != nil {
			t.Fatal(err)
		}
		schema := doc.Components.Schemas[name]
		for member := range members {
			if schema.Properties[member] == nil {
				t.Errorf("%s.%s is not described", name, member)
			}
		}
		for _, member := range schema.Required {
			if _, ok := members[member]; !ok {
				t.Errorf("%s.%s is described but is never written", name, member)
			}
		}
	}
}

func TestListen(t *testing.T) {
	dir, err := os.MkdirTemp("", "cs")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "deep", "agent.sock")
	l, err := localapi.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	// C6: modes.
	for path, want := range map[string]os.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %o", path, info.Mode(), err, want)
		}
	}
	if _, err := localapi.Listen(socket); !errors.Is(err, localapi.ErrInUse) {
		t.Errorf("a second agent: %v, want ErrInUse", err)
	}
	// The agent was killed: its socket stays behind and is replaced.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	l, err = localapi.Listen(socket)
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	l.Close()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := localapi.Listen(file); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file: %q, %v", b, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if _, err := localapi.Listen(link); err == nil {
		t.Error("a link was replaced by a socket")
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := localapi.Listen(filepath.Join(open, "s")); err == nil || !strings.Contains(err.Error(), "others may write") {
		t.Errorf("in a folder that others may write to: %v", err)
	}
	long := filepath.Join(dir, strings.Repeat("x", 108))
	_, err = localapi.Listen(long)
	var tooLong *localapi.ErrPathTooLong
	if !errors.As(err, &tooLong) || !strings.Contains(err.Error(), long) || !strings.Contains(err.Error(), fmt.Sprint(tooLong.Limit)) {
		t.Errorf("a long path: %v", err)
	}
}

var _ localapi.Agent = (*localapitest.Agent)(nil)
