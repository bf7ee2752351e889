//go:build linux

package securitykey_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/securitykey/wire"
	"countersign.dev/e2e/softkey"
)

// A key that announces more than it could ever send does not have the computer's
// memory for it.
func TestF1MemoryIsBounded(t *testing.T) {
	k, p := plug(t, softkey.Options{})
	k.Break(softkey.GreedyList, softkey.When{Step: softkey.StepInfo})
	r := begin(t, product, 0, wire.Request{Op: wire.Inspect, Device: p.Path})
	r.end() // the library takes it for an old key then
	if k.Mend() == 0 {
		t.Error("it did not happen")
	}
	if used := r.cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; used > 256<<10 {
		t.Errorf("it took %d MiB", used>>10)
	}
}

// Threads take their stacks from that; who has given them large ones has keys, too.
func TestLargeStacks(t *testing.T) {
	_, p := plug(t, softkey.Options{})
	script := filepath.Join(t.TempDir(), "helper")
	syscall.ForkLock.RLock() // no child that starts meanwhile holds it open for writing
	err := os.WriteFile(script, []byte("#!/bin/sh\nulimit -S -s 131072 || true; exec '"+product+"'\n"), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	if reply := begin(t, script, 0, wire.Request{Op: wire.Inspect, Device: p.Path}).end(); reply.Result == nil {
		t.Errorf("%+v", reply.Error)
	}
}

// A key that answers with a wrong PIN also when it is asked how many tries are left
// is asked that once.
func TestF3WrongPINForEver(t *testing.T) {
	b := newBay(t, softkey.Options{PIN: "1234", MakeWithoutPIN: true})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a := assertion(b.id(t), b.made.CredentialID)
	a.Verification, a.PIN = securitykey.Required, secret("9999")
	b.k.Steps()
	b.k.Break(softkey.Answers(softkey.PINInvalid), softkey.When{Step: softkey.StepPINRetries})
	began := time.Now()
	_, err := b.w.Assert(ctx, a)
	b.k.Mend()
	var wrong *securitykey.PINError
	if !errors.As(err, &wrong) || wrong.Left != 0 || wrong.Blocked {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	asked, tried := 0, 0
	for _, s := range b.k.Steps() {
		switch s {
		case softkey.StepPINRetries:
			asked++
		case softkey.StepPINToken:
			tried++
		}
	}
	if asked > 2 || tried != 1 { // before the PIN is asked for, and after it was wrong
		t.Errorf("asked %d times, tried %d times", asked, tried)
	}
}

// What a key wants that it was given is the key's fault, and no other program's.
func TestKeyThatWantsItsPINForEver(t *testing.T) {
	b := newBay(t, softkey.Options{PIN: "1234", MakeWithoutPIN: true})
	a := assertion(b.id(t), b.made.CredentialID)
	a.PIN = secret("1234")
	b.k.Break(softkey.Answers(softkey.PINRequired), softkey.When{Step: softkey.StepAssert})
	_, err := b.w.Assert(t.Context(), a)
	b.k.Mend()
	fails(t, err, securitykey.ErrBadKey)
}

// A key that says of no credential whether it has it, without its PIN, is no fault.
func TestHoldsOfAKeyThatDoesNotSay(t *testing.T) {
	b := newBay(t, softkey.Options{PIN: "1234", MakeWithoutPIN: true})
	id := b.id(t)
	b.k.Break(softkey.Answers(softkey.PINRequired), softkey.When{Step: softkey.StepAssert})
	found, err := b.w.Holds(t.Context(), id, rpID, [][]byte{b.made.CredentialID})
	b.k.Mend()
	if found || !errors.Is(err, securitykey.ErrUnsupported) {
		t.Errorf("%v, %v", found, err)
	}
}

// F2: a key that says that it has a credential, and cannot sign by it, has not
// proved it. The other one needs no touch and no PIN for that.
func TestF2KeyProvesItsCredential(t *testing.T) {
	w := newWorld(t, 2)
	id := w.plug(0, softkey.New(softkey.Options{PIN: "1234", MakeWithoutPIN: true}))
	made := w.register(registration(id))
	want := securitykey.Expected{RPID: rpID, Origin: origin, Challenge: challenge, CredentialID: made.CredentialID, PublicKey: made.PublicKey}
	if found, err := w.Proves(t.Context(), id, want); !found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	liar := softkey.New(softkey.Options{PIN: "1234", MakeWithoutPIN: true})
	other := w.plug(1, liar)
	if found, err := w.Proves(t.Context(), other, want); found || err != nil {
		t.Errorf("a key that does not have it: %v, %v", found, err)
	}
	its := w.register(registration(other))
	want.CredentialID, want.PublicKey = its.CredentialID, made.PublicKey
	if found, err := w.Proves(t.Context(), other, want); found || !errors.Is(err, securitykey.ErrBadKey) {
		t.Errorf("a key that claims it: %v, %v", found, err)
	}
	want.PublicKey = its.PublicKey
	for _, lie := range []softkey.Fault{softkey.OtherChallenge, softkey.WrongRPHash, softkey.BadSignature, softkey.WrongCredentialID} {
		liar.Break(lie, softkey.When{Step: softkey.StepAssert})
		if found, err := w.Proves(t.Context(), other, want); found || !errors.Is(err, securitykey.ErrBadKey) {
			t.Errorf("%s: %v, %v", lie.Name, found, err)
		}
		liar.Mend()
	}
	old := w.plug(1, softkey.New(softkey.Options{Kind: softkey.U2FOnly}))
	its = w.register(registration(old))
	want.CredentialID, want.PublicKey = its.CredentialID, its.PublicKey
	if found, err := w.Proves(t.Context(), old, want); found || !errors.Is(err, securitykey.ErrUnsupported) {
		t.Errorf("a U2F key: %v, %v", found, err)
	}
}
