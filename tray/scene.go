// Package tray is the icon in the panel and its menu: what waits, with yes and
// no equally near; accounts, codes, a pause. It is a client of the agent's local
// API and nothing else, so that an agent works as well without it.
//
// What is shown is computed, by Scene.View, from what the agent said; that is
// tested without a desktop. A click carries the prompt that was shown, and is
// taken for no other: an entry that has just changed under the pointer, or whose
// prompt is not what it was, does nothing. The matching number is shown only as
// something to pick; neither icon nor tooltip gives it away.
package tray

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"time"

	"countersign.dev/ipc/api"
)

// Reach is how the agent can be talked to.
type Reach uint8

// The ways. Nothing is known at first.
const (
	Looking Reach = iota
	Connected
	Unreachable
	Foreign // something answers at the socket that is not the user's own agent
)

// Icon is what the icon says.
type Icon uint8

// The icons. Resting is the idle one, dimmed: nothing is asked for now.
const (
	Resting Icon = iota
	Idle
	Waiting
	Attention
	Missing
)

// Scene is all that the tray knows at a moment.
type Scene struct {
	Reach    Reach
	Trouble  string // why it cannot, for people; nothing when it is not running
	Status   api.Status
	Prompts  []api.Prompt // newest first
	Hold     *api.Hold
	Accounts []api.Account
	Codes    []api.CodeEntry
	// NoWindow says that the agent could not show a window when asked.
	NoWindow bool
	// NoClipboard says why codes cannot be copied, and what to do instead.
	NoClipboard string
	Busy        []string // prompts whose answer is under way
	Said        []string // what came of the last click, a line each
	Now         time.Time
}

// Kind is what a click does. The zero value does nothing.
type Kind uint8

// The kinds. Only Approve approves.
const (
	Nothing Kind = iota
	Approve
	Deny
	Report // deny, and say that it was not the person
	Show   // open the agent's dialog of a prompt
	ShowDoctor
	Acknowledge
	ResumePushes
	CopyCode
	Pause
	Resume
	Quit
)

// Action is what an entry does, and for what. Two that are equal are the same.
type Action struct {
	Kind    Kind
	Prompt  string // id
	Seen    Mark   // the prompt as it was shown
	Account string // id: of the account, or chosen for the prompt
	Number  string
	Code    string // id of the code
	For     time.Duration
}

// Decides says whether it answers a prompt.
func (a Action) Decides() bool { return a.Kind == Approve || a.Kind == Deny || a.Kind == Report }

// Entry is one line of the menu: something to click, a submenu, text, or what
// separates two sections of it.
type Entry struct {
	Label     string
	Action    Action
	Children  []Entry
	Separator bool
	// Calm is text that can be chosen, and does nothing. A keyboard lands on the
	// first line that can be chosen: Enter must approve nothing.
	Calm bool
}

// Enabled says whether it can be chosen.
func (e Entry) Enabled() bool { return e.Calm || e.Action.Kind != Nothing || len(e.Children) > 0 }

// View is what the panel shows.
type View struct {
	Icon    Icon
	Tooltip string
	Menu    []Entry
	// Refresh is when the words will be out of date; 0 means never.
	Refresh time.Duration
}

// Mark stands for what a person saw of a prompt.
type Mark [8]byte

// MarkOf marks a prompt. What is left to the person, like tries of the PIN, is
// no other prompt.
func MarkOf(p api.Prompt) Mark {
	p.TriesLeft, p.LockedUntil, p.Verified, p.VerificationMethods = 0, time.Time{}, false, nil
	b, err := json.Marshal(p)
	if err != nil {
		return Mark{} // cannot be: and then no two are alike, see Find
	}
	sum := sha256.Sum256(b)
	return Mark(sum[:8])
}

// Find returns the prompt that an action is for, if it is still what was shown.
func (s Scene) Find(a Action) (api.Prompt, bool) {
	i := slices.IndexFunc(s.Prompts, func(p api.Prompt) bool { return p.ID == a.Prompt })
	if i < 0 || a.Prompt == "" || a.Seen == (Mark{}) || MarkOf(s.Prompts[i]) != a.Seen {
		return api.Prompt{}, false
	}
	return s.Prompts[i], true
}

// window says whether the agent can show a window.
func (s Scene) window() bool {
	return !s.NoWindow && slices.Contains(s.Status.FrontEnds, "dialog")
}

func (s Scene) busy(prompt string) bool { return slices.Contains(s.Busy, prompt) }
