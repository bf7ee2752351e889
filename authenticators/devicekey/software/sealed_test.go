package software

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
)

// The cost that is shipped; the tests that follow go on with a cheap one.
var shippedMemoryKiB, shippedPasses = newMemoryKiB, newPasses

func init() { newMemoryKiB, newPasses = 64, 1 }

// C13: guessing offline costs no less than OWASP asks of a password at rest.
func TestC13CostOfGuessing(t *testing.T) {
	if shippedMemoryKiB < 19<<10 || shippedPasses < 2 {
		t.Errorf("%d KiB, %d passes", shippedMemoryKiB, shippedPasses)
	}
	s := New(newRooms())
	first, second := uvKey(t, s, "271828"), uvKey(t, s, "271828")
	if a, b := first.(*key).sealed, second.(*key).sealed; bytes.Equal(a.Salt, b.Salt) || len(a.Salt) != 16 || a.KDF != "argon2id" {
		t.Error("two keys can be guessed at the price of one")
	}
}

func demand(secret string) devicekey.Authorisation {
	return devicekey.Authorisation{Secret: devicekey.Secret(secret)}
}

func uvKey(t testing.TB, s *Store, secret string) devicekey.Key {
	t.Helper()
	k, _, err := s.Create(t.Context(), devicekey.Spec{
		Role: okta.KeyUserVerificationBioOrPIN, UserVerification: true, Authorisation: demand(secret),
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signs says whether a key signs with a secret; anything but a good signature
// and ErrUnauthorised is an error.
func signs(t *testing.T, k devicekey.Key, secret string) bool {
	t.Helper()
	sig, err := k.Sign(t.Context(), digest[:], demand(secret))
	switch {
	case errors.Is(err, devicekey.ErrUnauthorised) && sig == nil:
		return false
	case err != nil || !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig):
		t.Errorf("%v", err)
	}
	return true
}

// C4: a key that demands a secret signs with that secret only, now and after a
// restart, and lies in the clear neither in memory nor in the room.
func TestC4KeysThatDemandASecret(t *testing.T) {
	rooms := newRooms()
	s := New(rooms)
	k := uvKey(t, s, "271828")
	for _, store := range []*Store{s, New(rooms)} {
		again, err := store.Open(t.Context(), k.Ref())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"", "271827", "27182", "2718281", "271828\x00", " 271828"} {
			if signs(t, again, secret) {
				t.Errorf("signed with %q", secret)
			}
		}
		if !signs(t, again, "271828") {
			t.Error("refused the right secret")
		}
		if again.(*key).private != nil {
			t.Error("the key stays in memory")
		}
	}
	var c contents
	if err := rooms.Load(room, &c); err != nil {
		t.Fatal(err)
	}
	if e := c.Keys[0]; len(e.Private) != 0 || e.Sealed == nil {
		t.Error("the key lies open in the room")
	} else if _, err := parsePrivate(e.Sealed.Private); err == nil {
		t.Error("the seal is none")
	}
	for _, spec := range []devicekey.Spec{
		{Role: okta.KeyUserVerification, UserVerification: true},
		{Role: okta.KeyProofOfPossession, Authorisation: demand("271828")},
	} {
		if made, _, err := s.Create(t.Context(), spec); err == nil {
			t.Errorf("made %v of %+v", made, spec)
		}
	}
}

// An empty secret is refused before any work, and so is one that nobody waits
// for any more; derivations run one at a time.
func TestOneDerivationAtATime(t *testing.T) {
	s := New(newRooms())
	k := uvKey(t, s, "271828")
	s.deriving <- struct{}{} // somebody else's
	if _, err := k.Sign(t.Context(), digest[:], devicekey.Authorisation{}); !errors.Is(err, devicekey.ErrUnauthorised) {
		t.Errorf("empty: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := New(newRooms())
		k := uvKey(t, s, "271828")
		s.deriving <- struct{}{}
		ctx, cancel := context.WithCancel(t.Context())
		var first, second error
		var wg sync.WaitGroup
		wg.Go(func() { _, first = k.Sign(ctx, digest[:], demand("271828")) })
		wg.Go(func() { _, second = k.Sign(t.Context(), digest[:], demand("271828")) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		<-s.deriving
		wg.Wait()
		if !errors.Is(first, context.Canceled) || second != nil {
			t.Errorf("%v, %v", first, second)
		}
	})
}

// C4: what happens to a key while its secret is worked on, counts.
func TestC4ChangedWhileDeriving(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(t *testing.T, s *Store, rooms *fakeRooms, ref devicekey.Ref)
		want error
	}{
		"locked": {func(_ *testing.T, _ *Store, rooms *fakeRooms, _ devicekey.Ref) {
			rooms.mu.Lock()
			defer rooms.mu.Unlock()
			rooms.locked = true
		}, devicekey.ErrLocked},
		"deleted": {func(t *testing.T, s *Store, _ *fakeRooms, ref devicekey.Ref) {
			if err := s.Delete(t.Context(), ref); err != nil {
				t.Error(err)
			}
		}, devicekey.ErrNotFound},
		"changed": {func(t *testing.T, s *Store, rooms *fakeRooms, ref devicekey.Ref) {
			if err := New(rooms).Reauthorise(t.Context(), []devicekey.Ref{ref}, demand("271828"), demand("314159")); err != nil {
				t.Error(err)
			}
			s.Lock() // read it again
		}, devicekey.ErrUnauthorised},
		"nothing": {func(*testing.T, *Store, *fakeRooms, devicekey.Ref) {}, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			rooms := newRooms()
			s := New(rooms)
			k := uvKey(t, s, "271828")
			s.deriving <- struct{}{}
			var err error
			var wg sync.WaitGroup
			wg.Go(func() { _, err = k.Sign(t.Context(), digest[:], demand("271828")) })
			synctest.Wait()
			c.do(t, s, rooms, k.Ref())
			<-s.deriving
			wg.Wait()
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestReauthorise(t *testing.T) {
	rooms := newRooms()
	s := New(rooms)
	first, second, foreign := uvKey(t, s, "271828"), uvKey(t, s, "271828"), uvKey(t, s, "161803")
	silent, _, err := s.Create(t.Context(), devicekey.Spec{Role: okta.KeyProofOfPossession})
	if err != nil {
		t.Fatal(err)
	}
	refs := func(keys ...devicekey.Key) (all []devicekey.Ref) {
		for _, k := range keys {
			all = append(all, k.Ref())
		}
		return all
	}
	unknown := devicekey.Ref{Kind: devicekey.KindSoftware, ID: "00000000-0000-4000-8000-000000000000"}
	elsewhere := devicekey.Ref{Kind: devicekey.KindTPM, ID: first.Ref().ID}
	for name, c := range map[string]struct {
		refs     []devicekey.Ref
		from, to string
		want     error
	}{
		"wrong secret":      {refs(first, second), "314159", "141421", devicekey.ErrUnauthorised},
		"no secret":         {refs(first, second), "", "141421", devicekey.ErrUnauthorised},
		"to none":           {refs(first, second), "271828", "", devicekey.ErrUnauthorised},
		"one demands other": {refs(first, second, foreign), "271828", "141421", devicekey.ErrUnauthorised},
		"one is silent":     {refs(first, silent), "271828", "141421", devicekey.ErrUnsupported},
		"one is unknown":    {append(refs(first), unknown), "271828", "141421", devicekey.ErrNotFound},
		"one is elsewhere":  {append(refs(first), elsewhere), "271828", "141421", devicekey.ErrUnsupported},
	} {
		before := rooms.rooms[room]
		if err := s.Reauthorise(t.Context(), c.refs, demand(c.from), demand(c.to)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(before, rooms.rooms[room]) || !signs(t, first, "271828") || signs(t, second, "141421") {
			t.Errorf("%s: something has changed", name)
		}
	}
	if err := s.Reauthorise(t.Context(), nil, demand(""), demand("")); err != nil {
		t.Errorf("nothing: %v", err)
	}
	saves := 0
	rooms.saved = func() error { saves++; return nil }
	if err := s.Reauthorise(t.Context(), refs(first, second, first), demand("271828"), demand("141421")); err != nil || saves != 1 {
		t.Fatalf("%v, saved %d times", err, saves)
	}
	for _, store := range []*Store{s, New(rooms)} {
		for _, ref := range refs(first, second) {
			k, err := store.Open(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if signs(t, k, "271828") || !signs(t, k, "141421") {
				t.Error("not changed")
			}
		}
	}
	if !signs(t, foreign, "161803") {
		t.Error("changed what was not named")
	}
}

// A save that fails leaves all keys as they were, or changes all of them and is
// no error.
func TestReauthoriseFailedSave(t *testing.T) {
	for _, late := range []bool{false, true} {
		rooms := newRooms()
		s := New(rooms)
		first, second := uvKey(t, s, "271828"), uvKey(t, s, "271828")
		failure := errors.New("disk full")
		if late {
			rooms.saved = func() error { return failure }
		} else {
			rooms.failSave = failure
		}
		err := s.Reauthorise(t.Context(), []devicekey.Ref{first.Ref(), second.Ref()}, demand("271828"), demand("141421"))
		if late != (err == nil) {
			t.Errorf("late %v: %v", late, err)
		}
		for _, k := range []devicekey.Key{first, second} {
			if signs(t, k, "141421") != late || signs(t, k, "271828") == late {
				t.Errorf("late %v: half of it", late)
			}
		}
	}
}

// Two changes at once: one wins, and no key is lost.
func TestReauthoriseAtOnce(t *testing.T) {
	s := New(newRooms())
	k := uvKey(t, s, "271828")
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i, to := range []string{"141421", "161803"} {
		wg.Go(func() {
			errs[i] = s.Reauthorise(t.Context(), []devicekey.Ref{k.Ref()}, demand("271828"), demand(to))
		})
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || signs(t, k, "141421") != (errs[0] == nil) || signs(t, k, "161803") != (errs[1] == nil) {
		t.Errorf("%v", errs)
	}
}

// C4: a room that was put together from others, or that asks for everything the
// machine has, gives no signature and says why.
func TestC4HostileSeals(t *testing.T) {
	rooms := newRooms()
	s := New(rooms)
	a, b := uvKey(t, s, "271828"), uvKey(t, s, "271828")
	if _, _, err := s.Create(t.Context(), devicekey.Spec{Role: okta.KeyProofOfPossession}); err != nil {
		t.Fatal(err)
	}
	good := maps.Clone(rooms.rooms)
	for name, c := range map[string]struct {
		change func(c *contents)
		want   error
	}{
		"seals swapped":      {func(c *contents) { c.Keys[0].Sealed, c.Keys[1].Sealed = c.Keys[1].Sealed, c.Keys[0].Sealed }, devicekey.ErrUnauthorised},
		"another role":       {func(c *contents) { c.Keys[0].Role = okta.KeyUserVerification }, devicekey.ErrUnauthorised},
		"another key's half": {func(c *contents) { c.Keys[0].Sealed.Public = c.Keys[1].Sealed.Public }, devicekey.ErrUnavailable},
		"bit flipped":        {func(c *contents) { c.Keys[0].Sealed.Private[20] ^= 1 }, devicekey.ErrUnauthorised},
		"cut short":          {func(c *contents) { c.Keys[0].Sealed.Private = c.Keys[0].Sealed.Private[:11] }, devicekey.ErrUnauthorised},
		"emptied":            {func(c *contents) { c.Keys[0].Sealed.Private = nil }, devicekey.ErrUnauthorised},
		"both":               {func(c *contents) { c.Keys[0].Private = c.Keys[2].Private }, devicekey.ErrUnavailable},
		"neither":            {func(c *contents) { c.Keys[0].Sealed = nil }, devicekey.ErrUnavailable},
		"other derivation":   {func(c *contents) { c.Keys[0].Sealed.KDF = "sha1" }, devicekey.ErrUnavailable},
		"no memory":          {func(c *contents) { c.Keys[0].Sealed.MemoryKiB = 7 }, devicekey.ErrUnavailable},
		"all the memory":     {func(c *contents) { c.Keys[0].Sealed.MemoryKiB = 1 << 31 }, devicekey.ErrUnavailable},
		"no passes":          {func(c *contents) { c.Keys[0].Sealed.Passes = 0 }, devicekey.ErrUnavailable},
		"endless passes":     {func(c *contents) { c.Keys[0].Sealed.Passes = 1 << 30 }, devicekey.ErrUnavailable},
		"no lanes":           {func(c *contents) { c.Keys[0].Sealed.Lanes = 0 }, devicekey.ErrUnavailable},
		"no salt":            {func(c *contents) { c.Keys[0].Sealed.Salt = nil }, devicekey.ErrUnavailable},
		"huge seal":          {func(c *contents) { c.Keys[0].Sealed.Private = make([]byte, 4096) }, devicekey.ErrUnavailable},
		"no public key":      {func(c *contents) { c.Keys[0].Sealed.Public = []byte("x") }, devicekey.ErrUnavailable},
	} {
		rooms.rooms = maps.Clone(good)
		var damaged contents
		if err := rooms.Load(room, &damaged); err != nil {
			t.Fatal(err)
		}
		c.change(&damaged)
		if err := rooms.Save(room, damaged); err != nil {
			t.Fatal(err)
		}
		s := New(rooms)
		k, err := s.Open(t.Context(), a.Ref())
		if err == nil {
			var sig []byte
			if sig, err = k.Sign(t.Context(), digest[:], demand("271828")); sig != nil {
				t.Errorf("%s: signed", name)
			}
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rooms.rooms = good
	if k, err := New(rooms).Open(t.Context(), b.Ref()); err != nil || !signs(t, k, "271828") {
		t.Errorf("as it was: %v", err)
	}
}

// C14: the limit of keys in software, and the reason for keys in hardware: who
// puts an older room back has the older secret accepted again.
func TestC14OlderRoomOlderSecret(t *testing.T) {
	rooms := newRooms()
	s := New(rooms)
	k := uvKey(t, s, "271828")
	older := maps.Clone(rooms.rooms)
	if err := s.Reauthorise(t.Context(), []devicekey.Ref{k.Ref()}, demand("271828"), demand("141421")); err != nil {
		t.Fatal(err)
	}
	rooms.rooms = older
	if !signs(t, k, "141421") {
		t.Error("a running agent keeps to what it has read")
	}
	k, err := New(rooms).Open(t.Context(), k.Ref())
	if err != nil {
		t.Fatal(err)
	}
	if !signs(t, k, "271828") {
		t.Error("better than documented: change the package comment")
	}
}

// What a derivation takes is given back at once, at the real cost.
func TestMemoryIsGivenBack(t *testing.T) {
	defer func(m, p uint32) { newMemoryKiB, newPasses = m, p }(newMemoryKiB, newPasses)
	newMemoryKiB, newPasses = shippedMemoryKiB, shippedPasses
	k := uvKey(t, New(newRooms()), "271828")
	if !signs(t, k, "271828") {
		t.Fatal("does not sign")
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if held := m.HeapSys - m.HeapReleased; held > 15<<20 {
		t.Errorf("%d MiB are held", held>>20)
	}
}

// C8: handles and rooms print neither keys nor seals.
func TestSealsRedact(t *testing.T) {
	s := New(newRooms())
	k := uvKey(t, s, "271828")
	e := entry{ID: "A", Sealed: k.(*key).sealed}
	for _, out := range []string{fmt.Sprintf("%v", k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), fmt.Sprintf("%v", e), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
		if strings.Contains(out, "argon2id") || strings.Contains(out, "rivate:[]byte") {
			t.Errorf("leaked: %s", out)
		}
	}
	if _, err := json.Marshal(contents{Keys: []entry{e}}); err != nil {
		t.Error(err)
	}
}
