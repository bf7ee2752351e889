package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// Other devices of the person: what happened to them is on record, told to
// whoever listens, and a problem until it is acknowledged.
func TestNotices(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	acc := a.enrol(t, org)
	events := a.subscribed(t)
	org.Notify(acc.EnrolmentID, okta.Notice{ID: 4, Event: okta.NoticeEnrolled, EnrolmentID: acc.EnrolmentID, Device: "this very computer"})
	org.Notify(acc.EnrolmentID, okta.Notice{ID: 5, Event: okta.NoticeKeysReplaced, EnrolmentID: "pfdOther", Device: "work\u202eshop\x1b[2J",
		Created: okta.Timestamp(time.Now().Add(-2 * time.Minute))})
	a.nudge()
	var got api.Notice
	for e := range events {
		if e.Type == "notice" {
			got = *e.Notice
			break
		}
	}
	if got.Account != acc.ID || got.Event != okta.NoticeKeysReplaced || !strings.Contains(got.Message, "keys of the account") || strings.ContainsAny(got.Device+got.Message, "\u202e\x1b") {
		t.Fatalf("%+v", got)
	}
	s, said := a.problem(t, "keys_changed_elsewhere")
	if !said {
		t.Fatalf("%+v", s.Problems)
	}
	for _, p := range s.Problems {
		if p.Code == "keys_changed_elsewhere" && (!strings.Contains(p.Message, "2 minutes ago") || strings.Contains(p.Message, "more before")) {
			t.Errorf("%+v", p)
		}
	}
	list, err := a.client.Accounts(t.Context())
	if err != nil || len(list.Accounts[0].Notices) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if !slices.ContainsFunc(a.audit(t), func(r api.AuditRecord) bool {
		return r.Event == "notice" && r.Account == acc.ID && r.Outcome == okta.NoticeKeysReplaced
	}) {
		t.Error("not on record")
	}
	if now, err := a.client.Acknowledge(t.Context(), acc.ID); err != nil || len(now.Notices) != 0 {
		t.Errorf("%+v, %v", now, err)
	}
	if _, said := a.problem(t, "keys_changed_elsewhere"); said {
		t.Error("said still")
	}
	// What happens while the agent is away is said when it is back, and the rest
	// not again.
	_ = a.stop()
	org.Notify(acc.EnrolmentID, okta.Notice{ID: 9, Event: okta.NoticeEnrolled, EnrolmentID: "pfdAnother", Device: "attic", Created: okta.Timestamp(time.Now())})
	b := startAgent(t, a.config)
	said = false
	for by := time.Now().Add(20 * time.Second); !said && time.Now().Before(by); { // it asks by itself
		_, said = b.problem(t, "keys_changed_elsewhere")
	}
	list, err = b.client.Accounts(t.Context())
	if err != nil || len(list.Accounts[0].Notices) != 1 || list.Accounts[0].Notices[0].Device != "attic" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestNoticeWords(t *testing.T) {
	a := &account.Account{Username: "alice@example.com"}
	for event, want := range map[string]string{
		okta.NoticeEnrolled: "attic was added to the account", okta.NoticeSecurityKeyEnrolled: "the security key attic was added to the account",
		okta.NoticeVerificationRemoved: "attic does not verify you any more", "NEW_THING": "something changed",
	} {
		if got := noticeWords(a, account.Notice{Event: event, Device: "attic"}); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", event, got)
		}
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "a moment ago", 0: "a moment ago", time.Minute: "1 minute ago", 59 * time.Minute: "59 minutes ago",
		time.Hour: "1 hour ago", 47 * time.Hour: "47 hours ago", 49 * time.Hour: "2 days ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("%s: %q", d, got)
		}
	}
}
