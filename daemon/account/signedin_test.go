package account

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

const aliceToken = "the-token-of-alice"

// signsIn enrols by the token that a sign-in brought.
func (m *machine) signsIn(ctx context.Context, orgURL, userID string) (*Account, error) {
	p, err := m.Prospect(ctx, orgURL)
	if err != nil {
		return nil, err
	}
	return m.EnrolSignedIn(ctx, p, Person{UserID: userID, Username: "alice@example.com", Authorization: client.Bearer(aliceToken)}, "")
}

func TestEnrolSignedIn(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	a, err := m.signsIn(t.Context(), org.URL, "00uAlice")
	if err != nil || a.State != Active || a.UserID != "00uAlice" || a.Pending != nil || a.Dialect != Modern {
		t.Fatalf("%+v, %v", a, err)
	}
	m.settled(t, org)
	// A person may enrol at once by a link, too.
	if _, err := m.EnrolByLink(t.Context(), org.link("two"), "", nil); err != nil || len(m.All()) != 2 {
		t.Fatalf("%d, %v", len(m.All()), err)
	}
	// The org has forgotten the device meanwhile: once more, as a new one.
	org.set(func() { org.forgot = true })
	if _, err := m.signsIn(t.Context(), org.URL, "00uAlice"); err != nil {
		t.Fatal(err)
	}
	if last := org.posts[len(org.posts)-1].Device; last.ID != "" || last.ClientInstanceKey == nil {
		t.Fatalf("%+v", last)
	}
	if _, err := m.EnrolSignedIn(t.Context(), Prospect{}, Person{UserID: "u"}, ""); err == nil {
		t.Fatal("enrolled without a token")
	}
}

// The person's token is in no file, at no step.
func TestTokenOfASignInIsNotWritten(t *testing.T) {
	org := newStrictOrg(t)
	dir := t.TempDir() + "/state"
	m := boot(t, dir)
	looked := 0
	m.step = func(string) {
		looked++
		for _, a := range m.All() {
			if b, _ := json.Marshal(a); strings.Contains(string(b), aliceToken) {
				t.Fatalf("in the book: %s", b)
			}
		}
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), aliceToken) {
				t.Fatalf("in %s", path)
			}
			return nil
		})
	}
	if _, err := m.signsIn(t.Context(), org.URL, "00uAlice"); err != nil || looked < 5 {
		t.Fatalf("%v, %d steps", err, looked)
	}
}

// An answer that was lost: while the agent runs, the same person's next sign-in
// finishes what was begun, with the same keys; somebody else's does not.
func TestLostAnswer(t *testing.T) {
	for _, row := range []struct {
		next  string
		posts int // with the keys of the first
	}{{"00uAlice", 2}, {"00uBob", 1}} {
		org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
		org.makes = func(e *okta.Enrolment) { e.User.ID = row.next }
		org.set(func() { org.down = 500 })
		if _, err := m.signsIn(t.Context(), org.URL, "00uAlice"); err == nil || len(m.All()) != 1 || m.All()[0].State != Enrolling {
			t.Fatalf("%v, %+v", err, m.All())
		}
		org.set(func() { org.down = 0 })
		if _, err := m.signsIn(t.Context(), org.URL, row.next); err != nil {
			t.Fatal(err)
		}
		same := 0
		for _, p := range org.posts {
			if kidOf(p) == kidOf(org.posts[0]) {
				same++
			}
		}
		if same != row.posts {
			t.Errorf("%s: %d requests with the first keys, want %d", row.next, same, row.posts)
		}
		m.settled(t, org)
	}
}

// The org enrols another user than the one that signed in: that is not what was
// asked for, and is not kept.
func TestE5OtherUsersEnrolment(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	if _, err := m.signsIn(t.Context(), org.URL, "00uMallory"); !errors.Is(err, ErrOtherUser) {
		t.Fatal(err)
	}
	if len(m.All()) != 0 || m.storedKeys(t) != 0 {
		t.Fatalf("%d accounts, %d keys", len(m.All()), m.storedKeys(t))
	}
}

// Another registration of this device is under way at the org: a little later.
func TestRegistrationInProgress(t *testing.T) {
	for _, busy := range []int{1, 100} {
		org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
		org.busy = busy
		var waited time.Duration
		m.sleep = func(_ context.Context, d time.Duration) error { waited += d; return nil }
		_, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
		if busy == 1 {
			if err != nil || len(org.posts) != 2 || waited != time.Second {
				t.Fatalf("%v, %d posts after %s", err, len(org.posts), waited)
			}
			continue
		}
		// For ever: it stays pending, and the next try goes on.
		if waited != 7*time.Second || !registrationPending(err) || len(m.All()) != 1 || m.All()[0].State != Enrolling {
			t.Fatalf("%v, %+v", err, m.All())
		}
		org.set(func() { org.busy = 0 })
		if _, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil); err != nil {
			t.Fatal(err)
		}
		m.settled(t, org)
	}
}

func TestOrgAddress(t *testing.T) {
	for in, want := range map[string]string{
		"id.example.com": "https://id.example.com", " https://id.example.com ": "https://id.example.com",
		"http://localhost:8080": "http://localhost:8080", "localhost:8080": "https://localhost:8080", "": "",
	} {
		if got := OrgAddress(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestSameUser(t *testing.T) {
	for _, row := range []struct {
		typed, is string
		want      bool
	}{
		{"alice@example.com", "Alice@Example.com", true}, {"alice", "alice@example.com", true}, {"ALICE", "alice", true},
		{"alice@example.com", "alice@other.com", false}, {"bob", "alice@example.com", false}, {"", "alice@example.com", false},
		{"alice@example.com", "alice", false}, {"ali", "alice@example.com", false},
	} {
		if got := SameUser(row.typed, row.is); got != row.want {
			t.Errorf("%q, %q: %v", row.typed, row.is, got)
		}
	}
}

// What the codes of 2.7 call for. Nothing but 410 with its codes ends an
// enrolment.
func TestReactions(t *testing.T) {
	for _, row := range []struct {
		code            okta.ErrorCode
		status          int
		using, creating Reaction
	}{
		{okta.CodeValidation, 400, Surface, Surface},
		{okta.CodeAuthentication, 401, Surface, Surface},
		{okta.CodeForbidden, 403, Surface, Surface},
		{okta.CodeNotFound, 404, Surface, Surface},
		{okta.CodePathNotFound, 404, Surface, Surface},
		{okta.CodePathNotFound, 410, Surface, Surface},
		{"", 404, Surface, Surface},
		{"", 410, Surface, Surface},
		{okta.CodeInternal, 500, RetryLater, RetryLater},
		{"", 503, RetryLater, RetryLater},
		{"", 429, RetryLater, RetryLater},
		{okta.CodeInvalidToken, 401, Surface, NewDevice},
		{okta.CodeFeatureDisabled, 401, Surface, Surface},
		{okta.CodeTooManyRequests, 429, RetryLater, RetryLater},
		{okta.CodeDeviceSuspended, 403, Suspend, Surface},
		{okta.CodeDeviceDeleted, 410, Lost, NewDevice},
		{okta.CodeDeviceDeleted, 404, Surface, Surface},
		{okta.CodeEnrolmentDeleted, 410, Lost, Surface},
		{okta.CodeEnrolmentDeleted, 404, Surface, Surface},
		{okta.CodeEnrolmentDeleted, 500, RetryLater, RetryLater},
		{okta.CodeUserSuspended, 423, Suspend, Surface},
		{okta.CodeUserDeleted, 410, Lost, Surface},
		{okta.CodeUVRequired, 400, NeedsUV, NeedsUV},
		{okta.CodeEnrolmentSuspended, 423, Suspend, Surface},
		{okta.CodeOriginMismatch, 403, Phishing, Phishing},
		{okta.CodeBioOrPINRequired, 400, NeedsUV, NeedsUV},
		{okta.CodeRegistrationPending, 409, RetryLater, RetryLater},
		{"E0009999", 400, Surface, Surface},
	} {
		e := &okta.Error{Code: row.code, HTTPStatus: row.status}
		if got := React(e, Using); got != row.using {
			t.Errorf("%s %d, using: %d", row.code, row.status, got)
		}
		if got := React(e, Creating); got != row.creating {
			t.Errorf("%s %d, creating: %d", row.code, row.status, got)
		}
		if (React(e, Using) == Lost) != e.Gone() {
			t.Errorf("%s %d: gone by one account only", row.code, row.status)
		}
	}
}

// Suspended is shown, keeps the account in use, and ends by itself.
func TestSuspension(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	state := func() State { got, _ := m.Get(a.ID); return got.State }
	for _, code := range []okta.ErrorCode{okta.CodeDeviceSuspended, okta.CodeUserSuspended, okta.CodeEnrolmentSuspended} {
		m.Refused(a.ID, okta.NewError(code))
		if got, _ := m.Get(a.ID); got.State != Suspended || !got.Usable() {
			t.Errorf("%s: %s", code, got.State)
		}
		m.Succeeded(a.ID)
		if state() != Active {
			t.Errorf("%s: does not recover", code)
		}
	}
	for _, e := range []*okta.Error{okta.NewError(okta.CodePathNotFound), okta.NewError(okta.CodeNotFound), {HTTPStatus: 410}, {Code: okta.CodeEnrolmentDeleted, HTTPStatus: 404}} {
		if m.Refused(a.ID, e); state() != Active {
			t.Errorf("%v: %s", e, state())
		}
	}
	m.Refused(a.ID, okta.NewError(okta.CodeEnrolmentDeleted))
	if m.Succeeded(a.ID); state() != Gone || m.storedKeys(t) == 0 {
		t.Errorf("%s, %d keys: gone is shown, and the keys stay until it is removed", state(), m.storedKeys(t))
	}
	if err := m.Remove(t.Context(), a.ID, false); err != nil || m.storedKeys(t) != 0 || len(org.deleted) != 0 {
		t.Errorf("%v, %d keys", err, m.storedKeys(t))
	}
}

// The answer is lost, for a while or for good. Who signed in has a token for
// this call alone, and an org that took the request wants the device next time:
// the request is sent again, with the same keys, while the token is at hand.
func TestLostAnswerIsAskedForAgain(t *testing.T) {
	for _, lost := range []int{1, 5, 100} {
		org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
		org.set(func() { org.lose = lost })
		var waited time.Duration
		m.sleep = func(_ context.Context, d time.Duration) error { waited += d; return nil }
		_, err := m.signsIn(t.Context(), org.URL, "00uAlice")
		if lost < 100 {
			if err != nil || waited != time.Second<<lost-time.Second {
				t.Fatalf("%d lost: %v after %s", lost, err, waited)
			}
			m.settled(t, org)
			continue
		}
		if err == nil || waited != 31*time.Second || len(m.All()) != 1 || m.All()[0].State != Enrolling {
			t.Fatalf("all lost: %v after %s, %+v", err, waited, m.All())
		}
	}
	// A link can wait: it is asked for again at the next start.
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	org.set(func() { org.lose = 1 })
	m.sleep = func(context.Context, time.Duration) error { t.Error("waited"); return nil }
	if _, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil); err == nil {
		t.Fatal("an answer came")
	}
}
