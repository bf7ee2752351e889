// Package describe puts into words what a person is asked and told, the same
// words on every surface: terminal, dialog, notification, tray.
//
// A prompt answers, in this order: which app, which organisation, which account,
// from where, when, and what an approval takes. What is unusual comes first and
// by itself. Text that came from outside is cleaned here once more, whoever else
// did so before.
package describe

import (
	"strings"
	"time"

	"countersign.dev/ipc/api"
)

// MaxMessage bounds, in characters, what a request may say that it is about. The
// agent lets no longer one through; nobody should approve what is cut off.
const MaxMessage = 400

// maxName bounds other texts.
const maxName = 200

// Fact is one line of a prompt: a name in small letters and a value.
type Fact struct{ Name, Value string }

// Question is what a prompt asks, in one line: "Sign in to Payroll?".
func Question(p api.Prompt) string {
	if p.TransactionType == "CIBA" {
		return clean(p.App) + " asks: " + Clean(p.BindingMessage, MaxMessage)
	}
	if p.App == "" {
		return "Sign in?"
	}
	return "Sign in to " + clean(p.App) + "?"
}

// SignIn names a prompt within a sentence or after a word: "sign-in to Payroll
// as alice@example.com".
func SignIn(p api.Prompt) string {
	switch {
	case p.App == "":
		return "sign-in " + clean(p.ID)
	case p.TransactionType == "CIBA":
		return Question(p)
	case p.User == "":
		return "sign-in to " + clean(p.App)
	}
	return "sign-in to " + clean(p.App) + " as " + clean(p.User)
}

// Ended is how a prompt ended, in a word, and why; the reason is empty when it
// says no more than the word.
func Ended(o api.PromptOutcome) (word, why string) {
	word = Clean(o.Outcome, 32)
	if word == "" {
		word = "refused" // what says nothing approves nothing
	}
	why = clean(strings.ReplaceAll(o.Reason, "_", " "))
	if why == "prompt expired" || why == word {
		why = ""
	}
	return word, strings.TrimPrefix(why, "prompt ")
}

// Unusual are the unusual things about a prompt, each a line of its own, to be
// said first.
func Unusual(p api.Prompt) []string {
	var list []string
	for _, odd := range p.Unusual {
		list = append(list, clean(odd))
	}
	return list
}

// Facts are the lines of a prompt, in their order. What is not known is left
// out. The matching number is not among them.
func Facts(p api.Prompt, now time.Time) []Fact {
	var list []Fact
	for _, f := range []Fact{
		{"organisation", Org(p.Org, false)},
		{"account", account(p)},
		{"from", from(p)},
		{"page", clean(p.Origin)},
		{"when", when(p, now)},
		{"signs with", Key(p.Key)},
		{"needs", Needs(p, now)},
	} {
		if f.Value != "" {
			list = append(list, f)
		}
	}
	return list
}

// account is whom a prompt is about, or all it may be about.
func account(p api.Prompt) string {
	if len(p.Choices) == 0 {
		return clean(p.User)
	}
	var names []string
	for _, choice := range p.Choices {
		names = append(names, clean(choice.User)+" ("+clean(choice.Account)+")")
	}
	return strings.Join(names, " or ")
}

// from is where a sign-in comes from: place, system, address.
func from(p api.Prompt) string {
	var parts []string
	for _, part := range []string{p.Location, p.Client, p.IP} {
		if part = clean(part); part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}

func when(p api.Prompt, now time.Time) string {
	began := p.CreatedAt
	if !p.RequestedAt.IsZero() && p.RequestedAt.Before(began) {
		began = p.RequestedAt
	}
	words := Ago(began, now)
	if left := p.ExpiresAt.Sub(now); !p.ExpiresAt.IsZero() && left > 0 {
		words += "; ends in " + Span(left)
	}
	if p.Repeats > 0 {
		words += "; asked " + Plural(p.Repeats+1, "time")
	}
	return words
}

// Key is the key that signs, in words; empty when it is not known.
func Key(k *api.PromptKey) string {
	if k == nil {
		return ""
	}
	words := "a key in a file on this computer"
	switch {
	case k.Kind == "tpm":
		words = "a key in this computer's TPM"
	case k.Protection == "hardware":
		words = "a key in this computer's hardware"
	case !k.Demands:
		words += ", sealed by the agent"
	}
	if k.Demands {
		words += ", which you unlock"
	}
	return words
}

// Needs says what an approval takes besides a yes; empty when nothing.
func Needs(p api.Prompt, now time.Time) string {
	if p.UserVerification != "required" && p.UserVerification != "preferred" {
		return ""
	}
	if p.Verified {
		return "nothing more: you have shown a moment ago that it is you"
	}
	names := []string{}
	for _, method := range p.VerificationMethods {
		names = append(names, Method(method))
	}
	if len(names) == 0 {
		names = []string{"PIN or fingerprint"}
	}
	words := "your " + strings.Join(names, " or your ")
	if p.UserVerification == "preferred" {
		words += " (the organisation would like it; you may go on without)"
	}
	switch {
	case p.LockedUntil.After(now):
		words += "; the PIN is locked until " + Until(p.LockedUntil, now)
	case p.TriesLeft > 0:
		words += "; " + Tries(p.TriesLeft)
	}
	return words
}

// HoldEnded says that a hold has ended.
const HoldEnded = "back: what waits is shown again"

// Hold says why nothing is asked, in a sentence without its full stop; empty
// for none.
func Hold(h *api.Hold, now time.Time) string {
	if h == nil {
		return ""
	}
	switch h.Reason {
	case api.HoldScreenLocked:
		return "the screen is locked: nothing is shown or signed until it is unlocked"
	case api.HoldAsleep:
		return "the computer goes to sleep: nothing is shown or signed until it is awake"
	case api.HoldPaused:
		if h.Until.IsZero() {
			return "paused: nothing is shown or signed"
		}
		return "paused: nothing is shown or signed until " + Until(h.Until, now)
	}
	words := "held: nothing is shown or signed"
	if h.Reason != "" {
		words += " (" + clean(h.Reason) + ")"
	}
	return words
}
