package localapi

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
)

// D1: the listener hands on the own user's connections only, whatever the
// system says about the others.
func TestGuardedListener(t *testing.T) {
	dir, err := os.MkdirTemp("", "cs")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := Listen(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	answers := []struct {
		p   peer.Peer
		err error
	}{
		{peer.Peer{Known: true, UID: peer.Self().UID + 1}, nil},
		{peer.Peer{}, nil},
		{peer.Peer{}, peer.ErrUnknown},
		{peer.Peer{}, peer.ErrUnsupported},
		{peer.Self(), peer.ErrUnknown},
		{peer.Self(), nil},
	}
	asked := 0
	s := New(nil, Options{})
	s.owner = func(net.Conn) (peer.Peer, error) {
		asked++
		return answers[asked-1].p, answers[asked-1].err
	}
	guarded := &guardedListener{Listener: l, server: s, slots: make(chan struct{}, 1), closed: make(chan struct{})}
	defer guarded.Close()
	for range answers {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	c, err := guarded.Accept()
	if err != nil || asked != len(answers) {
		t.Fatalf("accepted after %d of %d, %v", asked, len(answers), err)
	}
	if !c.(*conn).peer.Mine() || len(guarded.slots) != 1 {
		t.Error("the accepted connection has no owner or no slot")
	}
	c.Close()
	c.Close() // the slot comes back once
	if len(guarded.slots) != 0 {
		t.Error("the slot did not come back")
	}
}

// D4: whatever decode accepts is one object with each member at most once by
// its exact name, so that writing it and reading it again changes nothing.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"action":"approve","number":"42"}`, `{"action":"deny","report":true}`, `{"action":"deny","action":"approve"}`,
		`{"Action":"approve"}`, `{"pin":null}`, `{}`, `[]`, `{"action":"a"}x`, "{\"action\":\"\xff\"}", `{"a\u0063tion":"deny"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d api.Decision
		if decode(data, &d) != nil {
			return
		}
		var loose map[string]any
		if err := json.Unmarshal(data, &loose); err != nil {
			t.Fatalf("accepted what is not JSON: %v", err)
		}
		for name := range loose {
			switch name {
			case "action", "account", "number", "pin", "verification", "report":
			default:
				t.Fatalf("accepted the member %q", name)
			}
		}
		if action, _ := loose["action"].(string); action != d.Action {
			t.Fatalf("decoded %q, the document says %q", d.Action, action)
		}
		if pin, _ := loose["pin"].(string); pin != d.PIN.Reveal() {
			t.Fatalf("decoded another PIN than %q", pin)
		}
		b, err := json.Marshal(d)
		if (err != nil) != (len(d.PIN) > 0) { // a PIN is not written, only sent
			t.Fatal(err)
		}
		if err != nil || d.PIN != nil {
			return
		}
		var again api.Decision
		if err := decode(b, &again); err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("again: %+v, %v; first %+v", again, err, d)
		}
	})
}

func FuzzFind(f *testing.F) {
	f.Add("GET", "/v1/accounts/x")
	f.Add("POST", "/v1/prompts/%2e%2e/decision")
	f.Add("GET", "//")
	f.Fuzz(func(t *testing.T, method, path string) {
		r, id, allow := find(method, path)
		if r != nil && (r.method != method || allow != "") {
			t.Fatalf("%s %s found %s %s, allow %q", method, path, r.method, r.path, allow)
		}
		if r != nil && strings.Contains(r.path, "{id}") != (id != "") {
			t.Fatalf("%s %s: id %q for %s", method, path, id, r.path)
		}
	})
}
