//go:build unix

package account

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

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
	default:
		_, _ = m.EnrolByLink(context.Background(), link, "", nil)
	}
	fmt.Println("survived")
}

// killedAt runs an enrolment or removal in a child that dies at a step.
func killedAt(t *testing.T, dir, do, step string, link okta.EnrolmentLink) {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.count=1")
	c.Env = append(os.Environ(), "CRASH_DIR="+dir, "CRASH_AT="+step, "CRASH_DO="+do, "CRASH_LINK="+link.URL())
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
