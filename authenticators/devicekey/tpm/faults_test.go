package tpm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
)

// fault is what a TPM does instead of its work.
type fault struct {
	name string
	// happens takes the place of one answer.
	happens func(x *tpmtest.TPM, m *meddler, e *exchange) ([]byte, error)
	always  bool     // from then on, not once
	want    []string // states that may be said; "" is success
}

func answers(code tpm2.TPMRC) func(*tpmtest.TPM, *meddler, *exchange) ([]byte, error) {
	return func(*tpmtest.TPM, *meddler, *exchange) ([]byte, error) { return says(code), nil }
}

var faults = []fault{
	{"vanishes", func(_ *tpmtest.TPM, m *meddler, _ *exchange) ([]byte, error) {
		m.vanish(&os.PathError{Op: "open", Path: "/dev/tpmrm0", Err: syscall.ENOENT})
		return nil, syscall.ENODEV
	}, true, []string{devicekey.Absent}},
	{"is forbidden", func(_ *tpmtest.TPM, m *meddler, _ *exchange) ([]byte, error) {
		m.vanish(&os.PathError{Op: "open", Path: "/dev/tpmrm0", Err: syscall.EACCES})
		return nil, io.EOF
	}, true, []string{devicekey.PermissionDenied, devicekey.Unavailable}},
	{"is taken by another", func(_ *tpmtest.TPM, m *meddler, _ *exchange) ([]byte, error) {
		m.vanish(&os.PathError{Op: "open", Path: "/dev/tpm0", Err: syscall.EBUSY})
		return nil, io.EOF
	}, true, []string{devicekey.Busy, devicekey.Unavailable}},
	{"is reset", func(x *tpmtest.TPM, _ *meddler, e *exchange) ([]byte, error) {
		if err := x.Restart(); err != nil {
			return nil, err
		}
		return e.pass()
	}, false, []string{"", devicekey.Unavailable}},
	{"answers and is reset", func(x *tpmtest.TPM, _ *meddler, e *exchange) ([]byte, error) {
		answer, err := e.pass()
		return answer, errors.Join(err, x.Restart())
	}, false, []string{"", devicekey.Unavailable}},
	{"is locked out", answers(tpm2.TPMRCLockout), false, []string{devicekey.Lockout}},
	{"is busy", answers(tpm2.TPMRCRetry), true, []string{devicekey.Busy}},
	{"is busy for a moment", answers(tpm2.TPMRCRetry), false, []string{""}},
	{"tests itself for a moment", answers(tpm2.TPMRCTesting), false, []string{""}},
	{"has failed its test", answers(tpm2.TPMRCFailure), true, []string{devicekey.SelfTestFailed}},
	{"has no place for an object", answers(tpm2.TPMRCObjectMemory), true, []string{devicekey.Busy}},
	{"has no place for a moment", answers(tpm2.TPMRCObjectMemory), false, []string{""}},
	{"has no place for a session", answers(tpm2.TPMRCSessionMemory), true, []string{devicekey.Busy}},
	{"has no handles", answers(tpm2.TPMRCObjectHandles), true, []string{devicekey.Busy}},
	{"is of version 1.2", func(*tpmtest.TPM, *meddler, *exchange) ([]byte, error) {
		return []byte{0x00, 0xC4, 0, 0, 0, 10, 0, 0, 0, 0x1E}, nil
	}, true, []string{devicekey.TooOld}},
	{"says nothing", func(*tpmtest.TPM, *meddler, *exchange) ([]byte, error) { return nil, nil }, true, []string{devicekey.Unavailable}},
	{"hangs up", func(*tpmtest.TPM, *meddler, *exchange) ([]byte, error) { return nil, io.ErrUnexpectedEOF }, true, []string{devicekey.Unavailable}},
	{"says half of it", func(_ *tpmtest.TPM, _ *meddler, e *exchange) ([]byte, error) {
		answer, err := e.pass()
		return answer[:len(answer)/2], err
	}, true, []string{devicekey.Unavailable}},
	{"says half of it in good form", func(_ *tpmtest.TPM, _ *meddler, e *exchange) ([]byte, error) {
		answer, err := e.pass()
		if len(answer) > headerSize {
			answer = answer[:headerSize+(len(answer)-headerSize)/2]
			copy(answer[2:], be32(uint32(len(answer))))
		}
		return answer, err
	}, true, []string{"", devicekey.Unavailable}}, // "": there are only refusals and flushes
	{"says something else", func(_ *tpmtest.TPM, _ *meddler, e *exchange) ([]byte, error) {
		answer, err := e.pass()
		for i := range answer {
			answer[i] ^= byte(i*37 + 11)
		}
		return answer, err
	}, true, []string{devicekey.Unavailable}},
	{"says nothing but zeros in good form", func(_ *tpmtest.TPM, _ *meddler, e *exchange) ([]byte, error) {
		answer := append([]byte{}, e.command[:2]...)
		answer = append(append(answer, be32(200)...), make([]byte, 194)...)
		return answer, nil
	}, true, []string{"", devicekey.Unavailable}}, // "": a flush has nothing to say
	{"repeats what it said before", func(_ *tpmtest.TPM, m *meddler, e *exchange) ([]byte, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.heard) < 2 {
			return nil, io.EOF
		}
		return m.heard[1], nil
	}, true, []string{"", devicekey.Unavailable}}, // "": what it said was that nothing is kept there
	{"refuses without a reason", answers(0x9FF), true, []string{devicekey.Unavailable}},
}

// TestC10FaultAtEachCommand: whatever the TPM does at whichever command of
// whatever it is asked for, what comes of it is the right result or a refusal
// with a name and a remedy; nothing is lost, and nothing stays in the TPM.
func TestC10FaultAtEachCommand(t *testing.T) {
	x := tpmtest.New(t)
	if err := x.SetLockout(1000, 1, 1); err != nil {
		t.Fatal(err)
	}
	c, m := meddled(t, x)
	s := NewStore(c, newRooms())
	states, cases := map[string]int{}, 0
	slow := os.Getenv("COUNTERSIGN_SLOW") != ""
	for _, task := range tasks(t, c, s) {
		for _, warm := range []bool{false, true} {
			if warm && !slow && !strings.HasPrefix(task.name, "sign") {
				continue // as from nothing, for the most part
			}
			for _, f := range faults {
				for n := 0; ; n++ {
					label := fmt.Sprintf("%s (in use: %t): TPM %s at command %d", task.name, warm, f.name, n)
					if warm {
						if err := task.do(t.Context(), c, s); err != nil {
							t.Fatalf("%s: before: %v", label, err)
						}
					} else {
						forget(c)
					}
					reached := false
					m.reset(func(e *exchange) ([]byte, error) {
						if e.n != n && (!f.always || e.n < n) {
							return e.pass()
						}
						reached = true
						return f.happens(x, m, e)
					})
					ctx, cancel := context.WithTimeout(t.Context(), patience(f))
					err := task.do(ctx, c, s)
					cancel()
					c.await()
					m.reset(nil)
					if !reached {
						break
					}
					cases++
					states[judge(t, label, f, err)]++
				}
			}
		}
		if err := task.do(t.Context(), c, s); err != nil {
			t.Errorf("%s, with a sound TPM: %v", task.name, err)
		}
	}
	t.Logf("%d faults: %v", cases, states)
	for _, state := range []string{"", devicekey.Absent, devicekey.PermissionDenied, devicekey.Busy, devicekey.Lockout, devicekey.TooOld, devicekey.SelfTestFailed, devicekey.Unavailable} {
		if states[state] == 0 {
			t.Errorf("no fault ended in %q", state)
		}
	}
	_ = c.Close()
	if left, err := x.Loaded(); err != nil || len(left) != 0 {
		t.Errorf("left in the TPM: %x, %v", left, err)
	}
}

// patience is how long a fault is waited for: one that never ends needs an end.
func patience(f fault) time.Duration {
	if f.name == "is busy" {
		return 25 * time.Millisecond
	}
	return 10 * time.Second
}

// judge says which state a fault ended in.
func judge(t *testing.T, label string, f fault, err error) string {
	t.Helper()
	var named *devicekey.StateError
	got := ""
	switch {
	case errors.Is(err, errForged):
		t.Fatalf("%s: %v", label, err)
	case err == nil:
	case !errors.As(err, &named) || named.State.Hint == "":
		t.Errorf("%s: no state: %v", label, err)
		return "?"
	default:
		got = named.State.State
	}
	for _, want := range f.want {
		if got == want {
			return got
		}
	}
	t.Errorf("%s: %q, want %q: %v", label, got, f.want, err)
	return got
}

// await waits until nobody uses the TPM.
func (t *TPM) await() {
	t.turn <- struct{}{}
	<-t.turn
}
