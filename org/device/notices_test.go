package device_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// notices lists what an enrolment is told, as "event enrolment".
func (h *house) notices(e device.Enrolment, after int64) (out []string, newest int64) {
	h.t.Helper()
	storetest.Read(h.t, h.db, func(tx store.Tx) error {
		list, err := device.Notices(h.t.Context(), tx, e.ID, after, h.clock())
		if err != nil {
			return err
		}
		for _, n := range list {
			if n.ID <= newest {
				h.t.Errorf("not ascending: %+v", list)
			}
			newest = n.ID
			out = append(out, n.Event+" "+n.EnrolmentID)
		}
		id, err := device.NewestNotice(h.t.Context(), tx, e.ID, h.clock())
		if len(out) > 0 && id != newest {
			h.t.Errorf("the newest is %d, not %d", newest, id)
		}
		return err
	})
	return out, newest
}

// Each change is told to the user's other devices that are active, once, and to
// whoever waits for them; to nobody else's.
func TestNotices(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	var told []string
	h.OnNotice(func(ids []string) { told = append(told, ids...) })
	a := devicetest.New(t)
	e := h.enrol(a, h.alice)
	if len(told) != 0 {
		t.Errorf("the first device: told %v", told)
	}
	other, suspended, deleted := h.enrol(devicetest.New(t), h.alice), h.enrol(devicetest.New(t), h.alice), h.enrol(devicetest.New(t), h.alice)
	bobs := h.enrol(devicetest.New(t), h.bob)
	enrolled := func(by ...device.Enrolment) (out []string) {
		for _, e := range by {
			out = append(out, okta.NoticeEnrolled+" "+e.ID)
		}
		return out
	}
	want := func(what string, e device.Enrolment, after int64, want []string) int64 {
		t.Helper()
		got, newest := h.notices(e, after)
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		return max(newest, after)
	}
	want("own", e, 0, enrolled(other, suspended, deleted))
	want("last", deleted, 0, nil)
	want("bob's", bobs, 0, nil)
	storetest.Write(t, h.db, func(tx store.Tx) error {
		if err := device.SetStatus(ctx, tx, suspended.ID, device.StatusSuspended, h.clock()); err != nil {
			return err
		}
		return device.SetStatus(ctx, tx, deleted.ID, device.StatusDeleted, h.clock())
	})
	if again := h.enrol(a, h.alice); again.ID != e.ID {
		t.Fatal("not the same")
	}
	newest := want("others, after an answer that was lost", other, 0, enrolled(suspended, deleted))
	told = nil
	fresh := func() *devicetest.Key { return ptr(devicetest.NewKey(t)) }
	pin, pop := fresh(), fresh()
	for _, c := range []struct {
		name   string
		keys   bring
		signer devicetest.Key
		events string
	}{
		{"added", bring{noncePIN: pin, pushUV: fresh()}, a.PoP, okta.NoticeVerificationAdded},
		{"the same again", bring{noncePIN: pin}, a.PoP, ""},
		{"replaced", bring{pushUV: fresh()}, *pin, okta.NoticeVerificationReplaced},
		{"removed and added", bring{pushUV: nil, nonceUV: fresh()}, *pin, okta.NoticeVerificationAdded + " " + okta.NoticeVerificationRemoved},
		{"device key", bring{client: fresh()}, *pin, okta.NoticeKeysReplaced},
		{"all", bring{noncePoP: pop, pushPoP: pop, noncePIN: fresh(), nonceUV: nil, client: fresh()}, *pin, okta.NoticeKeysReplaced + " " + okta.NoticeVerificationRemoved},
		{"removed", bring{noncePIN: nil}, *pop, okta.NoticeVerificationRemoved},
	} {
		body := c.keys.body(t, agree(t, c.signer, h.agreement(e, c.keys)))
		if c.name == "removed" { // there is nothing to agree to
			body = c.keys.body(t, "")
		}
		told = nil
		if _, err := h.Update(ctx, device.AsUser(h.alice.ID), e.ID, patch(t, body)); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var events, ids []string
		for event := range strings.FieldsSeq(c.events) {
			events = append(events, event+" "+e.ID)
			ids = []string{other.ID}
		}
		if c.name == "removed and added" { // in either order
			got, _ := h.notices(other, newest)
			if len(got) == 2 && got[0] == events[1] {
				events[0], events[1] = events[1], events[0]
			}
		}
		newest = want(c.name, other, newest, events)
		if fmt.Sprint(told) != fmt.Sprint(ids) {
			t.Errorf("%s: woke %v, want %v", c.name, told, ids)
		}
	}
	// A refused change is no news, nor is one that keeps the keys.
	told = nil
	keys := bring{noncePoP: fresh()}
	_, err := h.Update(ctx, device.AsUser(h.alice.ID), e.ID, patch(t, keys.body(t, "")))
	h.wantCode("refused", err, okta.CodeForbidden)
	if _, err := h.Update(ctx, device.AsUser(h.alice.ID), e.ID, patch(t, `{"methods":{"push":{"pushToken":"x"}}}`)); err != nil {
		t.Fatal(err)
	}
	want("no news", other, newest, nil)
	want("suspended", suspended, 0, enrolled(deleted))
	if len(told) != 0 {
		t.Errorf("woke %v", told)
	}
}

// The newest fifty are listed, for thirty days; an id never comes back.
func TestNoticesAreBounded(t *testing.T) {
	h := newHouse(t)
	e := h.enrol(devicetest.New(t), h.alice)
	var last string
	for range 60 {
		last = h.enrol(devicetest.New(t), h.alice).ID
	}
	list, newest := h.notices(e, 0)
	if len(list) != 50 || list[49] != okta.NoticeEnrolled+" "+last {
		t.Errorf("%d notices, the last of them %s", len(list), list[len(list)-1])
	}
	h.pass(30*24*time.Hour - time.Second)
	if list, _ := h.notices(e, newest-1); len(list) != 1 {
		t.Errorf("nearly 30 days later: %v", list)
	}
	h.pass(time.Second)
	if list, newest := h.notices(e, 0); len(list) != 0 || newest != 0 {
		t.Errorf("30 days later: %v", list)
	}
	h.enrol(devicetest.New(t), h.alice)
	var rows int
	storetest.Read(t, h.db, func(tx store.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM notices WHERE enrolment_id = ?`, e.ID).Scan(&rows)
	})
	if _, next := h.notices(e, 0); rows != 1 || next <= newest {
		t.Errorf("%d rows are left; the next id is %d after %d", rows, next, newest)
	}
}
