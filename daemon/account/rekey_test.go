package account

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

func alice(p Presence) Person {
	return Person{UserID: "00uAlice", Username: "alice@example.com", Authorization: client.Bearer(aliceToken), Presence: p}
}

const bioOrPIN = ".userVerificationBioOrPin"

// An enrolment makes keys that demand verification when the person was verified,
// and none when not.
func TestEnrolVerified(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	s := m.service(t)
	p, err := m.Prospect(t.Context(), org.URL)
	if err != nil {
		t.Fatal(err)
	}
	a, err := m.EnrolSignedIn(t.Context(), p, alice(byPIN(s, thePIN)), "")
	if err != nil {
		t.Fatal(err)
	}
	m.settled(t, org)
	want := []string{"device.clientInstanceKey", "push.proofOfPossession", "push" + bioOrPIN, "signed_nonce.proofOfPossession", "signed_nonce" + bioOrPIN}
	if got := slices.Sorted(maps.Keys(a.byPlace())); !slices.Equal(got, want) || !a.Verifies() || m.storedKeys(t) != 5 {
		t.Fatalf("%v, %d keys", got, m.storedKeys(t))
	}
	// They sign for who was verified, and for nobody else.
	push, _ := a.Method(okta.MethodPush)
	k, err := m.keys.Open(t.Context(), *push.UserVerificationBioOrPIN)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(t.Context(), make([]byte, 32), devicekey.Authorisation{}); !errors.Is(err, devicekey.ErrUnauthorised) {
		t.Errorf("signs for anybody: %v", err)
	}
	if _, err := k.Sign(t.Context(), make([]byte, 32), devicekey.Authorisation{Secret: devicekey.Secret(thePIN)}); err != nil {
		t.Error(err)
	}
	if refs := m.Demanding(t.Context(), okta.KeyUserVerificationBioOrPIN); len(refs) != 2 || len(m.Demanding(t.Context(), okta.KeyUserVerification)) != 0 {
		t.Errorf("%v", refs)
	}
	// By a link, and without.
	if a, err = m.EnrolByLink(t.Context(), org.link("one"), "", byPIN(s, thePIN)); err != nil || !a.Verifies() {
		t.Errorf("%v, %v", a, err)
	}
	if a, err = m.EnrolByLink(t.Context(), org.link("two"), "", nil); err != nil || a.Verifies() {
		t.Errorf("%v, %v", a, err)
	}
	m.settled(t, org)
	// Somebody who does not know the PIN leaves nothing behind.
	var try *verification.TryError
	if _, err := m.EnrolByLink(t.Context(), org.link("three"), "", byPIN(s, "000000")); !errors.As(err, &try) {
		t.Error(err)
	}
	m.settled(t, org)
	if len(org.owner) != 3 {
		t.Errorf("the org has heard of %d", len(org.owner))
	}
}

// An org that takes no such keys gets an enrolment without them, and that is said.
func TestEnrolVerifiedElsewhere(t *testing.T) {
	for _, old := range []bool{false, true} {
		org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
		if old {
			org.speakLegacy()
		}
		org.noUV = true
		a, err := m.EnrolByLink(t.Context(), org.link("one"), "", byPIN(m.service(t), thePIN))
		if err != nil || a.Verifies() || len(a.Notes) != 1 || !strings.Contains(a.Notes[0], "demands your verification") {
			t.Fatalf("%+v, %v", a, err)
		}
		if now, _ := m.Get(a.ID); now.Notes != nil {
			t.Error("the note is kept")
		}
		m.settled(t, org)
	}
}

func TestEnrolVerifiedLegacy(t *testing.T) {
	org, m := newStrictOrg(t).speakLegacy(), boot(t, t.TempDir()+"/state")
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", byPIN(m.service(t), thePIN))
	if err != nil || !a.Verifies() || !*org.old[0].Methods[0].SupportUserVerification {
		t.Fatalf("%+v, %v", a, err)
	}
	m.settled(t, org)
}

// A store that is not well refuses by name, and nothing is left behind.
func TestEnrolWithAnUnwellStore(t *testing.T) {
	for full := range 5 {
		org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
		m.keys.full = full
		_, err := m.EnrolByLink(t.Context(), org.link("one"), "", byPIN(m.service(t), thePIN))
		var state *devicekey.StateError
		if !errors.As(err, &state) || state.State.State != devicekey.Busy || len(m.All()) != 0 || m.storedKeys(t) != 0 || len(org.posts) != 0 {
			t.Errorf("%d: %v, %d accounts, %d keys", full, err, len(m.All()), m.storedKeys(t))
		}
	}
}

// An org that demands hardware gets hardware, or nothing.
func TestHardwareRequired(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	org.config = each(func(s *okta.SupportedMethod) { s.Settings.KeyProtection = "HARDWARE" })
	if _, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil); !errors.Is(err, ErrHardwareRequired) {
		t.Fatal(err)
	}
	m.keys.kind = devicekey.KindTPM
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
	if err != nil || a.Protection != "hardware" {
		t.Fatalf("%+v, %v", a, err)
	}
	m.settled(t, org)
}

// rig is an account with or without keys that demand verification.
func rig(t *testing.T, verifies bool) (*strictOrg, *machine, *Account, *verification.Service) {
	t.Helper()
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	s := m.service(t)
	var p Presence
	if verifies {
		p = byPIN(s, thePIN)
	}
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", p)
	if err != nil {
		t.Fatal(err)
	}
	m.sleep = func(context.Context, time.Duration) error { return nil }
	return org, m, a, s
}

// The changes, what agrees to them, and where the keys are afterwards.
func TestRekey(t *testing.T) {
	silent := []string{"device.clientInstanceKey", "push.proofOfPossession", "signed_nonce.proofOfPossession"}
	demanding := []string{"push" + bioOrPIN, "signed_nonce" + bioOrPIN}
	all := slices.Concat(demanding, silent)
	for _, row := range []struct {
		name     string
		verifies bool
		change   Change
		changes  []string
		agreed   string // place of the key; "" where none has to
		kind     devicekey.Kind
	}{
		{"first verification", false, Change{Action: AddVerification}, demanding, "", devicekey.KindSoftware},
		{"first verification, the older way", false, Change{Action: AddVerification}, demanding, "", devicekey.KindSoftware},
		{"rotate all, the older way", true, Change{Action: Rotate}, all, "push" + bioOrPIN, devicekey.KindSoftware},
		{"verification anew", true, Change{Action: AddVerification}, demanding, "push" + bioOrPIN, devicekey.KindSoftware},
		{"rotate, nobody verified", false, Change{Action: Rotate}, silent, "push.proofOfPossession", devicekey.KindSoftware},
		{"rotate and add", false, Change{Action: Rotate}, all, "push.proofOfPossession", devicekey.KindSoftware},
		{"rotate all", true, Change{Action: Rotate}, all, "push" + bioOrPIN, devicekey.KindSoftware},
		{"migrate, nobody verified", false, Change{Action: Migrate}, silent, "push.proofOfPossession", devicekey.KindTPM},
		{"migrate and add", false, Change{Action: Migrate}, all, "push.proofOfPossession", devicekey.KindTPM},
		{"migrate all", true, Change{Action: Migrate, To: devicekey.KindTPM}, all, "push" + bioOrPIN, devicekey.KindTPM},
	} {
		t.Run(row.name, func(t *testing.T) {
			org, m, before, s := rig(t, row.verifies)
			if strings.Contains(row.name, "the older way") {
				org.speakLegacy()
				if _, err := m.update(before.ID, func(a *Account) { a.Dialect = Legacy }); err != nil {
					t.Fatal(err)
				}
			}
			present := byPIN(s, thePIN)
			if strings.Contains(row.name, "nobody verified") {
				present = nil
			}
			a, err := m.Rekey(t.Context(), before.ID, row.change, alice(present))
			if err != nil {
				t.Fatal(err)
			}
			m.settled(t, org)
			var changed []string
			old := before.byPlace()
			for place, ref := range a.byPlace() {
				if old[place] != ref {
					changed = append(changed, place)
				}
				if slices.Contains(row.changes, place) && ref.Kind != row.kind {
					t.Errorf("%s is in %s", place, ref.Kind)
				}
			}
			slices.Sort(changed)
			slices.Sort(row.changes)
			if !slices.Equal(changed, row.changes) || !slices.Equal(org.agreed, []string{row.agreed}) {
				t.Errorf("changed %v, agreed by %q", changed, org.agreed)
			}
			if want := map[devicekey.Kind]string{devicekey.KindSoftware: "software", devicekey.KindTPM: "hardware"}[row.kind]; a.Protection != want {
				t.Errorf("protection %s", a.Protection)
			}
			if _, given := org.changes[0]["keyChange"]; given != (row.agreed != "") {
				t.Errorf("agreement sent: %v", given)
			}
			// It signs, and once more.
			if _, err := m.Maintenance(t.Context(), a, true); err != nil {
				t.Error(err)
			}
			if _, err := m.Rekey(t.Context(), a.ID, Change{Action: Rotate}, alice(byPIN(s, thePIN))); err != nil {
				t.Error(err)
			}
			m.settled(t, org)
		})
	}
}

// A client instance key that another account uses stays as it is.
func TestRekeyLeavesTheSharedKey(t *testing.T) {
	org, m, a, _ := rig(t, false)
	if _, err := m.EnrolByLink(t.Context(), org.link("two"), "", nil); err != nil {
		t.Fatal(err)
	}
	now, err := m.Rekey(t.Context(), a.ID, Change{Action: Rotate}, alice(nil))
	if err != nil || now.Device.Key != a.Device.Key {
		t.Fatalf("%+v, %v", now, err)
	}
	m.settled(t, org)
}

// What is refused before the org hears of anything, with nothing left behind.
func TestRekeyRefused(t *testing.T) {
	for _, row := range []struct {
		name     string
		verifies bool
		change   Change
		who      func(s *verification.Service) Person
		is       error
	}{
		{"another user", false, Change{Action: Rotate}, func(*verification.Service) Person {
			return Person{UserID: "00uMallory", Authorization: client.Bearer(aliceToken)}
		}, ErrOtherUser},
		{"no action", false, Change{}, func(*verification.Service) Person { return alice(nil) }, ErrAction},
		{"unknown action", false, Change{Action: "steal"}, func(*verification.Service) Person { return alice(nil) }, ErrAction},
		{"unknown store", false, Change{Action: Migrate, To: "cloud"}, func(*verification.Service) Person { return alice(nil) }, ErrKind},
		{"a store for rotate", false, Change{Action: Rotate, To: devicekey.KindTPM}, func(*verification.Service) Person { return alice(nil) }, ErrKind},
		{"already there", false, Change{Action: Migrate, To: devicekey.KindSoftware}, func(*verification.Service) Person { return alice(nil) }, ErrNothingToDo},
		{"verify without", false, Change{Action: AddVerification}, func(*verification.Service) Person { return alice(nil) }, ErrNotVerified},
		{"rotate without", true, Change{Action: Rotate}, func(*verification.Service) Person { return alice(nil) }, ErrNotVerified},
		{"renew without", true, Change{Action: AddVerification}, func(*verification.Service) Person { return alice(nil) }, ErrNotVerified},
		{"wrong PIN", true, Change{Action: Rotate}, func(s *verification.Service) Person { return alice(byPIN(s, "000000")) }, verification.ErrWrong},
	} {
		org, m, a, s := rig(t, row.verifies)
		who := row.who(s)
		if _, err := m.Rekey(t.Context(), a.ID, row.change, who); !errors.Is(err, row.is) {
			t.Errorf("%s: %v", row.name, err)
		}
		if len(org.changes) != 0 {
			t.Errorf("%s: the org has heard of it", row.name)
		}
		m.settled(t, org)
		if who.UserID == a.UserID {
			_, err := m.CheckChange(t.Context(), a.ID, row.change)
			if err == nil {
				err = a.Allows(row.change, nil)
			}
			if !errors.Is(err, row.is) && row.is != verification.ErrWrong {
				t.Errorf("%s, checked first: %v", row.name, err)
			}
		}
	}
	_, m, a, _ := rig(t, false)
	if _, err := m.Rekey(t.Context(), a.ID, Change{Action: Rotate}, Person{}); err == nil {
		t.Error("nobody has signed in")
	}
	m.note(a.ID, Gone)
	if _, err := m.CheckChange(t.Context(), a.ID, Change{Action: Rotate}); !errors.Is(err, ErrNotUsable) {
		t.Error(err)
	}
	m.note(a.ID, Active)
	m.keys.set(devicekey.KindSoftware, devicekey.Cleared)
	if _, err := m.CheckChange(t.Context(), a.ID, Change{Action: Rotate}); !errors.Is(err, ErrKeysLost) {
		t.Error(err)
	}
}

// However an exchange ends, the account signs, and both sides agree or will.
func TestRekeyEnds(t *testing.T) {
	for _, row := range []struct {
		name  string
		org   func(*strictOrg)
		is    error
		moved bool // the account has the new keys
		open  bool // that is not known yet
		after bool // and afterwards has them
	}{
		{"the org refuses", func(o *strictOrg) { o.refuses = okta.CodeValidation }, okta.NewError(okta.CodeValidation), false, false, false},
		{"the sign-in is too old", func(o *strictOrg) { o.refuses = okta.CodeForbidden }, okta.NewError(okta.CodeForbidden), false, false, false},
		{"the org knows no exchange", func(o *strictOrg) { o.ignores = true }, ErrNoExchange, false, false, false},
		{"nor questions of keys", func(o *strictOrg) { o.ignores, o.deaf = true, true }, ErrNoExchange, false, false, false},
		{"it has taken them, and knows no questions of keys", func(o *strictOrg) { o.deaf = true }, nil, true, false, true},
		{"the request is lost once", func(o *strictOrg) { o.drop = 1 }, nil, true, false, true},
		{"the answer is lost once", func(o *strictOrg) { o.dropped = 1 }, nil, true, false, true},
		{"the request is always lost", func(o *strictOrg) { o.drop = 100 }, nil, false, false, false},
		{"the answer is always lost", func(o *strictOrg) { o.dropped = 100 }, nil, true, false, true},
		{"the answer is lost, and then all is refused", func(o *strictOrg) { o.dropped, o.refuses = 1, "" }, nil, true, false, true},
		{"the org is down", func(o *strictOrg) { o.down = 500 }, ErrUnsettled, false, true, false},
	} {
		for _, verifies := range []bool{false, true} {
			t.Run(row.name, func(t *testing.T) {
				org, m, before, s := rig(t, verifies)
				org.set(func() { row.org(org) })
				_, err := m.Rekey(t.Context(), before.ID, Change{Action: Rotate}, alice(byPIN(s, thePIN)))
				if row.is != nil && !errors.Is(err, row.is) || (err == nil) != row.moved && row.is == nil {
					t.Errorf("%v", err)
				}
				a, _ := m.Get(before.ID)
				if (a.byPlace()["push.proofOfPossession"] != before.byPlace()["push.proofOfPossession"]) != row.moved || (a.Rekeying != nil) != row.open {
					t.Fatalf("%v, %+v", err, a)
				}
				// All is well again: it is found out, and both sides agree.
				org.set(func() {
					org.down, org.drop, org.dropped, org.refuses, org.ignores, org.deaf = 0, 0, 0, "", false, false
				})
				if _, err := m.Maintenance(t.Context(), a, true); err != nil {
					t.Error(err)
				}
				m.settled(t, org)
				if a, _ = m.Get(a.ID); (a.byPlace()["push.proofOfPossession"] != before.byPlace()["push.proofOfPossession"]) != row.after {
					t.Errorf("%+v", a)
				}
				if _, err := m.Rekey(t.Context(), a.ID, Change{Action: Rotate}, alice(byPIN(s, thePIN))); err != nil {
					t.Error(err)
				}
				m.settled(t, org)
			})
		}
	}
}

// Keys for verification only: who cannot ask by them waits for the person.
func TestVerificationUnsettled(t *testing.T) {
	org, m, a, s := rig(t, false)
	org.set(func() { org.dropped, org.deaf = 100, true })
	if _, err := m.Rekey(t.Context(), a.ID, Change{Action: AddVerification}, alice(byPIN(s, thePIN))); !errors.Is(err, ErrUnsettled) {
		t.Fatal(err)
	}
	org.set(func() { org.dropped, org.deaf = 0, false })
	m.Resume(t.Context())
	now, _ := m.Get(a.ID)
	if now.Rekeying == nil || now.Verifies() || len(m.Demanding(t.Context(), okta.KeyUserVerificationBioOrPIN)) != 2 {
		t.Fatalf("%+v", now)
	}
	// The PIN is asked for again with the next try, which sends the same keys.
	now, err := m.Rekey(t.Context(), a.ID, Change{Action: AddVerification}, alice(byPIN(s, thePIN)))
	if err != nil || !now.Verifies() || len(org.agreed) != 1 {
		t.Fatalf("%v, %v", err, org.agreed)
	}
	m.settled(t, org)
}

// An account is removed in the middle of an exchange: nothing is left, and the
// org is asked by a key that it knows.
func TestRemovedWhileUnsettled(t *testing.T) {
	for _, lost := range []int{0, 100} {
		org, m, a, _ := rig(t, false)
		org.set(func() { org.dropped, org.down = lost, 500-5*lost })
		if lost > 0 {
			org.set(func() { org.down, org.deaf = 0, true })
		}
		_, err := m.Rekey(t.Context(), a.ID, Change{Action: Rotate}, alice(nil))
		if lost == 0 && !errors.Is(err, ErrUnsettled) {
			t.Fatal(err)
		}
		org.set(func() { org.dropped, org.down, org.deaf = 0, 0, false })
		if err := m.Remove(t.Context(), a.ID, false); err != nil || m.storedKeys(t) != 0 || len(org.deleted) != 1 {
			t.Fatalf("%v, %d keys", err, m.storedKeys(t))
		}
	}
}

// A store that cannot make the new keys leaves the old ones in use.
func TestRekeyWithAnUnwellStore(t *testing.T) {
	for full := range 5 {
		org, m, a, s := rig(t, true)
		m.keys.full = full
		var state *devicekey.StateError
		if _, err := m.Rekey(t.Context(), a.ID, Change{Action: Migrate}, alice(byPIN(s, thePIN))); !errors.As(err, &state) || state.State.State != devicekey.Busy {
			t.Errorf("%d: %v", full, err)
		}
		if len(org.changes) != 0 {
			t.Errorf("%d: the org has heard of it", full)
		}
		m.settled(t, org)
	}
}

// C2: malware that has the silent keys, and a token of the person that it found,
// gets no key in without the PIN: the org takes the word of the key that demands
// it, and of no other.
func TestC2SilentKeyAgreesToNothing(t *testing.T) {
	org, m, a, _ := rig(t, true)
	// As if the account had no such keys: the silent key signs.
	blind := a.clone()
	for i := range blind.Methods {
		blind.Methods[i].UserVerificationBioOrPIN = nil
	}
	if _, err := m.update(a.ID, func(a *Account) { a.Methods = blind.Methods }); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Rekey(t.Context(), a.ID, Change{Action: Rotate}, alice(nil)); !errors.Is(err, okta.NewError(okta.CodeUVRequired)) {
		t.Errorf("%v", err)
	}
	if len(org.agreed) != 0 {
		t.Errorf("agreed by %v", org.agreed)
	}
}

// Keys for verification that are lost could never agree: they are taken from the
// org first, by who has signed in, and then there are new ones.
func TestLostVerificationIsMadeAnew(t *testing.T) {
	for _, c := range []Change{{Action: AddVerification}, {Action: Rotate}} {
		for _, old := range []bool{false, true} {
			org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
			if old {
				org.speakLegacy()
			}
			s := m.service(t)
			a, err := m.EnrolByLink(t.Context(), org.link("one"), "", byPIN(s, thePIN))
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range m.Demanding(t.Context(), okta.KeyUserVerificationBioOrPIN) {
				if err := m.keys.Delete(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.KeyError(t.Context(), a); err != nil {
				t.Fatalf("the account signs: %v", err)
			}
			now, err := m.Rekey(t.Context(), a.ID, c, alice(byPIN(s, thePIN)))
			if err != nil || !now.Verifies() {
				t.Fatalf("%s: %+v, %v", c.Action, now, err)
			}
			m.settled(t, org)
		}
	}
}

// Another account is enrolled while it is not known whether the key of the device
// has changed: it rests on neither key, and loses none when that is known.
func TestEnrolWhileUnsettled(t *testing.T) {
	for _, lost := range []bool{false, true} {
		org, m, a, _ := rig(t, false)
		org.set(func() { org.dropped, org.deaf, org.noToken = 100, true, true })
		if _, err := m.Rekey(t.Context(), a.ID, Change{Action: Rotate}, alice(nil)); !errors.Is(err, ErrUnsettled) {
			t.Fatal(err)
		}
		org.set(func() { org.dropped = 0 })
		if !lost { // it is found out first
			org.set(func() { org.deaf, org.noToken = false, false })
		}
		second, err := m.EnrolByLink(t.Context(), org.link("two"), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := m.Get(a.ID)
		if shares := second.Device.Key == first.Device.Key; shares == lost {
			t.Errorf("shares the key of the device: %v", shares)
		}
		org.set(func() { org.deaf, org.noToken = false, false })
		m.Resume(t.Context())
		m.settled(t, org)
	}
}
