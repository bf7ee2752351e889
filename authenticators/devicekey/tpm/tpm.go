// Package tpm keeps keys and secrets in a TPM 2.0: P-256 keys that never leave
// it (Store), and secrets that only it opens again (Seal, Unseal).
//
// The TPM is a guest in the agent's life. It may be absent, forbidden, busy,
// locked, cleared, another one than yesterday's, or broken, and each of these is
// a state with a name and a remedy (states.go); none of them is ever success.
// It may also hang: every operation has a deadline at which its caller is told,
// and the command that hangs keeps the TPM to itself until it returns.
//
// What crosses the bus may be listened to and changed. So commands run in an
// HMAC session salted to the storage root key (SRK), which also encrypts what is
// secret; a secret's derivative is proven and never sent; and a signature is
// checked before it is handed out. The SRK's public part comes from the TPM over
// that same bus: it is taken for what it says when a key is made, and has to be
// the same for that key ever after.
//
// A TPM has room for three objects. One session and one key stay there while it
// is busy, and are flushed when it is not; nothing runs in an idle agent.
package tpm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"countersign.dev/authenticators/devicekey"
)

const (
	idleAfter   = 3 * time.Second        // then what lies in the TPM is flushed
	opTimeout   = 20 * time.Second       // of an operation whose caller sets no deadline
	cmdTimeout  = 60 * time.Second       // of one command; the slowest chips make a key in ten seconds
	tidyTimeout = 2 * time.Second        // for flushing what is left
	closeWait   = 250 * time.Millisecond // an agent that stops waits no longer for a TPM that hangs
	checkWait   = 5 * time.Second        // for the command or two of State
	healthGood  = time.Minute            // how long State believes that all is well
	healthBad   = 10 * time.Second       // and that it is not
	firstPause  = 5 * time.Millisecond   // before a command that the TPM was too busy for is sent again
	maxPause    = 320 * time.Millisecond // and at most
)

// ErrClosed says that the agent is stopping.
var ErrClosed = errors.New("the TPM is not used any more")

// Options say which TPM. The zero value is the system's.
type Options struct {
	// Address is a device or a unix socket; "" takes the system's TPM: on Linux
	// /dev/tpmrm0, never /dev/tpm0, which the kernel does not share.
	Address string
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: none
}

// TPM is one TPM. Its methods may be called at once; the TPM does one thing at
// a time, in the order of the calls.
type TPM struct {
	door door
	now  func() time.Time
	log  *slog.Logger
	idle time.Duration

	turn chan struct{} // held by the one operation under way
	link *link         // nil when nothing is open; belongs to whoever holds turn
	lost bool          // something of ours may lie in the TPM that we know no handle of; the same

	knownRoot, knownEK []byte // which endorsement key goes with a root key; the same

	base context.Context // ends with Close
	stop context.CancelFunc
	work sync.WaitGroup // operations, and the flush when idle

	mu     sync.Mutex // guards what follows
	closed bool
	timer  *time.Timer
	health health
	left   int       // wrong tries that there is room for,
	asked  time.Time // as of then
}

// health is what was seen last.
type health struct {
	at    time.Time // zero: nothing yet
	state devicekey.State
}

// New returns the TPM without touching it.
func New(o Options) *TPM {
	t := &TPM{door: at(o.Address), now: o.Now, log: o.Log, idle: idleAfter, turn: make(chan struct{}, 1)}
	if t.now == nil {
		t.now = time.Now
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.base, t.stop = context.WithCancel(context.Background())
	return t
}

// Detect says whether the TPM is there and may be opened. It sends no command
// and costs next to nothing; Ready means no more than that.
func (t *TPM) Detect() devicekey.State {
	if err := t.door.probe(); err != nil {
		return t.stateOf(err)
	}
	return devicekey.State{Kind: devicekey.KindTPM, State: devicekey.Ready}
}

// State says how the TPM is doing. It asks it at most once a minute, and not at
// all when it is absent or forbidden. Lockout is about keys that demand a
// secret; silent ones go on.
func (t *TPM) State(ctx context.Context) devicekey.State {
	if state := t.Detect(); state.State != devicekey.Ready {
		return state
	}
	if state, ok := t.recent(); ok {
		return state
	}
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	_, err := run(ctx, t, op[struct{}]{do: func(l *link) (none struct{}, err error) {
		if _, err := l.root(nil, nil); err != nil {
			return none, err
		}
		return none, l.mayTry()
	}})
	if err != nil {
		t.saw(err) // also of a TPM that did not come to it
		return t.stateOf(err)
	}
	return t.ready()
}

// ready remembers that the TPM is well, and takes secrets again if it did not.
func (t *TPM) ready() devicekey.State {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.health = health{t.now(), devicekey.State{Kind: devicekey.KindTPM, State: devicekey.Ready}}
	return devicekey.State{Kind: devicekey.KindTPM, State: devicekey.Ready, Left: t.left}
}

// counted remembers how many wrong tries there is room for.
func (t *TPM) counted(left uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left, t.asked = int(min(left, math.MaxInt32)), t.now()
}

// recent is the health seen lately.
func (t *TPM) recent() (devicekey.State, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	good := healthBad
	if t.health.state.State == devicekey.Ready {
		good = healthGood
	}
	age := t.now().Sub(t.health.at)
	state := t.health.state
	if state.State == devicekey.Ready {
		// That silent keys sign says nothing about the count.
		if old := t.now().Sub(t.asked); old < 0 || old >= healthGood {
			return state, false
		}
		state.Left = t.left
	}
	return state, !t.health.at.IsZero() && age >= 0 && age < good
}

// saw remembers how the TPM was doing; it is asked again after an error that
// says nothing about that.
func (t *TPM) saw(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var state *devicekey.StateError
	switch {
	case err == nil && t.health.state.State != devicekey.Lockout:
		t.health = health{t.now(), devicekey.State{Kind: devicekey.KindTPM, State: devicekey.Ready}}
	case errors.As(err, &state) && state.State.State != devicekey.Cleared && state.State.State != devicekey.OtherDevice:
		// That keys are gone says nothing about new ones.
		t.health = health{t.now(), state.State}
	case err != nil:
		t.health = health{}
	}
}

// Close flushes what lies in the TPM and lets it go. It does not wait long for a
// TPM that hangs.
func (t *TPM) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	late := time.NewTimer(closeWait)
	defer late.Stop()
	var err error
	select {
	case t.turn <- struct{}{}:
		dropped := make(chan error, 1)
		t.work.Go(func() {
			dropped <- t.drop()
			<-t.turn
		})
		select {
		case err = <-dropped:
		case <-late.C:
			err = fmt.Errorf("flush the TPM: %w", errHangs)
		}
		t.stop()
	case <-late.C:
		t.stop() // cuts a socket; a device's command cannot be taken back
		err = fmt.Errorf("close the TPM: %w", errHangs)
	}
	done := make(chan struct{})
	go func() { // ends with the last operation, or with the process
		t.work.Wait()
		close(done)
	}()
	late.Reset(closeWait)
	select {
	case <-done:
		return err
	case <-late.C:
		return errors.Join(err, errHangs)
	}
}

// begin counts an operation, unless the TPM is closed.
func (t *TPM) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.work.Add(1)
	return true
}

type outcome[T any] struct {
	value T
	err   error
}

// op is an operation. What it uses is its own: its caller may have left.
type op[T any] struct {
	do     func(*link) (T, error) // perhaps twice
	done   func()                 // afterwards, in any case: wipes what do has used; may be nil
	unread func(T)                // wipes a result that nobody waits for; may be nil
}

// run has an operation use the TPM when its turn comes. A caller that has enough
// of waiting leaves, and the operation ends with the command under way.
func run[T any](ctx context.Context, t *TPM, o op[T]) (T, error) {
	var none T
	begun := false
	defer func() {
		if !begun && o.done != nil {
			o.done()
		}
	}()
	if err := ctx.Err(); err != nil {
		return none, t.fault(err)
	}
	if _, set := ctx.Deadline(); !set {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opTimeout)
		defer cancel()
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return none, t.fault(fmt.Errorf("wait for the TPM: %w", ctx.Err()))
	}
	if !t.begin() {
		<-t.turn
		return none, t.fault(ErrClosed)
	}
	begun = true
	done := make(chan outcome[T])
	go func() {
		defer t.work.Done()
		value, err := attempt(ctx, t, o.do)
		if o.done != nil {
			o.done()
		}
		err = t.fault(err)
		t.saw(err)
		t.rest()
		<-t.turn
		select {
		case done <- outcome[T]{value, err}:
		case <-ctx.Done():
			if o.unread != nil {
				o.unread(value)
			}
		}
	}()
	select {
	case got := <-done:
		return got.value, got.err
	case <-ctx.Done():
		return none, t.fault(ctx.Err())
	}
}

// attempt does it, and once more when what went wrong is cured by starting
// afresh: the TPM was reset, or had no room. It holds the turn.
func attempt[T any](ctx context.Context, t *TPM, do func(*link) (T, error)) (value T, err error) {
	for again := true; ; again = false {
		kept := t.link != nil
		if err = t.connect(ctx); err == nil {
			value, err = guarded(t.link, do)
		}
		if err == nil || t.link == nil || inOrder(err) {
			return value, err
		}
		t.lost = true
		// A try that was sent is not sent again: it may have been counted.
		cured := stale(err) || noRoom(err) || kept && errors.Is(err, errPort) && !t.link.tried
		if dropped := t.drop(); dropped != nil {
			t.log.Debug("TPM not tidied", "error", dropped)
		}
		if !again || !cured {
			return value, err
		}
	}
}

// guarded turns a panic over an answer that no TPM would give into an error.
func guarded[T any](l *link, do func(*link) (T, error)) (value T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errGarbage, r)
		}
	}()
	return do(l)
}

// connect opens the TPM if it is not open. The caller holds the turn.
func (t *TPM) connect(ctx context.Context) error {
	if t.link == nil {
		p, err := t.door.open()
		if err != nil {
			return err
		}
		t.link = newLink(t, p)
		if t.lost && !p.managed() {
			t.link.ctx = ctx
			if _, err := guarded(t.link, func(l *link) (struct{}, error) { return struct{}{}, l.sweep() }); err != nil {
				return err
			}
		}
		t.lost = false
	}
	t.link.ctx, t.link.tried = ctx, false
	return nil
}

// drop flushes what is ours and closes the TPM. It waits less for that than an
// operation does: what it cannot flush is looked for when the TPM is used next.
// The caller holds the turn.
func (t *TPM) drop() error {
	l := t.link
	if l == nil {
		return nil
	}
	t.link = nil
	ctx, cancel := context.WithTimeout(t.base, tidyTimeout)
	defer cancel()
	l.ctx, l.tidying = ctx, true
	_, err := guarded(l, func(l *link) (struct{}, error) { return struct{}{}, l.flushAll() })
	t.lost = t.lost || err != nil
	return errors.Join(err, l.port.Close())
}

// rest arms the flush. The caller holds the turn.
func (t *TPM) rest() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed || t.link == nil:
	case t.timer == nil:
		t.timer = time.AfterFunc(t.idle, t.sleep)
	default:
		t.timer.Reset(t.idle)
	}
}

// sleep flushes, unless somebody is using the TPM: then rest comes again.
func (t *TPM) sleep() {
	if !t.begin() {
		return
	}
	defer t.work.Done()
	select {
	case t.turn <- struct{}{}:
	default:
		return
	}
	defer func() { <-t.turn }()
	if err := t.drop(); err != nil {
		t.log.Debug("TPM not tidied", "error", err)
	}
}
