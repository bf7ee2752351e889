package push

import (
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

const (
	// maxPending is how many challenges of an account are taken up at once.
	maxPending  = 32
	maxTries    = 6 // deliveries of one challenge that did not come to anything
	longestWait = 30 * time.Second
)

// digest identifies a token.
type digest [16]byte

func digestOf(token string) digest {
	sum := sha256.Sum256([]byte(token))
	return digest(sum[:16])
}

// delivery is one challenge of the list that was handed over.
type delivery struct {
	takeBack context.CancelCauseFunc
}

// deliveries are the challenges of one list. Only the listener's goroutine
// changes them.
type deliveries struct {
	held map[digest]*delivery // what is on the list now
	work sync.WaitGroup
}

// sync hands over what is new on the list and takes back what has left it. It
// says whether there was anything of either.
func (d *deliveries) sync(ctx context.Context, l *listener, list []okta.PendingChallenge) (changed bool) {
	listed := map[digest]bool{}
	for _, c := range list {
		listed[digestOf(c.Challenge)] = true
	}
	for id, known := range d.held {
		if !listed[id] {
			known.takeBack(prompt.ErrElsewhere)
			delete(d.held, id)
			changed = true
		}
	}
	for _, c := range newestFirst(list) {
		id := digestOf(c)
		if d.held[id] != nil || len(d.held) >= maxPending {
			continue
		}
		changed = true
		wanted, takeBack := context.WithCancelCause(ctx)
		d.held[id] = &delivery{takeBack}
		d.work.Go(func() {
			defer takeBack(nil)
			l.deliver(wanted, c)
		})
	}
	return changed
}

// end takes everything back and waits for it.
func (d *deliveries) end() {
	for _, known := range d.held {
		known.takeBack(nil)
	}
	d.work.Wait()
}

// newestFirst orders the tokens of a list by the time that they claim, and
// leaves out what is no push. Nothing rests on the claim but the order.
func newestFirst(list []okta.PendingChallenge) []string {
	type entry struct {
		token  string
		issued okta.NumericDate
	}
	var entries []entry
	for _, c := range list {
		token, err := jose.Parse(c.Challenge, jose.PushChallenge)
		if err != nil {
			continue
		}
		var claims struct {
			IssuedAt okta.NumericDate `json:"iat"`
		}
		if token.Claims(&claims) == nil {
			entries = append(entries, entry{c.Challenge, claims.IssuedAt})
		}
	}
	slices.SortStableFunc(entries, func(x, y entry) int { return int(min(max(y.issued-x.issued, -1), 1)) })
	tokens := make([]string, len(entries))
	for i, e := range entries {
		tokens[i] = e.token
	}
	return tokens
}

// deliver hands one challenge over, again when that may help.
func (l *listener) deliver(ctx context.Context, token string) {
	for n := range maxTries {
		if !l.p.Receive(ctx, l.id, token) || ctx.Err() != nil {
			return
		}
		wait := time.NewTimer(min(time.Second<<n, longestWait))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
	}
}
