package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"countersign.dev/okta"
)

const (
	maxNotices    = 50  // as many as an org lists
	maxNoticeText = 255 // runes of a device's name, 64 of the others
)

// Notices asks what happened to the user's other devices (extension): what is
// newer than the notice with the id after, oldest first. Entries that are not
// understood are left out; what an entry says comes from other devices, and is
// cleaned by whoever shows it.
func (o *Org) Notices(ctx context.Context, auth Authorization, enrolmentID string, after int64) ([]okta.Notice, error) {
	endpoint, err := o.enrolmentAt(okta.AppAuthenticatorsPath, enrolmentID)
	if err != nil {
		return nil, err
	}
	a, err := o.do(ctx, call{
		method: http.MethodGet, url: endpoint + okta.NoticesPath + "?after=" + strconv.FormatInt(max(after, 0), 10),
		auth: auth, accept: okta.AcceptVersion, limit: maxDocument,
	})
	if err != nil {
		return nil, err
	}
	var entries []json.RawMessage
	if err := o.decode(a, &entries); err != nil {
		return nil, err
	}
	var list []okta.Notice
	for _, raw := range entries[:min(len(entries), maxNotices)] {
		var n okta.Notice
		if json.Unmarshal(raw, &n) != nil || n.ID <= max(after, 0) || n.Event == "" ||
			len(list) > 0 && n.ID <= list[len(list)-1].ID ||
			len(n.Event) > 64 || len(n.EnrolmentID) > 64 || len(n.Created) > 64 || len([]rune(n.Device)) > maxNoticeText {
			continue
		}
		list = append(list, n)
	}
	return list, nil
}

// noticeID reads the id of the newest notice, 0 for none and for what is no id.
func noticeID(h http.Header) int64 {
	id, err := strconv.ParseInt(h.Get(okta.HeaderNotice), 10, 64)
	if err != nil || id < 0 {
		return 0
	}
	return id
}
