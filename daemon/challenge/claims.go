package challenge

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Journal is where claims are kept: append-only, durable.
type Journal interface {
	Append(ctx context.Context, payload []byte) (uint64, error)
	Replay(fn func(seq uint64, payload, prev, mac []byte) error) error
	Rewrite(keep func(payload []byte) bool) error
}

const (
	// keepClaims is how long a claim outlives its challenge, beyond the
	// leeway: the clock may be set back.
	keepClaims = 10 * time.Minute
	// keepAtStart keeps what seems to have expired at a start: the clock may be
	// ahead just then.
	keepAtStart = int64(24 * time.Hour / time.Second)
	firstSweep  = 4096 // claims in memory before expired ones are looked for
	maxRuns     = 3    // of one challenge that came to nothing
)

// Claims remembers which transactions are under way or over, and durably those
// that were decided: one signature each, whatever happens in between. A question
// that the person has not answered leaves nothing on disk, so an agent that was
// killed while it waited asks it again.
type Claims struct {
	journal Journal
	now     func() time.Time

	mu      sync.Mutex // guards what follows; never held across disk, person or network
	seen    map[claimKey]*claim
	sweepAt int
	workers sync.WaitGroup
}

// claimKey identifies a transaction: a digest of issuer, transaction and nonce.
type claimKey [16]byte

type claim struct {
	key     claimKey
	expires int64 // unix seconds; forgotten afterwards
	run     *run  // nil when none is under way
	outcome Outcome
	runs    uint8

	// Only the run under way writes these.
	durable bool // the journal has it
	untaken bool // it should, and would not take it
}

// run is one challenge under way, and those who wait for it.
type run struct {
	done    chan struct{}
	result  Result // before done is closed: not to be read
	waiting int    // guarded by Claims.mu
	abandon context.CancelCauseFunc
}

// OpenClaims reads the claims that are still of use and drops the others from
// the journal.
func OpenClaims(j Journal, now func() time.Time) (*Claims, error) {
	c := &Claims{journal: j, now: now, seen: map[claimKey]*claim{}, sweepAt: firstSweep}
	if c.now == nil {
		c.now = time.Now
	}
	total, today := 0, c.now().Unix()
	err := j.Replay(func(_ uint64, payload, _, _ []byte) error {
		key, expires, err := decodeClaim(payload)
		if err != nil {
			return err
		}
		if total++; expires >= today-keepAtStart {
			// Whether it was answered before the restart cannot be known, so it was.
			c.seen[key] = &claim{key: key, expires: expires, outcome: AlreadyAnswered, durable: true}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the claimed transactions: %w", err)
	}
	if total > 2*len(c.seen)+firstSweep/4 {
		if err := j.Rewrite(c.keep); err != nil {
			return nil, fmt.Errorf("drop expired claims: %w", err)
		}
	}
	return c, nil
}

// once runs c unless its transaction has been taken up before: then it joins
// the run under way, or says how the transaction ended.
func (cs *Claims) once(ctx context.Context, p *Pipeline, c *Challenge) Result {
	key := keyOf(c.claims.Issuer, c.claims.TransactionID, c.claims.Nonce)
	expires := c.claims.ExpiresAt.Time().Add(uses[c.transport.Kind].leeway + keepClaims).Unix()

	cs.mu.Lock()
	cl := cs.seen[key]
	switch {
	case cl != nil && cl.run != nil:
		r := cl.run
		r.waiting++
		cs.mu.Unlock()
		return cs.join(ctx, r)
	case cl != nil && !cl.open():
		outcome := cl.outcome
		cs.mu.Unlock()
		return again(outcome)
	case cl == nil:
		cl = &claim{key: key, expires: expires}
		cs.seen[key] = cl
	}
	// Signing and sending outlive the browser's interest, not the agent.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(p.ctx, stopWork)()
	defer stopWork()
	asking, abandon := context.WithCancelCause(work)
	defer abandon(nil)
	r := &run{done: make(chan struct{}), waiting: 1, abandon: abandon}
	cl.run, cl.untaken = r, false
	cs.mu.Unlock()
	defer context.AfterFunc(ctx, func() { cs.leave(r, context.Cause(ctx)) })()

	result := Result{Failed, "ended early"}
	defer func() { cs.finish(cl, r, result) }() // also when a step panics
	c.claim = cl
	result = p.run(work, asking, c)
	return result
}

// take claims a transaction on disk. Until it has, nothing may be signed.
func (cs *Claims) take(ctx context.Context, cl *claim) error {
	if cl.durable {
		return nil
	}
	if _, err := cs.journal.Append(ctx, encodeClaim(cl.key, cl.expires)); err != nil {
		cl.untaken = true
		return refuse(Failed, fmt.Errorf("remember the transaction: %w", err))
	}
	cl.durable, cl.untaken = true, false
	return nil
}

// join waits for a run that another delivery started.
func (cs *Claims) join(ctx context.Context, r *run) Result {
	select {
	case <-r.done:
		return r.result
	case <-ctx.Done():
		cs.leave(r, context.Cause(ctx))
		return Result{Withdrawn, "went away"}
	}
}

// leave takes one away who waited; when nobody is left, the person need not be
// asked any more, for the reason that the last one had.
func (cs *Claims) leave(r *run, why error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if r.waiting--; r.waiting == 0 {
		r.abandon(why)
	}
}

// finish publishes the result of a run.
func (cs *Claims) finish(cl *claim, r *run, result Result) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cl.run, cl.outcome = nil, result.Outcome
	cl.runs++
	r.result = result
	close(r.done)
	cs.sweep()
}

// open says whether the challenge may be tried again: nothing was signed,
// because nobody could be asked, the keys were locked or the disk was full, and
// nobody has said no. After a restart, what is on disk may not.
func (cl *claim) open() bool {
	switch cl.outcome {
	case NoFrontEnd, Withdrawn, Locked:
		return cl.runs < maxRuns
	}
	return cl.untaken && cl.runs < maxRuns
}

// again says how a transaction that is over answers another delivery.
func again(o Outcome) Result {
	if o == OrgUnreachable {
		return Result{OrgUnreachable, "the answer could not be delivered; it is not signed twice"}
	}
	return Result{AlreadyAnswered, "this transaction was answered before"}
}

// sweep forgets expired claims when there are many. The caller holds cs.mu.
func (cs *Claims) sweep() {
	if len(cs.seen) < cs.sweepAt {
		return
	}
	today := cs.now().Unix()
	for k, cl := range cs.seen {
		if cl.run == nil && cl.expires < today {
			delete(cs.seen, k)
		}
	}
	cs.sweepAt = max(firstSweep, 2*len(cs.seen))
	cs.workers.Go(func() { _ = cs.journal.Rewrite(cs.keep) }) // a failure leaves a longer file
}

func (cs *Claims) keep(payload []byte) bool {
	_, expires, err := decodeClaim(payload)
	return err != nil || expires >= cs.now().Unix()-keepAtStart
}

func (cs *Claims) wait() { cs.workers.Wait() }

// keyOf digests what identifies a transaction; lengths keep the parts apart.
func keyOf(issuer, transaction, nonce string) claimKey {
	b := make([]byte, 0, 512)
	for _, s := range [...]string{issuer, transaction, nonce} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	sum := sha256.Sum256(b)
	return claimKey(sum[:16])
}

// A claim in the journal is one line: the key in hex, a blank, the expiry.
func encodeClaim(k claimKey, expires int64) []byte {
	b := hex.AppendEncode(make([]byte, 0, 48), k[:])
	return strconv.AppendInt(append(b, ' '), expires, 10)
}

var errClaim = errors.New("not a claim")

func decodeClaim(payload []byte) (k claimKey, expires int64, err error) {
	id, at, ok := strings.Cut(string(payload), " ")
	if !ok || len(id) != 2*len(k) {
		return k, 0, errClaim
	}
	if _, err := hex.Decode(k[:], []byte(id)); err != nil {
		return k, 0, errClaim
	}
	if expires, err = strconv.ParseInt(at, 10, 64); err != nil {
		return k, 0, errClaim
	}
	return k, expires, nil
}
