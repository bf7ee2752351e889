package watch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"countersign.dev/cli/internal/layout"
	"countersign.dev/ipc/api"
)

var noon = time.Date(2026, 11, 22, 14, 5, 0, 0, time.Local)

// payroll is a sign-in that takes nothing but a yes.
func payroll(id string) api.Prompt {
	return api.Prompt{ID: id, Account: "acc-1", Kind: "push", App: "Payroll", Org: "https://id.example.com", User: "alice@example.com",
		Origin: "https://id.example.com", Location: "Lisbon", IP: "203.0.113.7", CreatedAt: noon.Add(-2 * time.Minute), ExpiresAt: noon.Add(4*time.Minute + time.Second),
		UserVerification: "none"}
}

// with changes a prompt.
func with(p api.Prompt, extras ...string) api.Prompt {
	for _, extra := range extras {
		switch extra {
		case "wiki":
			p.App = "Wiki"
		case "number":
			p.NeedsNumber, p.Numbers = true, []string{"17", "42", "8"}
		case "pin":
			p.UserVerification, p.VerificationMethods, p.TriesLeft = "required", append(p.VerificationMethods, "pin"), 3
		case "finger":
			p.UserVerification, p.VerificationMethods = "required", append(p.VerificationMethods, "fingerprint")
		case "key":
			p.UserVerification, p.VerificationMethods = "required", append(p.VerificationMethods, "security_key")
		case "likes":
			p.UserVerification = "preferred"
		case "locked":
			p.LockedUntil = noon.Add(2 * time.Minute)
		case "verified":
			p.Verified = true
		case "choices":
			p.Account, p.User = "", ""
			p.Choices = []api.Choice{{Account: "acc-1", User: "alice@example.com", UserVerification: "none"}, {Account: "acc-2", User: "bob@example.com", UserVerification: "required"}}
		case "browser":
			p.Kind = "signed_nonce"
		case "odd":
			p.Unusual = []string{"New place: Lisbon"}
		}
	}
	return p
}

// person plays a model: keys, events and time go in, what is asked of the world
// is noted.
type person struct {
	t    *testing.T
	m    *model
	now  time.Time
	sent []string // decisions, cancel, quit, …
	last *decision
	kept []string // lines that stay
}

func play(t *testing.T) *person {
	p := &person{t: t, m: newModel(false), now: noon}
	p.m.listed(api.PromptList{}, p.now)
	return p
}

// press presses keys as a person does, one by one.
func (p *person) press(keys ...string) {
	for _, k := range keys {
		p.now = p.now.Add(200 * time.Millisecond)
		p.burst(k)
	}
}

// burst has keys come at once, now.
func (p *person) burst(keys ...string) {
	var list []key
	for _, k := range keys {
		list = append(list, named(k))
	}
	p.note(p.m.keys(list, p.now))
	p.look()
}

func named(k string) key {
	for kind, name := range names {
		if k == name {
			return key{kind: kind}
		}
	}
	if bare, ok := strings.CutSuffix(k, "*"); ok {
		return key{kind: text, char: []rune(bare)[0], pasted: true}
	}
	return key{kind: text, char: []rune(k)[0]}
}

func (p *person) note(e effect) {
	if e.decide != nil {
		d := *e.decide
		p.last = e.decide
		s := d.prompt.ID + " " + d.Action
		for _, extra := range []struct{ name, value string }{{"account", d.Account}, {"number", d.Number}, {"pin", d.PIN.Reveal()}, {"by", d.Verification}} {
			if extra.value != "" {
				s += " " + extra.name + "=" + extra.value
			}
		}
		if d.Report {
			s += " report"
		}
		p.sent = append(p.sent, s)
	}
	for _, other := range []struct {
		done bool
		word string
	}{{e.cancel, "cancel"}, {e.quit, "quit"}, {e.suspend, "suspend"}, {e.redraw, "redraw"}, {e.refresh, "refresh"}} {
		if other.done {
			p.sent = append(p.sent, other.word)
		}
	}
}

// look draws.
func (p *person) look() string {
	lines := p.m.view(p.now)
	p.m.drawn(p.now)
	p.kept = append(p.kept, p.m.printed()...)
	for _, line := range lines {
		if layout.Width(line) >= p.m.cols && p.m.cols >= minCols {
			p.t.Errorf("wider than %d: %q", p.m.cols, line)
		}
	}
	if len(lines) >= p.m.rows && p.m.rows >= 4 {
		p.t.Errorf("%d lines of %d:\n%s", len(lines), p.m.rows, strings.Join(lines, "\n"))
	}
	return strings.Join(lines, "\n")
}

// ask has a prompt come, and waits until it can be answered.
func (p *person) ask(prompt api.Prompt) {
	p.m.event(api.Event{Type: "prompt", Prompt: &prompt}, p.now)
	p.look()
	p.now = p.now.Add(time.Second)
}

func (p *person) closes(id, outcome, reason string) {
	p.m.event(api.Event{Type: "prompt_closed", Outcome: &api.PromptOutcome{ID: id, Outcome: outcome, Reason: reason}}, p.now)
	p.look()
}

// settles ends the answer that is on its way; err may be nil.
func (p *person) settles(outcome string, err error) {
	id := p.last.prompt.ID
	p.note(p.m.decided(id, api.PromptOutcome{ID: id, Outcome: outcome}, err, p.now))
	p.look()
	p.now = p.now.Add(time.Second)
}

func (p *person) expect(sent ...string) {
	p.t.Helper()
	if got := fmt.Sprint(p.sent); got != fmt.Sprint(sent) {
		p.t.Errorf("sent %s, want %s", got, sent)
	}
	p.sent = nil
}

// flat is text without its line breaks.
func flat(s string) string { return strings.Join(strings.Fields(s), " ") }

func (p *person) sees(words ...string) {
	p.t.Helper()
	for _, w := range words {
		if text := p.look(); !strings.Contains(flat(text), flat(w)) {
			p.t.Errorf("%q is not on the screen:\n%s", w, text)
		}
	}
}

func (p *person) misses(words ...string) {
	p.t.Helper()
	for _, w := range words {
		if text := p.look(); strings.Contains(text, w) {
			p.t.Errorf("%q is on the screen:\n%s", w, text)
		}
	}
}

func (p *person) keeps(words ...string) {
	p.t.Helper()
	p.look()
	text := strings.Join(p.kept, "\n")
	for _, w := range words {
		if !strings.Contains(flat(text), flat(w)) {
			p.t.Errorf("%q was not kept:\n%s", w, text)
		}
	}
}
