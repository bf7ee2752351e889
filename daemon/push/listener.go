package push

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// The states of a Channel.
const (
	Starting   = "starting"    // no answer yet
	Connected  = "connected"   // the org holds its answer until there is something
	Polling    = "polling"     // the org is asked now and then
	BackingOff = "backing_off" // after an error, until Until
	Suspended  = "suspended"   // the org has suspended the account; asked rarely
)

// Channel is how the listener of one account is doing.
type Channel struct {
	State       string
	Every       time.Duration // while Polling
	Until       time.Time     // when the org is asked next, while it is not being asked
	LastContact time.Time     // the last list that came; zero for none
	Err         error         // why the last question failed; nil when it did not
}

// authorizeWait bounds getting a token.
const authorizeWait = 30 * time.Second

// errNetwork ends a question that is asked anew over the network of now.
var errNetwork = errors.New("the network has changed")

// listener asks for the list of one account.
type listener struct {
	p       *Poller
	id, url string
	cancel  context.CancelFunc
	wake    chan struct{}
	fresh   atomic.Bool // the network is another than that of earlier failures

	pace       pace
	etag       string
	asked      time.Time // when the last question began
	announced  bool
	looked     bool         // for what happened while nobody listened
	telling    atomic.Bool  // notices are being fetched
	untold     atomic.Int64 // unix nanoseconds before which they are not, after an error
	deliveries deliveries

	mu      sync.Mutex // guards what follows
	channel Channel
	again   context.CancelCauseFunc // ends the question under way; nil between questions
}

func newListener(p *Poller, id, url string) *listener {
	return &listener{p: p, id: id, url: url, wake: make(chan struct{}, 1), channel: Channel{State: Starting}, deliveries: deliveries{held: map[digest]*delivery{}}}
}

func (l *listener) state() Channel {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.channel
}

// nudge shortens a rest.
func (l *listener) nudge() { tell(l.wake) }

// restart begins the question under way anew, and ends a rest.
func (l *listener) restart() {
	l.fresh.Store(true)
	l.mu.Lock()
	again := l.again
	l.mu.Unlock()
	if again != nil {
		again(errNetwork)
		return
	}
	l.nudge()
}

// run asks and rests until ctx ends or the account cannot be pushed to.
func (l *listener) run(ctx context.Context) {
	defer l.deliveries.end()
	for ctx.Err() == nil {
		a := l.p.account(l.id, l.url)
		if a == nil {
			return // reconcile will notice, too
		}
		l.rest(ctx, l.round(ctx, a))
	}
}

// round asks once and hands over what is new.
func (l *listener) round(ctx context.Context, a *account.Account) pause {
	asking, again := context.WithCancelCause(ctx)
	defer again(nil)
	l.mu.Lock()
	l.again, l.channel.Until = again, time.Time{}
	l.mu.Unlock()
	if l.fresh.Swap(false) {
		l.pace = pace{}
	}
	if !l.looked { // an org that waits may say so in a minute only
		l.looked = true
		l.notices(ctx, a)
	}
	l.asked = time.Now()
	list, err := l.ask(asking, a)
	took := time.Since(l.asked)
	l.mu.Lock()
	l.again = nil
	l.mu.Unlock()
	select { // what was wished for while asking has been done
	case <-l.wake:
	default:
	}
	switch {
	case ctx.Err() != nil:
		return pause{}
	case err != nil && errors.Is(context.Cause(asking), errNetwork):
		return pause{state: Starting}
	case err != nil:
		return l.failed(a, err, took)
	}
	return l.heard(ctx, a, list, took)
}

// ask gets the list, with a new token if the org does not like the present one.
func (l *listener) ask(ctx context.Context, a *account.Account) (client.PendingList, error) {
	for renew := false; ; renew = true {
		authorizing, cancel := context.WithTimeout(ctx, authorizeWait)
		auth, err := l.p.Authorize(authorizing, a, renew)
		cancel()
		if err != nil {
			return client.PendingList{}, err
		}
		list, err := l.p.List(ctx, a, auth, l.url, client.PendingRequest{Wait: true, ETag: l.etag})
		if renew || !unauthorised(err) {
			return list, err
		}
	}
}

func (l *listener) failed(a *account.Account, err error, took time.Duration) pause {
	longest := longestBackoff
	if l.p.blind.Load() {
		longest = longestBackoffBlind
	}
	rest := l.pace.failed(err, took, longest, time.Now(), l.p.random)
	l.mu.Lock()
	first := l.channel.Err == nil
	l.channel.Err = err
	l.mu.Unlock()
	if first { // an outage is one line, not one each time
		l.p.Log.Info("pending challenges not read", "account", a.ID, "error", err)
	}
	var refusal *okta.Error
	if errors.As(err, &refusal) {
		l.p.Accounts.Refused(a.ID, refusal)
	}
	return rest
}

func (l *listener) heard(ctx context.Context, a *account.Account, list client.PendingList, took time.Duration) pause {
	l.mu.Lock()
	l.channel.LastContact, l.channel.Err = time.Now(), nil
	l.mu.Unlock()
	l.p.Accounts.Succeeded(a.ID)
	changed := false
	if !list.Unchanged {
		changed = l.deliveries.sync(ctx, l, list.Challenges)
	}
	l.etag = list.ETag
	if !l.announced && l.p.Announce != nil {
		l.announced = true
		l.deliveries.work.Go(func() {
			if err := l.p.Announce(ctx, a); err != nil {
				l.p.Log.Info("the org was not told how to push", "account", a.ID, "error", err)
			}
		})
	}
	l.told(ctx, a, list.Notice)
	return l.pace.after(list, took, changed, l.p.Watched(), l.p.random)
}

// noticesAgain is how long after an error notices are not asked for.
const noticesAgain = time.Minute

// told has the notices fetched that a list spoke of, if they are new.
func (l *listener) told(ctx context.Context, a *account.Account, newest int64) {
	if now := l.p.account(l.id, l.url); now != nil {
		a = now // what was fetched during this question has been seen
	}
	if newest > a.NoticeSeen {
		l.notices(ctx, a)
	}
}

// notices has them fetched, one fetch at a time, and none soon after one failed.
func (l *listener) notices(ctx context.Context, a *account.Account) {
	if l.p.Notices == nil || time.Now().UnixNano() < l.untold.Load() || !l.telling.CompareAndSwap(false, true) {
		return
	}
	l.deliveries.work.Go(func() {
		defer l.telling.Store(false)
		if err := l.p.Notices(ctx, a); err != nil {
			l.untold.Store(time.Now().Add(noticesAgain).UnixNano())
			l.p.Log.Info("notices not read", "account", a.ID, "error", err)
		}
	})
}

// rest waits as long as p says, or until somebody is impatient and may be.
func (l *listener) rest(ctx context.Context, p pause) {
	end := time.Now().Add(p.length)
	l.mu.Lock()
	if p.state != "" {
		l.channel.State, l.channel.Every = p.state, p.every
	}
	if p.length > 0 {
		l.channel.Until = end
	}
	l.mu.Unlock()
	for {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-l.wake:
			timer.Stop()
			if soon := l.asked.Add(spacing); !p.firm && soon.Before(end) {
				end = soon
			}
		}
	}
}
