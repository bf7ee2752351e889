package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"countersign.dev/cli/internal/layout"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
	"countersign.dev/ipc/localapi"
	"countersign.dev/ipc/localapi/localapitest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"countersign": func() { os.Exit(Main()) },
	})
}

// TestScripts runs the stories in testdata/script against an agent in memory
// behind a real socket. The scripts steer it with the command "agent".
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Deadline:            time.Now().Add(5 * time.Minute), // then who hangs is asked where, by SIGQUIT
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"agent": steer, "exits": exits, "jsonshape": jsonShape},
	})
}

type agentKey struct{}

// world is one script's agent.
type world struct {
	*localapitest.Agent
	socket string
	stop   func()
}

func setup(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "cs") // short: a socket's path is limited
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "agent.sock")
	agent := &localapitest.Agent{
		StatusReply: api.Status{
			Agent:     api.Agent{Version: "v1.2.3", PID: 4711, StartedAt: time.Now().Add(-3 * time.Minute)},
			DeviceKey: api.Component{Kind: "software", State: "ready"},
			VaultKey:  api.Component{Kind: "file", State: "file_permissions_only"},
			Loopback:  api.Loopback{Port: 8769, State: "listening"},
			Session:   api.Session{Screen: "unlocked", Sources: []string{"logind"}},
		},
		AccountsHeld: []api.Account{
			{ID: "acc-1", Name: "Work", Org: "https://id.example.com", User: "alice@example.com", UserID: "00u1", Methods: []string{"push", "signed_nonce"},
				Protection: "hardware", Attested: true, State: "active", CreatedAt: time.Now().Add(-49 * time.Hour), LoopbackOrigins: []string{"https://id.example.com"}},
			{ID: "acc-2", Name: "Demo", Org: "http://localhost:8080", User: "bob@example.com", UserID: "00u2", Methods: []string{"signed_nonce"},
				Protection: "software", State: "active", Development: true},
		},
		Records: []api.AuditRecord{
			{Seq: 1, Time: time.Now(), Event: "enrolled", Account: "acc-1", Outcome: "ok", Hash: "h1"},
			{Seq: 2, Time: time.Now(), Event: "challenge", Account: "acc-1", Outcome: "denied", Reason: "by_user", Prev: "h1", Hash: "h2", App: "Payroll", Origin: "https://id.example.com"},
		},
		Signals: []api.Signal{{Name: "platform", Value: "LINUX", Known: true}, {Name: "serialNumber"}, {Name: "diskEncryptionType", Value: "NONE", Known: true}},
		CodesHeld: []api.CodeEntry{
			{ID: "acc-1", Name: "alice@example.com", Issuer: "id.example.com", Account: "acc-1", State: "active"},
			{ID: "acc-2", Name: "bob@example.com", Issuer: "localhost:8080", Account: "acc-2", State: "suspended"},
		},
		KeysHeld: []api.Key{
			{ID: "K1", Account: "acc-1", Name: "Work", Role: "clientInstance", Kind: "tpm", Protection: "hardware", State: "ready"},
			{ID: "K2", Account: "acc-1", Name: "Work", Method: "push", Role: "proofOfPossession", Kind: "tpm", Protection: "hardware", State: "ready"},
			{ID: "K3", Account: "acc-1", Name: "Work", Method: "push", Role: "userVerificationBioOrPin", Kind: "tpm", Protection: "hardware", State: "lockout", Hint: "wait"},
			{ID: "K4", Account: "acc-2", Name: "Demo", Method: "signed_nonce", Role: "proofOfPossession", Kind: "software", Protection: "software", SealedBy: "keyring", State: "ready"},
			{ID: "K5", Account: "acc-2", Name: "Demo", Method: "signed_nonce", Role: "userVerification", Kind: "software", Protection: "software", SealedBy: "file", State: "lost", Hint: "wait"},
		},
		Digits:   []api.Code{{Code: "007123", ExpiresInSeconds: 17}},
		Outcomes: map[string]api.PromptOutcome{},
	}
	w := &world{Agent: agent, socket: socket}
	if err := w.start(); err != nil {
		return err
	}
	env.Defer(func() { w.stop(); os.RemoveAll(dir) })
	env.Setenv("COUNTERSIGN_SOCKET", socket)
	env.Setenv("TZ", "UTC")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else a second for each command under -race
	env.Values[agentKey{}] = w
	return nil
}

func (w *world) start() error {
	l, err := localapi.Listen(w.socket)
	if err != nil {
		return err
	}
	s := localapi.New(w.Agent, localapi.Options{})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	w.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		select {
		case <-done:
		case <-time.After(patience):
			panic("the agent in memory does not end")
		}
		w.stop = func() {}
	}
	return nil
}

func prompt(id, app string) api.Prompt {
	return api.Prompt{ID: id, Account: "acc-1", Kind: "signed_nonce", App: app, Org: "https://id.example.com", User: "alice@example.com",
		Origin: "https://id.example.com", Location: "Lisbon", IP: "203.0.113.7", CreatedAt: time.Now(), ExpiresAt: time.Now().Add(5 * time.Minute), UserVerification: "none"}
}

// steer is the script command "agent": stop | start | drop | alone | subscribed | event TYPE | ask ID APP [number|numbers|choices|push|unusual|again|ciba|pin|likes-pin|finger|locked|shown] |
// outcome ID OUTCOME REASON | await FRONTEND | drop | decided ID ACTION … |
// begun N | waiting ID | end ID | ends ORG CODE MESSAGE HINT | asked WORD … | elsewhere URL | cancelled ID |
// vault KIND | rekeyed KIND PASSPHRASE CURRENT | rekeyed none | rekey-hint HINT |
// changed WORD … | proof PIN | lostkeys | verifying | notice DEVICE |
// plugs ID PRODUCT PIN | key ID WHAT … |
// pin PIN | pinis PIN | typed ID PIN | without ID … | methods | grace | nopin |
// lists N | away REASON | back | showed WHAT … | windowless |
// fail CODE MESSAGE HINT | late ID CODE MESSAGE HINT | break | empty | problem | hostile
func steer(ts *testscript.TestScript, neg bool, args []string) {
	w := ts.Value(agentKey{}).(*world)
	switch args[0] {
	case "stop":
		w.stop()
		return
	case "start":
		ts.Check(w.start())
		return
	case "drop":
		w.DropSubscribers()
		return
	case "alone":
		awaits(ts, func() bool { return w.Subscribers() == 0 })
		return
	case "subscribed":
		awaits(ts, func() bool { return w.Subscribers() > 0 })
		return
	case "begun":
		awaits(ts, func() bool { return fmt.Sprint(w.Awaits()) == args[1] })
		return
	case "waiting":
		awaits(ts, func() bool { return w.Waits(args[1]) })
		return
	case "end":
		w.End(args[1], nil)
		return
	case "await":
		awaits(ts, func() bool { return slices.Contains(w.FrontEnds(), args[1]) })
		return
	case "takeskeys": // an organisation that takes security keys: URL USER PASSWORD [KEY]
		w.Lock()
		w.KeyOrgs = map[string]*localapitest.KeyOrg{args[1]: {User: args[2], Password: args[3], Enrolled: strings.Join(args[4:], "")}}
		w.Unlock()
		return
	case "plugs": // a security key: ID PRODUCT PIN
		w.Lock()
		w.Plugged = append(w.Plugged, &localapitest.PluggedKey{SecurityKey: api.SecurityKey{ID: args[1], Product: args[2], Path: "/dev/" + args[1]}, PIN: args[3], Tries: 8})
		w.Unlock()
		return
	case "keysignins": // what was asked for, in order: KEY:ENROL …
		w.Lock()
		var got []string
		for _, in := range w.KeySignIns {
			got = append(got, fmt.Sprintf("%s:%t", in.Key, in.Enrol))
		}
		w.KeySignIns = nil
		w.Unlock()
		if s := strings.Join(got, " "); s != strings.Join(args[1:], " ") {
			ts.Fatalf("asked for %s", s)
		}
		return
	case "ask":
		p := prompt(args[1], args[2])
		for _, extra := range args[3:] {
			switch extra {
			case "number":
				p.NeedsNumber = true
			case "push":
				p.Kind, p.TransactionType, p.Client = "push", "LOGIN", "macOS"
				p.RequestedAt = time.Now().Add(-2 * time.Minute)
			case "numbers":
				p.NeedsNumber, p.Numbers = true, []string{"17", "42", "8"}
			case "unusual":
				p.Unusual = []string{"New device", "New place"}
			case "again":
				p.Repeats = 2
			case "pin":
				p.UserVerification, p.VerificationMethods, p.TriesLeft = "required", []string{"pin"}, w.Tries
			case "likes-pin":
				p.UserVerification, p.VerificationMethods, p.TriesLeft = "preferred", []string{"pin"}, w.Tries
			case "finger":
				p.UserVerification, p.VerificationMethods = "required", append(p.VerificationMethods, "fingerprint")
			case "key":
				p.UserVerification, p.VerificationMethods = "required", append(p.VerificationMethods, "security_key")
			case "locked":
				p.LockedUntil, p.TriesLeft = time.Now().Add(2*time.Minute), 0
			case "shown":
				p.Verified = true
			case "ciba":
				p.TransactionType, p.BindingMessage = "CIBA", "Pay 300 to Bob?"
			case "choices":
				p.Account, p.User = "", ""
				p.Choices = []api.Choice{{Account: "acc-1", User: "alice@example.com"}, {Account: "acc-2", User: "bob@example.com"}}
			}
		}
		w.Ask(p)
		return
	case "event":
		w.Tell(api.Event{Type: args[1]})
		return
	case "lists": // N: prompts were listed so often
		awaits(ts, func() bool { w.Lock(); defer w.Unlock(); return fmt.Sprint(len(w.Asked)) == args[1] })
		return
	case "away": // REASON: a hold begins
		w.SetHold(&api.Hold{Reason: args[1], Since: time.Now()})
		return
	case "back": // it ends
		w.SetHold(nil)
		return
	}
	w.Lock()
	defer w.Unlock()
	switch args[0] {
	case "outcome":
		w.Outcomes[args[1]] = api.PromptOutcome{ID: args[1], Outcome: args[2], Reason: args[3]}
	case "decided":
		got := fmt.Sprintf("%+v", w.Decided[args[1]])
		for _, want := range args[2:] {
			if strings.Contains(got, want) == neg {
				ts.Fatalf("decided %s, want %q (%v)", got, want, !neg)
			}
		}
	case "typed":
		if got := w.Decided[args[1]].PIN.Reveal(); got != args[2] {
			ts.Fatalf("the PIN was %q", got)
		}
	case "pin":
		w.PIN, w.Tries = args[1], 3
	case "pinis":
		if w.PIN != args[1] {
			ts.Fatalf("the PIN is %q", w.PIN)
		}
	case "without":
		w.Without = args[1:]
	case "changed":
		got := fmt.Sprintf("%+v", w.KeyChanges[len(w.KeyChanges)-1])
		for _, want := range args[1:] {
			if strings.Contains(got, want) == neg {
				ts.Fatalf("asked for %s, want %q (%v)", got, want, !neg)
			}
		}
	case "proof":
		last := ""
		if n := len(w.KeyChanges); n > 0 {
			last = w.KeyChanges[n-1].PIN.Reveal()
		}
		if n := len(w.Begun); n > 0 && len(w.Begun[n-1].PIN) > 0 {
			last = w.Begun[n-1].PIN.Reveal()
		}
		if want := strings.Join(args[1:], ""); last != want {
			ts.Fatalf("the PIN was %q", last)
		}
	case "lostkeys":
		w.AccountsHeld[0].State = "keys_lost"
	case "verifying":
		w.AccountsHeld[0].Verification = []string{"userVerificationBioOrPin"}
	case "notice":
		w.AccountsHeld[0].Notices = []api.Notice{{Account: "acc-1", Event: "KEYS_REPLACED", Device: args[1], At: time.Now().Add(-2 * time.Minute), Message: "keys of the account Work changed on " + args[1]}}
	case "methods":
		w.Methods = map[string]bool{"fingerprint": false, "password": false, "security_key": false}
	case "key": // ID WHAT: a plugged-in security key is known better, becomes another one, or is gone
		k := w.Plugged[slices.IndexFunc(w.Plugged, func(k *localapitest.PluggedKey) bool { return k.ID == args[1] })]
		switch args[2] {
		case "yubikey":
			k.Manufacturer, k.AAGUID, k.Model, k.Firmware, k.Protocols = "Yubico", "ee882879-721c-4913-9775-3dfcce97072a", "YubiKey 5 Series", "5.4.3", []string{"U2F_V2", "FIDO_2_0"}
			k.Options, k.PINSet = map[string]bool{"rk": true, "clientPin": k.PIN != "", "credMgmt": true}, k.PIN != ""
			k.Advisories = []string{"Firmware before 5.7 can leak ECDSA keys."}
		case "stores":
			k.Credentials = []api.KeyCredential{
				{ID: "AQIDBAUGBwgJCgsM", RPID: "id.example.com", RP: "Example", User: "alice", Display: "Alice"},
				{ID: "AQIDBAUGZZZZ", RPID: "github.com", User: "al\u202eice"},
			}
		case "forbidden":
			k.Problem = &api.Error{Code: "key_no_permission", Message: "this user may not use the security key", Hint: "install the udev rule"}
		case "swapped":
			k.Swapped = true
		case "pulled":
			w.Plugged = slices.DeleteFunc(w.Plugged, func(o *localapitest.PluggedKey) bool { return o == k })
		case "has": // PIN CREDENTIALS FINGERS
			if got := fmt.Sprint(k.PIN, " ", len(k.Credentials), " ", len(k.Fingerprints)); got != strings.Join(args[3:], " ") {
				ts.Fatalf("the key has %s", got)
			}
		default:
			ts.Fatalf("key %q", args[2])
		}
	case "grace":
		w.StatusReply.GraceSeconds = 300
		w.StatusReply.Verification = []api.Verification{{Method: "pin", State: "ready", TriesLeft: 4}, {Method: "fingerprint", State: "absent"}}
	case "nopin":
		w.StatusReply.Verification = []api.Verification{{Method: "pin", State: "not_set"}}
	case "asked":
		got := fmt.Sprintf("%+v", w.Begun[len(w.Begun)-1])
		for _, want := range args[1:] {
			if !strings.Contains(got, want) {
				ts.Fatalf("asked for %s, want %q", got, want)
			}
		}
	case "ends":
		w.Ends = map[string]error{args[1]: &api.Error{Status: 403, Code: args[2], Message: args[3], Hint: args[4]}}
	case "elsewhere":
		w.SignInAt = args[1]
	case "cancelled":
		if !slices.Contains(w.Cancelled, args[1]) {
			ts.Fatalf("cancelled: %v", w.Cancelled)
		}
	case "removed":
		if local, ok := w.Removed[args[1]]; !ok || fmt.Sprint(local) != args[2] {
			ts.Fatalf("removed: %v", w.Removed)
		}
	case "fail":
		w.Fail = &api.Error{Status: 409, Code: args[1], Message: args[2], Hint: args[3]}
	case "windowless":
		w.NoWindow = true
	case "showed": // WHAT …: in windows on the desktop, in order
		if !slices.Equal(w.Shown, args[1:]) {
			ts.Fatalf("showed %q", w.Shown)
		}
	case "late":
		w.TooLate = map[string]error{args[1]: &api.Error{Status: 410, Code: args[2], Message: args[3], Hint: args[4]}}
	case "vault":
		w.StatusReply.VaultKey.Kind = args[1]
	case "rekeyed": // KIND PASSPHRASE CURRENT, of the last change; none: there was no change
		if args[1] == "none" {
			if len(w.Rekeys) != 0 {
				ts.Fatalf("%d changes", len(w.Rekeys))
			}
			return
		}
		if len(w.Rekeys) == 0 {
			ts.Fatalf("no change")
		}
		if r := w.Rekeys[len(w.Rekeys)-1]; r.Kind != args[1] || string(r.Passphrase) != args[2] || string(r.Current) != args[3] {
			ts.Fatalf("rekeyed to %s, passphrase %q, current %q", r.Kind, string(r.Passphrase), string(r.Current))
		}
		w.Rekeys = nil
	case "rekey-hint":
		w.RekeyHints = []string{args[1]}
	case "break":
		w.AuditErr = fmt.Errorf("entry 2 was changed")
	case "empty":
		w.AccountsHeld, w.PromptsHeld, w.Records, w.CodesHeld = nil, nil, nil, nil
	case "report":
		w.Report = api.Report{Checks: []api.Check{{Name: "vault_key", State: args[1], Message: "the key is protected by file permissions only", Hint: "use the keyring"}}}
		w.StatusReply.Loopback.Port = 1
	case "nowhere":
		w.StatusReply.Loopback.Port = 0
	case "problem":
		w.StatusReply.Problems = []api.Problem{{Code: "x", Message: "the clock is wrong", Hint: "set the clock"}}
		w.StatusReply.Loopback = api.Loopback{State: "no_free_port"}
	case "hold":
		w.AccountsHeld[0].PushesHeld = true
	case "held":
		if w.AccountsHeld[0].PushesHeld == neg {
			ts.Fatalf("pushes held: %v", !neg)
		}
	case "twins":
		w.AccountsHeld[1].Name = w.AccountsHeld[0].Name
	case "hostile":
		w.AccountsHeld[0].Name = "a\x1b[2Jb\nc\u202ed\u009be"
		w.Signals[0].Value = "LI\x1b[2JNUX"
		w.CodesHeld[0].Issuer, w.Digits[0].Code = "id\x1b[2J.example.com", "12\x1b[2J"
		w.PromptsHeld[0].App = "Pay\x1b]0;owned\x07roll\u202e"
		w.PromptsHeld[0].Location = strings.Repeat("long ", 100)
		w.PromptsHeld[0].Unusual = []string{"New\x1b[31m place\u202e\nApprove it"}
		w.PromptsHeld[0].Numbers = []string{"1\x1b[8m", "2"}
		w.PromptsHeld[0].Client = "mac\rOS"
	default:
		ts.Fatalf("agent: what is %q?", args[0])
	}
}

// patience bounds what takes no time unless it is broken.
const patience = 30 * time.Second

// soon is what comes from c, or the end of the test: it says who does not end.
func soon[T any](t *testing.T, c <-chan T, who string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("%s does not end within %s", who, patience)
	}
	return v
}

// awaits waits for another process to have done its part.
func awaits(ts *testscript.TestScript, done func() bool) {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("it did not come to that within %s", patience)
		}
	}
}

// exits is the script command "exits CODE PROGRAM ARGS…".
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// jsonShape is the script command "jsonshape FILE WANT": every member of WANT is
// in each line of FILE, with the same type of value.
func jsonShape(ts *testscript.TestScript, _ bool, args []string) {
	var want any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &want))
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), "\n")
	for _, line := range lines {
		var got any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			ts.Fatalf("not JSON: %v: %s", err, line)
		}
		if err := sameShape("", got, want); err != nil {
			ts.Fatalf("%v\n%s", err, line)
		}
	}
}

func sameShape(at string, got, want any) error {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is %T, want an object", at, got)
		}
		for name, value := range w {
			member, ok := g[name]
			if !ok {
				return fmt.Errorf("%s.%s is missing", at, name)
			}
			if err := sameShape(at+"."+name, member, value); err != nil {
				return err
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok {
			return fmt.Errorf("%s is %T, want an array", at, got)
		}
		if len(w) > 0 {
			for i := range g {
				if err := sameShape(fmt.Sprintf("%s[%d]", at, i), g[i], w[0]); err != nil {
					return err
				}
			}
		}
	default:
		if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
			return fmt.Errorf("%s is %T, want %T", at, got, want)
		}
	}
	return nil
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"Payroll":                "Payroll",
		"Zürich 東京":              "Zürich 東京",
		"a\x1b[31mb":             "a\ufffd[31mb",
		"a\r\nb\tc":              "a\ufffd\ufffdb\ufffdc",
		"a\u202eb\u2066c\u200fd": "a\ufffdb\ufffdc\ufffdd",
		"a\u009b2J":              "a\ufffd2J",
		"a\xffb":                 "a\ufffdb",
		"\U000e0041":             "\ufffd",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := clean(strings.Repeat("x", 1000)); len(got) > 210 {
		t.Errorf("%d bytes are left", len(got))
	}
}

// B9: nothing that comes out acts on a terminal, and JSON keeps its meaning.
func FuzzShown(f *testing.F) {
	f.Add("Payroll\x1b[2J\u202e\u009b\U000e0001\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if out := clean(s); strings.ContainsFunc(out, describe.Unsafe) {
			t.Fatalf("clean left %q", out)
		}
		var b bytes.Buffer
		if err := writeJSON(&b, map[string]string{"s": s}); err != nil {
			t.Fatal(err)
		}
		document := strings.TrimSuffix(b.String(), "\n")
		if strings.ContainsFunc(document, describe.Unsafe) {
			t.Fatalf("JSON holds %q", document)
		}
		var back map[string]string
		if err := json.Unmarshal([]byte(document), &back); err != nil || back["s"] != strings.ToValidUTF8(s, "\ufffd") && len([]rune(back["s"])) != len([]rune(s)) {
			t.Fatalf("%q became %q, %v", s, back["s"], err)
		}
	})
}

// On a terminal there are colours and a width, and NO_COLOR is respected.
func TestScreen(t *testing.T) {
	var b bytes.Buffer
	s := screen{w: &b, colour: true, width: 40}
	s.table([]string{"ID", "ORGANISATION"}, [][]string{{"acc-1", strings.Repeat("long", 20)}})
	lines := strings.Split(b.String(), "\n")
	if !strings.HasPrefix(lines[0], dim) || !strings.HasSuffix(lines[1], "…") || len([]rune(lines[1])) > 40 {
		t.Errorf("%q", lines)
	}
	if s := newScreen(&b); s.colour || s.width != 0 {
		t.Error("a buffer passes for a terminal")
	}
}

// What is too wide for a terminal is broken between words, under its column, or
// below its name when there is no room beside it.
func TestNarrowScreen(t *testing.T) {
	show := func(width int, f func(screen)) []string {
		var b bytes.Buffer
		f(screen{w: &b, width: width})
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		for _, line := range lines {
			if width > 0 && len([]rune(line)) > width && !strings.HasPrefix(line, "agent ") {
				t.Errorf("wider than %d: %q", width, line)
			}
		}
		return lines
	}
	text := "nothing is running that could ask you; sign-ins that need your word wait"
	report := func(width int) []string {
		return show(width, func(s screen) {
			(&app{out: s}).printReport(api.Report{Checks: []api.Check{{Name: "front ends", State: "warning", Message: text, Hint: "countersign prompt watch"}}})
		})
	}
	if got := report(0); len(got) != 4 || got[2] != "warning  front ends  "+text {
		t.Errorf("without a width: %q", got)
	}
	if got := report(60); !strings.HasPrefix(got[3], strings.Repeat(" ", 21)+"sign-ins that") {
		t.Errorf("60 columns: %q", got)
	}
	if got := show(40, func(s screen) {
		(&app{out: s, now: time.Now}).printStatus(api.Status{Problems: []api.Problem{{Message: text, Hint: text}}})
	}); !strings.HasPrefix(got[1], "problem: nothing") || !strings.HasPrefix(got[2], "         ") {
		t.Errorf("a problem at 40 columns: %q", got)
	}
	if got := report(40); got[2] != "warning  front ends" || !strings.HasPrefix(got[3], "  nothing") {
		t.Errorf("40 columns: %q", got)
	}
	got := show(40, func(s screen) {
		s.table([]string{"ID", "NAME", "ACCOUNT", "STATE"}, [][]string{{"a1", "Work", "alice@example.com", "active"}, {"b2", "Home", "bob@example.com", "active"}})
	})
	if len(got) != 9 || got[2] != "account  alice@example.com" || got[4] != "" {
		t.Errorf("a table at 40 columns: %q", got)
	}
	// What is to be copied stays in one piece, whatever the width.
	var b bytes.Buffer
	(&app{out: screen{w: &b, width: 40}, now: time.Now}).printPrompt(prompt("VEYEP4EWEKKC2MHUPCKEYKURMU", "Payroll"))
	if !strings.Contains(b.String(), "countersign prompt approve VEYEP4EWEKKC2MHUPCKEYKURMU\n") {
		t.Errorf("a command was broken: %q", b.String())
	}
}

// At 80 columns the facts of a prompt are wrapped under each other, and its
// commands stay whole, in the same column.
func TestPromptAt80Columns(t *testing.T) {
	var b bytes.Buffer
	p := prompt("VEYEP4EWEKKC2MHUPCKEYKURMU", "Payroll")
	p.Kind, p.NeedsNumber, p.Numbers = "push", true, []string{"17", "42"}
	p.UserVerification, p.VerificationMethods, p.TriesLeft = "preferred", []string{"pin"}, 3
	p.Key = &api.PromptKey{Kind: "software", Protection: "software", Demands: true}
	p.Choices = []api.Choice{{Account: "acc-1", User: "alice@example.com"}, {Account: "acc-2", User: "bob@example.com"}}
	p.Unusual = []string{strings.Repeat("a new place, ", 9) + "東京 東京 東京 東京 東京 東京"}
	(&app{out: screen{w: &b, width: 80}, now: time.Now}).printPrompt(p)
	want := "  needs         your PIN (the organisation would like it; you may go on\n" +
		"                without); 3 tries left\n"
	if !strings.Contains(b.String(), want) {
		t.Errorf("not wrapped:\n%s", b.String())
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if command := strings.Contains(line, "countersign prompt "); layout.Width(line) > 80 && !command {
			t.Errorf("wider than 80 columns: %q", line)
		} else if command && !strings.HasPrefix(line[16:], "countersign prompt ") {
			t.Errorf("not in its column: %q", line)
		}
	}
	if !strings.Contains(b.String(), "  approve       countersign prompt approve VEYEP4EWEKKC2MHUPCKEYKURMU --number N --account ID\n") {
		t.Errorf("a command was broken:\n%s", b.String())
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// An answer that could not be written is no success.
func TestUnwritten(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"help"}, {"completion", "bash"}} {
		var errs bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), fullDisk{}, &errs); code != exitFailed || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%v: exit %d, %q", args, code, errs.String())
		}
	}
}

// What agent and outside both say is said once.
func TestMerge(t *testing.T) {
	got := merge(
		[]api.Check{{Name: "loopback port", State: "ok"}, {Name: "port 8769", State: "warning", Message: "inside"}, {Name: "port 7", State: "warning"}},
		[]api.Check{{Name: "loopback_port", State: "ok"}, {Name: "loopback_page", State: "ok"}, {Name: "port_8769", State: "ok", Message: "outside"}})
	if len(got) != 3 || got[1].Name != "port 7" || got[2].Message != "outside" {
		t.Errorf("%+v", got)
	}
	if got := merge([]api.Check{{Name: "loopback port", State: "failed"}}, []api.Check{{Name: "loopback_port", State: "failed"}}); len(got) != 1 {
		t.Errorf("one failure counts twice: %+v", got)
	}
	got = merge([]api.Check{{Name: "loopback port", State: "ok"}}, []api.Check{{Name: "loopback_port", State: "failed"}})
	if len(got) != 2 {
		t.Errorf("a failure seen from outside is lost: %+v", got)
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 11, 22, 14, 5, 0, 0, time.Local)
	for before, want := range map[time.Duration]string{
		0:                "now, 14:05",
		30 * time.Second: "30 seconds ago, 14:04",
		2 * time.Minute:  "2 minutes ago, 14:03",
		time.Hour:        "1 hour ago, 13:05",
		49 * time.Hour:   "2 days ago, 20 Nov 2026 13:05",
	} {
		if got := describe.Ago(now.Add(-before), now); got != want {
			t.Errorf("%s: %q, want %q", before, got, want)
		}
	}
}

// A9: doctor names who holds a port that pages ask before the agent.
func TestOutside(t *testing.T) {
	squatter, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := squatter.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
			c.Close()
		}
	}()
	defer func() { squatter.Close(); <-done }()
	taken := squatter.Addr().(*net.TCPAddr).Port

	o := outside{ports: []int{taken}}
	checks := o.examine(t.Context())
	text := fmt.Sprintf("%+v", checks)
	if len(checks) != 1 || checks[0].State != "warning" || !strings.Contains(text, fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("without an agent: %s", text)
	}
	o = outside{ports: []int{taken}, running: true, port: taken}
	if checks := o.examine(t.Context()); checks[0].State != "failed" {
		t.Errorf("the agent's own port answers wrongly: %+v", checks)
	}
	o = outside{ports: []int{taken}, running: true}
	if checks := o.examine(t.Context()); checks[0].State != "failed" || !strings.Contains(checks[0].Message, "does not listen") {
		t.Errorf("the agent has no port: %+v", checks)
	}
}
