package fingerprint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"countersign.dev/authenticators/verification"
	"countersign.dev/bus"
	"countersign.dev/bus/bustest"
)

const (
	readerPath = dbus.ObjectPath("/net/reactivated/Fprint/Device/0")
	long       = 20 * time.Second
	short      = 500 * time.Millisecond // for what hangs
)

// fprintd is one with a reader and a finger, which says nothing yet.
func fprintd(t *testing.T) (*Verifier, *bustest.Mock, string) {
	t.Helper()
	address := bustest.Start(t)
	m := bustest.NewMock(t, address, service, managerPath, manager)
	m.AddObject(readerPath, device)
	return &Verifier{busOwner: os.Getuid()}, healthy(m), address
}

func healthy(m *bustest.Mock) *bustest.Mock {
	m.Method(managerPath, manager, "GetDefaultDevice", "", "o", fmt.Sprintf("ret = dbus.ObjectPath(%q)", string(readerPath)))
	m.Method(readerPath, device, "ListEnrolledFingers", "s", "as", "ret = ['right-index-finger'] if args[0] == '' else []")
	m.Method(readerPath, device, "Claim", "s", "", "if args[0] != '': "+bustest.Raise(failure+"PermissionDenied"))
	for _, name := range []string{"VerifyStop", "Release"} {
		m.Method(readerPath, device, name, "", "", "")
	}
	m.Method(readerPath, device, "VerifyStart", "s", "", "")
	return m
}

// says is what VerifyStart makes the reader say.
func says(results ...string) string {
	var code strings.Builder
	for _, r := range results {
		name, done := strings.CutSuffix(r, "!")
		value := "False"
		if done {
			value = "True"
		}
		fmt.Fprintf(&code, "self.EmitSignal(%q, 'VerifyStatus', 'sb', [%q, %s])\n", device, name, value)
	}
	return code.String()
}

// C4: one verdict verifies, and everything else is the right refusal. Whatever
// happens, the reader is given back.
func TestC4FingerprintVerdicts(t *testing.T) {
	v, m, _ := fprintd(t)
	for _, c := range []struct {
		name string
		says []string
		want error
	}{
		{"match", []string{"verify-match!"}, nil},
		{"match at the third try", []string{"verify-retry-scan", "verify-finger-not-centered", "verify-match!"}, nil},
		{"no match", []string{"verify-no-match!"}, verification.ErrWrong},
		{"no match, then a match", []string{"verify-no-match!", "verify-match!"}, verification.ErrWrong},
		{"disconnected", []string{"verify-disconnected!"}, verification.ErrAbsent},
		{"unknown error", []string{"verify-unknown-error!"}, verification.ErrAbsent},
		{"unknown word", []string{"verify-matched!"}, verification.ErrAbsent},
		{"empty word", []string{"!"}, verification.ErrAbsent},
		{"match that is not final", []string{"verify-match"}, verification.ErrAbsent},
		{"final retry", []string{"verify-retry-scan!"}, verification.ErrAbsent},
		{"nothing", nil, verification.ErrTimedOut},
		{"retries only", []string{"verify-retry-scan", "verify-retry-scan"}, verification.ErrTimedOut},
		{"a flood", slices.Repeat([]string{"verify-retry-scan"}, 400), nil},
	} {
		m.Method(readerPath, device, "VerifyStart", "s", "", says(c.says...))
		m.Calls(readerPath)
		wait := long
		if c.want == verification.ErrTimedOut {
			wait = short
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		err := v.Verify(ctx, verification.Request{Purpose: "p"})
		cancel()
		switch {
		case c.name == "a flood":
			if err == nil {
				t.Error("a flood has verified")
			}
		case !errors.Is(err, c.want) || (c.want != nil) != (err != nil):
			t.Errorf("%s: %v", c.name, err)
		}
		if calls := m.Calls(readerPath); c.name != "a flood" && !slices.Equal(calls, []string{"ListEnrolledFingers", "Claim", "VerifyStart", "VerifyStop", "Release"}) {
			t.Errorf("%s: %v", c.name, calls)
		}
	}
	// A verdict of another shape, and one of another reader.
	m.Method(readerPath, device, "VerifyStart", "s", "", fmt.Sprintf("self.EmitSignal(%q, 'VerifyStatus', 's', ['verify-match'])", device))
	if err := v.Verify(t.Context(), verification.Request{}); !errors.Is(err, verification.ErrAbsent) {
		t.Errorf("half a verdict: %v", err)
	}
	m.AddObject("/net/reactivated/Fprint/Device/1", device)
	m.Method(readerPath, device, "VerifyStart", "s", "", "objects['/net/reactivated/Fprint/Device/1']."+strings.TrimPrefix(says("verify-match!"), "self."))
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if err := v.Verify(ctx, verification.Request{}); !errors.Is(err, verification.ErrTimedOut) {
		t.Errorf("another reader's verdict: %v", err)
	}
}

// C4: what may be missing or in the way ends in a refusal with a name, and the
// state says so beforehand.
func TestC4FingerprintFaults(t *testing.T) {
	v, m, _ := fprintd(t)
	if s := v.State(t.Context()); s.State != "ready" || s.Method != verification.Fingerprint || s.Hint != "" {
		t.Errorf("healthy: %+v", s)
	}
	for _, c := range []struct {
		name, path, method, in, out, code string
		want                              error
		state                             string
	}{
		{"no reader", string(managerPath), "GetDefaultDevice", "", "o", bustest.Raise(failure + "NoSuchDevice"), verification.ErrAbsent, "absent"},
		{"manager broken", string(managerPath), "GetDefaultDevice", "", "o", bustest.Raise(failure + "Internal"), verification.ErrAbsent, "unavailable"},
		{"manager says nonsense", string(managerPath), "GetDefaultDevice", "", "s", "ret = 'x'", verification.ErrAbsent, "unavailable"},
		{"no fingers", string(readerPath), "ListEnrolledFingers", "s", "as", bustest.Raise(failure + "NoEnrolledPrints"), verification.ErrNotSetUp, "not_set"},
		{"empty list", string(readerPath), "ListEnrolledFingers", "s", "as", "ret = []", verification.ErrNotSetUp, "not_set"},
		{"list refused", string(readerPath), "ListEnrolledFingers", "s", "as", bustest.Raise(failure + "PermissionDenied"), verification.ErrAbsent, "unavailable"},
		{"claimed by another", string(readerPath), "Claim", "s", "", bustest.Raise(failure + "AlreadyInUse"), verification.ErrAbsent, "ready"},
		{"claim refused", string(readerPath), "Claim", "s", "", bustest.Raise(failure + "PermissionDenied"), verification.ErrAbsent, "ready"},
		{"start refused", string(readerPath), "VerifyStart", "s", "", bustest.Raise(failure + "Internal"), verification.ErrAbsent, "ready"},
	} {
		healthy(m)
		iface := device
		if c.path == string(managerPath) {
			iface = manager
		}
		if c.method != "VerifyStart" {
			m.Method(readerPath, device, "VerifyStart", "s", "", says("verify-match!"))
		}
		m.Method(dbus.ObjectPath(c.path), iface, c.method, c.in, c.out, c.code)
		if err := v.Verify(t.Context(), verification.Request{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if s := v.State(t.Context()); s.State != c.state || (s.Hint == "") != (s.State == "ready") {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
	// A match that was said before the question is no answer to it.
	healthy(m)
	m.Method(readerPath, device, "Claim", "s", "", says("verify-match!"))
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if err := v.Verify(ctx, verification.Request{}); !errors.Is(err, verification.ErrTimedOut) {
		t.Errorf("an early verdict: %v", err)
	}
	// A service that hangs is not waited for.
	m.Method(managerPath, manager, "GetDefaultDevice", "", "o", "time.sleep(60)")
	ctx, cancel = context.WithTimeout(t.Context(), short)
	defer cancel()
	if err := v.Verify(ctx, verification.Request{}); !errors.Is(err, verification.ErrTimedOut) {
		t.Errorf("hanging: %v", err)
	}
	if s := v.State(ctx); s.State == "ready" {
		t.Errorf("hanging: %+v", s)
	}
}

// C4: no bus, no service, somebody else's bus.
func TestC4FingerprintBus(t *testing.T) {
	absent := func(v *Verifier, why string) {
		t.Helper()
		if err := v.Verify(t.Context(), verification.Request{}); !errors.Is(err, verification.ErrAbsent) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
		if s := v.State(t.Context()); s.State != "absent" || s.Hint == "" || strings.HasPrefix(s.Hint, verification.ErrAbsent.Error()) {
			t.Errorf("%s: %+v", why, s)
		}
	}
	v := &Verifier{busOwner: os.Getuid()}
	bustest.Start(t)
	absent(v, bus.ErrNoService.Error())
	absent(&Verifier{busOwner: os.Getuid() + 1}, "belongs to user")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	absent(v, bus.ErrNoBus.Error())
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=127.0.0.1,port=1")
	absent(v, "no usable address")
	if New().busOwner != 0 {
		t.Error("a bus of anybody's is trusted")
	}
}

// begin starts a verification, and waits until the reader waits for a finger.
func begin(t *testing.T, ctx context.Context, v *Verifier, m *bustest.Mock) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- v.Verify(ctx, verification.Request{}) }()
	m.Await("VerifyStart")
	return result
}

// C4: a verdict counts when the service that was claimed says it, not when
// anybody says it in its place, to everybody or to us alone.
func TestC4ForgedVerdict(t *testing.T) {
	v, m, address := fprintd(t)
	stranger := bustest.Conn(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	result := begin(t, ctx, v, m)
	if err := stranger.Emit(readerPath, device+".VerifyStatus", "verify-match", true); err != nil {
		t.Fatal(err)
	}
	for _, name := range bustest.Everybody(t, stranger) {
		stranger.Send(&dbus.Message{
			Type: dbus.TypeSignal,
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldDestination: dbus.MakeVariant(name), dbus.FieldPath: dbus.MakeVariant(readerPath),
				dbus.FieldInterface: dbus.MakeVariant(device), dbus.FieldMember: dbus.MakeVariant("VerifyStatus"),
				dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("", true)),
			},
			Body: []any{"verify-match", true},
		}, nil)
	}
	// An answer to the stranger proves that the bus has passed all that on; what
	// the real service then says is the verdict.
	bustest.Everybody(t, stranger)
	m.Method(readerPath, device, "Poke", "", "", says("verify-no-match!"))
	if err := stranger.Object(service, readerPath).Call(device+".Poke", 0).Err; err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, verification.ErrWrong) {
		t.Errorf("forged: %v", err)
	}
	cancel()
}

// C4: a service that takes the name over mid-way is not the one that was asked.
func TestC4ServiceReplaced(t *testing.T) {
	v, m, address := fprintd(t)
	stranger := bustest.Conn(t, address)
	result := begin(t, t.Context(), v, m)
	if reply, err := stranger.RequestName(service, dbus.NameFlagReplaceExisting); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("%v, %v", reply, err)
	}
	if err := stranger.Emit(readerPath, device+".VerifyStatus", "verify-match", true); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, bus.ErrReplaced) || !errors.Is(err, verification.ErrAbsent) {
		t.Errorf("replaced: %v", err)
	}
}

// A person who gives up gets the reader back, and nothing keeps running.
func TestCancelGivesTheReaderBack(t *testing.T) {
	v, m, _ := fprintd(t)
	before := runtime.NumGoroutine()
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		result := begin(t, ctx, v, m)
		m.Calls(readerPath)
		cancel()
		if err := <-result; !errors.Is(err, verification.ErrCancelled) {
			t.Errorf("cancelled: %v", err)
		}
		if calls := m.Calls(readerPath); !slices.Equal(calls, []string{"VerifyStop", "Release"}) {
			t.Errorf("cancelled: %v", calls)
		}
	}
	for deadline := time.Now().Add(long); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}
