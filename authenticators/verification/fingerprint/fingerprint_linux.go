package fingerprint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"countersign.dev/authenticators/verification"
	"countersign.dev/bus"
)

// Names of fprintd's interface, https://fprint.freedesktop.org/fprintd-dev/.
const (
	service     = "net.reactivated.Fprint"
	managerPath = bus.ObjectPath("/net/reactivated/Fprint/Manager")
	manager     = "net.reactivated.Fprint.Manager"
	device      = "net.reactivated.Fprint.Device"
	failure     = "net.reactivated.Fprint.Error."
)

// cleanUp is how long giving the reader back may take. fprintd takes it back by
// itself when our connection ends.
const cleanUp = 2 * time.Second

// own is how fprintd calls the user who asks, whom it knows from the bus.
const own = ""

func (v *Verifier) state(ctx context.Context) verification.State {
	conn, path, err := v.reader(ctx)
	if err == nil {
		defer conn.Close()
		err = fingers(ctx, conn, path)
	}
	switch {
	case err == nil:
		return verification.State{State: "ready"}
	case errors.Is(err, verification.ErrNotSetUp):
		return verification.State{State: "not_set", Hint: "enrol a finger in the system's settings, or with fprintd-enroll"}
	case errors.Is(err, bus.ErrNoService):
		return verification.State{State: "absent", Hint: "fprintd is not installed"}
	case errors.Is(err, errNoReader), errors.Is(err, bus.ErrNoBus):
		return verification.State{State: "absent", Hint: why(err)}
	}
	return verification.State{State: "unavailable", Hint: why(err)}
}

// why is an error without the words that the state says already.
func why(err error) string {
	return strings.TrimPrefix(err.Error(), verification.ErrAbsent.Error()+": ")
}

var errNoReader = errors.New("there is no fingerprint reader")

// reader finds the default reader. The caller closes the connection.
func (v *Verifier) reader(ctx context.Context) (*bus.Bus, bus.ObjectPath, error) {
	conn, err := bus.System(ctx, v.busOwner)
	if err != nil {
		return nil, "", absent(err)
	}
	var path bus.ObjectPath
	if err = conn.Find(ctx, service); err == nil {
		err = conn.Call(ctx, managerPath, manager+".GetDefaultDevice").Store(&path)
	}
	if named(err, "NoSuchDevice") {
		err = errNoReader
	} else if err == nil && !path.IsValid() {
		err = errors.New("fprintd names no reader")
	}
	if err != nil {
		conn.Close()
		return nil, "", absent(err)
	}
	return conn, path, nil
}

// fingers returns nil when fingers of this user are enrolled.
func fingers(ctx context.Context, conn *bus.Bus, path bus.ObjectPath) error {
	var enrolled []string
	err := conn.Call(ctx, path, device+".ListEnrolledFingers", own).Store(&enrolled)
	switch {
	case named(err, "NoEnrolledPrints"), err == nil && len(enrolled) == 0:
		return fmt.Errorf("no finger is enrolled: %w", verification.ErrNotSetUp)
	case err != nil:
		return absent(err)
	}
	return nil
}

func (v *Verifier) verify(ctx context.Context) (err error) {
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", outOfTime(ctx), err)
		}
	}()
	conn, path, err := v.reader(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := fingers(ctx, conn, path); err != nil {
		return err
	}
	if err := conn.Call(ctx, path, device+".Claim", own).Err; err != nil {
		if named(err, "AlreadyInUse") {
			err = errors.New("another program uses the reader")
		}
		return absent(err)
	}
	defer release(ctx, conn, path)
	// The reader is ours: what was said before we start is not about us.
	for drained := false; !drained; {
		select {
		case <-conn.Signals():
		default:
			drained = true
		}
	}
	if err := conn.Call(ctx, path, device+".VerifyStart", "any").Err; err != nil {
		return absent(err)
	}
	return await(ctx, conn, path)
}

// await waits for the verdict. Nothing but a final verify-match is one that
// verifies; what is not known refuses.
func await(ctx context.Context, conn *bus.Bus, path bus.ObjectPath) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-conn.Gone():
			return absent(bus.ErrReplaced)
		case s := <-conn.Signals():
			if s.Path != path || s.Name != device+".VerifyStatus" {
				continue
			}
			var result string
			var done bool
			if err := bus.Store(s.Body, &result, &done); err != nil {
				return absent(fmt.Errorf("fprintd's verdict: %w", err))
			}
			switch {
			case conn.Lost():
				return absent(bus.ErrReplaced)
			case result == "verify-match" && done:
				return nil
			case result == "verify-no-match":
				return verification.ErrWrong
			case again[result] && !done:
				continue
			}
			return absent(fmt.Errorf("the reader says %q", result))
		}
	}
}

// again are the results after which the reader waits for the finger once more.
var again = map[string]bool{
	"verify-retry-scan": true, "verify-swipe-too-short": true, "verify-finger-not-centered": true,
	"verify-remove-and-retry": true, "verify-too-fast": true,
}

// release gives the reader back, also when nobody waits any more.
func release(ctx context.Context, conn *bus.Bus, path bus.ObjectPath) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	// Errors say that it had stopped by itself, or that the reader is gone.
	_ = conn.Call(ctx, path, device+".VerifyStop").Err
	_ = conn.Call(ctx, path, device+".Release").Err
}

func absent(err error) error { return fmt.Errorf("%w: %w", verification.ErrAbsent, err) }

func outOfTime(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return verification.ErrTimedOut
	}
	return verification.ErrCancelled
}

// named says whether fprintd answered with that error.
func named(err error, name string) bool {
	var e bus.Error
	return errors.As(err, &e) && e.Name == failure+name
}
