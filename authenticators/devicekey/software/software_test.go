package software

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/devicekeytest"
	"countersign.dev/okta/jose"
)

// fakeRooms is a vault in memory.
type fakeRooms struct {
	mu       sync.Mutex
	rooms    map[string][]byte
	locked   bool
	failSave error
	saved    func() error // after a save, which has happened then
}

func (f *fakeRooms) Load(room string, dst any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locked {
		return errors.New("locked")
	}
	data, ok := f.rooms[room]
	if !ok {
		return fs.ErrNotExist
	}
	return json.Unmarshal(data, dst)
}

func (f *fakeRooms) Save(room string, value any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locked || f.failSave != nil {
		return errors.Join(errors.New("not saved"), f.failSave)
	}
	data, err := json.Marshal(value)
	f.rooms[room] = data
	if err == nil && f.saved != nil {
		err = f.saved()
	}
	return err
}

func (f *fakeRooms) Locked() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.locked
}

func newRooms() *fakeRooms { return &fakeRooms{rooms: map[string][]byte{}} }

func TestConformance(t *testing.T) {
	devicekeytest.Run(t, func(t *testing.T) devicekeytest.Harness {
		rooms := newRooms()
		return devicekeytest.Harness{
			Kind: devicekey.KindSoftware, Protection: jose.ProtectionSoftware,
			Open: func(*testing.T) devicekey.Store { return New(rooms) },
		}
	})
}

var digest = sha256.Sum256([]byte("x"))

// C1, C4: a locked vault's keys do not sign, and are not in memory any more.
func TestLockedVault(t *testing.T) {
	rooms := newRooms()
	s := New(rooms)
	k, _, err := s.Create(t.Context(), devicekey.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	inside := k.(*key)
	//lint:ignore SA1019 only looked at, to see it overwritten
	words := inside.private.D.Bits()
	rooms.locked = true
	if _, err := k.Sign(t.Context(), digest[:], devicekey.Authorisation{}); !errors.Is(err, devicekey.ErrLocked) {
		t.Errorf("sign: %v", err)
	}
	if inside.private != nil || slices.Max(words) != 0 {
		t.Error("the key is still in memory")
	}
	if _, err := s.Open(t.Context(), k.Ref()); !errors.Is(err, devicekey.ErrLocked) {
		t.Errorf("open: %v", err)
	}
	if _, _, err := s.Create(t.Context(), devicekey.Spec{}); !errors.Is(err, devicekey.ErrLocked) {
		t.Errorf("create: %v", err)
	}
	if err := s.Delete(t.Context(), k.Ref()); !errors.Is(err, devicekey.ErrLocked) {
		t.Errorf("delete: %v", err)
	}
	if state := s.State(t.Context()); state.State != "locked" || state.Hint == "" {
		t.Errorf("state %+v", state)
	}
	// The handle works again with the vault.
	rooms.locked = false
	sig, err := k.Sign(t.Context(), digest[:], devicekey.Authorisation{})
	if err != nil || !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Errorf("after unlock: %v", err)
	}
}

// A key that was not saved does not exist.
func TestFailedSave(t *testing.T) {
	rooms := newRooms()
	s := New(rooms)
	kept, _, err := s.Create(t.Context(), devicekey.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	rooms.failSave = errors.New("disk full")
	if k, _, err := s.Create(t.Context(), devicekey.Spec{}); err == nil || k != nil {
		t.Errorf("created %v, %v", k, err)
	}
	if err := s.Delete(t.Context(), kept.Ref()); err == nil {
		t.Error("deleted")
	}
	rooms.failSave = nil
	if _, err := kept.Sign(t.Context(), digest[:], devicekey.Authorisation{}); err != nil {
		t.Errorf("the key that stayed: %v", err)
	}
	if len(s.keys) != 1 {
		t.Errorf("%d keys", len(s.keys))
	}
}

func TestUnusableRoom(t *testing.T) {
	for name, text := range map[string]string{
		"other shape": `{"keys":7}`,
		"no key":      `{"keys":[{"id":"A","private":"AAAA"}]}`,
	} {
		s := New(&fakeRooms{rooms: map[string][]byte{room: []byte(text)}})
		if _, _, err := s.Create(t.Context(), devicekey.Spec{}); !errors.Is(err, devicekey.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if state := s.State(t.Context()); state.State != "unavailable" || state.Hint == "" {
			t.Errorf("%s: %+v", name, state)
		}
	}
}

// C8: what goes into the room prints as nothing anywhere else.
func TestRedacts(t *testing.T) {
	e := entry{ID: "A", Private: secret("very secret")}
	for _, out := range []string{fmt.Sprintf("%v", e), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e), fmt.Sprintf("%s", e), fmt.Sprintf("%x", e)} {
		if strings.Contains(out, "very secret") || strings.Contains(out, hex.EncodeToString([]byte("very secret"))) {
			t.Errorf("leaked: %s", out)
		}
	}
}

// BenchmarkSign: the floor is ecdsa.SignASN1 with a key at hand.
func BenchmarkSign(b *testing.B) {
	k, _, err := New(newRooms()).Create(b.Context(), devicekey.Spec{})
	if err != nil {
		b.Fatal(err)
	}
	bare, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	const batch = 100
	var ours, floor []time.Duration
	for b.Loop() {
		start := time.Now()
		for range batch {
			if _, err := ecdsa.SignASN1(rand.Reader, bare, digest[:]); err != nil {
				b.Fatal(err)
			}
		}
		middle := time.Now()
		for range batch {
			if _, err := k.Sign(b.Context(), digest[:], devicekey.Authorisation{}); err != nil {
				b.Fatal(err)
			}
		}
		floor, ours = append(floor, middle.Sub(start)), append(ours, time.Since(middle))
	}
	slices.Sort(ours)
	slices.Sort(floor)
	b.ReportMetric(float64(ours[len(ours)/2].Microseconds())/batch, "p50_us")
	b.ReportMetric(float64(ours[len(ours)/2])/float64(floor[len(floor)/2]), "x_floor")
}
