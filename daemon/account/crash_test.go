//go:build unix

package account

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// TestCrashChild is not a test of its own: TestKilled runs it in a process
// that kills itself at a step.
func TestCrashChild(t *testing.T) {
	dir, at := os.Getenv("CRASH_DIR"), os.Getenv("CRASH_AT")
	if dir == "" {
		return
	}
	m := boot(t, dir)
	m.step = func(name string) {
		if name == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	link, err := okta.ParseEnrolmentLink(os.Getenv("CRASH_LINK"))
	if err != nil {
		t.Fatal(err)
	}
	switch os.Getenv("CRASH_DO") {
	case "remove":
		_ = m.Remove(context.Background(), m.All()[0].ID, false)
	case "sign in":
		_, _ = m.signsIn(context.Background(), link.OrgURL, "00uAlice")
	case "verified":
		_, _ = m.EnrolByLink(context.Background(), link, "", byPIN(m.service(t), thePIN))
	case "verify", "rotate", "migrate":
		change := Change{Action: Action(os.Getenv("CRASH_DO"))}
		_, _ = m.Rekey(context.Background(), m.All()[0].ID, change, alice(byPIN(m.service(t), thePIN)))
	case "replace":
		m.keys.kind = devicekey.KindSoftware
		m.keys.set(devicekey.KindTPM, devicekey.Cleared)
		_, _ = m.signsIn(context.Background(), link.OrgURL, "00uAlice")
	default:
		_, _ = m.EnrolByLink(context.Background(), link, "", nil)
	}
	fmt.Println("survived")
}

// killedAt runs an enrolment or removal in a child that dies at a step.
func killedAt(t *testing.T, dir, do, step string, link okta.EnrolmentLink) {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.count=1")
	c.Env = append(os.Environ(), "TMPDIR="+filepath.Dir(dir), "CRASH_DIR="+dir, "CRASH_AT="+step, "CRASH_DO="+do, "CRASH_LINK="+link.URL())
	out, err := c.CombinedOutput()
	if err == nil || strings.Contains(string(out), "survived") {
		t.Fatalf("the child was not killed at %q: %v\n%s", step, err, out)
	}
}

// kill -9 at each step of an enrolment: after the next start there is the old
// or the new state, org and agent agree, and the next try works.
func TestKilledWhileEnrolling(t *testing.T) {
	for _, step := range []string{"recorded", "client key", "method push", "method signed_nonce", "method totp", "prepared", "before post", "posted", "active"} {
		t.Run(step, func(t *testing.T) {
			org, dir := newStrictOrg(t), t.TempDir()+"/state"
			killedAt(t, dir, "enrol", step, org.link("one"))
			m := boot(t, dir)
			m.Resume(t.Context())
			m.settled(t, org)

			// The next try, with the same link if it was not used, or a new one.
			if len(m.All()) == 0 {
				if _, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil); err != nil {
					t.Fatalf("same link again: %v", err)
				}
			}
			if _, err := m.EnrolByLink(t.Context(), org.link("two"), "", nil); err != nil {
				t.Fatalf("next link: %v", err)
			}
			m.settled(t, org)
			if len(m.All()) != 2 {
				t.Fatalf("%d accounts", len(m.All()))
			}
		})
	}
}

// kill -9 at each step of an enrolment by a person who signed in: their token is
// gone with the process, so what was not finished is undone at the next start.
// An enrolment that the org had taken already is then one whose keys nobody has.
func TestKilledAfterTheSignIn(t *testing.T) {
	for _, step := range []string{"recorded", "client key", "method push", "method totp", "prepared", "before post", "posted", "active"} {
		t.Run(step, func(t *testing.T) {
			org, dir := newStrictOrg(t), t.TempDir()+"/state"
			killedAt(t, dir, "sign in", step, org.link("unused"))
			m := boot(t, dir)
			m.Resume(t.Context())
			if step == "active" {
				m.settled(t, org)
				return
			}
			org.mu.Lock()
			known := len(org.enrolled)
			org.mu.Unlock()
			if len(m.All()) != 0 || m.storedKeys(t) != 0 || known != map[bool]int{true: 1}[step == "posted"] {
				t.Fatalf("%d accounts, %d keys, %d enrolments", len(m.All()), m.storedKeys(t), known)
			}
			if _, err := m.signsIn(t.Context(), org.URL, "00uAlice"); err != nil || len(m.All()) != 1 {
				t.Fatalf("the next sign-in: %v", err)
			}
		})
	}
}

// kill -9 while the keys are deleted that the org did not want: the account
// stands, and they are gone after the next start.
func TestKilledWhileDiscarding(t *testing.T) {
	for _, step := range []string{"active", "unused keys wiped"} {
		org, dir := newStrictOrg(t), t.TempDir()+"/state"
		org.set(func() { org.makes = func(e *okta.Enrolment) { delete(e.Methods, okta.MethodSignedNonce) } })
		killedAt(t, dir, "enrol", step, org.link("one"))
		m := boot(t, dir)
		m.Resume(t.Context())
		m.settled(t, org)
		if len(m.All()) != 1 || m.All()[0].Unused != nil || m.storedKeys(t) != 2 {
			t.Fatalf("%s: %+v, %d keys", step, m.All(), m.storedKeys(t))
		}
	}
}

// The link has expired until the agent starts again: what was begun is undone.
func TestKilledAndExpired(t *testing.T) {
	for _, step := range []string{"prepared", "before post"} {
		org, dir := newStrictOrg(t), t.TempDir()+"/state"
		killedAt(t, dir, "enrol", step, org.link("one"))
		org.set(func() { org.expired = true })
		m := boot(t, dir)
		m.Resume(t.Context())
		if len(m.All()) != 0 || m.storedKeys(t) != 0 {
			t.Fatalf("%s: %d accounts, %d keys", step, len(m.All()), m.storedKeys(t))
		}
		org.set(func() { org.expired = false })
		if _, err := m.EnrolByLink(t.Context(), org.link("two"), "", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// kill -9 while a refused enrolment is being undone.
func TestKilledWhileAbandoning(t *testing.T) {
	for _, step := range []string{"abandoning", "keys wiped"} {
		org, dir := newStrictOrg(t), t.TempDir()+"/state"
		org.set(func() { org.expired = true })
		killedAt(t, dir, "enrol", step, org.link("one"))
		org.set(func() { org.expired = false }) // were it sent again now, an enrolment without keys would come of it
		m := boot(t, dir)
		m.Resume(t.Context())
		if len(m.All()) != 0 || m.storedKeys(t) != 0 || len(org.enrolled) != 0 {
			t.Fatalf("%s: %d accounts, %d keys, %d enrolments", step, len(m.All()), m.storedKeys(t), len(org.enrolled))
		}
	}
}

// kill -9 at each step of a removal: afterwards the account is gone at both.
func TestKilledWhileRemoving(t *testing.T) {
	for _, step := range []string{"removing", "deleted at org", "erasing", "keys wiped"} {
		t.Run(step, func(t *testing.T) {
			org, dir := newStrictOrg(t), t.TempDir()+"/state"
			first := boot(t, dir)
			if _, err := first.EnrolByLink(t.Context(), org.link("one"), "", nil); err != nil {
				t.Fatal(err)
			}
			first.vault.Close()
			killedAt(t, dir, "remove", step, org.link("one"))
			m := boot(t, dir)
			m.Resume(t.Context())
			if len(m.All()) != 0 || m.storedKeys(t) != 0 || len(org.deleted) != 1 {
				t.Fatalf("%d accounts, %d keys, %d deleted", len(m.All()), m.storedKeys(t), len(org.deleted))
			}
		})
	}
}

// A removal that was half done when the agent stopped, and an org that cannot
// be asked at the next start: nothing is forgotten, and a later start ends it.
func TestRemovalWaitsForTheOrg(t *testing.T) {
	org, dir := newStrictOrg(t), t.TempDir()+"/state"
	first := boot(t, dir)
	if _, err := first.EnrolByLink(t.Context(), org.link("one"), "", nil); err != nil {
		t.Fatal(err)
	}
	first.vault.Close()
	killedAt(t, dir, "remove", "removing", org.link("one"))
	org.set(func() { org.down = 503 })
	m := boot(t, dir)
	for range 2 {
		m.Resume(t.Context())
		if len(m.All()) != 1 || m.All()[0].State != Removing || m.All()[0].Usable() || m.storedKeys(t) != 3 {
			t.Fatalf("%+v, %d keys", m.All(), m.storedKeys(t))
		}
	}
	org.set(func() { org.down = 0 })
	if m.Resume(t.Context()); len(m.All()) != 0 || m.storedKeys(t) != 0 || !org.deleted["pfd0"] {
		t.Fatalf("%+v, %d keys, deleted %v", m.All(), m.storedKeys(t), org.deleted)
	}
}

// kill -9 at the steps that keys for verification add to an enrolment.
func TestKilledWhileEnrollingVerified(t *testing.T) {
	for _, step := range []string{"method push userVerificationBioOrPin", "method signed_nonce userVerificationBioOrPin", "posted", "without verification"} {
		t.Run(step, func(t *testing.T) {
			org, dir := newStrictOrg(t), t.TempDir()+"/state"
			org.set(func() { org.noUV = step == "without verification" })
			killedAt(t, dir, "verified", step, org.link("one"))
			m := boot(t, dir)
			m.Resume(t.Context())
			m.settled(t, org)
			if len(m.All()) == 0 {
				if _, err := m.EnrolByLink(t.Context(), org.link("one"), "", byPIN(m.service(t), thePIN)); err != nil {
					t.Fatal(err)
				}
			}
			m.settled(t, org)
			if a := m.All()[0]; a.Verifies() == org.noUV {
				t.Errorf("%+v", a)
			}
		})
	}
}

// kill -9 at each step of a change of keys: at every moment, before the next
// start has settled it and after, the account has keys that are there, and after
// it they are the ones that the org has. None is left over.
func TestKilledWhileRekeying(t *testing.T) {
	steps := map[string][]string{
		"rotate": {"rekeying", "new push.proofOfPossession", "new push.userVerificationBioOrPin", "new signed_nonce.proofOfPossession",
			"new device.clientInstanceKey", "before patch", "patched", "exchanged", "unused keys wiped"},
		"migrate": {"new push.proofOfPossession", "before patch", "patched", "exchanged"},
		"verify":  {"rekeying", "new signed_nonce.userVerificationBioOrPin", "before patch", "patched", "exchanged"},
	}
	for do, list := range steps {
		for _, step := range list {
			t.Run(do+" "+step, func(t *testing.T) {
				org, dir := newStrictOrg(t), t.TempDir()+"/state"
				first := boot(t, dir)
				before, err := first.EnrolByLink(t.Context(), org.link("one"), "", byPIN(first.service(t), thePIN))
				if err != nil {
					t.Fatal(err)
				}
				first.vault.Close()
				killedAt(t, dir, do, step, org.link("one"))
				m := boot(t, dir)
				for range 2 {
					if err := m.KeyError(t.Context(), m.All()[0]); err != nil {
						t.Fatalf("cannot sign: %v", err)
					}
					m.Resume(t.Context())
				}
				a := m.All()[0]
				if do == "verify" && (step == "before patch" || step == "patched") {
					// Only who is verified can ask by such a key.
					if a.Rekeying == nil {
						t.Fatalf("%+v", a)
					}
				} else {
					m.settled(t, org)
				}
				if moved := len(org.agreed) == 1; moved != (step == "patched" || step == "exchanged" || step == "unused keys wiped") {
					t.Errorf("agreed by %v", org.agreed)
				} else if changed := a.byPlace()["push.proofOfPossession"] != before.byPlace()["push.proofOfPossession"]; do != "verify" && changed != moved {
					t.Errorf("changed: %v", changed)
				}
				if _, err := m.Rekey(t.Context(), a.ID, Change{Action: Action(do)}, alice(byPIN(m.service(t), thePIN))); err != nil && !errors.Is(err, ErrNothingToDo) {
					t.Fatal(err)
				}
				m.settled(t, org)
			})
		}
	}
}

// kill -9 while a change of keys that the org has refused is undone.
func TestKilledWhileUndoing(t *testing.T) {
	for _, step := range []string{"undoing", "new keys wiped"} {
		org, dir := newStrictOrg(t), t.TempDir()+"/state"
		first := boot(t, dir)
		if _, err := first.EnrolByLink(t.Context(), org.link("one"), "", nil); err != nil {
			t.Fatal(err)
		}
		first.vault.Close()
		org.set(func() { org.refuses = okta.CodeForbidden })
		killedAt(t, dir, "rotate", step, org.link("one"))
		org.set(func() { org.down = 503 }) // it needs no org
		m := boot(t, dir)
		m.Resume(t.Context())
		m.settled(t, org)
	}
}

// kill -9 while an account takes the place of one whose keys are lost: at last
// there is the new one alone, and until then the old one's codes.
func TestKilledWhileReplacing(t *testing.T) {
	for _, step := range []string{"prepared", "posted", "active", "replaced at org", "erasing", "keys wiped", "replaced"} {
		t.Run(step, func(t *testing.T) {
			org, dir := newStrictOrg(t), t.TempDir()+"/state"
			first := boot(t, dir)
			first.keys.kind = devicekey.KindTPM
			old, err := first.EnrolByLink(t.Context(), org.link("one"), "", nil)
			if err != nil {
				t.Fatal(err)
			}
			first.vault.Close()
			killedAt(t, dir, "replace", step, org.link("one"))
			m := boot(t, dir)
			m.keys.set(devicekey.KindTPM, devicekey.Cleared)
			if len(m.All()) == 0 {
				t.Fatal("no account is left")
			}
			m.Resume(t.Context())
			if step == "prepared" || step == "posted" { // nobody is signed in any more
				if a, err := m.Get(old.ID); err != nil || len(m.All()) != 1 || a.Methods[2].TOTP == nil {
					t.Fatalf("%+v, %v", m.All(), err)
				}
				if _, err := m.signsIn(t.Context(), org.URL, "00uAlice"); err != nil {
					t.Fatal(err)
				}
			}
			if len(m.All()) != 1 || m.All()[0].ID == old.ID || m.All()[0].Replaces != nil || m.storedKeys(t) != 3 || m.KeyError(t.Context(), m.All()[0]) != nil {
				t.Fatalf("%+v, %d keys", m.All(), m.storedKeys(t))
			}
		})
	}
}
