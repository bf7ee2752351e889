package tpm

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-tpm/tpm2"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
)

// State asks the TPM once a minute, however often it is asked itself.
func TestStateIsCheap(t *testing.T) {
	x := tpmtest.New(t)
	c, m := meddled(t, x)
	now := time.Now()
	c.now = func() time.Time { return now }
	s := NewStore(c, newRooms())
	k := mustCreate(t, s, quiet)
	for range 3 {
		if state := s.State(t.Context()); state.State != devicekey.Ready {
			t.Fatal(state)
		}
	}
	forget(c)
	m.reset(nil)
	for range 10 {
		s.State(t.Context())
	}
	if n := len(m.passed()); n != 0 {
		t.Errorf("%d commands within a minute", n)
	}
	now = now.Add(healthGood)
	m.vanish(os.ErrNotExist)
	if state := s.State(t.Context()); state.State != devicekey.Absent {
		t.Error(state)
	}
	m.reset(func(*exchange) ([]byte, error) { return says(tpm2.TPMRCFailure), nil })
	for range 10 {
		if state := s.State(t.Context()); state.State != devicekey.SelfTestFailed {
			t.Error(state)
		}
	}
	if n := len(m.passed()); n > 3 {
		t.Errorf("%d commands to one that is broken", n)
	}
	m.reset(nil)
	// A use that succeeds is known at once.
	if err := signs(t.Context(), k, devicekey.Authorisation{}); err != nil {
		t.Fatal(err)
	}
	if state := s.State(t.Context()); state.State != devicekey.Ready {
		t.Error(state)
	}
}

// A lockout that is over is over: the TPM is asked as rarely as before it.
func TestStateAfterLockout(t *testing.T) {
	x := tpmtest.New(t)
	c, m := meddled(t, x)
	now := time.Now()
	c.now = func() time.Time { return now }
	c.saw(c.lockedOut(0, nil))
	if state := c.State(t.Context()); state.State != devicekey.Lockout {
		t.Fatal(state)
	}
	now = now.Add(healthBad)
	m.reset(nil)
	for i := range 3 {
		if state := c.State(t.Context()); state.State != devicekey.Ready {
			t.Fatal(state)
		}
		if n := len(m.passed()); i == 0 && n == 0 || i > 0 && n != 0 {
			t.Errorf("%d commands at State %d", n, i+1)
		}
		m.reset(nil)
	}
}

// A TPM that does not return from a command keeps nobody longer than they want
// to wait, and works again when it returns.
func TestC10Hangs(t *testing.T) {
	x := tpmtest.New(t)
	c, m := meddled(t, x)
	s := NewStore(c, newRooms())
	k := mustCreate(t, s, guard)
	stuck, release := make(chan struct{}), make(chan struct{})
	m.reset(func(e *exchange) ([]byte, error) {
		if e.code == tpm2.TPMCCSign {
			close(stuck)
			<-release
		}
		return e.pass()
	})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- signs(ctx, k, pin) }()
	<-stuck
	short, end := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer end()
	// Who comes next is told that it is busy, when they have waited enough.
	mustBe(t, signs(short, k, pin), devicekey.Busy)
	if state := c.stateWithin(t, 20*time.Millisecond); state.State != devicekey.Busy && state.State != devicekey.Ready {
		t.Errorf("%+v", state)
	}
	// The first one leaves; its command goes on, and so does nobody else.
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	next := make(chan error, 1)
	m.reset(nil)
	go func() { next <- signs(t.Context(), k, pin) }()
	close(release)
	if err := <-next; err != nil {
		t.Errorf("after it returned: %v", err)
	}
}

func (t *TPM) stateWithin(test *testing.T, d time.Duration) devicekey.State {
	ctx, cancel := context.WithTimeout(test.Context(), d)
	defer cancel()
	return t.State(ctx)
}

// An agent that stops does not wait for a TPM that hangs.
func TestCloseWhileItHangs(t *testing.T) {
	x := tpmtest.New(t)
	c, m := meddled(t, x)
	s := NewStore(c, newRooms())
	k := mustCreate(t, s, quiet)
	stuck, release := make(chan struct{}), make(chan struct{})
	m.reset(func(e *exchange) ([]byte, error) {
		close(stuck)
		<-release
		return e.pass()
	})
	done := make(chan error, 1)
	go func() { done <- signs(t.Context(), k, devicekey.Authorisation{}) }()
	<-stuck
	begin := time.Now()
	if err := c.Close(); !errors.Is(err, errHangs) {
		t.Errorf("%v", err)
	}
	if took := time.Since(begin); took > 1500*time.Millisecond {
		t.Errorf("took %s", took)
	}
	m.reset(nil)
	close(release)
	<-done
	mustBe(t, signs(t.Context(), k, devicekey.Authorisation{}), devicekey.Unavailable)
	if err := c.Close(); err != nil {
		t.Errorf("twice: %v", err)
	}
}

// Nor does it wait for one that hangs when it is only to be tidied.
func TestCloseWhileFlushingHangs(t *testing.T) {
	x := tpmtest.New(t)
	c, m := meddled(t, x)
	s := NewStore(c, newRooms())
	k := mustCreate(t, s, quiet)
	if err := signs(t.Context(), k, devicekey.Authorisation{}); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	m.reset(func(e *exchange) ([]byte, error) {
		<-release
		return e.pass()
	})
	begin := time.Now()
	if err := c.Close(); !errors.Is(err, errHangs) {
		t.Errorf("%v", err)
	}
	if took := time.Since(begin); took > 3*closeWait {
		t.Errorf("took %s", took)
	}
	close(release)
	c.work.Wait()
	if codes := m.passed(); len(codes) == 0 || codes[0] != tpm2.TPMCCFlushContext {
		t.Errorf("%v", codes)
	}
}

// The flush of an idle agent does not keep the TPM for as long as a command may
// take; what it could not flush is looked for at the next use.
func TestFlushThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		c.door = mute{}
		if err := c.connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.link.ours[0x80000000], c.link.ours[0x80000001] = true, true
		start := time.Now()
		c.sleep()
		if took := time.Since(start); took != tidyTimeout || c.link != nil || !c.lost {
			t.Errorf("%s, lost %v", took, c.lost)
		}
		_ = c.Close()
	})
}

// mute is a TPM without a resource manager that answers nothing.
type mute struct{}

func (mute) probe() error        { return nil }
func (mute) open() (port, error) { return mute{}, nil }
func (mute) managed() bool       { return false }
func (mute) Close() error        { return nil }
func (mute) send(ctx context.Context, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Whoever came first is served first.
func TestTurnsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		c.door = fakeDoor{answer: func([]byte) []byte { return says(tpm2.TPMRCFailure) }}
		c.turn <- struct{}{}
		order := make(chan int, 5)
		for i := range 5 {
			go func() {
				_, _ = run(t.Context(), c, op[struct{}]{do: func(*link) (struct{}, error) {
					order <- i
					return struct{}{}, nil
				}})
			}()
			synctest.Wait()
		}
		<-c.turn
		for want := range 5 {
			if got := <-order; got != want {
				t.Errorf("%d came before %d", got, want)
			}
		}
		_ = c.Close()
	})
}

// fakeDoor is a TPM of which only the port matters.
type fakeDoor struct {
	answer func(command []byte) []byte
	bare   bool // without a resource manager
}

func (fakeDoor) probe() error          { return nil }
func (d fakeDoor) open() (port, error) { return fakePort{d.answer, d.bare, new(atomic.Bool)}, nil }

type fakePort struct {
	answer func(command []byte) []byte
	bare   bool
	closed *atomic.Bool
}

func (p fakePort) send(_ context.Context, command []byte) ([]byte, error) {
	return p.answer(command), nil
}
func (p fakePort) managed() bool { return !p.bare }
func (p fakePort) Close() error  { p.closed.Store(true); return nil }

// When nobody has used the TPM for a few seconds it is let go, and after that
// nothing of ours runs.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		c.door = fakeDoor{}
		use := func() {
			if _, err := run(t.Context(), c, op[struct{}]{do: func(*link) (struct{}, error) { return struct{}{}, nil }}); err != nil {
				t.Fatal(err)
			}
		}
		use()
		p := c.link.port.(fakePort)
		time.Sleep(idleAfter - time.Millisecond) // fake time
		use()
		time.Sleep(idleAfter - time.Millisecond)
		if p.closed.Load() {
			t.Error("let go while it was in use")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if !p.closed.Load() || c.link != nil {
			t.Error("kept while nobody used it")
		}
		if c.timer.Stop() {
			t.Error("a timer runs on")
		}
		use()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if c.timer.Stop() {
			t.Error("a timer outlives it")
		}
	})
}

// Three objects and a few sessions fit into a bare TPM: hundreds of operations,
// also such as fail or are given up, leave nothing there.
func TestNothingStaysInTheTPM(t *testing.T) {
	x := tpmtest.New(t)
	if err := x.SetLockout(1000, 1, 1); err != nil {
		t.Fatal(err)
	}
	c, m := meddled(t, x)
	s := NewStore(c, newRooms())
	all := tasks(t, c, s)
	wrong := mustCreate(t, s, guard)
	for i := range 200 {
		task := all[i%len(all)]
		ctx, cancel := context.WithCancel(t.Context())
		if i%3 == 0 { // given up at some command
			m.reset(func(e *exchange) ([]byte, error) {
				if e.n == i%7 {
					cancel()
				}
				return e.pass()
			})
		}
		err := task.do(ctx, c, s)
		cancel()
		c.await()
		m.reset(nil)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v", task.name, err)
		}
		if i%10 == 0 {
			if err := signs(t.Context(), wrong, newPIN); !errors.Is(err, devicekey.ErrUnauthorised) {
				t.Fatal(err)
			}
		}
		left, err := x.Loaded()
		if err != nil || len(left) > 3 { // root key, key, session
			t.Fatalf("%s: in the TPM: %x, %v", task.name, left, err)
		}
	}
	c.sleep()
	if left, err := x.Loaded(); err != nil || len(left) != 0 {
		t.Errorf("left in the TPM: %x, %v", left, err)
	}
	// What an agent that was killed has left there does not stop the next one.
	for range 4 {
		killed := New(Options{Address: x.Socket})
		if err := signs(t.Context(), mustCreate(t, NewStore(killed, newRooms()), quiet), devicekey.Authorisation{}); err != nil {
			t.Fatal(err)
		}
		killed.timer.Stop()
	}
}

// While it is busy one session and one key stay, so a signature is one command.
func TestKeptWhileBusy(t *testing.T) {
	c, m := meddled(t, tpmtest.New(t))
	s := NewStore(c, newRooms())
	silent, guarded := mustCreate(t, s, quiet), mustCreate(t, s, guard)
	for _, row := range []struct {
		k    *key
		want []tpm2.TPMCC
	}{
		{silent, []tpm2.TPMCC{tpm2.TPMCCSign}},
		{guarded, []tpm2.TPMCC{tpm2.TPMCCGetCapability, tpm2.TPMCCSign}},
	} {
		if err := signs(t.Context(), row.k, pin); err != nil {
			t.Fatal(err)
		}
		m.reset(nil)
		if err := signs(t.Context(), row.k, pin); err != nil {
			t.Fatal(err)
		}
		if got := m.passed(); !slices.Equal(got, row.want) {
			t.Errorf("commands %x, want %x", got, row.want)
		}
	}
}

// The TPM cuts trailing zeros off an auth value, and no others.
func TestAuthWithZeros(t *testing.T) {
	x := tpmtest.New(t)
	c := open(t, x)
	for _, auth := range [][]byte{{1, 0, 2}, append(make([]byte, 31), 1), append([]byte{1}, make([]byte, 31)...), bytes.Repeat([]byte{0, 7}, 16)} {
		_, err := run(t.Context(), c, op[struct{}]{do: func(l *link) (none struct{}, err error) {
			r, err := l.root(nil, nil)
			if err != nil {
				return none, err
			}
			made, err := l.create(r, template(false), tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}})
			if err != nil {
				return none, err
			}
			area, public, err := parsePublic(made.public, false)
			if err != nil {
				return none, err
			}
			k := &key{entry: entry{SRK: r.name, Private: made.private, Salt: newSalt()}, area: area, public: public, store: &Store{rooms: newRooms()}}
			k.store.keys = map[string]*key{"": k}
			k.ref.Kind = devicekey.KindTPM
			_, err = l.sign(k, digest[:], auth)
			return none, err
		}})
		if err != nil {
			t.Errorf("%x: %v", auth, err)
		}
	}
	seen := map[string]bool{}
	for range 1000 {
		auth := derive(pin.Secret, newSalt())
		if len(auth) != 32 || auth[31] == 0 {
			t.Fatalf("%x", auth)
		}
		seen[string(auth)] = true
	}
	if len(slices.Collect(maps.Keys(seen))) != 1000 {
		t.Error("salts do not matter")
	}
}
