package tpm

import (
	"encoding/json"
	"errors"
	"io/fs"
	"sync"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/devicekeytest"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
	"countersign.dev/okta/jose"
)

// fakeRooms is a vault in memory.
type fakeRooms struct {
	mu       sync.Mutex
	rooms    map[string][]byte
	locked   bool
	failSave error
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
		x, rooms := tpmtest.New(t), newRooms()
		if err := x.SetLockout(5, 1000, 1000); err != nil {
			t.Fatal(err)
		}
		c := open(t, x)
		return devicekeytest.Harness{
			Kind: devicekey.KindTPM, Protection: jose.ProtectionHardware,
			Open: func(*testing.T) devicekey.Store { return NewStore(c, rooms) },
			Wrong: func(t *testing.T, tries int) {
				t.Helper()
				l, err := x.Lockout()
				if err != nil || int(l.Counter) != tries {
					t.Errorf("the TPM has counted %d wrong tries, not %d: %v", l.Counter, tries, err)
				}
			},
		}
	})
}
