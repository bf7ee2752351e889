package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// Somebody who has a person's password and second factor may enrol a device of
// their own, or give one other keys. Orgs that speak the extension tell the
// devices that the person had before, and these tell the person: on record, to
// whoever listens, and as a problem until the person says that they have seen it.

// maxDevice is how much of another device's name is kept.
const maxDevice = 64

// fetchNotices asks an account's org what is new, and tells the person.
func (d *Daemon) fetchNotices(ctx context.Context, c *core, a *account.Account) error {
	ctx, cancel := context.WithTimeout(ctx, orgWait)
	defer cancel()
	org, err := c.book.Org(a.OrgURL)
	if err != nil {
		return err
	}
	auth, err := c.book.Maintenance(ctx, a, false)
	if err != nil {
		return err
	}
	list, err := org.Notices(ctx, auth, a.EnrolmentID, a.NoticeSeen)
	var refusal *okta.Error
	var odd *client.UnexpectedAnswer
	if errors.As(err, &refusal) && refusal.HTTPStatus == http.StatusNotFound || errors.As(err, &odd) && odd.Status == http.StatusNotFound {
		return nil // an org without them
	}
	if err != nil {
		return fmt.Errorf("ask for notices: %w", err)
	}
	var kept []account.Notice
	for _, n := range list {
		at, err := time.Parse(time.RFC3339, n.Created)
		if now := d.now(); err != nil || at.After(now) {
			at = now // another's clock, or no time at all
		}
		kept = append(kept, account.Notice{ID: n.ID, Event: prompt.Clean(n.Event, maxDevice), EnrolmentID: prompt.Clean(n.EnrolmentID, maxShown),
			Device: prompt.Clean(n.Device, maxDevice), At: at.UTC()})
	}
	fresh, err := c.book.NoteNotices(a.ID, a.NoticeSeen, kept)
	if err != nil {
		return err
	}
	for _, n := range fresh {
		_ = d.record(c, audit.Record{Event: "notice", Outcome: n.Event, Account: a.ID, Reason: n.Device})
		view := noticeView(a, n)
		d.hub.publish(api.Event{Type: "notice", Notice: &view})
	}
	return nil
}

func noticeView(a *account.Account, n account.Notice) api.Notice {
	return api.Notice{Account: a.ID, Event: n.Event, Device: n.Device, At: n.At, Message: noticeWords(a, n)}
}

// noticeWords says what happened.
func noticeWords(a *account.Account, n account.Notice) string {
	device, of := n.Device, "the account "+accountView(a).Name
	if device == "" {
		device = "a device without a name"
	}
	switch n.Event {
	case okta.NoticeEnrolled:
		return device + " was added to " + of
	case okta.NoticeSecurityKeyEnrolled:
		return "the security key " + device + " was added to " + of
	case okta.NoticeKeysReplaced:
		return "keys of " + of + " changed on " + device
	case okta.NoticeVerificationAdded, okta.NoticeVerificationReplaced:
		return "the way to verify you changed for " + of + " on " + device
	case okta.NoticeVerificationRemoved:
		return device + " does not verify you any more for " + of
	}
	return "something changed for " + of + " on " + device + " (" + n.Event + ")"
}

// noticeProblems are the notices that the person has not acknowledged, the
// newest in words and the others by number.
func (c *core) noticeProblems(a *account.Account, now time.Time) []api.Problem {
	list := c.book.Unacknowledged(a)
	if len(list) == 0 {
		return nil
	}
	newest := list[len(list)-1]
	message := noticeWords(a, newest) + ", " + ago(now.Sub(newest.At))
	if more := len(list) - 1; more > 0 {
		message += fmt.Sprintf("; and %d more before", more)
	}
	return []api.Problem{{Code: "keys_changed_elsewhere", Message: message,
		Hint: "if that was you: countersign account acknowledge " + a.ID + "; if not, change your password, remove that device at " + host(a.OrgURL) + ", and tell its administrator"}}
}

// ago says how long ago something was, roughly.
func ago(d time.Duration) string {
	plural := func(n int, unit string) string {
		if n == 1 {
			return "1 " + unit + " ago"
		}
		return fmt.Sprintf("%d %ss ago", n, unit)
	}
	switch {
	case d < time.Minute:
		return "a moment ago"
	case d < time.Hour:
		return plural(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return plural(int(d/time.Hour), "hour")
	}
	return plural(int(d/(24*time.Hour)), "day")
}
