package tpm

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
	"countersign.dev/okta"
)

// C1, C4: a locked vault's keys do not sign, and the TPM is not even asked.
func TestLockedVault(t *testing.T) {
	c, m := meddled(t, tpmtest.New(t))
	rooms := newRooms()
	s := NewStore(c, rooms)
	k := mustCreate(t, s, quiet)
	m.reset(nil)
	rooms.locked = true
	if err := signs(t.Context(), k, pin); !errors.Is(err, devicekey.ErrLocked) {
		t.Errorf("sign: %v", err)
	}
	if _, err := s.Open(t.Context(), k.ref); !errors.Is(err, devicekey.ErrLocked) {
		t.Errorf("open: %v", err)
	}
	if _, _, err := s.Create(t.Context(), quiet); !errors.Is(err, devicekey.ErrLocked) {
		t.Errorf("create: %v", err)
	}
	if err := s.Delete(t.Context(), k.ref); !errors.Is(err, devicekey.ErrLocked) {
		t.Errorf("delete: %v", err)
	}
	if err := s.Reauthorise(t.Context(), []devicekey.Ref{k.ref}, pin, newPIN); !errors.Is(err, devicekey.ErrLocked) {
		t.Errorf("reauthorise: %v", err)
	}
	if state := s.State(t.Context()); state.State != devicekey.Locked || state.Hint == "" {
		t.Errorf("state %+v", state)
	}
	if n := len(m.passed()); n != 0 {
		t.Errorf("%d commands", n)
	}
	rooms.locked = false
	if err := signs(t.Context(), k, pin); err != nil {
		t.Errorf("after unlock: %v", err)
	}
}

// C4: what changes while the key waits for its turn counts: nothing is signed
// with a vault that was locked, a key that was deleted, or a PIN that was
// changed meanwhile.
func TestC4ChangedWhileWaiting(t *testing.T) {
	for name, row := range map[string]struct {
		change func(s *Store, rooms *fakeRooms, k *key) error
		want   error
	}{
		"locked": {func(_ *Store, rooms *fakeRooms, _ *key) error {
			rooms.mu.Lock()
			defer rooms.mu.Unlock()
			rooms.locked = true
			return nil
		}, devicekey.ErrLocked},
		"deleted": {func(s *Store, _ *fakeRooms, k *key) error { return s.Delete(t.Context(), k.ref) }, devicekey.ErrNotFound},
		"changed": {func(s *Store, _ *fakeRooms, k *key) error {
			// As another agent's would: the TPM itself is busy with us.
			changed := *k
			changed.entry.Private = slices.Clone(k.entry.Private)
			changed.entry.Private[0] ^= 1
			s.mu.Lock()
			defer s.mu.Unlock()
			s.keys[k.ref.ID] = &changed
			return nil
		}, devicekey.ErrUnauthorised},
	} {
		t.Run(name, func(t *testing.T) {
			c, m := meddled(t, tpmtest.New(t))
			rooms := newRooms()
			s := NewStore(c, rooms)
			k := mustCreate(t, s, guard)
			m.reset(func(e *exchange) ([]byte, error) {
				if e.code == tpm2.TPMCCGetCapability {
					if err := row.change(s, rooms, k); err != nil {
						t.Error(err)
					}
				}
				return e.pass()
			})
			if err := signs(t.Context(), k, pin); !errors.Is(err, row.want) {
				t.Errorf("%v", err)
			}
			if slices.Contains(m.passed(), tpm2.TPMCCSign) {
				t.Error("the TPM was asked to sign")
			}
		})
	}
}

// A key that was not saved does not exist; what was to be changed has not.
func TestFailedSave(t *testing.T) {
	rooms := newRooms()
	s := NewStore(open(t, tpmtest.New(t)), rooms)
	kept := mustCreate(t, s, guard)
	rooms.failSave = errors.New("disk full")
	if k, _, err := s.Create(t.Context(), quiet); err == nil || k != nil {
		t.Errorf("created %v, %v", k, err)
	}
	if err := s.Delete(t.Context(), kept.ref); err == nil {
		t.Error("deleted")
	}
	if err := s.Reauthorise(t.Context(), []devicekey.Ref{kept.ref}, pin, newPIN); err == nil {
		t.Error("changed")
	}
	rooms.failSave = nil
	if err := signs(t.Context(), kept, newPIN); !errors.Is(err, devicekey.ErrUnauthorised) {
		t.Errorf("the PIN that was not set: %v", err)
	}
	if err := signs(t.Context(), kept, pin); err != nil {
		t.Errorf("the key that stayed: %v", err)
	}
	if len(s.keys) != 1 {
		t.Errorf("%d keys", len(s.keys))
	}
}

// C14: an older room brings back the PIN of then. The TPM cannot know.
func TestC14OlderRoomOlderPIN(t *testing.T) {
	rooms := newRooms()
	c := open(t, tpmtest.New(t))
	s := NewStore(c, rooms)
	k := mustCreate(t, s, guard)
	before := maps.Clone(rooms.rooms)
	if err := s.Reauthorise(t.Context(), []devicekey.Ref{k.ref}, pin, newPIN); err != nil {
		t.Fatal(err)
	}
	if err := signs(t.Context(), k, pin); !errors.Is(err, devicekey.ErrUnauthorised) {
		t.Errorf("the old PIN: %v", err)
	}
	rooms.rooms = before
	old, err := NewStore(c, rooms).Open(t.Context(), k.ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := signs(t.Context(), old, pin); err != nil {
		t.Errorf("if this is refused now, docs/hardware.md and docs/security.md say more than they need: %v", err)
	}
}

func TestUnusableRoom(t *testing.T) {
	rooms := newRooms()
	s := NewStore(open(t, tpmtest.New(t)), rooms)
	mustCreate(t, s, guard)
	good := rooms.rooms[room]
	for name, damage := range map[string]func(e *entry){
		"not there":         nil,
		"no public part":    func(e *entry) { e.Public = nil },
		"no private part":   func(e *entry) { e.Private = nil },
		"huge private part": func(e *entry) { e.Private = make([]byte, maxPart+1) },
		"other key":         func(e *entry) { e.Public = tpm2.Marshal(tpm2.ECCSRKTemplate) },
		"cut public part":   func(e *entry) { e.Public = e.Public[:len(e.Public)-1] },
		"long public part":  func(e *entry) { e.Public = append(e.Public, 0) },
		"no point":          func(e *entry) { e.Public[len(e.Public)-1] ^= 1 },
		"said to be silent": func(e *entry) { e.Salt = nil },
		"short salt":        func(e *entry) { e.Salt = e.Salt[:8] },
		"no root":           func(e *entry) { e.SRK = nil },
		"long EK":           func(e *entry) { e.EK = append(e.EK, 0) },
	} {
		text := []byte(`{"keys":7}`)
		if damage != nil {
			var c contents
			if err := json.Unmarshal(good, &c); err != nil {
				t.Fatal(err)
			}
			damage(&c.Keys[0])
			text, _ = json.Marshal(c)
		}
		s := NewStore(s.tpm, &fakeRooms{rooms: map[string][]byte{room: text}})
		if _, _, err := s.Create(t.Context(), quiet); !errors.Is(err, devicekey.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if state := s.State(t.Context()); state.State != devicekey.Unavailable || state.Hint == "" {
			t.Errorf("%s: %+v", name, state)
		}
	}
	var c contents
	if err := json.Unmarshal(good, &c); err != nil {
		t.Fatal(err)
	}
	c.Keys = append(c.Keys, c.Keys[0])
	text, _ := json.Marshal(c)
	if _, err := NewStore(s.tpm, &fakeRooms{rooms: map[string][]byte{room: text}}).find(devicekey.Ref{Kind: devicekey.KindTPM, ID: c.Keys[0].ID}); err == nil {
		t.Error("twice the same key")
	}
	// A private part that was changed is refused by the TPM.
	c.Keys = c.Keys[:1]
	c.Keys[0].Private[20] ^= 1
	text, _ = json.Marshal(c)
	k, err := NewStore(s.tpm, &fakeRooms{rooms: map[string][]byte{room: text}}).Open(t.Context(), devicekey.Ref{Kind: devicekey.KindTPM, ID: c.Keys[0].ID})
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, signs(t.Context(), k, pin), devicekey.Unavailable)
}

func TestHostileBlobs(t *testing.T) {
	c := open(t, tpmtest.New(t))
	good, err := c.Seal(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	var b blob
	if err := json.Unmarshal(good, &b); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b *blob){
		"version":      func(b *blob) { b.Version = 2 },
		"no root":      func(b *blob) { b.SRK = nil },
		"signing key":  func(b *blob) { b.Public = tpm2.Marshal(template(true)) },
		"other secret": func(b *blob) { b.Public[len(b.Public)-1] ^= 1 },
		"other inside": func(b *blob) { b.Private[40] ^= 1 },
		"empty":        func(b *blob) { *b = blob{} },
	} {
		bad := b
		bad.Public, bad.Private = slices.Clone(b.Public), slices.Clone(b.Private)
		change(&bad)
		text, _ := json.Marshal(bad)
		if got, err := c.Unseal(t.Context(), text); err == nil || got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, text := range []string{"", "{}", "[]", "null", string(good) + "x", strings.Replace(string(good), "{", `{"more":1,`, 1)} {
		if _, err := c.Unseal(t.Context(), []byte(text)); err == nil {
			t.Errorf("took %.20q", text)
		}
	}
	for _, size := range []int{0, maxSecret + 1} {
		if _, err := c.Seal(t.Context(), make([]byte, size)); err == nil {
			t.Errorf("sealed %d bytes", size)
		}
	}
	if got, err := c.Unseal(t.Context(), good); err != nil || string(got) != "secret" {
		t.Error(err)
	}
}

// C8: a key prints as its name.
func TestRedacts(t *testing.T) {
	s := NewStore(open(t, tpmtest.New(t)), newRooms())
	k := mustCreate(t, s, devicekey.Spec{Role: okta.KeyUserVerification, UserVerification: true, Authorisation: pin})
	for _, out := range []string{fmt.Sprintf("%v", k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), fmt.Sprint(k)} {
		if out != "TPM key "+k.ref.ID || strings.Contains(out, hex.EncodeToString(k.entry.Private)) {
			t.Errorf("prints %s", out)
		}
	}
}
