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
	maxPrompts  = 8
	maxProblems = 5
	maxAccounts = 20
	maxNotices  = 5
)

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
	v := View{Icon: Idle, Tooltip: "Countersign: no sign-in is waiting", Refresh: s.refresh(open)}
	var menu sections
	for _, line := range s.Said {
		menu.add(text(line)...)
	}
	menu.next()
	for i, p := range open {
		if i == maxPrompts {
			menu.add(text(fmt.Sprintf("and %d more: %s", len(open)-i, onTerminal))...)
			break
		}
		menu.add(s.promptEntry(p))
	}
	if len(open) == 0 && s.Hold == nil {
		menu.add(Entry{Label: "No sign-in is waiting"})
	}
	menu.next()
	attention := s.attention()
	menu.add(attention...)
	problems, loud := s.problems()
	menu.add(problems...)
	if loud == "" && len(attention) > 0 {
		loud = attention[0].Label
	}
	switch {
	case s.Hold != nil:
		v.Icon, v.Tooltip = Resting, label("Countersign: "+describe.Hold(s.Hold, s.Now))
	case len(open) > 0:
		v.Icon, v.Tooltip = Waiting, "Countersign: "+describe.Plural(len(open), "sign-in")+" waiting"
	case loud != "":
		v.Icon, v.Tooltip = Attention, label("Countersign: "+loud)
	}
	menu.next()
	menu.add(s.accounts(), s.codes())
	menu.next()
	menu.add(s.holds()...)
	menu.add(s.doctor()...)
	menu.next()
	menu.add(quit())
	v.Menu = menu.list
	return v
}

// without is what is shown when no agent can be asked.
func (s Scene) without() View {
	v := View{Icon: Missing}
	words, hint := "The agent is not running", "It starts with your session, or in a terminal: countersignd run"
	switch s.Reach {
	case Looking:
		v.Icon, words, hint = Resting, "Looking for the agent", ""
	case Foreign:
		words, hint = "This is not your agent", "Nothing was said to it. In a terminal: countersign doctor"
	}
	v.Tooltip = "Countersign: " + strings.ToLower(words[:1]) + words[1:]
	var menu sections
	menu.add(text(words)...)
	if s.Reach != Looking {
		menu.add(text(s.Trouble)...)
	}
	menu.add(text(hint)...)
	menu.next()
	menu.add(quit())
	v.Menu = menu.list
	return v
}

func quit() Entry {
	return Entry{Label: "Quit (the agent keeps running)", Action: Action{Kind: Quit}}
}

// sections are entries with separators between groups that are not empty.
type sections struct {
	list []Entry
	cut  bool
}

func (m *sections) next() { m.cut = len(m.list) > 0 }

func (m *sections) add(entries ...Entry) {
	for _, e := range entries {
		if m.cut {
			m.list, m.cut = append(m.list, Entry{Separator: true}), false
		}
		m.list = append(m.list, e)
	}
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
	return list
}

// notices is what happened to the person's other devices, until they have said
// that they saw it.
func (s Scene) notices(a api.Account) Entry {
	e := Entry{Label: label("News of " + a.Name)}
	for i, n := range a.Notices {
		if i == maxNotices {
			e.Children = append(e.Children, text(fmt.Sprintf("and %d more: countersign account show %s", len(a.Notices)-i, a.ID))...)
			break
		}
		e.Children = append(e.Children, text(sentence(n.Message)+" ("+describe.Ago(n.At, s.Now)+")")...)
	}
	e.Children = append(e.Children, text("If that was not you: change your password, remove that device at "+describe.Org(a.Org, a.Development)+", and tell its administrator")...)
	e.Children = append(e.Children, Entry{Separator: true}, Entry{Label: "I have seen this", Action: Action{Kind: Acknowledge, Account: a.ID}})
	return e
}

// held is an account whose pushes are held back.
func held(a api.Account) Entry {
	e := Entry{Label: label("Pushes of " + a.Name + " are held back")}
	e.Children = append(text("A sign-in was reported. Further ones are neither shown nor answered."),
		Entry{Separator: true}, Entry{Label: "Let pushes through again", Action: Action{Kind: ResumePushes, Account: a.ID}})
	return e
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
		list = append(list, text(sentence(p.Message))...)
		if p.Hint != "" {
			list = append(list, text("hint: "+p.Hint)...)
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
		var todo []Entry
		if len(a.Notices) > 0 {
			todo = append(todo, s.notices(a))
		}
		if a.PushesHeld {
			todo = append(todo, Entry{Label: "Let pushes through again", Action: Action{Kind: ResumePushes, Account: a.ID}})
		}
		if len(todo) > 0 {
			account.Children = append(append(account.Children, Entry{Separator: true}), todo...)
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
		e.Children = append(text(s.NoClipboard), Entry{Separator: true})
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
	list := text(sentence(describe.Hold(s.Hold, s.Now)))
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
