//go:build cgo || windows

package helper

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"countersign.dev/authenticators/securitykey/wire"
)

// Codes that do not leave this package.
const (
	needsPIN          = "needs_pin"           // the key does not do it without; the operation is tried again with it
	thereButUntouched = "there_but_untouched" // what a U2F key says to a silent question for a credential it has
)

// session is one operation.
type session struct {
	req  *wire.Request
	ctx  context.Context // ends by deadline or cancellation; its cause is a *wire.Error
	stop context.CancelCauseFunc
	pins chan wire.PIN
	held *held // the key's device file
	line line
	log  []string

	mu  sync.Mutex // guards out
	out io.Writer
}

// serve carries the operation out, shut in.
func serve(in io.Reader, out io.Writer, signals <-chan os.Signal, req *wire.Request) (*wire.Result, error) {
	s := &session{req: req, out: out, pins: make(chan wire.PIN)}
	defer s.mu.Lock() // for good: no event comes after the end
	if beforeConfine != nil {
		beforeConfine(s)
	}
	if err := s.confine(); err != nil {
		return nil, err
	}
	result, err := s.run(in, signals)
	if is(err, needsPIN) || is(err, thereButUntouched) { // what it wanted it was given
		err = fail(wire.BadKey, "%v", err)
	}
	if err == nil {
		result.Log = strings.Join(s.log, "; ")
	}
	return result, err
}

func (s *session) run(in io.Reader, signals <-chan os.Signal) (*wire.Result, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), s.req.Patience(), fail(wire.TimedOut, "no end within %s", s.req.Patience()))
	defer cancel()
	s.ctx, s.stop = context.WithCancelCause(ctx)
	defer s.stop(nil)
	signal.Ignore(syscall.SIGPIPE) // cancel first
	// Both end with the process.
	go func() {
		<-signals
		s.stop(fail(wire.Cancelled, "told to stop"))
	}()
	go s.listen(in)
	if afterConfine != nil {
		afterConfine(s)
	}
	if s.req.Op != wire.List {
		if err := s.take(); err != nil {
			return nil, err
		}
		defer s.held.release()
	}
	return s.operate()
}

// Test builds try there what is possible, and then must not be.
var beforeConfine, afterConfine func(*session)

// listen reads PINs until the input ends, which means stop.
func (s *session) listen(in io.Reader) {
	for {
		var pin wire.PIN
		if err := wire.Read(in, &pin); err != nil {
			if !errors.Is(err, io.EOF) {
				s.stop(fail(wire.BadRequest, "%v", err))
			}
			s.stop(fail(wire.Cancelled, "nobody waits for the result"))
			return
		}
		select {
		case s.pins <- pin:
		case <-s.ctx.Done():
			return
		}
	}
}

// event tells the agent something on the way.
func (s *session) event(r wire.Reply) {
	r.Version = wire.Version
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := wire.Write(s.out, &r); err != nil {
		s.stop(fail(wire.Cancelled, "nobody listens"))
	}
}

// is says whether an error has the code.
func is(err error, code string) bool {
	var e *wire.Error
	return errors.As(err, &e) && e.Code == code
}

// cause is why the operation was ended early.
func (s *session) cause() error {
	var e *wire.Error
	if errors.As(context.Cause(s.ctx), &e) {
		return e
	}
	return fail(wire.Cancelled, "stopped")
}

// times of call.
const (
	// blinking is after how long without an answer the key is taken to wait for its
	// owner. It says so itself, but libfido2 keeps that to itself.
	blinking    = 250 * time.Millisecond
	cancelEvery = 20 * time.Millisecond
	// cancelling is how long a key may take to give up once it was told so.
	cancelling = 700 * time.Millisecond
	// heard is within which a signal that has interrupted the library is known to us.
	heard = 100 * time.Millisecond
)

// call runs one call of the library, and explains its error.
func (s *session) call(cancel func(), touch bool, do func() error) error {
	return s.explain(s.raw(cancel, touch, do))
}

// raw runs one call of the library, which may block, and cancels it when the
// operation is over: again and again, since a cancellation that comes before the
// key is open is lost, and not for long, since a key may not hear it.
func (s *session) raw(cancel func(), touch bool, do func() error) error {
	if s.ctx.Err() != nil {
		return s.cause()
	}
	done := make(chan error, 1)
	go func() { done <- do() }() // what hangs in there ends with the process
	if touch {
		t := time.NewTimer(blinking)
		defer t.Stop()
		select {
		case err := <-done:
			return s.ended(err, cancel)
		case <-s.ctx.Done():
		case <-t.C:
			s.event(wire.Reply{Event: wire.Touch})
		}
	}
	select {
	case err := <-done:
		return s.ended(err, cancel)
	case <-s.ctx.Done():
	}
	stopped := make(chan struct{})
	defer close(stopped)
	go func() { // apart, since writing to a key that does not read may block, too
		for {
			cancel()
			select {
			case <-stopped:
				return
			case <-time.After(cancelEvery):
			}
		}
	}()
	select {
	case err := <-done:
		if err == nil {
			return nil // just in time
		}
	case <-time.After(cancelling):
	}
	return s.cause()
}

// ended is the error of a call that has ended by itself. One that was interrupted
// by the signal to stop has left the key waiting.
func (s *session) ended(err error, cancel func()) error {
	if err == nil {
		return nil
	}
	if noContact(err) {
		select {
		case <-s.ctx.Done():
		case <-time.After(heard):
		}
	}
	if s.ctx.Err() == nil {
		return err
	}
	cancel()
	return s.cause()
}
