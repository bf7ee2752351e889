//go:build fakewebauthn

package securitykey

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/securitykey/wire"
)

// These have the real helper, which lies beside the test, ask the webauthn.dll of
// testdata: `make wine` builds both, and puts that into the system's folder of a
// Wine of its own.

const dllFolder = `C:\webauthn`

// answers is what webauthn.dll answers next; it forgets what it was asked.
func answers(t *testing.T, lines ...string) {
	t.Helper()
	if err := os.MkdirAll(dllFolder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dllFolder, "asked")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	text := strings.Join(append([]string{"version 8"}, lines...), "\n") + "\n"
	if slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "version ") }) {
		text = strings.Join(lines, "\n") + "\n"
	}
	if err := os.WriteFile(filepath.Join(dllFolder, "answer"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// wasAsked is what webauthn.dll was asked.
func wasAsked() string {
	b, _ := os.ReadFile(filepath.Join(dllFolder, "asked"))
	return strings.ReplaceAll(string(b), "\r", "")
}

func windowsKeys(t *testing.T) (*Keys, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	ks := New(Options{Log: textLog(log)})
	t.Cleanup(ks.Close)
	return ks, log
}

const (
	windowsOrigin = "https://login.example.com"
	windowsRP     = "example.com"
)

func TestWindowsKeyIsListed(t *testing.T) {
	ks, log := windowsKeys(t)
	answers(t)
	keys, err := ks.List(t.Context())
	if err != nil || len(keys) != 1 || !keys[0].BySystem() || keys[0].Problem != nil || keys[0].Product == "" || keys[0].U2FOnly() || log.Len() > 0 {
		t.Fatalf("%+v, %v, %s", keys, err, log)
	}
	if k, err := ks.Info(t.Context(), keys[0].ID); err != nil || k.ID != keys[0].ID {
		t.Errorf("%+v, %v", k, err)
	}
	if found, err := ks.Holds(t.Context(), keys[0].ID, windowsRP, [][]byte{{1}}); err != nil || !found {
		t.Error(found, err)
	}
	if asked := wasAsked(); asked != "" {
		t.Errorf("Windows was asked: %s", asked)
	}
	answers(t, "version 0")
	if _, err := ks.List(t.Context()); !errors.Is(err, ErrOldSystem) {
		t.Error(err)
	}
}

func TestWindowsDoesTheRestItself(t *testing.T) {
	ks, _ := windowsKeys(t)
	answers(t)
	id, err := ks.Choose(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	pin := []byte("1234")
	for name, do := range map[string]func() error{
		"set PIN":     func() error { return ks.SetPIN(t.Context(), id, pin, nil) },
		"change PIN":  func() error { return ks.SetPIN(t.Context(), id, pin, pin) },
		"credentials": func() error { _, err := ks.Credentials(t.Context(), id, pin); return err },
		"delete":      func() error { return ks.DeleteCredential(t.Context(), id, pin, []byte{1}) },
		"fingers":     func() error { _, err := ks.Fingerprints(t.Context(), id, pin); return err },
		"enrol":       func() error { _, err := ks.EnrolFingerprint(t.Context(), id, pin, "thumb", nil); return err },
		"drop":        func() error { return ks.DropFingerprint(t.Context(), id, pin, "1") },
		"reset":       func() error { return ks.Reset(t.Context(), id, nil) },
	} {
		if err := do(); !errors.Is(err, ErrBySystem) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is asked arrives in C as it was meant, and what C answers comes back.
func TestWindowsRegisters(t *testing.T) {
	ks, _ := windowsKeys(t)
	k := newToken(t)
	r := Registration{
		Origin: windowsOrigin, RPID: windowsRP, RPName: "Example \u00e9", Challenge: testChallenge, User: User{ID: []byte{1, 2, 3}, Name: "bob@example.com", DisplayName: "Bob \U0001f511"},
		Algorithms: []int{ES256, RS256}, Exclude: [][]byte{{0xaa}, bytes.Repeat([]byte{0xbb}, 64)}, Resident: true, Verification: Required, HMACSecret: true,
	}
	data := clientData(typeCreate, r.Challenge, r.Origin)
	auth := k.authData(windowsRP, flagPresent|flagVerified|flagAttested, 7, true)
	object, err := attestationObject(&wire.Attestation{Format: "packed", AuthData: auth, Signature: k.sign(auth, data), Algorithm: ES256})
	if err != nil {
		t.Fatal(err)
	}
	answers(t, fmt.Sprintf("object %x", object), fmt.Sprintf("id %x", k.id))
	made, err := ks.Register(t.Context(), r)
	if err != nil {
		t.Fatal(err, wasAsked())
	}
	if !bytes.Equal(made.CredentialID, k.id) || !bytes.Equal(made.PublicKey, k.cose) || !bytes.Equal(made.AttestationObject, object) || made.Counter != 7 || !made.Verified || !made.Key.BySystem() {
		t.Errorf("%+v", made)
	}
	compare(t, []string{
		"make credential", "window yes", "client data 1 " + string(data), "hash SHA-256", "versions 1 1 3", "rp example.com", "rp name Example \u00e9", "rp icon (none)",
		"user id 010203", "user bob@example.com", "display name Bob \U0001f511", "icon (none)", "algorithm -7", "algorithm -257", "timeout *",
		"attachment 2 resident 1 verification 1 attestation 3 flags 0", "old list 0 cancellation yes", "exclude aa", "exclude " + strings.Repeat("bb", 64),
		"extension hmac-secret", "of 4: 1", "freed the attestation",
	})
	// A lie is noticed: this is signed for another challenge.
	r.Challenge = []byte("another challenge")
	if _, err := ks.Register(t.Context(), r); !errors.Is(err, ErrBadKey) {
		t.Error(err)
	}
	for _, line := range []string{"nothing 1", "endless 1", "object 00"} {
		answers(t, line, fmt.Sprintf("object %x", object), fmt.Sprintf("id %x", k.id))
		if _, err := ks.Register(t.Context(), r); !errors.Is(err, ErrBadKey) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestWindowsAsserts(t *testing.T) {
	ks, _ := windowsKeys(t)
	k := newToken(t)
	a := Assertion{Origin: windowsOrigin, RPID: windowsRP, Challenge: testChallenge, Allow: [][]byte{{0xcc}, k.id}, Verification: Discouraged}
	data := clientData(typeGet, a.Challenge, a.Origin)
	auth := k.authData(windowsRP, flagPresent, 8, false)
	secret := make([]byte, 64)
	rand.Read(secret)
	lines := []string{
		fmt.Sprintf("data %x", auth), fmt.Sprintf("signature %x", k.sign(auth, data)), fmt.Sprintf("id %x", k.id), "user 0405",
		fmt.Sprintf("secret %x", secret[:32]), fmt.Sprintf("second-secret %x", secret[32:]),
	}
	answers(t, lines...)
	got, err := ks.Assert(t.Context(), a)
	if err != nil {
		t.Fatal(err, wasAsked())
	}
	want := Expected{RPID: windowsRP, Origin: windowsOrigin, Challenge: testChallenge, CredentialID: k.id, PublicKey: k.cose, Counter: 7}
	if n, err := Verify(got, want); err != nil || n != 8 || !bytes.Equal(got.UserID, []byte{4, 5}) || len(got.Secret) > 0 {
		t.Errorf("%d, %v, %+v", n, err, got)
	}
	allow := []string{"allow cc", fmt.Sprintf("allow %x", k.id)}
	compare(t, slices.Concat([]string{
		"get assertion", "window yes", "client data 1 " + string(data), "hash SHA-256", "version 4", "rp example.com", "timeout *",
		"attachment 2 verification 3 flags 0", "old list 0 extensions 0 app id no cancellation yes",
	}, allow, []string{"freed the assertion"}))

	answers(t, lines...)
	a.Salts, a.Allow = [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)}, nil
	got, err = ks.Assert(t.Context(), a)
	if err != nil || !bytes.Equal(got.Secret, secret) {
		t.Errorf("%v, %x", err, got.Secret)
	}
	compare(t, []string{
		"get assertion", "window yes", "client data 1 " + string(data), "hash SHA-256", "version 6", "rp example.com", "timeout *",
		"attachment 2 verification 3 flags 100000", "old list 0 extensions 0 app id no cancellation yes",
		"blob 0 private 0 each 0", "salt " + strings.Repeat("01", 32), "second salt " + strings.Repeat("02", 32), "freed the assertion",
	})
	answers(t, append(lines, "version 3")...) // takes no salts
	if _, err := ks.Assert(t.Context(), a); !errors.Is(err, ErrUnsupported) || wasAsked() != "" {
		t.Error(err, wasAsked())
	}
}

// compare compares what was asked, line by line; a star stands for any number.
func compare(t *testing.T, want []string) {
	t.Helper()
	got := strings.Split(strings.TrimRight(wasAsked(), "\n"), "\n")
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if before, any := strings.CutSuffix(w, "*"); g != w && !(any && strings.HasPrefix(g, before) && strings.Trim(g[len(before):], "0123456789") == "") {
			t.Errorf("asked: %q, want %q", g, w)
		}
	}
}

func TestWindowsErrorsAreTyped(t *testing.T) {
	ks, log := windowsKeys(t)
	answers(t)
	id, err := ks.Choose(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	a := Assertion{Key: id, Origin: windowsOrigin, RPID: windowsRP, Challenge: testChallenge}
	for hr, want := range map[string]error{
		"0x8009000f": ErrExcluded, "0x80090029": ErrUnsupported, "0x80070032": ErrUnsupported, "0x80090027": ErrUnsupported, "0x80090023": ErrFull,
		"0x80090035": ErrNoKey, "0x80090011": ErrNoCredential, "0x800704c7": ErrCancelled, "0x80090036": ErrCancelled, "0x800705b4": ErrTimedOut,
		"0x80004005": ErrHelper,
	} {
		answers(t, "hresult "+hr)
		if _, err := ks.Assert(t.Context(), a); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", hr, err, want)
		}
		if strings.Contains(wasAsked(), "freed") {
			t.Errorf("%s: freed what there was not", hr)
		}
	}
	if !strings.Contains(log.String(), "InvalidStateError (HRESULT 0x8009000f)") {
		t.Errorf("%s", log)
	}
}

// Windows takes its window away when nobody waits for it any more.
func TestWindowsIsCancelled(t *testing.T) {
	for _, row := range []struct {
		name string
		end  error
		stop func(ctx context.Context) (context.Context, context.CancelFunc)
	}{
		{"by the person", ErrCancelled, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			return ctx, cancel
		}},
		{"by the deadline", ErrTimedOut, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
			_ = cancel
			return ctx, func() {}
		}},
	} {
		ks, _ := windowsKeys(t)
		answers(t, "waits 1")
		if _, err := ks.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := row.stop(t.Context())
		touch := make(chan Event, 1)
		done := make(chan error, 1)
		go func() {
			_, err := ks.Assert(ctx, Assertion{Origin: windowsOrigin, RPID: windowsRP, Challenge: testChallenge, Progress: func(e Event) { touch <- e }})
			done <- err
		}()
		select {
		case e := <-touch:
			if e.State != Touch || !e.Key.BySystem() {
				t.Errorf("%s: %+v", row.name, e)
			}
		case err := <-done:
			t.Fatalf("%s: %v before a touch: %s", row.name, err, wasAsked())
		}
		stop()
		if err := <-done; !errors.Is(err, row.end) {
			t.Errorf("%s: %v", row.name, err)
		}
		if asked := wasAsked(); !strings.Contains(asked, "waiting\ncancelled\n") {
			t.Errorf("%s: %s", row.name, asked)
		}
	}
}
