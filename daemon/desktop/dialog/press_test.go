package dialog

import (
	"context"
	"slices"
	"testing"
	"time"

	"countersign.dev/daemon/desktop/dialog/winform"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// One button approves, whatever else comes.
func TestB3OneButtonApproves(t *testing.T) {
	want := map[int]Verdict{idApprove: Approve, idDeny: Deny, idReport: Report}
	for id := -1; id < 1<<16; id++ {
		if got := pressed(id); got != want[id] {
			t.Errorf("button %d is %d, want %d", id, got, want[id])
		}
	}
	if len(want) != 3 || idNotNow != 2 {
		t.Errorf("ids collide, or Escape is not Not now: %v, %d", want, idNotNow)
	}
}

func TestSooner(t *testing.T) {
	shown := time.Now()
	for after, want := range map[time.Duration]bool{
		-time.Hour: true, 0: true, readyAfter - 1: true, readyAfter: false, time.Minute: false,
	} {
		if got := sooner(shown, shown.Add(after)); got != want {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
}

func TestComplete(t *testing.T) {
	two := []Choice{{ID: "a"}, {ID: "b"}}
	for _, c := range []struct {
		q      Question
		choice string
		typed  int
		want   bool
	}{
		{Question{}, "", 0, true},
		{Question{Entry: Number}, "", 0, false},
		{Question{Entry: Number}, "", 1, true},
		{Question{Entry: PIN}, "", 0, false},
		{Question{Entry: PIN, Optional: true}, "", 0, true},
		{Question{Choices: two}, "", 0, false},
		{Question{Choices: two}, "c", 0, false},
		{Question{Choices: two}, "b", 0, true},
		{Question{Choices: two, Entry: PIN}, "b", 0, false},
		{Question{Choices: two, Entry: PIN}, "", 4, false},
	} {
		if got := complete(c.q, c.choice, c.typed); got != c.want {
			t.Errorf("%+v with choice %q and %d typed: %v", c.q, c.choice, c.typed, got)
		}
	}
}

// What comes after the end is nothing, and what does not approve carries nothing.
func TestTaken(t *testing.T) {
	now := time.Now()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		until   time.Time
		verdict Verdict
		want    Verdict
		carries bool
	}{
		"approved":       {t.Context(), now.Add(time.Second), Approve, Approve, true},
		"without an end": {t.Context(), time.Time{}, Approve, Approve, true},
		"too late":       {t.Context(), now, Approve, Closed, false},
		"cancelled":      {over, now.Add(time.Second), Approve, Closed, false},
		"denied late":    {t.Context(), now, Deny, Closed, false},
		"denied":         {t.Context(), now.Add(time.Second), Deny, Deny, false},
		"reported":       {t.Context(), now.Add(time.Second), Report, Report, false},
		"closed":         {t.Context(), now.Add(time.Second), Closed, Closed, false},
	} {
		pin := api.PIN("1234")
		got := taken(c.ctx, Question{Until: c.until}, Answer{Verdict: c.verdict, Choice: "a", Number: "42", PIN: pin}, now)
		if got.Verdict != c.want {
			t.Errorf("%s: %d, want %d", name, got.Verdict, c.want)
		}
		carries := got.Choice == "a" && got.Number == "42" && string(got.PIN) == "1234"
		empty := got.Choice == "" && got.Number == "" && got.PIN == nil
		if c.carries && !carries || !c.carries && !empty {
			t.Errorf("%s: carries %+v", name, got)
		}
		if !c.carries && !slices.Equal(pin, make(api.PIN, 4)) {
			t.Errorf("%s: the PIN is left in memory", name)
		}
	}
}

// A form has all that the question says, its ids are its own, and the first
// button, which Enter presses, decides nothing.
func TestForm(t *testing.T) {
	q := Question{
		Unusual: []string{"New place: Lisbon"}, Heading: "Sign in to Payroll?", Problem: "That PIN was wrong.",
		Facts:   []describe.Fact{{Name: "account", Value: "alice"}, {Name: "from", Value: "Lisbon"}},
		Choices: []Choice{{ID: "a", Name: "one"}, {ID: "b", Name: "two"}}, Entry: PIN, Report: true,
	}
	var texts []string
	ids := map[int]bool{}
	var buttons []int
	for _, p := range form(q) {
		if p.Text != "" {
			texts = append(texts, p.Text)
		}
		if ids[p.ID] {
			t.Errorf("id %d is there twice", p.ID)
		}
		ids[p.ID] = true
		if p.Kind == winform.Button {
			buttons = append(buttons, p.ID)
		} else if pressed(p.ID) != Closed {
			t.Errorf("%q has the id of a button", p.Text)
		}
	}
	want := []string{"New place: Lisbon", "Sign in to Payroll?", "Account", "alice", "From", "Lisbon"}
	want = append(want, newPage(q).advice...)
	want = append(want, sayAccount, "That PIN was wrong.", sayPIN, buttonNotNow, buttonApprove, buttonDeny, buttonReport)
	if !slices.Equal(texts, want) {
		t.Errorf("it says\n%q, want\n%q", texts, want)
	}
	if want := []int{idNotNow, idApprove, idDeny, idReport}; !slices.Equal(buttons, want) {
		t.Errorf("buttons %v, want %v", buttons, want)
	}
	if !ids[idEntry] || !ids[idChoices] {
		t.Error("entry or choices are missing")
	}
	for _, p := range form(Question{Entry: Number}) {
		if p.ID == idReport || p.ID == idChoices {
			t.Errorf("%+v was not asked for", p)
		}
	}
}

func TestReading(t *testing.T) {
	parts := reading([]string{"one", "two & three"})
	if parts[0].Text != "one\r\ntwo & three" || parts[1].ID != idNotNow {
		t.Errorf("%+v", parts)
	}
}
