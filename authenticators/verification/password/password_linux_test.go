package password

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"countersign.dev/authenticators/verification"
	"countersign.dev/bus"
	"countersign.dev/bus/bustest"
)

const someUser = 4711 // polkit asks root nothing, and tests may run as root

func verifier() *Verifier { return &Verifier{busOwner: os.Getuid(), user: someUser} }

// answers is the code of a polkit: what it says quietly, and having asked.
func answers(quiet, asked string) string {
	return "if args[3] == 0:\n  " + quiet + "\nelse:\n  " + asked + "\n"
}

const (
	yes       = "ret = (True, False, dbus.Dictionary({}, signature='ss'))"
	no        = "ret = (False, False, dbus.Dictionary({}, signature='ss'))"
	challenge = "ret = (False, True, dbus.Dictionary({}, signature='ss'))"
	dismissed = "ret = (False, False, dbus.Dictionary({'polkit.dismissed': 'true'}, signature='ss'))"
	both      = "ret = (True, True, dbus.Dictionary({}, signature='ss'))"
)

// C4: one answer verifies, and everything else is the right refusal.
func TestC4PolkitAnswers(t *testing.T) {
	address := bustest.Start(t)
	m := bustest.NewMock(t, address, service, path, authority)
	v := verifier()
	for _, c := range []struct {
		name, quiet, asked string
		want               error
		state              string
	}{
		{"yes", challenge, yes, nil, "ready"},
		{"no", challenge, no, verification.ErrWrong, "ready"},
		{"dismissed", challenge, dismissed, verification.ErrCancelled, "ready"},
		{"dismissed, and a challenge", challenge, strings.Replace(dismissed, "(False, False", "(False, True", 1), verification.ErrCancelled, "ready"},
		{"nobody to ask", challenge, challenge, verification.ErrAbsent, "ready"},
		{"yes, and a challenge", challenge, both, verification.ErrAbsent, "ready"},
		{"taken back", challenge, bustest.Raise(service + ".Error.Cancelled"), verification.ErrCancelled, "ready"},
		{"failed", challenge, bustest.Raise(service + ".Error.Failed"), verification.ErrAbsent, "ready"},
		{"yes without asking", yes, yes, verification.ErrAbsent, "unavailable"},
		{"both without asking", both, yes, verification.ErrAbsent, "unavailable"},
		{"no without asking", no, yes, verification.ErrAbsent, "unavailable"},
		{"action not installed", bustest.Raise(service + ".Error.Failed"), yes, verification.ErrAbsent, "absent"},
		{"broken", bustest.Raise("org.freedesktop.DBus.Error.Failed"), yes, verification.ErrAbsent, "unavailable"},
	} {
		m.Method(path, authority, "CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})", answers(c.quiet, c.asked))
		if err := v.Verify(t.Context(), verification.Request{}); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		if s := v.State(t.Context()); s.State != c.state || s.Method != verification.Password || (s.Hint == "") != (s.State == "ready") {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
	// An answer of another shape.
	m.Method(path, authority, "CheckAuthorization", "(sa{sv})sa{ss}us", "b", "ret = True")
	if err := v.Verify(t.Context(), verification.Request{}); !errors.Is(err, verification.ErrAbsent) {
		t.Errorf("half an answer: %v", err)
	}
	// polkit is asked about this very process and user, for our action alone,
	// with no details, which it takes from root only.
	asked := fmt.Sprintf("ok = args[0][0] == 'unix-process' and args[0][1]['pid'] == %d and args[0][1]['uid'] == %d and args[0][1]['start-time'] > 0 and args[1] == %q and not args[2] and args[3] in (0, 1)\n",
		os.Getpid(), someUser, action)
	m.Method(path, authority, "CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})",
		asked+"if not ok: raise ValueError(str(args))\n"+answers(challenge, yes))
	if err := v.Verify(t.Context(), verification.Request{Purpose: "p", Reason: "r"}); err != nil {
		t.Error(err)
	}
}

// C4: no bus, no polkit, somebody else's bus, root.
func TestC4PolkitMissing(t *testing.T) {
	absent := func(v *Verifier, why string) {
		t.Helper()
		if err := v.Verify(t.Context(), verification.Request{}); !errors.Is(err, verification.ErrAbsent) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
		if s := v.State(t.Context()); s.State != "absent" || s.Hint == "" || strings.HasPrefix(s.Hint, verification.ErrAbsent.Error()) {
			t.Errorf("%s: %+v", why, s)
		}
	}
	bustest.Start(t)
	absent(verifier(), bus.ErrNoService.Error())
	absent(&Verifier{busOwner: os.Getuid() + 1, user: someUser}, "belongs to user")
	absent(&Verifier{busOwner: os.Getuid()}, errRoot.Error())
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	absent(verifier(), bus.ErrNoBus.Error())
	if v := New(); v.busOwner != 0 || v.user != os.Getuid() {
		t.Errorf("%+v", v)
	}
}

// slow is a polkit that asks and waits.
type slow struct {
	asked, taken chan string // ids of questions
}

func (s *slow) CheckAuthorization(_ subject, _ string, _ map[string]string, flags uint32, question string) (result, *dbus.Error) {
	if flags == quietly {
		return result{Challenge: true, Details: map[string]string{}}, nil
	}
	s.asked <- question
	<-s.taken
	return result{Authorised: true, Details: map[string]string{}}, nil
}

func (s *slow) CancelCheckAuthorization(question string) *dbus.Error {
	s.taken <- question
	s.asked <- question
	return nil
}

func waiting(t *testing.T, ctx context.Context) (*slow, string, *dbus.Conn, <-chan error) {
	t.Helper()
	address := bustest.Start(t)
	conn := bustest.Conn(t, address)
	s := &slow{asked: make(chan string, 1), taken: make(chan string, 1)}
	if err := conn.Export(s, path, authority); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(service, dbus.NameFlagAllowReplacement); err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- verifier().Verify(ctx, verification.Request{}) }()
	return s, address, conn, end
}

// A person who gives up, or the end of time, takes the question back.
func TestCancelClosesTheDialog(t *testing.T) {
	for name, c := range map[string]struct {
		limit func(context.Context) (context.Context, context.CancelFunc)
		want  error
	}{
		"cancelled": {context.WithCancel, verification.ErrCancelled},
		"hanging": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 500*time.Millisecond)
		}, verification.ErrTimedOut},
	} {
		ctx, cancel := c.limit(t.Context())
		s, _, _, end := waiting(t, ctx)
		question := <-s.asked
		if c.want == verification.ErrCancelled {
			cancel()
		}
		if err := <-end; !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if taken := <-s.asked; taken != question || len(question) < 20 {
			t.Errorf("%s: took back %q, not %q", name, taken, question)
		}
		cancel()
	}
}

// C4: a service that takes polkit's name over mid-way, and a stranger who answers
// in its place, are not the one that was asked.
func TestC4PolkitReplaced(t *testing.T) {
	s, address, _, end := waiting(t, t.Context())
	<-s.asked
	stranger := bustest.Conn(t, address)
	for _, name := range bustest.Everybody(t, stranger) {
		for serial := range uint32(40) {
			stranger.Send(&dbus.Message{
				Type: dbus.TypeMethodReply,
				Headers: map[dbus.HeaderField]dbus.Variant{
					dbus.FieldDestination: dbus.MakeVariant(name), dbus.FieldReplySerial: dbus.MakeVariant(serial + 1),
					dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(result{})),
				},
				Body: []any{result{Authorised: true, Details: map[string]string{}}},
			}, nil)
		}
	}
	bustest.Everybody(t, stranger) // the bus has seen all that
	select {
	case err := <-end:
		t.Fatalf("answered by a stranger: %v", err)
	default:
	}
	if reply, err := stranger.RequestName(service, dbus.NameFlagReplaceExisting); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("%v, %v", reply, err)
	}
	if err := <-end; !errors.Is(err, bus.ErrReplaced) || !errors.Is(err, verification.ErrAbsent) {
		t.Errorf("replaced: %v", err)
	}
	s.taken <- ""
}

// C4: a polkit that dies while it asks has said nothing.
func TestC4PolkitDies(t *testing.T) {
	s, _, conn, end := waiting(t, t.Context())
	<-s.asked
	conn.Close()
	if err := <-end; !errors.Is(err, verification.ErrAbsent) {
		t.Errorf("died: %v", err)
	}
	s.taken <- ""
}

func TestStartTime(t *testing.T) {
	ours, err := startTime()
	if err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[slices.Index(stat, ')'):])) // ")" is field 2
	if want, _ := strconv.ParseUint(fields[20], 10, 64); ours == 0 || ours != want {
		t.Errorf("%d, not %d", ours, want)
	}
}

// The policy that is shipped is for our action, asks each time, and for the
// user's own password.
func TestPolicyFile(t *testing.T) {
	text, err := os.ReadFile("../../../packaging/polkit/" + action + ".policy")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Action struct {
			ID       string `xml:"id,attr"`
			Message  string `xml:"message"`
			Defaults struct {
				Any      string `xml:"allow_any"`
				Inactive string `xml:"allow_inactive"`
				Active   string `xml:"allow_active"`
			} `xml:"defaults"`
		} `xml:"action"`
	}
	if err := xml.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	d := policy.Action.Defaults
	if policy.Action.ID != action || policy.Action.Message == "" || d.Any != "auth_self" || d.Inactive != "auth_self" || d.Active != "auth_self" {
		t.Errorf("%+v", policy.Action)
	}
}
