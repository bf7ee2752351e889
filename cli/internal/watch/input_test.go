package watch

import (
	"strings"
	"testing"
	"time"

	"countersign.dev/ipc/api"
)

// What keys do to one prompt, from the moment that it can be answered.
func TestOneSignIn(t *testing.T) {
	for _, row := range []struct {
		name   string
		prompt api.Prompt
		keys   string
		want   string // decisions, in order
	}{
		{"Enter by itself", payroll("p"), "Enter Enter Enter", ""},
		{"a alone", payroll("p"), "a", ""},
		{"a and Enter", payroll("p"), "a Enter", "p approve"},
		{"arrow and Enter", payroll("p"), "Right Enter", "p approve"},
		{"Tab and Enter", payroll("p"), "Tab Enter", "p approve"},
		{"d", payroll("p"), "d", "p deny"},
		{"two arrows and Enter", payroll("p"), "Right Right Enter", "p deny"},
		{"r alone", payroll("p"), "r", ""},
		{"r and Enter", payroll("p"), "r Enter", "p deny report"},
		{"back from Later to the report", payroll("p"), "Left Left Enter", "p deny report"},
		{"a, then Esc", payroll("p"), "a Esc Enter", ""},
		{"a, then on to Deny", payroll("p"), "a Right Enter", "p deny"},
		{"round and round", payroll("p"), "Right Right Right Right Right BackTab Tab Enter", "p approve"},
		{"later", payroll("p"), "l d Enter", ""},
		{"later by Enter", payroll("p"), "Left Enter", ""},
		{"later and looked at again", payroll("p"), "l Enter d", "p deny"},
		{"no report of what the browser here asks", with(payroll("p"), "browser"), "r Enter Left Left Enter", "p deny"},
		{"round and round without one", with(payroll("p"), "browser"), "Right Right Right Right Enter", "p approve"},
		{"capitals", payroll("p"), "A Enter D R L Q Enter", ""},
		{"other letters", payroll("p"), "y Y o k j 1 Enter ? ü", ""},
		{"number", with(payroll("p"), "number"), "a Enter 4 2 Enter", "p approve number=42"},
		{"wrong number, then the right one", with(payroll("p"), "number"), "a Enter 4 3 Enter 4 2 Enter", "p approve number=42"},
		{"number mistyped", with(payroll("p"), "number"), "a Enter 1 1 Backspace 7 Enter", "p approve number=17"},
		{"number begun anew", with(payroll("p"), "number"), "a Enter 9 9 Erase 8 Enter", "p approve number=8"},
		{"no number", with(payroll("p"), "number"), "a Enter Enter Enter", ""},
		{"letters for a number", with(payroll("p"), "number"), "a Enter d a r q Enter", ""},
		{"number left", with(payroll("p"), "number"), "a Enter 4 2 Esc Enter", ""},
		{"number left, then denied", with(payroll("p"), "number"), "a Enter 4 2 Esc d", "p deny"},
		{"PIN", with(payroll("p"), "pin"), "a Enter 3 1 4 1 Enter", "p approve pin=3141"},
		{"PIN of letters that are shortcuts", with(payroll("p"), "pin"), "a Enter d a r q Enter", "p approve pin=darq"},
		{"PIN with other characters", with(payroll("p"), "pin"), "a Enter ü 東 x Backspace Backspace é Enter", "p approve pin=üé"},
		{"no PIN", with(payroll("p"), "pin"), "a Enter Enter Enter", ""},
		{"PIN left", with(payroll("p"), "pin"), "a Enter 3 1 Esc Enter", ""},
		{"PIN left leaves nothing", with(payroll("p"), "pin"), "a Enter 3 1 Esc a Enter 4 Enter", "p approve pin=4"},
		{"PIN or finger, by PIN", with(payroll("p"), "pin", "finger"), "a Enter 3 Enter", "p approve pin=3"},
		{"PIN or finger, by finger", with(payroll("p"), "pin", "finger"), "a Enter Enter", "p approve by=fingerprint"},
		{"finger only", with(payroll("p"), "finger"), "a Enter", "p approve by=fingerprint"},
		{"locked PIN", with(payroll("p"), "pin", "locked"), "a Enter 1 2 Enter", ""},
		{"locked PIN, and a finger", with(payroll("p"), "pin", "finger", "locked"), "a Enter", "p approve by=fingerprint"},
		{"PIN that is liked, with", with(payroll("p"), "pin", "likes"), "a Enter 3 Enter", "p approve pin=3"},
		{"PIN that is liked, without", with(payroll("p"), "pin", "likes"), "a Enter Enter", "p approve"},
		{"locked PIN that is liked", with(payroll("p"), "pin", "likes", "locked"), "a Enter", "p approve"},
		{"verified a moment ago", with(payroll("p"), "pin", "verified"), "a Enter", "p approve"},
		{"number and PIN", with(payroll("p"), "number", "pin"), "a Enter 4 2 Enter 9 Enter", "p approve number=42 pin=9"},
		{"accounts, none chosen", with(payroll("p"), "choices"), "a Enter Enter Enter", ""},
		{"first account", with(payroll("p"), "choices"), "a Enter Down Enter", "p approve account=acc-1"},
		{"second account by its number", with(payroll("p"), "choices"), "a Enter 2 Enter 7 Enter", "p approve account=acc-2 pin=7"},
		{"an account that is not there", with(payroll("p"), "choices"), "a Enter 3 Enter 9 Enter", ""},
		{"account left", with(payroll("p"), "choices"), "a Enter Down Esc Enter", ""},
		{"no to every account", with(payroll("p"), "choices"), "d", "p deny"},
		{"nothing after the answer", payroll("p"), "d d d Enter a Enter", "p deny"},
		{"pasted approval", payroll("p"), "a* Enter d* r*", ""},
		{"pasted number", with(payroll("p"), "number"), "a Enter 4* 2* Enter", "p approve number=42"},
		{"pasted PIN", with(payroll("p"), "pin"), "a Enter 3* 1* Enter", "p approve pin=31"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := play(t)
			p.ask(row.prompt)
			p.press(strings.Fields(row.keys)...)
			if got := strings.Join(p.sent, "; "); got != row.want {
				t.Errorf("sent %q, want %q", got, row.want)
			}
			p.misses("3141", "darq") // no PIN
		})
	}
}

// How it leaves, and what else asks for the world.
func TestLeaving(t *testing.T) {
	for _, row := range []struct{ keys, want string }{
		{"q", "quit"}, {"Interrupt", "quit"}, {"End", "quit"}, {"Suspend", "suspend"}, {"Redraw", "redraw"}, {"q*", ""}, {"Q", ""},
		{"a Enter Interrupt", "quit"}, {"a Enter End", "quit"}, {"a Enter q", ""}, {"a Enter Suspend", "suspend"},
	} {
		for _, waiting := range []bool{true, false} {
			if !waiting && strings.HasPrefix(row.keys, "a") {
				continue
			}
			p := play(t)
			if waiting {
				p.ask(with(payroll("p"), "pin"))
			}
			p.press(strings.Fields(row.keys)...)
			if got := strings.Join(p.sent, "; "); got != row.want {
				t.Errorf("%s: %q, want %q", row.keys, got, row.want)
			}
		}
	}
	// Several at once are no key to leave by, but Ctrl-C always is.
	p := play(t)
	p.burst("x", "q")
	p.expect()
	p.burst("x", "Interrupt", "d")
	p.expect("quit")
}

// B5: a key that comes with the question, or before it could be read, answers
// nothing; so for the question that takes the place of another.
func TestB5KeysTooSoon(t *testing.T) {
	for _, keys := range [][]string{{"d"}, {"a", "Enter"}, {"r", "Enter"}, {"Right", "Enter"}} {
		p := play(t)
		first := payroll("p-1")
		p.m.event(api.Event{Type: "prompt", Prompt: &first}, p.now)
		p.look()
		p.press(keys...) // within 400 ms
		p.expect()
		p.sees("That came too soon to be meant")
		p.press("Esc", "Esc", keys[0])
		if len(keys) > 1 {
			p.press(keys[1])
		}
		if len(p.sent) != 1 || !strings.HasPrefix(p.sent[0], "p-1 ") {
			t.Errorf("%q: %q", keys, p.sent)
		}
	}

	// One is replaced by a newer one while the person looks at it.
	p := play(t)
	p.ask(payroll("p-1"))
	p.press("a")
	second := with(payroll("p-2"), "wiki")
	p.m.event(api.Event{Type: "prompt", Prompt: &second}, p.now)
	p.closes("p-1", "expired", "replaced by a newer request")
	p.sees("Sign in to Wiki?")
	p.misses("[Approve]")
	p.press("Enter", "Enter", "Enter", "Enter", "Enter", "Enter")
	p.expect()
	p.keeps("expired: sign-in to Payroll as alice@example.com (replaced by a newer request)")
	p.press("a", "Enter")
	p.expect("p-2 approve")
}

// B5: what is typed for a prompt that goes away is nobody's answer to the next.
func TestB5TypingGoesOn(t *testing.T) {
	for _, extra := range []string{"number", "pin", "choices"} {
		p := play(t)
		p.ask(with(payroll("p-0"), "wiki"))
		p.ask(with(payroll("p-1"), extra))
		p.press("Up", "a", "Enter", "1", "2")
		p.closes("p-1", "expired", "prompt expired")
		p.keeps("expired: sign-in to Payroll")
		p.sees("Sign in to Wiki?")
		for range 20 { // for four seconds, each 200 ms after the one before
			p.press("a", "Enter", "d", "r", "Enter", "q", "l")
		}
		p.expect()
		p.sees("Sign in to Wiki?")
		p.now = p.now.Add(settle)
		p.press("d")
		p.expect("p-0 deny")
	}
}

// B5: a new prompt does not take the place of the one that is looked at, but its
// coming makes the keys of that moment count for nothing.
func TestB5NewPromptBeside(t *testing.T) {
	p := play(t)
	p.ask(payroll("p-1"))
	p.press("a")
	second := with(payroll("p-2"), "wiki")
	p.m.event(api.Event{Type: "prompt", Prompt: &second}, p.now)
	p.press("Enter")
	p.expect()
	p.sees("Sign in to Payroll?", "> Payroll", "  Wiki", "[Approve]")
	p.now = p.now.Add(settle)
	p.press("Enter")
	p.expect("p-1 approve")
}

// A paste, a key that is held down and a terminal that answers approve nothing.
func TestStrayKeys(t *testing.T) {
	p := play(t)
	p.ask(with(payroll("p"), "number"))
	p.burst("a", "Enter")
	p.expect()
	p.press("Esc")
	p.burst("4", "2", "Enter", "d", "Enter")
	p.expect()
	var paste []string
	for range 2500 {
		paste = append(paste, "a", "Enter", "d", "Enter")
	}
	p.burst(paste...)
	p.expect()

	// In the number, too: Enter is a key of its own.
	p.press("Esc", "a", "Enter")
	p.burst("4", "2", "Enter")
	p.expect()
	p.sees("Number: 42")
	p.press("Enter")
	p.expect("p approve number=42")
}

// A key that is held down answers nothing, and no second sign-in after a first.
func TestHeldKeys(t *testing.T) {
	p := play(t)
	p.ask(with(payroll("p-1"), "wiki"))
	p.ask(payroll("p-2"))
	hold := func(k string) {
		for range 100 {
			p.now = p.now.Add(30 * time.Millisecond)
			p.burst(k)
		}
	}
	p.press("a")
	hold("Enter")
	p.expect()
	p.press("d")
	p.expect("p-1 deny")
	hold("d")
	p.settles("denied", nil)
	p.now = p.now.Add(-time.Second) // which it waits
	hold("d")
	p.expect("refresh")
	p.sees("Sign in to Payroll?")
}

// Digits without end are no number, and a PIN has a bound.
func TestBoundedEntries(t *testing.T) {
	p := play(t)
	p.ask(with(payroll("p"), "number", "pin"))
	p.m.prompts[0].Numbers = nil
	p.press("a", "Enter")
	var digits []string
	for range 5000 {
		digits = append(digits, "7*")
	}
	p.burst(digits...)
	p.press("Enter")
	p.burst(digits...)
	p.press("Enter")
	if len(p.last.Number) != maxNumber || len(p.last.PIN) != maxPIN {
		t.Errorf("%d digits, PIN of %d", len(p.last.Number), len(p.last.PIN))
	}
	if string(p.m.pin[:cap(p.m.pin)]) != strings.Repeat("\x00", maxPIN) {
		t.Error("the PIN was not wiped")
	}
}
