// Package push waits for the challenges that orgs push to this device: one
// listener for each usable account that has enrolled push.
//
// Parties: the org, which holds a list of what waits for an enrolment; the
// network in between, which comes and goes; the pipeline, which believes
// nothing that is on a list. A listener asks for the list and hands each entry
// over once; what leaves the list again, answered elsewhere or withdrawn, it
// takes back.
//
// How long it waits between two questions is the org's choice first: one that
// holds its answer back until there is something to say is asked again at once;
// one that cannot is asked every ten seconds while somebody is there to see a
// prompt, every minute otherwise; one that says when to come back is obeyed. In
// all other trouble the listener backs off, and comes back at once when the
// network does. There are no tickers: an idle agent wakes up when an answer
// comes, and not otherwise.
package push

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// Accounts is what the poller needs of the book of accounts.
type Accounts interface {
	All() []*account.Account
	Succeeded(id string)
	Refused(id string, e *okta.Error)
}

// Config holds the parts of a poller. All but Announce, Notices, Network, Reconnect and
// Log are required.
type Config struct {
	Accounts Accounts
	// Authorize returns what the account authorises itself with; renew asks
	// for a new one, after the org has refused the present one.
	Authorize func(ctx context.Context, a *account.Account, renew bool) (client.Authorization, error)
	// List asks the account's org for its pending list at url.
	List func(ctx context.Context, a *account.Account, auth client.Authorization, url string, r client.PendingRequest) (client.PendingList, error)
	// Receive takes one challenge to its end. later means that it may be worth
	// another try. The end of ctx takes the challenge back.
	Receive func(ctx context.Context, account, token string) (later bool)
	// Watched says whether somebody is there to see a prompt.
	Watched func() bool
	// Announce brings the org's picture of the account's pushes up to date. It
	// is called once, after the first contact.
	Announce func(ctx context.Context, a *account.Account) error
	// Notices fetches what happened to other devices of the account's person. It
	// is called at first, and when a list says that there is something newer than
	// was seen; it may be nil.
	Notices func(ctx context.Context, a *account.Account) error
	// Network calls changed whenever the network has changed for the better,
	// until ctx ends; an error means that nobody tells (any more). See Network.
	Network func(ctx context.Context, changed func()) error
	// Reconnect drops kept connections, which a change of network may have cut
	// without a word.
	Reconnect func()
	Log       *slog.Logger

	random func() float64 // in [0,1); tests
}

const (
	// calm is how long after a change of network the next one is looked at:
	// they come in bursts.
	calm = 2 * time.Second
	// longestBackoff bounds the back-off; shorter where nobody tells that the
	// network has come back.
	longestBackoff      = 5 * time.Minute
	longestBackoffBlind = time.Minute
)

// Poller listens for all accounts. Use New, then Run.
type Poller struct {
	Config
	changed chan struct{}
	network chan struct{}
	blind   atomic.Bool // nobody tells when the network comes back

	mu        sync.Mutex // guards listeners
	listeners map[string]*listener
	work      sync.WaitGroup
}

// New makes a poller that does nothing yet.
func New(c Config) *Poller {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.random == nil {
		c.random = rand.Float64
	}
	if c.Reconnect == nil {
		c.Reconnect = func() {}
	}
	p := &Poller{Config: c, changed: make(chan struct{}, 1), network: make(chan struct{}, 1), listeners: map[string]*listener{}}
	p.blind.Store(c.Network == nil)
	return p
}

// Run listens until ctx ends, and returns when everything that it started has
// ended.
func (p *Poller) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer p.work.Wait()
	defer cancel()
	if p.Network != nil {
		p.work.Go(func() {
			if err := p.Network(ctx, func() { tell(p.network) }); err != nil && ctx.Err() == nil {
				p.blind.Store(true)
				p.Log.Info("changes of the network are not seen", "error", err)
			}
		})
	}
	network, rest := p.network, (<-chan time.Time)(nil)
	for {
		p.reconcile(ctx)
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		case <-network:
			p.reconnect()
			// What follows within a moment is one change, seen at its end.
			network, rest = nil, time.After(calm)
		case <-rest:
			network, rest = p.network, nil
		}
	}
}

// Changed says that the accounts may have changed. It never blocks.
func (p *Poller) Changed() { tell(p.changed) }

// tell leaves word, unless some is there already.
func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Restart asks anew for all accounts, over new connections: the computer has
// slept, and what was open may be dead without a word.
func (p *Poller) Restart() { p.reconnect() }

// Nudge says that somebody wants to know now: a front end has come, or asks.
func (p *Poller) Nudge() {
	p.each(func(l *listener) { l.nudge() })
}

// Channels returns how the listeners are doing, by account.
func (p *Poller) Channels() map[string]Channel {
	all := map[string]Channel{}
	p.each(func(l *listener) { all[l.id] = l.state() })
	return all
}

func (p *Poller) each(do func(*listener)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.listeners {
		do(l)
	}
}

func (p *Poller) reconnect() {
	p.Reconnect()
	p.each(func(l *listener) { l.restart() })
}

// reconcile starts and ends listeners so that there is one for each account
// that can be pushed to.
func (p *Poller) reconcile(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := map[string]string{} // id -> address of the list
	for _, a := range p.Accounts.All() {
		if url, ok := listOf(a); ok {
			wanted[a.ID] = url
		}
	}
	for id, l := range p.listeners {
		if wanted[id] != l.url {
			l.cancel()
			delete(p.listeners, id)
		}
	}
	for id, url := range wanted {
		if p.listeners[id] != nil || ctx.Err() != nil {
			continue
		}
		l := newListener(p, id, url)
		var listening context.Context
		listening, l.cancel = context.WithCancel(ctx)
		p.listeners[id] = l
		p.work.Go(func() { l.run(listening) })
	}
}

// listOf returns where the challenges of an account wait.
func listOf(a *account.Account) (url string, ok bool) {
	m, ok := a.Method(okta.MethodPush)
	return m.PendingURL, ok && a.Usable() && m.PendingURL != ""
}

// account returns the account as it is now; nil when it cannot be pushed to
// any more.
func (p *Poller) account(id, url string) *account.Account {
	for _, a := range p.Accounts.All() {
		if a.ID == id {
			if now, ok := listOf(a); ok && now == url {
				return a
			}
		}
	}
	return nil
}
