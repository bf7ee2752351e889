package account

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// inTPM is an account whose keys are in the TPM.
func inTPM(t *testing.T) (*strictOrg, *machine, *Account) {
	t.Helper()
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	m.keys.kind = devicekey.KindTPM
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return org, m, a
}

// C10: whatever a TPM says, no account is deleted for it, none changes its
// state, and when the TPM is well again all is as before.
func TestC10NoStateOfATPMDeletesAnAccount(t *testing.T) {
	for _, state := range []string{
		devicekey.Absent, devicekey.PermissionDenied, devicekey.Busy, devicekey.Lockout, devicekey.Cleared, devicekey.OtherDevice,
		devicekey.OwnerAuthSet, devicekey.TooOld, devicekey.SelfTestFailed, devicekey.Unavailable, "no such state",
	} {
		org, m, a := inTPM(t)
		m.keys.set(devicekey.KindTPM, state)
		if lost := state == devicekey.Cleared || state == devicekey.OtherDevice; devicekey.Lost(m.KeyError(t.Context(), a)) != lost || m.KeyError(t.Context(), a) == nil {
			t.Errorf("%s: %v", state, m.KeyError(t.Context(), a))
		}
		m.Resume(t.Context())
		_ = m.RefreshOrigins(t.Context())
		if _, err := m.Maintenance(t.Context(), a, true); err == nil {
			t.Errorf("%s: a token", state)
		}
		if err := m.Remove(t.Context(), a.ID, false); err == nil {
			t.Errorf("%s: removed at the org without a key", state)
		}
		if _, err := m.Rekey(t.Context(), a.ID, Change{Action: Rotate}, alice(nil)); err == nil {
			t.Errorf("%s: keys exchanged", state)
		}
		now, err := m.Get(a.ID)
		if err != nil || now.State != Active || now.Rekeying != nil || m.storedKeys(t) != 3 || len(org.deleted) != 0 || len(org.changes) != 0 {
			t.Errorf("%s: %+v, %d keys", state, now, m.storedKeys(t))
		}
		m.keys.set(devicekey.KindTPM, "")
		if _, err := m.Maintenance(t.Context(), a, true); err != nil {
			t.Errorf("%s: %v", state, err)
		}
		m.settled(t, org)
	}
}

// Keys that are lost: the same person enrols again, as a new device, and the new
// account takes the place of the old, here and at the org.
func TestC10LostKeysAreReplaced(t *testing.T) {
	for _, row := range []struct {
		name   string
		enrol  func(*strictOrg, *machine) (*Account, error)
		gone   bool // also at the org
		stays  bool // the old record
		change func(*strictOrg)
	}{
		{"by a sign-in", func(o *strictOrg, m *machine) (*Account, error) { return m.signsIn(t.Context(), o.URL, "00uAlice") }, true, false, nil},
		{"by a link", func(o *strictOrg, m *machine) (*Account, error) {
			return m.EnrolByLink(t.Context(), o.link("two"), "", nil)
		}, false, false, nil},
		{"the new one has no codes", func(o *strictOrg, m *machine) (*Account, error) { return m.signsIn(t.Context(), o.URL, "00uAlice") }, false, true,
			func(o *strictOrg) { o.makes = func(e *okta.Enrolment) { delete(e.Methods, okta.MethodTOTP) } }},
		{"another user", func(o *strictOrg, m *machine) (*Account, error) { return m.signsIn(t.Context(), o.URL, "00uBob") }, false, true,
			func(o *strictOrg) { o.makes = func(e *okta.Enrolment) { e.User.ID = "00uBob" } }},
	} {
		org, m, old := inTPM(t)
		m.keys.kind = devicekey.KindSoftware
		m.keys.set(devicekey.KindTPM, devicekey.Cleared)
		if row.change != nil {
			org.set(func() { row.change(org) })
		}
		a, err := row.enrol(org, m)
		if err != nil || m.KeyError(t.Context(), a) != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if d := org.posts[len(org.posts)-1].Device; d.ID != "" || d.Attestation != nil || d.ClientInstanceKey == nil {
			t.Errorf("%s: enrolled as a device whose key is lost: %+v", row.name, d)
		}
		if _, err := m.Get(old.ID); (err == nil) != row.stays {
			t.Errorf("%s: the old record: %v", row.name, err)
		}
		if org.deleted[old.EnrolmentID] != row.gone {
			t.Errorf("%s: deleted at the org: %v", row.name, org.deleted)
		}
		said := slices.ContainsFunc(a.Notes, func(n string) bool { return strings.Contains(n, old.EnrolmentID) })
		if said != (!row.gone && !row.stays) {
			t.Errorf("%s: %q", row.name, a.Notes)
		}
	}
}

// A client instance key that turns out to be lost when it is to sign: as a new
// device, with the same credential.
func TestDeviceKeyFoundLost(t *testing.T) {
	org, m, a := inTPM(t)
	if err := m.keys.parts[devicekey.KindTPM].Delete(t.Context(), inner(a.Device.Key)); err != nil {
		t.Fatal(err)
	}
	// As seen a moment before it was lost.
	p, err := m.Prospect(t.Context(), org.URL)
	if err != nil {
		t.Fatal(err)
	}
	m.step = func(name string) {
		if name == "recorded" {
			last := m.All()[len(m.All())-1]
			_, _ = m.update(last.ID, func(n *Account) { n.Device = a.Device })
		}
	}
	if _, err := m.EnrolSignedIn(t.Context(), p, alice(nil), ""); err != nil {
		t.Fatal(err)
	}
	if d := org.posts[1].Device; d.ID != "" || d.ClientInstanceKey == nil {
		t.Errorf("%+v", d)
	}
}

// An account that is well is never replaced, nor one of another org.
func TestNothingWellIsReplaced(t *testing.T) {
	for _, state := range []string{"", devicekey.Busy, devicekey.Lockout, devicekey.Absent, devicekey.PermissionDenied, devicekey.Unavailable} {
		org, m, old := inTPM(t)
		other := newStrictOrg(t)
		m.keys.kind = devicekey.KindSoftware
		m.keys.set(devicekey.KindTPM, state)
		_, err := m.signsIn(t.Context(), org.URL, "00uAlice")
		if state == devicekey.Busy || state == devicekey.Lockout || state == devicekey.Unavailable {
			// The device is a known one whose key cannot be used for a moment: that is
			// refused by name, with nothing left behind.
			var unwell *devicekey.StateError
			if !errors.As(err, &unwell) || unwell.State.State != state || len(m.All()) != 1 || m.storedKeys(t) != 3 {
				t.Errorf("%s: %v, %d accounts, %d keys", state, err, len(m.All()), m.storedKeys(t))
			}
		} else if err != nil {
			t.Fatal(err)
		} else if d := org.posts[len(org.posts)-1].Device; (d.ID == "") != (state != "") {
			t.Errorf("%s: enrolled as %+v", state, d)
		}
		if _, err := m.signsIn(t.Context(), other.URL, "00uAlice"); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Get(old.ID); err != nil || len(org.deleted) != 0 {
			t.Errorf("%q: %v, deleted %v", state, err, org.deleted)
		}
	}
}

// Keys that a PIN is to unlock are listed while they can be unlocked.
func TestDemandingLeavesOutTheLost(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	m.keys.kind = devicekey.KindTPM
	if _, err := m.EnrolByLink(t.Context(), org.link("one"), "", byPIN(m.service(t), thePIN)); err != nil {
		t.Fatal(err)
	}
	for state, want := range map[string]int{"": 2, devicekey.Busy: 2, devicekey.Cleared: 0} {
		m.keys.set(devicekey.KindTPM, state)
		if got := len(m.Demanding(t.Context(), okta.KeyUserVerificationBioOrPIN)); got != want {
			t.Errorf("%q: %d", state, got)
		}
	}
}

// Notices are kept until the person has acknowledged them; the newest, each once,
// and not those of this computer's own doing.
func TestNotices(t *testing.T) {
	_, m, a := inTPM(t)
	one := Notice{ID: 3, Event: okta.NoticeKeysReplaced, EnrolmentID: "pfdOther", Device: "workshop"}
	ours := Notice{ID: 4, Event: okta.NoticeEnrolled, EnrolmentID: a.EnrolmentID, Device: "this"}
	for range 2 {
		fresh, err := m.NoteNotices(a.ID, 9, []Notice{one, ours})
		if err != nil || len(fresh) > 1 {
			t.Fatal(fresh, err)
		}
	}
	a, _ = m.Get(a.ID)
	if a.NoticeSeen != 9 || len(a.Notices) != 1 || len(m.Unacknowledged(a)) != 1 {
		t.Errorf("%+v", a)
	}
	for id := range int64(40) {
		if _, err := m.NoteNotices(a.ID, 0, []Notice{{ID: 100 + id, Event: "X", EnrolmentID: "pfdOther"}}); err != nil {
			t.Fatal(err)
		}
	}
	a, _ = m.Get(a.ID)
	if len(a.Notices) != maxNotices || a.NoticeSeen != 139 || a.Notices[maxNotices-1].ID != 139 {
		t.Errorf("%+v", a.Notices)
	}
	if a, err := m.Acknowledge(a.ID); err != nil || a.Notices != nil || a.NoticeSeen != 139 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := m.Acknowledge("nobody"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}
