package account

import (
	"slices"
	"time"
)

// Notice is something that happened to another device of the same person, which
// they should hear of. Its words come from elsewhere: they are cleaned and
// bounded before they get here.
type Notice struct {
	ID          int64     `json:"id"`
	Event       string    `json:"event"` // okta.NoticeEnrolled, …
	EnrolmentID string    `json:"enrolmentId"`
	Device      string    `json:"device"`
	At          time.Time `json:"at"`
}

// maxNotices bounds what waits for a person's acknowledgement; the newest count.
const maxNotices = 20

// NoteNotices keeps notices of an account until they are acknowledged, and
// remembers the newest that was seen, so that none is fetched twice. It returns
// those that are new and not of this computer's own doing.
func (b *Book) NoteNotices(id string, seen int64, list []Notice) ([]Notice, error) {
	a, err := b.Get(id)
	if err != nil {
		return nil, err
	}
	var fresh []Notice
	for _, n := range list {
		if n.ID > a.NoticeSeen && !b.Ours(a, n) {
			fresh = append(fresh, n)
		}
	}
	if seen <= a.NoticeSeen && len(fresh) == 0 {
		return nil, nil
	}
	_, err = b.update(id, func(a *Account) {
		for _, n := range list {
			seen = max(seen, n.ID)
		}
		a.NoticeSeen = max(a.NoticeSeen, seen)
		all := append(slices.Clone(a.Notices), fresh...)
		a.Notices = all[max(0, len(all)-maxNotices):]
	})
	if err != nil {
		return nil, err
	}
	return fresh, nil
}

// Ours says whether a notice is about another account of this computer: what
// happened to it, the person did here.
func (b *Book) Ours(a *Account, n Notice) bool {
	return slices.ContainsFunc(b.All(), func(other *Account) bool {
		return other.OrgURL == a.OrgURL && other.OrgID == a.OrgID && other.EnrolmentID == n.EnrolmentID && n.EnrolmentID != ""
	})
}

// Unacknowledged are the notices that wait for the person.
func (b *Book) Unacknowledged(a *Account) []Notice {
	return slices.DeleteFunc(slices.Clone(a.Notices), func(n Notice) bool { return b.Ours(a, n) })
}

// Acknowledge forgets the notices of an account: the person has seen them.
func (b *Book) Acknowledge(id string) (*Account, error) {
	a, err := b.Get(id)
	if err != nil || len(a.Notices) == 0 {
		return a, err
	}
	return b.update(id, func(a *Account) { a.Notices = nil })
}
