package tray

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// A menu is as long as a screen is high, and no longer.
const (
	maxSaid      = 6 // lines
	maxPrompts   = 8
	maxAttention = 6
	maxProblems  = 5
	maxAccounts  = 20
	maxNotices   = 5
	fewLines     = 3 // of a problem, its hint, why nothing is asked
)

// Rooms are places of a menu for so many lines, or submenus.
type Rooms struct {
	Submenus bool
	Number   int
}

// Sections are the parts of every menu, with a separator between them, and what
// there is room for in each, in this order. Systems that cannot put a line into
// the middle of a menu make all of them at first and show those that are used.
// No part is ever empty.
var Sections = [...][]Rooms{
	{{false, maxSaid}, {true, maxPrompts}, {false, 2}},
	{{true, maxAttention}, {false, maxProblems*2*fewLines + 3}, {true, 2}},
	{{false, fewLines + 1}, {true, 1}, {false, 2}},
	{{false, 1}},
}

// pauses are how long the agent can be made to rest from here.
var pauses = []time.Duration{15 * time.Minute, time.Hour, 4 * time.Hour}

// quietly are problems that are named in the menu and do not turn the icon: they
// are how things are, until the person changes that.
var quietly = map[string]bool{"vault_file_only": true}

// ofAccounts are problems that the accounts themselves show, with what can be
// done about them.
var ofAccounts = map[string]bool{"pushes_held": true, "keys_changed_elsewhere": true}

// View is what the panel shows of a scene.
func (s Scene) View() View {
	if s.Reach != Connected {
		return s.without()
	}
	open := s.open()
	attention := s.attention()
	problems, loud := s.problems()
	if loud == "" && len(attention) > 0 {
		loud = attention[0].Label
	}
	v := View{Icon: Idle, Tooltip: "Countersign: no sign-in is waiting", Refresh: s.refresh(open)}
	switch {
	case s.Hold != nil:
		v.Icon, v.Tooltip = Resting, label("Countersign: "+describe.Hold(s.Hold, s.Now))
	case len(open) > 0:
		v.Icon, v.Tooltip = Waiting, "Countersign: "+describe.Plural(len(open), "sign-in")+" waiting"
	case loud != "":
		v.Icon, v.Tooltip = Attention, label("Countersign: "+loud)
	}
	v.Menu = menu(
		append(s.said(), s.waiting(open)...),
		append(append(attention, problems...), s.accounts(), s.codes()),
		append(s.holds(), s.doctor()...),
		[]Entry{quit},
	)
	return v
}

// without is what is shown when no agent can be asked.
func (s Scene) without() View {
	v := View{Icon: Missing}
	words, hint := "The agent is not running", "It starts with your session, or in a terminal: countersignd run"
	switch {
	case s.Reach == Looking:
		v.Icon, words = Resting, "Looking for the agent"
	case s.Reach == Foreign:
		words, hint = "This is not your agent", "It was told nothing."
	case s.Trouble != "":
		words = "The agent does not answer"
	}
	v.Tooltip = "Countersign: " + strings.ToLower(words[:1]) + words[1:]
	why := text(words)
	if s.Reach != Looking {
		why = append(why, few(sentence(s.Trouble), fewLines)...)
	}
	v.Menu = menu(why, text(hint), text("To check everything, in a terminal: countersign doctor"), []Entry{quit})
	return v
}

var quit = Entry{Label: "Quit (the agent keeps running)", Action: Action{Kind: Quit}}

// menu joins the sections.
func menu(parts ...[]Entry) []Entry {
	var list []Entry
	for i, part := range parts {
		if i > 0 {
			list = append(list, Entry{Separator: true})
		}
		list = append(list, part...)
	}
	return list
}

// said is what came of the last click.
func (s Scene) said() []Entry {
	var list []Entry
	for _, line := range s.Said {
		list = append(list, text(line)...)
	}
	return list[:min(len(list), maxSaid)]
}

// waiting are the prompts.
func (s Scene) waiting(open []api.Prompt) []Entry {
	var list []Entry
	for i, p := range open {
		if i == maxPrompts {
			return append(list, text(fmt.Sprintf("and %d more: %s", len(open)-i, onTerminal))...)
		}
		list = append(list, s.promptEntry(p))
	}
	if len(list) == 0 {
		return text("No sign-in is waiting")
	}
	return list
}

// attention is what accounts have to say, and what can be done about it.
func (s Scene) attention() []Entry {
	var list []Entry
	for _, a := range s.Accounts {
		if len(a.Notices) > 0 {
			list = append(list, s.notices(a))
		}
		if a.PushesHeld {
			list = append(list, held(a))
		}
	}
	if more := len(list) - maxAttention; more > 0 {
		list = append(list[:maxAttention], text(fmt.Sprintf("and %d more: countersign status", more))...)
	}
	return list
}

// notices is what happened to the person's other devices, until they have said
// that they saw it.
func (s Scene) notices(a api.Account) Entry {
	return Entry{Label: label("News of " + a.Name), Children: s.news(a)}
}

func (s Scene) news(a api.Account) (list []Entry) {
	for i, n := range a.Notices {
		if i == maxNotices {
			list = append(list, text(fmt.Sprintf("and %d more: countersign account show %s", len(a.Notices)-i, a.ID))...)
			break
		}
		list = append(list, text(sentence(n.Message)+" ("+describe.Ago(n.At, s.Now)+")")...)
	}
	list = append(list, text("If that was not you: change your password, remove that device at "+describe.Org(a.Org, a.Development)+", and tell its administrator")...)
	return append(list, Entry{Label: "I have seen this", Action: Action{Kind: Acknowledge, Account: a.ID}})
}

// held is an account whose pushes are held back.
func held(a api.Account) Entry {
	return Entry{Label: label("Pushes of " + a.Name + " are held back"), Children: letThrough(a)}
}

func letThrough(a api.Account) []Entry {
	return append(text("A sign-in was reported. Further pushes are neither shown nor answered."),
		Entry{Label: "Let pushes through again", Action: Action{Kind: ResumePushes, Account: a.ID}})
}

// problems are lines that say what is wrong and how to mend it; loud is the
// first that the icon tells of.
func (s Scene) problems() (list []Entry, loud string) {
	shown := 0
	for _, p := range s.Status.Problems {
		if ofAccounts[p.Code] {
			continue
		}
		if loud == "" && !quietly[p.Code] {
			loud = p.Message
		}
		if shown++; shown > maxProblems {
			continue
		}
		list = append(list, few(sentence(p.Message), fewLines)...)
		if p.Hint != "" {
			list = append(list, few("hint: "+p.Hint, fewLines)...)
		}
	}
	if more := shown - maxProblems; more > 0 {
		list = append(list, text(fmt.Sprintf("and %s: countersign status", describe.Plural(more, "more problem")))...)
	}
	return list, loud
}

// states are those of accounts, in words.
var states = map[string]string{
	"active": "ready", "suspended": "suspended by the organisation", "gone": "no longer known to the organisation",
	"enrolling": "not finished", "removing": "being removed", "keys_lost": "its keys are lost: add the account again",
}

// accounts is what there is.
func (s Scene) accounts() Entry {
	e := Entry{Label: "Accounts"}
	for i, a := range s.Accounts {
		if i == maxAccounts {
			e.Children = append(e.Children, text(fmt.Sprintf("and %d more: countersign account list", len(s.Accounts)-i))...)
			break
		}
		state := cmp.Or(states[a.State], strings.ReplaceAll(a.State, "_", " "))
		name := a.Name
		if a.State != "active" {
			name += " (" + state + ")"
		}
		account := Entry{Label: label(name)}
		account.Children = append(account.Children, text("Organisation: "+describe.Org(a.Org, a.Development))...)
		account.Children = append(account.Children, text("Account: "+a.User)...)
		account.Children = append(account.Children, text("State: "+state)...)
		account.Children = append(account.Children, text("Signs with: "+describe.Key(&api.PromptKey{Protection: a.Protection}))...)
		if len(a.Notices) > 0 {
			account.Children = append(account.Children, s.news(a)...)
		}
		if a.PushesHeld {
			account.Children = append(account.Children, letThrough(a)...)
		}
		e.Children = append(e.Children, account)
	}
	if len(e.Children) == 0 {
		e.Children = text("None yet. In a terminal: countersign account add ORGANISATION")
	}
	return e
}

// codes are what there are one-time codes for. The digits are in no label.
func (s Scene) codes() Entry {
	e := Entry{Label: "One-time codes"}
	if s.NoClipboard != "" && len(s.Codes) > 0 {
		e.Children = text(s.NoClipboard)
	}
	for i, c := range s.Codes {
		if i == maxAccounts {
			e.Children = append(e.Children, text(fmt.Sprintf("and %d more: countersign code list", len(s.Codes)-i))...)
			break
		}
		entry := Entry{Label: label("Copy the code of " + c.Name + " at " + c.Issuer), Action: Action{Kind: CopyCode, Code: c.ID}}
		if s.NoClipboard != "" {
			entry = Entry{Label: label("countersign code get " + c.Name)}
		}
		e.Children = append(e.Children, entry)
	}
	if len(s.Codes) == 0 {
		e.Children = text("None yet: they come with an account whose organisation takes them")
	}
	return e
}

// holds is why nothing is asked, and a pause.
func (s Scene) holds() []Entry {
	list := few(sentence(describe.Hold(s.Hold, s.Now)), fewLines)
	if s.Hold != nil && s.Hold.Reason == api.HoldPaused {
		return append(list, Entry{Label: "End the pause", Action: Action{Kind: Resume}})
	}
	pause := Entry{Label: "Pause"}
	for _, d := range pauses {
		pause.Children = append(pause.Children, Entry{Label: "For " + describe.Span(d), Action: Action{Kind: Pause, For: d}})
	}
	return append(list, pause)
}

// doctor is the self-examination: in a window, or by its command.
func (s Scene) doctor() []Entry {
	if s.window() {
		return []Entry{{Label: "Doctor…", Action: Action{Kind: ShowDoctor}}}
	}
	return text("To check everything, in a terminal: countersign doctor")
}
