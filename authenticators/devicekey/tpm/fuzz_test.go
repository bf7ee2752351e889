package tpm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
)

// FuzzRoom reads what the vault has of keys: what is taken is one of our keys,
// and is written as it was read.
func FuzzRoom(f *testing.F) {
	x := tpmtest.New(f)
	rooms := newRooms()
	c := open(f, x)
	s := NewStore(c, rooms)
	for _, spec := range []devicekey.Spec{quiet, guard} {
		if _, _, err := s.Create(f.Context(), spec); err != nil {
			f.Fatal(err)
		}
		f.Add(rooms.rooms[room])
	}
	f.Add([]byte(`{"keys":[{}]}`))
	_ = c.Close()
	f.Fuzz(func(t *testing.T, text []byte) {
		s := NewStore(c, &fakeRooms{rooms: map[string][]byte{room: text}})
		if s.room() != nil {
			return
		}
		for _, id := range s.order {
			k := s.keys[id]
			a := k.area.ObjectAttributes
			if !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.UserWithAuth || !a.SignEncrypt || a.Restricted || a.NoDA != k.silent() {
				t.Fatalf("took a key with %+v", a)
			}
		}
		if err := s.save(); err != nil {
			t.Fatal(err)
		}
		again := NewStore(c, s.rooms)
		if err := again.room(); err != nil || len(again.keys) != len(s.keys) {
			t.Fatalf("not read as written: %v", err)
		}
	})
}

// FuzzBlob reads what was sealed.
func FuzzBlob(f *testing.F) {
	x := tpmtest.New(f)
	c := open(f, x)
	good, err := c.Seal(f.Context(), []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, public, err := parseBlob(text)
		if err == nil && (public.ObjectAttributes.SignEncrypt || len(b.Private) == 0) {
			t.Fatalf("took %s", text)
		}
	})
}

// FuzzAnswers is a TPM that says anything, in good form or not: there is no
// panic, and no success.
func FuzzAnswers(f *testing.F) {
	x := tpmtest.New(f)
	rooms := newRooms()
	for _, spec := range []devicekey.Spec{quiet, guard} {
		maker := open(f, x)
		k := mustCreate(f, NewStore(maker, rooms), spec)
		_ = maker.Close()
		c, m := meddled(f, x)
		s := NewStore(c, rooms)
		again, err := s.find(k.ref)
		if err != nil {
			f.Fatal(err)
		}
		if err := signs(f.Context(), again, pin); err != nil {
			f.Fatal(err)
		}
		m.mu.Lock()
		var script []byte // answers only: what a real TPM says
		for i := 1; i < len(m.heard); i += 2 {
			script = binary.BigEndian.AppendUint16(script, uint16(len(m.heard[i])))
			script = append(script, m.heard[i]...)
		}
		m.mu.Unlock()
		f.Add(script, true)
		f.Add(script, false)
		_ = c.Close()
	}
	c := open(f, x)
	blob, err := c.Seal(f.Context(), []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	var c2 contents
	if err := json.Unmarshal(rooms.rooms[room], &c2); err != nil {
		f.Fatal(err)
	}
	_ = c.Close()
	f.Fuzz(func(t *testing.T, script []byte, form bool) {
		for i, e := range append(c2.Keys[:2:2], c2.Keys...) {
			rest := script
			c := New(Options{})
			c.door = fakeDoor{bare: i >= len(c2.Keys), answer: func(command []byte) []byte {
				if len(rest) < 2 {
					return nil
				}
				n := min(int(binary.BigEndian.Uint16(rest)), len(rest)-2)
				answer := append([]byte(nil), rest[2:2+n]...)
				rest = rest[2+n:]
				if form && n >= headerSize {
					// Past the header, where the parsing is.
					binary.BigEndian.PutUint32(answer[2:], uint32(n))
					if binary.BigEndian.Uint32(answer[6:]) == 0 {
						copy(answer, command[:2])
					}
				}
				return answer
			}}
			s := NewStore(c, rooms)
			k, err := s.find(devicekey.Ref{Kind: devicekey.KindTPM, ID: e.ID})
			if err != nil {
				t.Fatal(err)
			}
			if err := signs(t.Context(), k, pin); err == nil || errors.Is(err, errForged) {
				t.Fatalf("key %d: %v", i, err)
			}
			if _, _, err := s.Create(t.Context(), guard); err == nil {
				t.Fatal("made a key")
			}
			if _, err := c.Unseal(t.Context(), blob); err == nil {
				t.Fatal("opened what was sealed")
			}
			_ = c.Close()
		}
	})
}
