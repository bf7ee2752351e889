// Package audit keeps the record of the agent's decisions: who was let in
// where, what was refused and why. It is a journal, so each record carries the
// hash (a MAC) of the one before: an edited, dropped or reordered record shows.
//
// Records are written lazily, without an fsync of their own: the decision that
// matters is durable in the claims journal before the answer leaves, and the
// audit line follows with the system's next write-back.
//
// The record is bounded. When it grows over its limit the older half goes; the
// hashes of what stays do not change, and numbers go on. What an org or a page
// put into a text is cleaned of control and direction characters before it is
// written, so that printing a record is safe.
package audit

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"
	"unicode"

	"countersign.dev/daemon/journal"
)

// maxSize is where the older half of the record is dropped.
const maxSize = 4 << 20

// maxText bounds each text of a record, in characters.
const maxText = 256

// backlog is how many records a subscriber may be behind.
const backlog = 64

// Record is one decision. Seq, Prev and Hash are filled in by the log.
type Record struct {
	Seq         uint64    `json:"-"`
	Prev        string    `json:"-"` // hex
	Hash        string    `json:"-"` // hex
	Time        time.Time `json:"time"`
	Event       string    `json:"event"`
	Account     string    `json:"account"`
	Outcome     string    `json:"outcome"`
	Reason      string    `json:"reason"`
	Origin      string    `json:"origin,omitempty"`
	App         string    `json:"app,omitempty"`
	Transaction string    `json:"transaction,omitempty"`
	KeyType     string    `json:"keyType,omitempty"`
}

// Log is the record of decisions. Its methods may be called at once.
type Log struct {
	journal *journal.Journal
	limit   int64 // maxSize, smaller in tests

	mu          sync.Mutex // orders records and guards what follows
	subscribers map[chan Record]struct{}
	closed      bool
}

// Open takes j for the record of decisions; nothing else may append to it.
func Open(j *journal.Journal) (*Log, error) {
	if j == nil {
		return nil, errors.New("open audit record: no journal")
	}
	return &Log{journal: j, limit: maxSize, subscribers: map[chan Record]struct{}{}}, nil
}

// Record adds a decision and returns it as recorded. The caller sets Time.
func (l *Log) Record(r Record) (Record, error) {
	for _, text := range []*string{&r.Event, &r.Account, &r.Outcome, &r.Reason, &r.Origin, &r.App, &r.Transaction, &r.KeyType} {
		*text = clean(*text)
	}
	r.Time = r.Time.UTC()
	payload, err := json.Marshal(r)
	if err != nil {
		return Record{}, fmt.Errorf("record decision: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, prev := l.journal.Head()
	if r.Seq, err = l.journal.AppendLazy(payload); err != nil {
		return Record{}, fmt.Errorf("record decision: %w", err)
	}
	_, hash := l.journal.Head()
	r.Prev, r.Hash = hex.EncodeToString(prev), hex.EncodeToString(hash)
	l.publish(r)
	if l.journal.Size() > l.limit {
		err = l.dropOlderHalf()
	}
	return r, err
}

// dropOlderHalf keeps the newest records that fill half of the limit.
func (l *Log) dropOlderHalf() error {
	excess := l.journal.Size() - l.limit/2
	err := l.journal.Rewrite(func(payload []byte) bool {
		if excess > 0 {
			excess -= int64(len(payload)) + 2*32 // the hash in hex; the number is small change
			return false
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("drop older half of the audit record: %w", err)
	}
	return nil
}

// Records yields the records numbered from and above, oldest first, checking
// the chain as it goes: after an error nothing more comes.
func (l *Log) Records(from uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		stopped := errors.New("stopped")
		err := l.journal.Replay(func(seq uint64, payload, prev, mac []byte) error {
			if seq < from {
				return nil
			}
			var r Record
			if err := json.Unmarshal(payload, &r); err != nil {
				return fmt.Errorf("audit record %d: %w", seq, err)
			}
			r.Seq, r.Prev, r.Hash = seq, hex.EncodeToString(prev), hex.EncodeToString(mac)
			if !yield(r, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && err != stopped {
			yield(Record{}, err)
		}
	}
}

// Verify checks the whole chain on disk. It returns a *journal.TamperedError
// that names the first record somebody else changed.
func (l *Log) Verify() error {
	return l.journal.Replay(func(uint64, []byte, []byte, []byte) error { return nil })
}

// Subscribe delivers records as they are made, until cancel is called, the log
// is closed, or the subscriber is too far behind; then the channel is closed.
// Whoever was dropped reads on with Records.
func (l *Log) Subscribe() (records <-chan Record, cancel func()) {
	c := make(chan Record, backlog)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		close(c)
		return c, func() {}
	}
	l.subscribers[c] = struct{}{}
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.drop(c)
	}
}

// Close ends all subscriptions. The journal is closed by its owner.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.subscribers {
		l.drop(c)
	}
}

func (l *Log) publish(r Record) {
	for c := range l.subscribers {
		select {
		case c <- r:
		default: // a decision never waits for a reader
			l.drop(c)
		}
	}
}

func (l *Log) drop(c chan Record) {
	if _, ok := l.subscribers[c]; ok {
		delete(l.subscribers, c)
		close(c)
	}
}

// clean makes a text one line without characters that move the cursor, change
// the direction of writing or show nothing.
func clean(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= 0x20 && s[i] < 0x7f
	}
	if plain && len(s) <= maxText {
		return s
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u2028' || r == '\u2029':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if runes := []rune(s); len(runes) > maxText {
		return string(runes[:maxText-1]) + "…"
	}
	return s
}
