//go:build unix

package securitykey

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey/wire"
)

// Whatever the helper does, the answer is an error of its own kind, soon; and the
// next one that behaves works.
func TestF1EveryBreachOfTheProtocolIsATypedError(t *testing.T) {
	for mode, want := range map[string]string{
		"garbage": "no frame", "text": "no frame", "huge frame": "no frame", "endless frame": "no frame",
		"half a frame": "without a result", "newer": "version 2", "older": "version -1",
		"dies": "without a result: exit status 2", "goes quietly": "without a result: exit status 0",
		"two ends": "went on", "an error and more": "went on", "both": "event and an end", "event and end": "event and an end",
		"unknown event": "unknown event", "nothing": "unknown event", "endless events": "does not come to an end",
		"pin twice": "does not come", "empty result": "no info", "unknown code": "unknown error",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := fake(t, mode)
			id := w.first(t)
			ctx := soon(t, 30*time.Second)
			began := time.Now()
			_, err := w.Info(ctx, id)
			var helper *HelperError
			if mode == "pin twice" { // the second time there is no PIN any more
				_, _, err = w.on(ctx, id, operation{time: askTime, pin: pinOf("1234"), req: infoRequest()})
				if !errors.Is(err, ErrPINNeeded) || strings.Count(w.noted(t), "PIN 1234") != 1 {
					t.Errorf("%v; noted %q", err, w.noted(t))
				}
				return
			}
			if !errors.Is(err, ErrHelper) || !errors.As(err, &helper) || !strings.Contains(helper.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("it took %s", took)
			}
			if len(w.log.Bytes()) > 3*maxSaid || strings.Contains(w.log.String(), "\x1b") {
				t.Errorf("%d bytes in the log: %.200q", w.log.Len(), w.log)
			}
			program(t, w.helper, fakeScript(t, "one"))
			if _, err := w.Info(ctx, id); err != nil {
				t.Error("and then:", err)
			}
		})
	}
}

// A helper that does not answer, or does not end, is ended within the deadline.
func TestF3AHelperThatHangsIsEnded(t *testing.T) {
	for _, mode := range []string{"silence", "deaf", "does not leave"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := fake(t, mode)
			id := w.first(t)
			began := time.Now()
			_, err := w.Info(soon(t, 500*time.Millisecond), id)
			if mode == "does not leave" {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, ErrTimedOut) {
				t.Error(err)
			}
			if took := time.Since(began); took > 500*time.Millisecond+grace+3*dying {
				t.Errorf("it took %s", took)
			}
		})
	}
	t.Run("reads nothing of a long request", func(t *testing.T) {
		t.Parallel()
		w := fake(t, "reads nothing")
		began := time.Now()
		_, err := w.run(soon(t, 500*time.Millisecond), operation{time: askTime, req: wire.Request{Op: wire.Holds, CredentialIDs: [][]byte{make([]byte, 150<<10)}}})
		if err == nil {
			t.Error("it has an answer")
		}
		if took := time.Since(began); took > 500*time.Millisecond+grace+3*dying {
			t.Errorf("it took %s", took)
		}
	})
	t.Run("leaves a child that holds its output", func(t *testing.T) {
		t.Parallel()
		w := fake(t, "leaves a child")
		id := w.first(t)
		began := time.Now()
		_, _ = w.Info(soon(t, 500*time.Millisecond), id)
		if took := time.Since(began); took > 500*time.Millisecond+grace+4*dying {
			t.Errorf("it took %s", took)
		}
		child, err := strconv.Atoi(strings.TrimSpace(w.noted(t)))
		if err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(child, syscall.SIGKILL)
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		w := fake(t, "deaf")
		id := w.first(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err := w.Info(ctx, id); !errors.Is(err, ErrCancelled) {
			t.Error(err)
		}
	})
}

func TestF5HelperOfAnotherOwnerIsRefusedByName(t *testing.T) {
	w := fake(t, "one")
	refused := func(word string) {
		t.Helper()
		_, err := w.List(t.Context())
		var helper *HelperError
		if !errors.As(err, &helper) || !errors.Is(err, ErrHelper) || !strings.Contains(err.Error(), word) {
			t.Errorf("%v, want %q", err, word)
		}
	}
	for mode, word := range map[os.FileMode]string{0o722: "changed by others", 0o770: "changed by others", 0o600: "no program"} {
		if err := os.Chmod(w.helper, mode); err != nil {
			t.Fatal(err)
		}
		refused(word)
	}
	os.Chmod(w.helper, 0o700)
	os.Chmod(filepath.Dir(w.helper), 0o777)
	refused("folder")
	os.Chmod(filepath.Dir(w.helper), 0o700)
	if _, err := w.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Nor may others change a folder on the way, or where a link leads.
	above := filepath.Dir(filepath.Dir(w.helper))
	os.Chmod(above, 0o777)
	refused("others may change")
	os.Chmod(above, 0o777|os.ModeSticky) // as /tmp is
	if _, err := w.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Dir(w.helper), link); err != nil {
		t.Fatal(err)
	}
	helper := w.Keys.o.Helper
	w.Keys.o.Helper = filepath.Join(link, filepath.Base(helper))
	if _, err := w.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	os.Chmod(above, 0o777)
	refused("others may change")
	w.Keys.o.Helper = helper
	os.Chmod(above, 0o700)
	if os.Getuid() == 0 {
		if err := os.Chown(w.helper, 4711, 0); err != nil {
			t.Fatal(err)
		}
		refused("another user (uid 4711)")
		os.Chown(w.helper, 0, 0)
		// Those of a group are others, unless it is the owner's own.
		for gid, fine := range map[int]bool{0: true, 4711: false} {
			if err := errors.Join(os.Chown(filepath.Dir(w.helper), 0, gid), os.Chmod(filepath.Dir(w.helper), 0o770)); err != nil {
				t.Fatal(err)
			}
			if !fine {
				refused("others may change")
			} else if _, err := w.List(t.Context()); err != nil {
				t.Error(err)
			}
		}
		os.Chmod(filepath.Dir(w.helper), 0o700)
	} else {
		w.Keys.o.Owner = os.Getuid() + 1
		refused("another user")
		w.Keys.o.Owner = os.Getuid()
	}
	real := w.helper + "-real"
	if err := errors.Join(os.Rename(w.helper, real), os.Symlink(real, w.helper)); err != nil {
		t.Fatal(err)
	}
	refused("no program")
	os.Remove(w.helper)
	refused("missing")
	w.Keys.o.Helper = "countersign-sk"
	refused("absolute")
}

func TestF10HelperHasNoEnvironment(t *testing.T) {
	t.Setenv("LD_PRELOAD_LIKE", "x")
	t.Setenv("FIDO_DEBUG", "1")
	w := fake(t, "environment")
	_, err := w.Info(t.Context(), w.first(t))
	if !errors.Is(err, ErrHelper) {
		t.Fatal(err)
	}
	if strings.Contains(w.log.String(), "FIDO_DEBUG") || strings.Contains(w.log.String(), "LD_PRELOAD_LIKE") {
		t.Error(w.log)
	}
}

func TestPINIsSentOnceAndOnlyWhenWanted(t *testing.T) {
	w := fake(t, "pin")
	id := w.first(t)
	pin := devicekey.Secret("1234")
	if err := w.SetPIN(t.Context(), id, pin, devicekey.Secret("old?")); err != nil {
		t.Fatal(err)
	}
	if got := w.noted(t); got != "PIN 1234 old old?\n" {
		t.Errorf("%q", got)
	}
	_, err := w.Credentials(t.Context(), id, nil)
	var needed *PINNeededError
	if !errors.Is(err, ErrPINNeeded) || !errors.As(err, &needed) || needed.Left != 5 {
		t.Error(err)
	}
	if _, err := w.Credentials(t.Context(), id, make(devicekey.Secret, 64)); !errors.Is(err, ErrPINRefused) {
		t.Error(err)
	}
	w = fake(t, "wrong pin")
	_, err = w.Credentials(t.Context(), w.first(t), pin)
	var wrong *PINError
	if !errors.Is(err, ErrPIN) || !errors.As(err, &wrong) || wrong.Left != 4 {
		t.Error(err)
	}
	if got := w.noted(t); strings.Count(got, "PIN") != 1 {
		t.Errorf("%q", got)
	}
	// Who has tried none has tried no wrong one.
	lies := fake(t, "wrong PIN unasked")
	if _, err = lies.Credentials(t.Context(), lies.first(t), pin); !errors.Is(err, ErrBadKey) || errors.Is(err, ErrPIN) {
		t.Error(err)
	}
	for _, text := range []string{"1234", "MTIzNA"} {
		if strings.Contains(w.log.String(), text) {
			t.Errorf("the log has the PIN: %s", w.log)
		}
	}
}

func TestChooseTakesTheKeyThatIsTouched(t *testing.T) {
	w := fake(t, "two")
	keys, err := w.List(t.Context())
	if err != nil || len(keys) != 2 {
		t.Fatal(keys, err)
	}
	var asked []string
	id, err := w.Choose(t.Context(), "", func(e Event) { asked = append(asked, e.Key.Product+" "+e.State) })
	if err != nil || id != keys[1].ID {
		t.Fatalf("%q, %v", id, err)
	}
	// The other one had been told to stop, and had stopped, before.
	if got := w.noted(t); got != "began /dev/hidraw0\nstopped /dev/hidraw0 <nil>\n" {
		t.Errorf("%q", got)
	}
	if len(asked) > 1 || len(asked) == 1 && asked[0] != "One touch" {
		t.Errorf("%q", asked)
	}
	if id, err := fake(t, "one").Choose(t.Context(), "", nil); err != nil || id != keys[0].ID {
		t.Errorf("%q, %v", id, err)
	}
}

func TestQueueIsFairAndRespectsTheContext(t *testing.T) {
	ks := New(Options{})
	leave, err := ks.queue(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ks.queue(ctx, "a"); !errors.Is(err, ErrCancelled) {
		t.Error(err)
	}
	if other, err := ks.queue(t.Context(), "b"); err != nil {
		t.Error(err)
	} else {
		other()
	}
	var order []int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 5 {
		entered := make(chan none)
		all.Go(func() {
			close(entered)
			leave, err := ks.queue(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			leave()
		})
		<-entered
		time.Sleep(20 * time.Millisecond) // so that it stands in the line; order is all that depends on it
	}
	leave()
	all.Wait()
	for i, n := range order {
		if i != n {
			t.Fatal(order)
		}
	}
}

func TestListNamesKeys(t *testing.T) {
	w := fake(t, "one")
	keys, err := w.List(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	k := keys[0]
	if k.Model != "YubiKey 5 Series with NFC" || len(k.ID) != 16 || !k.PINSet() || k.U2FOnly() || len(k.Advisories()) != 1 {
		t.Errorf("%+v", k)
	}
	again, _ := w.List(t.Context())
	if again[0].ID != k.ID || !again[0].PluggedInAt.Equal(k.PluggedInAt) {
		t.Errorf("%+v, then %+v", k, again[0])
	}
	if _, err := w.Info(t.Context(), "nosuchkey"); !errors.Is(err, ErrOtherKey) {
		t.Error(err)
	}
	var helper *HelperError
	if _, err := fake(t, "many").List(t.Context()); !errors.As(err, &helper) || !strings.Contains(err.Error(), "listed 65 keys") {
		t.Error(err)
	}
	if _, err := fake(t, "terminal").List(t.Context()); !errors.As(err, &helper) || !strings.Contains(err.Error(), `listed "/dev/pts/1" as a key`) {
		t.Error(err)
	}
	if _, err := fake(t, "not built").Info(t.Context(), k.ID); !errors.Is(err, ErrNotBuilt) {
		t.Error(err)
	}
}

func TestWhatTheSandboxLacksIsSaid(t *testing.T) {
	for mode, want := range map[string]string{"one": "", "open": "no landlock"} {
		w := fake(t, mode)
		if _, err := w.List(t.Context()); err != nil || w.Lacks() != want {
			t.Errorf("%s: %q, %v", mode, w.Lacks(), err)
		}
	}
}

func fakeScript(t *testing.T, mode string) []byte {
	t.Helper()
	b, err := os.ReadFile(fake(t, mode).helper)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Nothing is started before somebody looks for keys, and what is started ahead then
// is gone again soon.
func TestHelperThatIsStartedAheadIsNotKept(t *testing.T) {
	t.Parallel()
	w := fake(t, "one")
	w.spareTime = 300 * time.Millisecond
	spare := func() *spare { w.mu.Lock(); defer w.mu.Unlock(); return w.spare }
	if spare() != nil {
		t.Fatal("there is one before anything was asked for")
	}
	w.first(t)
	s := spare()
	if s == nil {
		t.Fatal("there is none")
	}
	began := time.Now()
	for errors.Is(syscall.Kill(s.p.cmd.Process.Pid, 0), nil) {
		if time.Since(began) > w.spareTime+20*time.Second {
			t.Fatalf("it is still there after %s", time.Since(began))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(began); took < w.spareTime/2 || spare() != nil {
		t.Errorf("it ended after %s, and is kept: %v", took, spare() != nil)
	}
}

// What is started ahead is used once, replaced if it has died, and ended with Close.
func TestHelperThatIsStartedAhead(t *testing.T) {
	w := fake(t, "one")
	id := w.first(t)
	w.mu.Lock()
	s := w.spare
	w.mu.Unlock()
	if s == nil {
		t.Fatal("there is none")
	}
	if err := s.p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.p.drain()
	deadline := time.Now().Add(10 * time.Second)
	for !errors.Is(wire.Write(s.p.stdin, &wire.PIN{}), syscall.EPIPE) { // until its input has ended, too
		if time.Now().After(deadline) {
			t.Fatal("it lives on")
		}
	}
	if _, err := w.Info(t.Context(), id); err != nil {
		t.Errorf("instead of one that has died: %v", err)
	}
	w.mu.Lock()
	next := w.spare
	w.mu.Unlock()
	if next == nil || next == s {
		t.Fatal("no other one")
	}
	w.Close()
	if next.p.cmd.ProcessState == nil {
		t.Error("it was not waited for")
	}
	if _, err := w.Info(t.Context(), id); err != nil || w.spare != nil {
		t.Errorf("after Close: %v", err)
	}
}
