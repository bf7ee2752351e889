// Package park keeps idle connections cheaply: those of callers that wait until
// there is something to tell them.
//
// To net/http a request that waits costs its buffers, the request and two
// goroutines, some 16 KiB for as long as it waits. Park takes the connection
// over instead and keeps no more of it than one goroutine that reads a single
// byte, to notice when the caller leaves. All deadlines share one timer. Who
// is woken makes its answer on its own goroutine, so that a thousand are told
// at once and none waits for another's slow line. Afterwards the connection
// rests in the same way until its next request begins, and goes back to the
// http.Server through Listener.
//
// No wake-up is lost: Look, taken before the caller's question is answered,
// tells Park whether a Notify came in between. Numbers are bounded, in all and
// for each key, every write has a deadline, and Close leaves nothing behind.
package park

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Reason says why somebody who waits is asked for an answer. Later ones
// outrank earlier ones; from Over on the answer is the last word.
type Reason int

// The reasons.
const (
	_        Reason = iota
	Notified        // something may have happened
	Over            // the time is over
	Replaced        // newer callers of the same key have taken the places
	Closing         // the lot closes
)

// Answerer is who waits. It should be small, since there are many.
type Answerer interface {
	// Answer writes what there is to say. It returns false when that is
	// nothing, for which only Notified is a reason: then the caller waits on.
	// At Closing it must answer from what it holds, without asking anybody.
	Answer(ctx context.Context, why Reason, w http.ResponseWriter) bool
}

// Place says how a caller waits.
type Place struct {
	Key  string        // what Notify wakes it by
	Turn Turn          // from Look, before the Answerer found nothing to say
	Wait time.Duration // at most
	For  Answerer
}

// Turn is a moment in the life of a key.
type Turn struct{ n uint64 }

// Config bounds a lot. The zero value of each member means the default.
type Config struct {
	Max          int           // callers that wait, and connections that rest; 20000
	PerKey       int           // callers of one key; 4
	Idle         time.Duration // how long a connection rests; 2 minutes
	WriteTimeout time.Duration // 5 s
	// Own names the header members that differ from request to request, in
	// their canonical form. What the others say is kept once for all who wait.
	Own []string
	Log *slog.Logger // nil: discards
}

const (
	// answering bounds the answers that are made at once.
	answering = 32
	// closeGrace is how long writes may take once the lot closes.
	closeGrace = 500 * time.Millisecond
	turns      = 1024
)

// ErrFull says that the lot has no place: the caller must be answered at once.
var ErrFull = errors.New("no place to wait")

// Lot is where connections are parked.
type Lot struct {
	config   Config
	unshared map[string]bool // header members that are not alike for all: Config.Own, and ours
	seed     maphash.Seed
	busy     chan struct{} // a token for each answer being made
	back     chan net.Conn // to Listener
	done     chan struct{} // closed when the lot closes
	ctx      context.Context
	cancel   context.CancelFunc
	spots    sync.WaitGroup // goroutines of spots

	mu        sync.Mutex
	closed    bool
	accepting bool               // somebody takes connections back
	waiting   int                // spots from Park to answer
	resting   int                // spots after that
	keys      map[string][]*spot // waiting, oldest first
	answers   map[*spot]struct{} // those being answered or written
	wheel     wheel
	turns     [turns]uint64 // notifications, by a hash of the key
}

// New opens a lot. The caller calls Close.
func New(c Config) *Lot {
	for _, d := range [...]struct {
		n     *int
		usual int
	}{{&c.Max, 20000}, {&c.PerKey, 4}} {
		if *d.n <= 0 {
			*d.n = d.usual
		}
	}
	if c.Idle <= 0 {
		c.Idle = 2 * time.Minute
	}
	if c.WriteTimeout <= 0 {
		c.WriteTimeout = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	l := &Lot{
		config: c, seed: maphash.MakeSeed(), busy: make(chan struct{}, answering), back: make(chan net.Conn),
		done: make(chan struct{}), keys: map[string][]*spot{}, answers: map[*spot]struct{}{}, unshared: maps.Clone(ours),
	}
	for _, name := range c.Own {
		l.unshared[name] = true
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wheel.init(l.tick)
	return l
}

func (l *Lot) turn(key string) *uint64 { return &l.turns[maphash.String(l.seed, key)%turns] }

// Look notes the moment. Call it before asking whether there is something to
// say; Park then knows of every Notify since.
func (l *Lot) Look(key string) Turn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Turn{*l.turn(key)}
}

// Park takes the request's connection over and lets it wait. When it returns
// nil the handler must return without touching w again. Otherwise nothing has
// happened, and the handler answers at once: the lot is full or closed, or the
// connection is not one that can wait. What w.Header() holds is part of the
// later answer.
func (l *Lot) Park(w http.ResponseWriter, r *http.Request, p Place) error {
	// A body that nobody has read would be taken for the next request.
	if r.ProtoMajor != 1 || r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return errors.New("a request that cannot wait")
	}
	l.mu.Lock()
	if l.closed || l.waiting >= l.config.Max {
		l.mu.Unlock()
		return ErrFull
	}
	l.waiting++
	l.spots.Add(1) // for the goroutine that enter starts
	l.mu.Unlock()
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		l.mu.Lock()
		l.waiting--
		l.mu.Unlock()
		l.spots.Done()
		return fmt.Errorf("taking a connection over: %w", err)
	}
	own, shared := l.head(w.Header())
	s := &spot{
		lot: l, conn: drained(conn), early: unread(rw.Reader), key: strings.Clone(p.Key), who: p.For,
		own: own, shared: shared, keep: r.ProtoAtLeast(1, 1) && !r.Close,
	}
	l.enter(s, p)
	return nil
}

// unread returns what the caller sent after its request.
func unread(r *bufio.Reader) []byte {
	n := r.Buffered()
	if n == 0 {
		return nil
	}
	b, _ := r.Peek(n) // cannot fail: it is there
	return slices.Clone(b)
}

// enter lets a spot begin to wait, unless there is a reason not to.
func (l *Lot) enter(s *spot, p Place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.until = time.Now().Add(p.Wait)
	if l.closed {
		l.wakeNew(s, Closing)
		return
	}
	if others := l.keys[s.key]; len(others) >= l.config.PerKey {
		oldest := others[0]
		l.unlist(oldest)
		l.wake(oldest, Replaced)
	}
	l.keys[s.key] = append(l.keys[s.key], s)
	if p.Turn.n != *l.turn(s.key) {
		l.wakeNew(s, Notified)
		return
	}
	l.park(s)
}

// wakeNew lets a spot answer before it has begun to wait.
func (l *Lot) wakeNew(s *spot, why Reason) {
	s.why = why
	l.answers[s] = struct{}{}
	go s.answer()
}

// park makes a spot wait, on the goroutine that it was given.
func (l *Lot) park(s *spot) {
	s.state = parked
	l.wheel.add(s, s.until)
	s.reading = len(s.early) == 0 // else whatever it says next can wait, too
	if !s.reading {
		l.spots.Done()
		return
	}
	go s.read()
}

// Notify wakes the callers of the keys to look again. What they are to find
// must be in place: committed, not merely written.
func (l *Lot) Notify(keys []string) {
	for some := range slices.Chunk(keys, 128) { // others get a word in between
		l.notify(some)
	}
}

func (l *Lot) notify(keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		*l.turn(key)++
		for _, s := range l.keys[key] {
			l.wake(s, Notified)
		}
	}
}

// wake gives a spot a reason to answer. One that is answering already looks
// at it before it waits on.
func (l *Lot) wake(s *spot, why Reason) {
	s.why = max(s.why, why)
	if s.state != parked {
		return
	}
	s.state = woken
	l.wheel.remove(s)
	l.answers[s] = struct{}{}
	if s.reading {
		_ = s.conn.SetReadDeadline(past) // the reader goes on; a connection that is gone ends it as well
		return
	}
	l.spots.Add(1)
	go s.answer()
}

// unlist takes a spot out of those that Notify finds.
func (l *Lot) unlist(s *spot) {
	list := l.keys[s.key]
	i := slices.Index(list, s)
	if i < 0 {
		return
	}
	if len(list) == 1 {
		delete(l.keys, s.key)
		return
	}
	l.keys[s.key] = slices.Delete(list, i, i+1)
}

// tick is called when the deadline of a spot has come.
func (l *Lot) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	for s := range l.wheel.due() {
		switch s.state {
		case parked:
			l.wake(s, Over)
		case resting:
			l.end(s)
		}
	}
	l.wheel.arm()
}

// end closes a connection that rests, by its reader.
func (l *Lot) end(s *spot) {
	s.state = ended
	l.wheel.remove(s)
	_ = s.conn.SetReadDeadline(past)
}

// Waiting says how many callers wait.
func (l *Lot) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// Close answers everybody who waits, closes all connections and waits until
// that is done. It takes no longer than a second, and may be called again.
func (l *Lot) Close() {
	l.shut()
	l.spots.Wait()
}

// shut begins to close.
func (l *Lot) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	close(l.done)
	l.cancel()
	for s := range l.answers {
		_ = s.conn.SetWriteDeadline(time.Now().Add(closeGrace))
	}
	for s := range l.wheel.all() {
		switch s.state {
		case parked:
			l.wake(s, Closing)
		case resting:
			l.end(s)
		}
	}
	l.wheel.stop()
}
