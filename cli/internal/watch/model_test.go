package watch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign.dev/ipc/api"
)

func TestWrongPIN(t *testing.T) {
	p := play(t)
	p.ask(with(payroll("p"), "number", "pin"))
	p.press("a", "Enter", "4", "2", "Enter", "1", "Enter")
	p.sees("Approving…")
	p.settles("", &api.Error{Status: 403, Code: "wrong_pin", Message: "the PIN is wrong, 2 tries left", TriesLeft: 2})
	p.sees("That PIN is wrong; 2 tries left.", "PIN:")
	p.press("2", "Enter")
	p.settles("", &api.Error{Status: 423, Code: "pin_locked", Message: "too many wrong PINs: the PIN is locked until 14:03", Hint: "if you have forgotten it: countersign pin reset"})
	p.sees("Too many wrong PINs: the PIN is locked until 14:03. hint: if you have forgotten it: countersign pin reset")
	p.press("3", "Enter")
	p.expect("p approve number=42 pin=1", "refresh", "p approve number=42 pin=2", "refresh")
	p.press("a", "Enter", "8", "Enter", "3", "Enter")
	p.settles("approved", nil)
	p.expect("p approve number=8 pin=3", "refresh")
	p.keeps("approved: sign-in to Payroll as alice@example.com")
	p.sees("No sign-in is waiting.")
}

// What the agent may say to an answer.
func TestRefusals(t *testing.T) {
	for _, row := range []struct {
		name       string
		err        error
		sees, kept string
		stays      bool // the prompt is still there
	}{
		{"wrong number", &api.Error{Status: 400, Code: "wrong_number", Message: "that is not one of the numbers shown"}, "That is not the number.", "", true},
		{"verification after all", &api.Error{Status: 403, Code: "verification_required", Message: "the sign-in needs your verification"}, "PIN:", "", true},
		{"on hold", &api.Error{Status: 409, Code: "on_hold", Message: "nothing is approved for now", Hint: "countersign status"}, "Nothing is approved for now. hint: countersign status", "", true},
		{"unknown", &api.Error{Status: 404, Code: "prompt_unknown", Message: "there is no such prompt"}, "No sign-in is waiting", "too late: sign-in to Payroll as alice@example.com (there is no such prompt)", false},
		{"superseded", &api.Error{Status: 410, Code: "prompt_superseded", Message: "a newer request has taken its place"}, "No sign-in is waiting", "too late: sign-in to Payroll as alice@example.com (a newer request has taken its place)", false},
		{"decided", &api.Error{Status: 409, Code: "prompt_decided", Message: "the prompt was decided already"}, "No sign-in is waiting", "too late: sign-in to Payroll", false},
		{"hostile", &api.Error{Status: 500, Code: "x", Message: "a\x1b[2Jb\u202e"}, "A\ufffd[2Jb\ufffd.", "", true},
		{"gone", errors.New("the agent is not running"), "Sign in to Payroll?", "not known: what became of the answer to sign-in to Payroll as alice@example.com (the agent is not running); see: countersign audit", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := play(t)
			p.ask(payroll("p"))
			p.press("a", "Enter")
			p.settles("", row.err)
			p.sees(row.sees)
			p.keeps(row.kept)
			if (p.m.current() != nil) != row.stays {
				t.Errorf("is the prompt there? %v", !row.stays)
			}
			p.press("Enter", "Enter") // and nothing is approved by the next keys
			p.expect("p approve", "refresh")
		})
	}
}

// A prompt that ends while its answer is under way goes, whatever the agent says
// to the answer.
func TestEndsMeanwhile(t *testing.T) {
	for _, code := range []string{"wrong_pin", "wrong_number", "verification_required", "verification_timed_out", "verification_ended", "internal"} {
		p := play(t)
		p.ask(with(payroll("p"), "pin"))
		p.press("a", "Enter", "1", "Enter")
		p.closes("p", "expired", "")
		p.settles("", &api.Error{Status: http.StatusForbidden, Code: code, Message: "no"})
		p.sees("No sign-in is waiting")
		p.keeps("expired: sign-in to Payroll as alice@example.com")
		p.press("2", "Enter")
		p.expect("p approve pin=1", "refresh")
	}
}

// How an answer ends is said as it is.
func TestOutcomes(t *testing.T) {
	for _, row := range []struct {
		keys    []string
		outcome string
		want    string
	}{
		{[]string{"a", "Enter"}, "approved", "14:05  approved: sign-in to Payroll as alice@example.com"},
		{[]string{"a", "Enter"}, "refused", "14:05  refused: sign-in to Payroll as alice@example.com"},
		{[]string{"a", "Enter"}, "", "14:05  refused: sign-in to Payroll as alice@example.com"},
		{[]string{"d"}, "denied", "14:05  denied: sign-in to Payroll as alice@example.com"},
		{[]string{"d"}, "approved", "14:05  approved: sign-in to Payroll as alice@example.com"},
		{[]string{"r", "Enter"}, "denied", "14:05  reported: further pushes of this account are held back; when it is safe again: countersign prompt resume acc-1"},
	} {
		p := play(t)
		p.m.resize(100, 24)
		p.ask(payroll("p"))
		p.press(row.keys...)
		p.settles(row.outcome, nil)
		p.keeps(row.want)
	}
}

// A prompt that is answered elsewhere goes away with a sentence; our own answer
// is spoken of once, whichever news of it comes first.
func TestElsewhere(t *testing.T) {
	p := play(t)
	p.ask(payroll("p-1"))
	p.closes("p-1", "denied", "")
	p.keeps("denied elsewhere: sign-in to Payroll as alice@example.com")
	p.sees("No sign-in is waiting")
	p.closes("p-9", "approved", "") // nobody was shown it

	p.ask(payroll("p-2"))
	p.press("a", "Enter")
	p.closes("p-2", "approved", "")
	p.sees("Approving…")
	p.settles("approved", nil)
	p.ask(payroll("p-3"))
	p.press("d")
	p.closes("p-3", "approved", "") // somebody else was quicker
	p.settles("", &api.Error{Status: http.StatusConflict, Code: "prompt_decided", Message: "the prompt was decided already"})
	p.keeps("approved elsewhere: sign-in to Payroll")
	if got := strings.Count(strings.Join(p.kept, "\n"), "sign-in to"); got != 3 {
		t.Errorf("%d sentences about 3 sign-ins:\n%s", got, strings.Join(p.kept, "\n"))
	}
}

// Another way to show who one is can be called off while it is waited for.
func TestCancelledFinger(t *testing.T) {
	p := play(t)
	p.ask(with(payroll("p"), "finger"))
	p.press("a", "Enter")
	p.sees("Touch the fingerprint reader…", "Esc goes back")
	p.press("Enter", "d", "Esc")
	p.expect("p approve by=fingerprint", "cancel")
	p.settles("", fmt.Errorf("call: %w", errors.Join(errors.New("Post"), context.Canceled)))
	p.sees("Cancelled; nothing is answered yet.", "Sign in to Payroll?")
	p.expect("refresh")
	p.press("d")
	p.expect("p deny")
	p.press("Esc") // a denial cannot be called off
	p.expect()
}

// During a hold nothing is shown and nothing is answered; what waits comes again.
func TestHold(t *testing.T) {
	p := play(t)
	p.ask(with(payroll("p"), "pin"))
	p.press("a", "Enter", "1")
	p.m.event(api.Event{Type: "hold", Hold: &api.Hold{Reason: api.HoldScreenLocked}}, p.now)
	p.sees("The screen is locked: nothing is shown or signed until it is unlocked.")
	p.misses("Payroll", "PIN")
	p.press("2", "Enter", "a", "Enter", "d")
	p.expect()
	if p.m.next() != 0 {
		t.Error("time runs during a hold without an end")
	}
	p.m.event(api.Event{Type: "hold"}, p.now)
	back := payroll("p")
	p.m.event(api.Event{Type: "prompt", Prompt: &back}, p.now)
	p.keeps("the screen is locked: nothing is shown or signed until it is unlocked", "back: what waits is shown again")
	p.sees("Sign in to Payroll?")
	p.press("Enter")
	p.now = p.now.Add(time.Second)
	p.press("d")
	p.expect("p deny")

	p = play(t)
	p.m.listed(api.PromptList{Hold: &api.Hold{Reason: api.HoldPaused, Until: p.now.Add(2 * time.Minute)}}, p.now)
	p.sees("Paused: nothing is shown or signed until 14:07, in 2 minutes.", "countersign resume")
	p.press("q")
	p.expect("quit")
}

// Without the agent nothing is shown; what it says afterwards is.
func TestAgentGone(t *testing.T) {
	p := play(t)
	p.ask(payroll("p"))
	for range 3 {
		p.m.lost("the agent ended the stream", p.now)
	}
	p.sees("The agent ended the stream. Looking for it again and again.")
	p.misses("Payroll")
	if p.m.next() != 0 {
		t.Error("time runs without an agent")
	}
	p.press("a", "Enter", "d")
	p.m.listed(api.PromptList{Prompts: []api.Prompt{with(payroll("p-2"), "wiki"), payroll("p-1")}}, p.now)
	p.sees("2 sign-ins waiting", "Sign in to Wiki?")
	p.expect()
	if got := strings.Join(p.kept, "\n"); got != "14:05  gone: the agent ended the stream\n14:05  back: the agent answers again" {
		t.Errorf("kept %q", got)
	}
}

// What the agent says later about a prompt that is shown is taken over.
func TestRefreshed(t *testing.T) {
	p := play(t)
	p.ask(with(payroll("p"), "pin"))
	p.m.refreshed(api.PromptList{Prompts: []api.Prompt{with(payroll("p"), "pin", "verified"), payroll("p-9")}})
	p.sees("nothing more: you have shown a moment ago that it is you")
	p.misses("2 sign-ins")
	p.press("a", "Enter")
	p.expect("p approve")
}

// After Ctrl-Z the next keys are not for what is drawn then.
func TestResumed(t *testing.T) {
	p := play(t)
	p.ask(payroll("p"))
	p.press("a")
	p.m.resumed(p.now)
	p.press("Enter", "d")
	p.expect()
	p.misses("[Approve]")
}

func TestQuitWhileSending(t *testing.T) {
	p := play(t)
	p.ask(payroll("p"))
	p.press("a", "Enter", "Interrupt")
	p.m.leaving(p.now)
	p.look()
	p.keeps("not known: what became of the answer to sign-in to Payroll")
	p.expect("p approve", "quit")
}

// A security key that wants its PIN is given that, and the answer says by what.
func TestPINOfTheSecurityKey(t *testing.T) {
	p := play(t)
	p.ask(with(payroll("p"), "key"))
	p.press("a", "Enter")
	p.sees("Touch your security key")
	p.settles("", &api.Error{Status: 403, Code: "key_pin_needed", Message: "this takes the PIN of the security key"})
	p.sees("PIN of the security key:")
	p.press("Enter")
	p.sees("No PIN was typed.")
	p.press("1", "Enter")
	p.settles("", &api.Error{Status: 403, Code: "wrong_key_pin", Message: "the PIN of the security key is wrong, 7 tries left", TriesLeft: 7})
	p.sees("The PIN of the security key is wrong, 7 tries left.", "PIN of the security key:")
	p.press("Esc", "a", "Enter") // from the beginning: it is not asked for before the key does
	p.settles("", &api.Error{Status: 409, Code: "no_key", Message: "no security key is plugged in", Hint: "plug it in, and try again"})
	p.sees("No security key is plugged in. hint: plug it in, and try again")
	p.press("a", "Enter")
	p.settles("", &api.Error{Status: 403, Code: "key_pin_needed"})
	p.press("2", "Enter")
	p.settles("approved", nil)
	p.expect("p approve by=security_key", "refresh", "p approve pin=1 by=security_key", "refresh", "p approve by=security_key", "refresh",
		"p approve by=security_key", "refresh", "p approve pin=2 by=security_key", "refresh")
	p.keeps("approved: sign-in to Payroll as alice@example.com")
}
