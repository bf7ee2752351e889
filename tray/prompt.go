package tray

import (
	"slices"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// onTerminal is where a prompt is answered that a menu cannot answer.
const onTerminal = "countersign prompt watch"

// promptEntry is a prompt: its question, and inside the facts and the answers.
func (s Scene) promptEntry(p api.Prompt) Entry {
	title := describe.Question(p)
	if len(p.Choices) == 0 && p.User != "" {
		title += " " + p.User
	}
	e := Entry{Label: label(title)}
	for _, odd := range describe.Unusual(p) {
		e.Children = append(e.Children, text(odd)...)
	}
	e.Children = append(e.Children, text(describe.Question(p))...)
	for _, f := range describe.Facts(p, s.Now) {
		e.Children = append(e.Children, text(sentence(f.Name)+": "+f.Value)...)
	}
	for i := range e.Children {
		e.Children[i].Calm = true // and not grey: it is to be read
	}
	e.Children = append(e.Children, Entry{Label: " "}) // a gap: not every system has lines here
	e.Children = append(e.Children, s.answers(p)...)
	return e
}

// answers are what can be said to a prompt.
func (s Scene) answers(p api.Prompt) []Entry {
	if s.busy(p.ID) {
		return []Entry{{Label: "Your answer is on its way"}}
	}
	list := append(s.approvals(p), Entry{Label: "Deny", Action: act(p, Deny)})
	if p.Kind == "push" {
		list = append(list, Entry{Label: "This wasn't me", Action: act(p, Report)})
	}
	return list
}

// act is an action for a prompt as it is shown now.
func act(p api.Prompt, kind Kind) Action {
	return Action{Kind: kind, Prompt: p.ID, Seen: MarkOf(p)}
}

// free says whether an approval takes no verification. What is not understood
// takes one.
func free(need string) bool { return need == "none" || need == "preferred" }

// approvals are the ways to say yes from here. A single click is one only where
// the prompt asks for nothing else; else the agent's dialog asks, or, where there
// is none, the menu offers what a menu can.
func (s Scene) approvals(p api.Prompt) []Entry {
	plain := p.UserVerification == "none" || p.Verified
	if plain && !p.NeedsNumber && len(p.Numbers) == 0 && len(p.Choices) == 0 {
		return []Entry{{Label: "Approve", Action: act(p, Approve)}}
	}
	if s.window() {
		return []Entry{{Label: "Approve…", Action: act(p, Show)}}
	}
	var list []Entry
	hint := "To approve it, in a terminal: " + onTerminal
	switch {
	case len(p.Choices) > 0 && !p.NeedsNumber && len(p.Numbers) == 0:
		for _, c := range p.Choices {
			if !free(c.UserVerification) {
				list = append(list, text("As "+c.User+", with your PIN, in a terminal: "+onTerminal)...)
				continue
			}
			a := act(p, Approve)
			a.Account = c.Account
			list = append(list, Entry{Label: label("Approve as " + c.User + " (" + c.Account + ")"), Action: a})
		}
		return list
	case len(p.Choices) > 0, !free(p.UserVerification) && !p.Verified, p.NeedsNumber && len(p.Numbers) == 0:
		if len(p.Choices) == 0 && !free(p.UserVerification) {
			hint = "To approve it with " + ways(p) + ", in a terminal: " + onTerminal
		}
		return text(hint)
	case len(p.Numbers) > 0:
		for _, n := range p.Numbers {
			a := act(p, Approve)
			a.Number = n
			list = append(list, Entry{Label: label("Approve: the sign-in page shows " + n), Action: a})
		}
	default:
		list = append(list, Entry{Label: "Approve", Action: act(p, Approve)})
	}
	if !plain { // preferred: the organisation would like more
		list = append(list, text("With "+ways(p)+", in a terminal: "+onTerminal)...)
	}
	return list
}

// ways are the methods to be verified by, the usual one first.
func ways(p api.Prompt) string {
	if len(p.VerificationMethods) == 0 {
		return "your PIN"
	}
	return "your " + describe.Method(p.VerificationMethods[0])
}

// open are the prompts that still wait.
func (s Scene) open() []api.Prompt {
	return slices.DeleteFunc(slices.Clone(s.Prompts), func(p api.Prompt) bool {
		return !p.ExpiresAt.IsZero() && !p.ExpiresAt.After(s.Now)
	})
}

// refresh is when the words of what is shown will be out of date.
func (s Scene) refresh(open []api.Prompt) time.Duration {
	var next time.Duration
	sooner := func(d time.Duration) {
		if d > 0 && (next == 0 || d < next) {
			next = d
		}
	}
	for _, p := range open {
		sooner(10 * time.Second)
		if !p.ExpiresAt.IsZero() {
			sooner(p.ExpiresAt.Sub(s.Now))
		}
	}
	if s.Hold != nil && s.Hold.Until.After(s.Now) {
		sooner(time.Minute)
		sooner(s.Hold.Until.Sub(s.Now))
	}
	return next
}
