package daemon

import (
	"context"
	"fmt"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/challenge"
	"countersign.dev/daemon/push"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// newPoller waits for what is pushed to the accounts of c.
func (d *Daemon) newPoller(c *core) *push.Poller {
	return push.New(push.Config{
		Accounts: c.book, Authorize: c.book.Maintenance,
		List: func(ctx context.Context, a *account.Account, auth client.Authorization, url string, r client.PendingRequest) (client.PendingList, error) {
			org, err := c.book.Org(a.OrgURL)
			if err != nil {
				return client.PendingList{}, err
			}
			return org.Pending(ctx, auth, url, r)
		},
		Receive: func(ctx context.Context, account, token string) (later bool) {
			defer d.quiet.Reset(quietAfter)
			d.lookAround()
			return worthAnotherTry(c.pipeline.Receive(ctx, token, challenge.Transport{Kind: challenge.Push, Account: account}).Outcome)
		},
		Watched:  func() bool { return len(d.prompts.FrontEnds()) > 0 },
		Announce: func(ctx context.Context, a *account.Account) error { return d.announce(ctx, c, a) },
		Notices:  func(ctx context.Context, a *account.Account) error { return d.fetchNotices(ctx, c, a) },
		Network:  push.Network,
		Reconnect: func() {
			client.CloseIdle() // before anybody takes one of them
			c.pipeline.NetworkChanged()
		},
		Log: d.log,
	})
}

// worthAnotherTry says whether a push that came to nothing may come to
// something in a moment.
func worthAnotherTry(o challenge.Outcome) bool {
	switch o {
	case challenge.NoFrontEnd, challenge.Locked, challenge.OrgUnreachable:
		return true
	}
	return false
}

// justEnrolled is how long the org's offer of the enrolment is taken for that of
// today.
const justEnrolled = time.Minute

// announce brings the org's picture of an account's pushes up to date.
func (d *Daemon) announce(ctx context.Context, c *core, a *account.Account) error {
	if a.Dialect == account.Legacy {
		return nil // there an update replaces the whole enrolment, keys and all
	}
	org, err := c.book.Org(a.OrgURL)
	if err != nil {
		return err
	}
	u := push.Updates{
		Authorize: func(ctx context.Context, renew bool) (client.Authorization, error) {
			return c.book.Maintenance(ctx, a, renew)
		},
		Patch: func(ctx context.Context, auth client.Authorization, patch any) error {
			_, err := org.UpdateEnrolment(ctx, auth, a.EnrolmentID, patch)
			return err
		},
		Save: func(token string, transactions []string) error { return c.book.SetPushed(a.ID, token, transactions) },
	}
	if age := d.now().Sub(a.CreatedAt); age < 0 || age > justEnrolled {
		u.Offers = org.AuthenticatorConfiguration
	}
	return push.Update(ctx, a, u)
}

// nudge says that somebody would see a prompt now.
func (d *Daemon) nudge() {
	if c := d.core.Load(); c != nil {
		c.push.Nudge()
	}
}

// pushes says how each account is reached.
func (x *examination) pushes() {
	c := x.d.core.Load()
	if c == nil {
		return
	}
	channels := c.push.Channels()
	for _, a := range usableAccounts(c) {
		if _, ok := a.Method(okta.MethodPush); !ok {
			continue
		}
		channel, listening := channels[a.ID]
		x.channel(a, channel, listening)
	}
}

func (x *examination) channel(a *account.Account, c push.Channel, listening bool) {
	name, since := "push "+accountView(a).Name, "; no list has come yet"
	if !c.LastContact.IsZero() {
		since = fmt.Sprintf("; last contact %s ago", time.Since(c.LastContact).Round(time.Second))
	}
	switch {
	case a.PushesHeld:
		x.warn(name, "held back: a sign-in was reported", "when it is safe again: countersign prompt resume "+a.ID)
	case !listening:
		x.warn(name, "the org has named no address where pushes wait", "ask the org's administrator, or enrol again")
	case c.State == push.Connected:
		x.ok(name, "connected: the org tells at once when a sign-in waits"+since)
	case c.State == push.Polling:
		x.ok(name, fmt.Sprintf("asks about every %s%s", c.Every, since))
	case c.Err != nil:
		message := fmt.Sprintf("asking again: %v", c.Err)
		if !c.Until.IsZero() {
			message = fmt.Sprintf("waits until %s after an error: %v", c.Until.Local().Format("15:04:05"), c.Err)
		}
		x.warn(name, message+since, "what is pushed meanwhile is seen when it works again")
	default:
		x.ok(name, "asking"+since)
	}
}
