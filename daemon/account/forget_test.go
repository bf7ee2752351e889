package account

import (
	"context"
	"errors"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// forgets deletes the keys that the PIN guards, as for a person who has forgotten
// it.
func (m *machine) forgets(t *testing.T) []*Account {
	t.Helper()
	list, err := m.Forget(t.Context(), okta.KeyUserVerificationBioOrPIN)
	if err != nil || len(m.Demanding(t.Context(), okta.KeyUserVerificationBioOrPIN)) != 0 {
		t.Fatal(err)
	}
	return list
}

// The keys of a PIN that was forgotten are deleted, and the account signs as
// before. The next change takes them from the org, and makes new ones.
func TestForget(t *testing.T) {
	org, m, a, s := rig(t, true)
	plain, err := m.EnrolByLink(t.Context(), org.link("two"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	before := m.storedKeys(t)
	list := m.forgets(t)
	if len(list) != 1 || list[0].ID != a.ID || m.storedKeys(t) != before-2 {
		t.Fatalf("%v, %d keys of %d", list, m.storedKeys(t), before)
	}
	a, _ = m.Get(a.ID)
	if lost := m.LostRoles(t.Context(), a); len(lost) != 1 || lost[0] != okta.KeyUserVerificationBioOrPIN || len(m.LostRoles(t.Context(), plain)) != 0 {
		t.Errorf("lost: %v", lost)
	}
	if _, err := m.Maintenance(t.Context(), a, true); err != nil || m.KeyError(t.Context(), a) != nil {
		t.Errorf("the account signs no more: %v", err)
	}
	if again := m.forgets(t); len(again) != 1 { // to do it twice is the same
		t.Errorf("%v", again)
	}
	now, err := m.Rekey(t.Context(), a.ID, Change{Action: AddVerification}, alice(byPIN(s, thePIN)))
	if err != nil || !now.Verifies() || len(m.LostRoles(t.Context(), now)) != 0 {
		t.Fatalf("%+v, %v", now, err)
	}
	m.settled(t, org)
}

// It is not known whether the org has new keys when the PIN is forgotten: whichever
// it has, they are taken from it, and the rest of the change is found out about.
func TestForgetWhileUnsettled(t *testing.T) {
	for _, c := range []Change{{Action: AddVerification}, {Action: Rotate}} {
		for _, verifies := range []bool{false, true} {
			for _, arrives := range []bool{false, true} {
				org, m, a, s := rig(t, verifies)
				org.set(func() {
					if org.deaf, org.noToken = true, true; arrives {
						org.dropped = 100
					} else {
						org.drop = 100
					}
				})
				if _, err := m.Rekey(t.Context(), a.ID, c, alice(byPIN(s, thePIN))); !errors.Is(err, ErrUnsettled) {
					t.Fatal(err)
				}
				m.forgets(t)
				org.set(func() { org.drop, org.dropped, org.deaf, org.noToken = 0, 0, false, false })
				a, _ = m.Get(a.ID)
				if (a.Rekeying == nil) != (c.Action == AddVerification) {
					t.Errorf("%s: %+v", c.Action, a.Rekeying)
				}
				if _, err := m.Maintenance(t.Context(), a, true); err != nil {
					t.Errorf("%s, verifies %v, arrives %v: signs no more: %v", c.Action, verifies, arrives, err)
				}
				now, err := m.Rekey(t.Context(), a.ID, Change{Action: AddVerification}, alice(byPIN(s, thePIN)))
				if err != nil || !now.Verifies() || len(m.LostRoles(t.Context(), now)) != 0 {
					t.Fatalf("%s, verifies %v, arrives %v: %+v, %v", c.Action, verifies, arrives, now, err)
				}
				m.settled(t, org)
			}
		}
	}
}

// An enrolment that is under way is finished without the keys of a PIN that was
// forgotten, and not given up.
func TestForgetWhileEnrolling(t *testing.T) {
	dir := t.TempDir() + "/state"
	org, m := newStrictOrg(t), boot(t, dir)
	s := m.service(t)
	m.sleep = func(context.Context, time.Duration) error { return nil }
	org.set(func() { org.lose = 1 })
	if _, err := m.EnrolByLink(t.Context(), org.link("one"), "", byPIN(s, thePIN)); err == nil {
		t.Fatal("the answer was lost")
	}
	m.forgets(t)
	m.Resume(t.Context())
	a := m.All()[0]
	if a.State != Active || len(m.LostRoles(t.Context(), a)) != 1 {
		t.Fatalf("%+v", a)
	}
	if _, err := m.Rekey(t.Context(), a.ID, Change{Action: AddVerification}, alice(byPIN(s, thePIN))); err != nil {
		t.Fatal(err)
	}
	m.settled(t, org)
}

// A key that cannot be deleted is said, and stays where it is found.
func TestForgetFails(t *testing.T) {
	_, m, a, _ := rig(t, true)
	broken := errors.New("the disk is full")
	m.opts.Keys = undeletable{m.opts.Keys, broken}
	if _, err := m.Forget(t.Context(), okta.KeyUserVerificationBioOrPIN); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if refs := m.Demanding(t.Context(), okta.KeyUserVerificationBioOrPIN); len(refs) != 2 || len(m.LostRoles(t.Context(), a)) != 0 {
		t.Errorf("%v", refs)
	}
}

type undeletable struct {
	devicekey.Store
	err error
}

func (u undeletable) Delete(context.Context, devicekey.Ref) error { return u.err }
