package park

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"time"
	"unique"
)

// past is a deadline that has come: it ends a Read.
var past = time.Unix(1, 0)

type state uint8

// The states of a spot. From parked it is woken, again and again; when it has
// answered it rests and then goes back to the server, or it has ended.
const (
	woken   state = iota // its goroutine makes the answer
	parked               // waits to be woken
	resting              // waits for the next request
	ended
)

// spot is one connection. The members up to keep are its goroutine's own; it
// has one at most.
type spot struct {
	lot  *Lot
	conn net.Conn
	who  Answerer
	key  string
	own  string // header lines that were set before it parked
	// Lines that others have as well.
	shared unique.Handle[string]
	early  []byte // read already, of the next request
	until  time.Time
	keep   bool // the connection lives on after the answer

	// Guarded by the lot's lock.
	state      state
	reading    bool // read is at it; only then may a deadline be set for it
	why        Reason
	slot       int64 // in the wheel; 0: none
	prev, next *spot

	buf [1]byte
}

// read waits for the caller to say something, to leave, or for the lot to
// wake the spot. It needs little stack: what does more goes to answer, or to
// goroutines of its own.
func (s *spot) read() {
	n, err := 0, error(nil)
	for n == 0 && err == nil {
		n, err = s.conn.Read(s.buf[:])
	}
	s.heard(n, err)
}

func (s *spot) heard(n int, err error) {
	l := s.lot
	l.mu.Lock()
	s.reading = false
	if n > 0 {
		s.early = append(s.early, s.buf[0])
	}
	gone := err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	if s.state != parked && !gone {
		// It may have been set while the byte came. One that cannot be cleared
		// belongs to a connection that cannot be written to either.
		_ = s.conn.SetReadDeadline(time.Time{})
	}
	switch {
	case (s.state == resting || s.state == ended) && n > 0 && !l.closed:
		l.wheel.remove(s) // at the last moment, perhaps
		l.resting--
		l.mu.Unlock()
		s.giveBack()
	case s.state == resting || s.state == ended:
		l.wheel.remove(s)
		l.resting--
		l.mu.Unlock()
		s.hangUp()
	case gone:
		l.wheel.remove(s)
		l.leave(s)
		delete(l.answers, s)
		l.mu.Unlock()
		s.hangUp()
	case s.state == parked:
		// It spoke early. Nobody listens until it is woken.
		l.mu.Unlock()
		l.spots.Done()
	default:
		l.mu.Unlock()
		s.answer()
	}
}

// leave ends the waiting of a spot.
func (l *Lot) leave(s *spot) {
	l.unlist(s)
	l.waiting--
}

// answer asks the Answerer until it has something to say, and says it.
func (s *spot) answer() {
	l := s.lot
	for {
		select {
		case l.busy <- struct{}{}:
		case <-l.done: // then nobody waits for anything
			l.mu.Lock()
			s.why = Closing
			l.mu.Unlock()
			s.finish(s.ask(Closing))
			return
		}
		l.mu.Lock()
		why := s.why
		s.why = 0
		l.mu.Unlock()
		a := s.ask(why)
		<-l.busy
		if l.ctx.Err() != nil && why != Closing {
			a = s.ask(Closing) // it may have been told "cancelled" halfway
		}
		if a != nil || why != Notified {
			s.finish(a)
			return
		}
		if s.waitOn() {
			return
		}
	}
}

// waitOn parks the spot again, unless there is a new reason to answer.
func (s *spot) waitOn() bool {
	l := s.lot
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.why = Closing
	}
	if s.why != 0 {
		return false
	}
	delete(l.answers, s)
	l.park(s) // on another goroutine: the stack of this one has grown
	return true
}

// ask returns the answer, or nil for none. A bug in an Answerer costs its
// caller the connection, not everybody the program.
func (s *spot) ask(why Reason) (a *recorder) {
	defer func() {
		if v := recover(); v != nil {
			s.lot.config.Log.Error("answering a parked caller panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			s.keep = false
			a = &recorder{status: http.StatusInternalServerError}
		}
	}()
	a = &recorder{}
	if !s.who.Answer(s.lot.ctx, why, a) {
		return nil
	}
	return a
}

// finish writes the answer and lets the connection rest.
func (s *spot) finish(a *recorder) {
	l := s.lot
	if a == nil { // an Answerer that has no last word
		a, s.keep = &recorder{status: http.StatusServiceUnavailable}, false
	}
	l.mu.Lock()
	l.leave(s) // its caller may be back before we know that it has the answer
	timeout := l.config.WriteTimeout
	if l.closed {
		timeout = closeGrace
	}
	s.keep = s.keep && !l.closed && l.accepting && l.resting < l.config.Max
	deadline := s.conn.SetWriteDeadline(time.Now().Add(timeout))
	l.mu.Unlock()

	_, err := s.conn.Write(a.wire(s.shared.Value()+s.own, s.keep))
	err = errors.Join(deadline, err, s.conn.SetWriteDeadline(time.Time{}))
	s.who, s.own, s.shared = nil, "", unique.Handle[string]{}

	l.mu.Lock()
	delete(l.answers, s)
	rest := err == nil && s.keep && !l.closed
	if !rest || len(s.early) > 0 {
		l.mu.Unlock()
		if rest {
			s.giveBack()
		} else {
			s.hangUp()
		}
		return
	}
	s.state, s.reading = resting, true
	l.resting++
	l.wheel.add(s, time.Now().Add(l.config.Idle))
	l.mu.Unlock()
	go s.read() // a new goroutine, with a small stack
}

// giveBack hands the connection to the server, which reads the next request.
func (s *spot) giveBack() {
	defer s.lot.spots.Done()
	select {
	case s.lot.back <- withEarly(s.conn, s.early):
	case <-s.lot.done:
		_ = bare(s.conn).Close()
	}
}

// hangUp closes the connection. Of TLS the socket alone: to say goodbye
// politely may take seconds, and who is hung up on expects no more.
func (s *spot) hangUp() {
	defer s.lot.spots.Done()
	_ = bare(s.conn).Close()
}

func bare(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}

// recorder is the http.ResponseWriter of an Answerer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}

// ours are the header members that the writer of an answer sets itself.
var ours = map[string]bool{"Connection": true, "Content-Length": true, "Date": true, "Transfer-Encoding": true, "Keep-Alive": true, "Trailer": true}

// head returns the lines of a header as they are kept while it waits.
func (l *Lot) head(h http.Header) (own string, shared unique.Handle[string]) {
	var b bytes.Buffer
	_ = h.WriteSubset(&b, l.unshared) // into memory; it also keeps line breaks out of values
	shared = unique.Make(b.String())
	b.Reset()
	for _, name := range l.config.Own {
		if values := h[name]; len(values) > 0 {
			_ = http.Header{name: values}.WriteSubset(&b, ours)
		}
	}
	return b.String(), shared
}

// wire is the answer as it is sent: in one piece.
func (r *recorder) wire(head string, keep bool) []byte {
	r.WriteHeader(http.StatusOK)
	var b bytes.Buffer
	b.Grow(512 + len(head) + r.body.Len())
	b.WriteString("HTTP/1.1 " + strconv.Itoa(r.status) + " " + http.StatusText(r.status) + "\r\n" + head)
	_ = r.header.WriteSubset(&b, ours)
	b.WriteString("Date: ")
	b.Write(time.Now().UTC().AppendFormat(b.AvailableBuffer(), http.TimeFormat))
	b.WriteString("\r\n")
	bodiless := r.status == http.StatusNoContent || r.status == http.StatusNotModified
	if !bodiless {
		b.WriteString("Content-Length: " + strconv.Itoa(r.body.Len()) + "\r\n")
	}
	if !keep {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	if !bodiless {
		b.Write(r.body.Bytes())
	}
	return b.Bytes()
}
