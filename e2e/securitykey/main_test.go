//go:build linux

// Package securitykey_test has the agent's side of security keys, the real
// countersign-sk and the real libfido2 meet the security key in software, by path
// and by enumeration: every operation, every fault, every unplugging.
package securitykey_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"countersign.dev/authenticators/securitykey"
	"countersign.dev/e2e/harness"
	"countersign.dev/e2e/softkey"
)

// patience bounds what takes no time unless it is broken.
const patience = 30 * time.Second

// The helper, as the product has it and in its two builds for tests.
var product, hubHelper, attacker string

func TestMain(m *testing.M) {
	// What is waited for here is mostly deadlines.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "countersign-sk")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		// Run by other users, too.
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		for path, tags := range map[*string][]string{&product: nil, &hubHelper: {"umockdev"}, &attacker: {"sandboxtest"}} {
			if *path, err = harness.BuildKeyHelper(ctx, dir, tags...); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}())
}

const (
	rpID   = "example.com"
	origin = "https://login.example.com"
)

var (
	challenge = []byte("sixteen bytes are the least")
	alice     = securitykey.User{ID: []byte("alice-id"), Name: "alice@example.com", DisplayName: "Alice"}
)

// world is a hub, and the agent's side with a helper that sees it.
type world struct {
	*securitykey.Keys
	t   *testing.T
	hub *softkey.Hub
}

func newWorld(t *testing.T, sockets int) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	hub, err := softkey.NewHub(ctx, sockets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
	})
	helper, err := harness.WrapKeyHelper(t.TempDir(), hubHelper, hub)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	keys := securitykey.New(securitykey.Options{Helper: helper, Owner: os.Getuid(), Log: log})
	t.Cleanup(keys.Close)
	return &world{keys, t, hub}
}

// plug plugs a key in, and gives its id.
func (w *world) plug(socket int, k *softkey.Key) string {
	w.t.Helper()
	if _, err := w.hub.Plug(socket, k); err != nil {
		w.t.Fatal(err)
	}
	return w.id(socket)
}

// id is that of what is in the socket now.
func (w *world) id(socket int) string {
	w.t.Helper()
	return w.idIn(w.t, socket)
}

func (w *world) idIn(t *testing.T, socket int) string {
	t.Helper()
	keys, err := w.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.Path == w.hub.Device(socket) {
			return k.ID
		}
	}
	t.Fatalf("no key in socket %d: %+v", socket, keys)
	return ""
}

func registration(id string) securitykey.Registration {
	return securitykey.Registration{
		Key: id, Origin: origin, RPID: rpID, RPName: "Example", Challenge: challenge, User: alice, Verification: securitykey.Discouraged,
	}
}

func assertion(id string, allow ...[]byte) securitykey.Assertion {
	return securitykey.Assertion{Key: id, Origin: origin, RPID: rpID, Challenge: challenge, Allow: allow, Verification: securitykey.Discouraged}
}

func (w *world) register(r securitykey.Registration) securitykey.Registered {
	w.t.Helper()
	made, err := w.Register(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

func (w *world) assert(a securitykey.Assertion, made securitykey.Registered) securitykey.Asserted {
	w.t.Helper()
	got, err := w.Assert(w.t.Context(), a)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := verify(got, made, a); err != nil {
		w.t.Fatal(err)
	}
	return got
}

func verify(got securitykey.Asserted, made securitykey.Registered, a securitykey.Assertion) (uint32, error) {
	return securitykey.Verify(got, securitykey.Expected{
		RPID: rpID, Origin: origin, Challenge: challenge, CredentialID: made.CredentialID, PublicKey: made.PublicKey,
		Verified: a.Verification == securitykey.Required, Counter: made.Counter,
	})
}
