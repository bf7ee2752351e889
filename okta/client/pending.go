package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"countersign.dev/okta"
)

const (
	// pendingGrace is what an answer may be late after a wait. A dead connection
	// shows sooner (keepAlive); this is for one that lives and brings nothing. It
	// is longer than a wait, because the runtime forgets a deadline that was met
	// only when it next has something to do: a short one would wake an idle agent
	// up between two answers.
	pendingGrace = 65 * time.Second
	// maxListed bounds the entries that are looked at: a person answers a
	// handful, and each costs a signature check.
	maxListed = 256
	maxETag   = 256 // bytes
)

// PendingRequest says how to ask for the list. The zero value asks for the list
// as it is, at once.
type PendingRequest struct {
	// Wait asks the org to hold its answer back until there is something to say
	// (okta.PreferWait). One that cannot answers at once.
	Wait bool
	// ETag is that of the list that the caller has; the answer may then be that
	// it has not changed.
	ETag string
}

// PendingList is what waits for an enrolment.
type PendingList struct {
	Challenges []okta.PendingChallenge // in the org's order, none of them verified
	Skipped    int                     // entries that are no challenges of a version we know
	Unchanged  bool                    // the caller's list is still good; Challenges is empty
	ETag       string                  // of this list; "" when the org gives none
	Waited     bool                    // the org waits when it is asked to
	// Notice is the id of the newest notice for the enrolment (see Notices), as
	// the list said beside itself; 0 when there is none.
	Notice int64
}

// Pending gets the challenges that wait at the "pending" link of a method. Each
// entry stands for itself: an odd one is left out, and does not hide the others.
func (o *Org) Pending(ctx context.Context, auth Authorization, pendingURL string, r PendingRequest) (PendingList, error) {
	if err := o.own(pendingURL); err != nil {
		return PendingList{}, err
	}
	c := call{
		method: http.MethodGet, url: pendingURL, auth: auth, accept: okta.AcceptVersion,
		limit: maxDocument, header: map[string]string{}, conditional: r.ETag != "",
	}
	if r.Wait {
		c.header["Prefer"] = okta.PreferWait
		c.timeout = okta.PreferWaitSeconds*time.Second + pendingGrace
	}
	if r.ETag != "" {
		c.header["If-None-Match"] = r.ETag
	}
	a, err := o.do(ctx, c)
	if err != nil {
		return PendingList{}, err
	}
	list := PendingList{
		Unchanged: a.status == http.StatusNotModified, ETag: etag(a.header),
		Waited: applied(a.header, "wait"), Notice: noticeID(a.header),
	}
	if list.Unchanged {
		if list.ETag == "" {
			list.ETag = r.ETag
		}
		return list, nil
	}
	var entries []json.RawMessage
	if err := o.decode(a, &entries); err != nil {
		return PendingList{}, err
	}
	for _, raw := range entries[:min(len(entries), maxListed)] {
		var entry okta.PendingChallenge
		if json.Unmarshal(raw, &entry) != nil || entry.PayloadVersion != okta.PayloadVersion || entry.Challenge == "" || len(entry.Challenge) > okta.MaxChallengeTokenSize {
			continue
		}
		list.Challenges = append(list.Challenges, entry)
	}
	list.Skipped = len(entries) - len(list.Challenges)
	return list, nil
}

// etag returns the validator of an answer, if it can be sent back.
func etag(h http.Header) string {
	tag := h.Get("ETag")
	if len(tag) > maxETag || strings.ContainsFunc(tag, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return tag
}

// applied says whether the server honoured a preference (RFC 7240, 3).
func applied(h http.Header, preference string) bool {
	for _, line := range h.Values("Preference-Applied") {
		for _, p := range strings.Split(line, ",") {
			name, _, _ := strings.Cut(p, "=")
			if name, _, _ = strings.Cut(name, ";"); strings.EqualFold(strings.TrimSpace(name), preference) {
				return true
			}
		}
	}
	return false
}
