package daemon

import (
	"context"
	"sync"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/challenge"
	"countersign.dev/ipc/loopback"
)

// browsers is the agent as the loopback server sees it.
type browsers struct{ d *Daemon }

var _ loopback.Agent = browsers{}

// AllowOrigin says whether an account expects challenges from that page. For
// an unknown page the orgs are asked anew, at most once a minute.
func (b browsers) AllowOrigin(ctx context.Context, origin string) bool {
	d := b.d
	c := d.core.Load()
	if c == nil {
		for _, a := range d.index.Accounts {
			if account.OriginAllowed(a.Origins, origin) {
				return true
			}
		}
		return false
	}
	if c.book.AllowsOrigin(origin) {
		return true
	}
	if len(c.book.All()) == 0 || !d.refreshing.pass(time.Now()) {
		return false
	}
	// Not for this page alone: one that leaves at once must not spoil the turn.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshWait)
	defer cancel()
	if err := c.book.RefreshOrigins(ctx); err != nil {
		d.log.Info("pages of an org not refreshed", "error", err)
	}
	if c.book.AllowsOrigin(origin) {
		return true
	}
	// Once a minute is little enough for the record, too.
	_ = d.record(c, audit.Record{Event: "page_refused", Outcome: challenge.ForeignOrigin.String(), Reason: "no account's org lists this page", Origin: origin})
	return false
}

// Challenge runs one challenge to its end.
func (b browsers) Challenge(ctx context.Context, r loopback.Request) loopback.Reply {
	b.d.lookAround()
	c := b.d.core.Load()
	if c == nil {
		b.d.askForUnlock()
		return loopback.Locked
	}
	defer b.d.quiet.Reset(quietAfter)
	return replyTo(c.pipeline.Receive(ctx, r.Token, challenge.Transport{Kind: challenge.Loopback, Origin: r.Origin}).Outcome)
}

// replyTo says to the browser how a challenge ended. Whether it was approved
// or denied is for the org to tell.
func replyTo(o challenge.Outcome) loopback.Reply {
	switch o {
	case challenge.Approved, challenge.Denied, challenge.Reported:
		return loopback.Accepted
	case challenge.NotMine:
		return loopback.NotMine
	case challenge.Locked:
		return loopback.Locked
	case challenge.ForeignOrigin:
		return loopback.ForeignOrigin
	case challenge.Malformed, challenge.Forged:
		return loopback.Malformed
	case challenge.AlreadyAnswered:
		return loopback.AlreadyAnswered
	case challenge.Expired, challenge.Withdrawn:
		return loopback.Expired
	case challenge.NoFrontEnd:
		return loopback.NoFrontEnd
	case challenge.OrgUnreachable:
		return loopback.OrgUnreachable
	case challenge.OrgRefused:
		return loopback.OrgRefused
	}
	return loopback.Refused
}

// gate lets one pass a minute.
type gate struct {
	mu   sync.Mutex
	next time.Time
}

func (g *gate) pass(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.next) {
		return false
	}
	g.next = now.Add(refreshEvery)
	return true
}
