package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
)

// mustBe checks a refusal by its state.
func mustBe(t *testing.T, err error, want string) *devicekey.StateError {
	t.Helper()
	var named *devicekey.StateError
	if !errors.As(err, &named) || named.State.State != want || named.State.Hint == "" || named.State.Kind != devicekey.KindTPM {
		t.Fatalf("%v, want the state %s", err, want)
	}
	return named
}

// C1: the state folder on another computer, or the disk in another: its TPM
// opens nothing of it, and says that it is another one. The old one goes on.
func TestC1OtherTPM(t *testing.T) {
	x, other := tpmtest.New(t), tpmtest.New(t)
	rooms := newRooms()
	here, there := open(t, x), open(t, other)
	s, moved := NewStore(here, rooms), NewStore(there, rooms)
	silent, guarded := mustCreate(t, s, quiet), mustCreate(t, s, guard)
	blob, err := here.Seal(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*key{silent, guarded} {
		found, err := moved.Open(t.Context(), k.ref)
		if k == silent && err != nil {
			t.Fatal(err) // not asked, so not known
		}
		if k == silent {
			mustBe(t, signs(t.Context(), found, pin), devicekey.OtherDevice)
			continue
		}
		mustBe(t, err, devicekey.OtherDevice) // known now
	}
	_, err = there.Unseal(t.Context(), blob)
	mustBe(t, err, devicekey.OtherDevice)
	mustBe(t, moved.Reauthorise(t.Context(), []devicekey.Ref{guarded.ref}, pin, newPIN), devicekey.OtherDevice)
	// The other computer's TPM makes keys of its own, beside.
	fresh := mustCreate(t, moved, quiet)
	if err := signs(t.Context(), fresh, devicekey.Authorisation{}); err != nil {
		t.Error(err)
	}
	// Back at home all of the old ones work, and the other's does not.
	back := NewStore(here, rooms)
	for _, k := range []*key{silent, guarded} {
		again, err := back.Open(t.Context(), k.ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := signs(t.Context(), again, pin); err != nil {
			t.Error(err)
		}
	}
	k, err := back.Open(t.Context(), fresh.ref)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, signs(t.Context(), k, devicekey.Authorisation{}), devicekey.OtherDevice)
	if got, err := here.Unseal(t.Context(), blob); err != nil || string(got) != "secret" {
		t.Error(err)
	}
}

// C10: a TPM that was cleared says so, under a running agent and at the next
// start, for ever; it is not taken for another one, and makes new keys.
func TestC10Cleared(t *testing.T) {
	x, rooms := tpmtest.New(t), newRooms()
	c := open(t, x)
	s := NewStore(c, rooms)
	old := mustCreate(t, s, quiet)
	blob, err := c.Seal(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := signs(t.Context(), old, devicekey.Authorisation{}); err != nil {
		t.Fatal(err)
	}
	if err := x.Clear(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e := mustBe(t, signs(t.Context(), old, devicekey.Authorisation{}), devicekey.Cleared)
		if !strings.Contains(e.State.Hint, "countersign account add ORG_URL") {
			t.Errorf("hint %q", e.State.Hint)
		}
	}
	_, err = c.Unseal(t.Context(), blob)
	mustBe(t, err, devicekey.Cleared)
	_, err = s.Open(t.Context(), old.ref)
	mustBe(t, err, devicekey.Cleared)
	fresh := mustCreate(t, s, quiet)
	if err := signs(t.Context(), fresh, devicekey.Authorisation{}); err != nil {
		t.Error(err)
	}
	// New keys can be made, so the store is well.
	if state := s.State(t.Context()); state.State != devicekey.Ready {
		t.Errorf("%+v", state)
	}
	// At the next start State finds out, before anybody has to sign.
	_ = c.Close()
	if err := x.Restart(); err != nil {
		t.Fatal(err)
	}
	s = NewStore(open(t, x), rooms)
	if _, err := s.Open(t.Context(), old.ref); err != nil {
		t.Fatal(err)
	}
	if state := s.State(t.Context()); state.State != devicekey.Ready {
		t.Errorf("%+v", state)
	}
	_, err = s.Open(t.Context(), old.ref)
	mustBe(t, err, devicekey.Cleared)
	if _, err := s.Open(t.Context(), fresh.ref); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), old.ref); err != nil {
		t.Error(err)
	}
}

// C10: with a password on the owner hierarchy no root key can be made; one that
// the system keeps is as good.
func TestC10OwnerAuthSet(t *testing.T) {
	x, rooms := tpmtest.New(t), newRooms()
	c := open(t, x)
	s := NewStore(c, rooms)
	k := mustCreate(t, s, quiet)
	if err := x.KeepRoot(); err != nil {
		t.Fatal(err)
	}
	if err := x.SetOwnerAuth("theirs"); err != nil {
		t.Fatal(err)
	}
	forget(c)
	if err := signs(t.Context(), k, devicekey.Authorisation{}); err != nil {
		t.Errorf("with a root key that is kept: %v", err)
	}
	if err := signs(t.Context(), mustCreate(t, s, guard), pin); err != nil {
		t.Errorf("a new key under it: %v", err)
	}

	bare := tpmtest.New(t)
	c = open(t, bare)
	s = NewStore(c, rooms)
	if err := bare.SetOwnerAuth("theirs"); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.Create(t.Context(), quiet)
	mustBe(t, err, devicekey.OwnerAuthSet)
	_, err = c.Seal(t.Context(), []byte("secret"))
	mustBe(t, err, devicekey.OwnerAuthSet)
	if state := s.State(t.Context()); state.State != devicekey.OwnerAuthSet || state.Hint == "" {
		t.Errorf("%+v", state)
	}
	k2, err := s.Open(t.Context(), k.ref)
	if err != nil {
		t.Fatal(err)
	}
	// Whether the key is this TPM's cannot be found out, so it is not called lost.
	mustBe(t, signs(t.Context(), k2, devicekey.Authorisation{}), devicekey.OwnerAuthSet)
}

// What is kept at the usual handle and is no root key of ours is left alone.
func TestOtherRootIsKept(t *testing.T) {
	x := tpmtest.New(t)
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.RSASRKTemplate)}.Execute(x)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = (tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, PersistentHandle: persistentSRK}).Execute(x); err != nil {
		t.Fatal(err)
	}
	if _, err = (tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}).Execute(x); err != nil {
		t.Fatal(err)
	}
	s := NewStore(open(t, x), newRooms())
	if err := signs(t.Context(), mustCreate(t, s, quiet), devicekey.Authorisation{}); err != nil {
		t.Error(err)
	}
}

// C9: what is no storage root key of the standard kind is salted to by nobody:
// its maker could read along.
func TestC9RootMustFit(t *testing.T) {
	x := tpmtest.New(t)
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(x)
	if err != nil {
		t.Fatal(err)
	}
	good, err := rsp.OutPublic.Contents()
	if err != nil || fits(good) != nil {
		t.Fatal(err, fits(good))
	}
	for name, change := range map[string]func(p *tpm2.TPMTPublic){
		"signs":            func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = true },
		"not restricted":   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false },
		"does not decrypt": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = false },
		"can be moved":     func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false },
		"brought in":       func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false },
		"policy":           func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = make([]byte, 32) },
		"SHA-1":            func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 },
		"RSA":              func(p *tpm2.TPMTPublic) { *p = tpm2.RSASRKTemplate },
		"no point": func(p *tpm2.TPMTPublic) {
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: []byte{1}}, Y: tpm2.TPM2BECCParameter{Buffer: []byte{2}}})
		},
		"zero point": func(p *tpm2.TPMTPublic) { *p = tpm2.ECCSRKTemplate },
		"other curve": func(p *tpm2.TPMTPublic) {
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP384})
		},
	} {
		p := *good
		change(&p)
		if fits(&p) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := rooted(0x80000000, good, bytes.Repeat([]byte{0, 11}, 17)); !errors.Is(err, errGarbage) {
		t.Errorf("another name: %v", err)
	}
}

// C9: a root key that somebody on the bus has put in the place of the TPM's own
// is refused before anything is salted to it, once there are keys under the own
// one.
func TestC9RootOfSomebodyElse(t *testing.T) {
	x, theirs := tpmtest.New(t), tpmtest.New(t)
	c, m := meddled(t, x)
	s := NewStore(c, newRooms())
	k := mustCreate(t, s, guard)
	forget(c)
	m.reset(func(e *exchange) ([]byte, error) {
		if e.code == tpm2.TPMCCCreatePrimary {
			return theirs.Send(e.command)
		}
		return e.pass()
	})
	if err := signs(t.Context(), k, pin); err == nil {
		t.Error("signed")
	}
	if slices.Contains(m.passed(), tpm2.TPMCCStartAuthSession) {
		t.Error("salted a session to it")
	}
}

// table of what is seen and what it is called.
func TestStatesHaveNames(t *testing.T) {
	c := New(Options{Address: filepath.Join(t.TempDir(), "none")})
	for _, row := range []struct {
		seen error
		want string
	}{
		{syscall.ENXIO, devicekey.Absent},
		{syscall.ENODEV, devicekey.Absent},
		{os.ErrNotExist, devicekey.Absent},
		{syscall.ECONNREFUSED, devicekey.Absent},
		{syscall.EACCES, devicekey.PermissionDenied},
		{syscall.EPERM, devicekey.PermissionDenied},
		{syscall.EBUSY, devicekey.Busy},
		{context.DeadlineExceeded, devicekey.Busy},
		{tpm2.TPMRCRetry, devicekey.Busy},
		{tpm2.TPMRCYielded, devicekey.Busy},
		{tpm2.TPMRCTesting, devicekey.Busy},
		{tpm2.TPMRCCanceled, devicekey.Busy},
		{tpm2.TPMRCSessionHandles, devicekey.Busy},
		{tpm2.TPMRCMemory, devicekey.Busy},
		{tpm2.TPMRCLockout, devicekey.Lockout},
		{tpm2.TPMRCFailure, devicekey.SelfTestFailed},
		{tpm2.TPMRCNeedsTest, devicekey.SelfTestFailed},
		{rcBadTag, devicekey.TooOld},
		{errTooOld, devicekey.TooOld},
		{tpm2.TPMRCInitialize, devicekey.Unavailable},
		{tpm2.TPMRCIntegrity, devicekey.Unavailable},
		{errGarbage, devicekey.Unavailable},
		{io.EOF, devicekey.Unavailable},
		{ErrClosed, devicekey.Unavailable},
	} {
		e := mustBe(t, c.fault(fmt.Errorf("try: %w", row.seen)), row.want)
		if !errors.Is(e, row.seen) {
			t.Errorf("%v is not kept for the log", row.seen)
		}
	}
	for _, err := range []error{nil, context.Canceled, devicekey.ErrUnauthorised, devicekey.ErrNotFound, devicekey.ErrLocked} {
		if got := c.fault(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
	for _, state := range []string{
		devicekey.Absent, devicekey.PermissionDenied, devicekey.Busy, devicekey.Lockout, devicekey.Cleared, devicekey.OtherDevice,
		devicekey.OwnerAuthSet, devicekey.TooOld, devicekey.SelfTestFailed, devicekey.Unavailable,
	} {
		if hints[state] == "" {
			t.Errorf("no remedy for %s", state)
		}
	}
	if !strings.Contains(hints[devicekey.PermissionDenied], "tss") || !strings.Contains(hints[devicekey.PermissionDenied], "udev") {
		t.Error("the remedy for a TPM that may not be opened names neither group nor rule")
	}
}

// Detect sends nothing.
func TestDetect(t *testing.T) {
	x := tpmtest.New(t)
	c, m := meddled(t, x)
	for _, row := range []struct {
		shut error
		want string
	}{
		{nil, devicekey.Ready},
		{os.ErrNotExist, devicekey.Absent},
		{os.ErrPermission, devicekey.PermissionDenied},
		{errTooOld, devicekey.TooOld},
	} {
		m.vanish(row.shut)
		if state := c.Detect(); state.State != row.want || state.Kind != devicekey.KindTPM || (state.Hint == "") != (row.want == devicekey.Ready) {
			t.Errorf("%v: %+v", row.shut, state)
		}
		if row.shut != nil {
			if state := c.State(t.Context()); state.State != row.want {
				t.Errorf("%v: %+v", row.shut, state)
			}
		}
	}
	if n := len(m.passed()); n != 0 {
		t.Errorf("%d commands", n)
	}
}
