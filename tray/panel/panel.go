// Package panel shows a tray.View in the desktop's panel: on Linux over the
// session's message bus (fyne.io/systray), on Windows and macOS, and on Linux
// built with the tag gtktray, by the system's own means (getlantern/systray).
// Nobody else touches those libraries; they keep their state in variables of
// their packages, so there is one panel in a program.
//
// Menus of both only ever grow, at their end: lines are hidden and used again for
// something else. What a line does is therefore bound anew with every View, and a
// click is refused for a moment after the line under the pointer has changed:
// nobody can be made to approve by something that pops up where they click.
package panel

import (
	"errors"
	"sync"
	"time"

	"countersign.dev/tray"
	"countersign.dev/tray/icon"
)

// settle is how long a line is not taken at its word after it has changed.
const settle = 700 * time.Millisecond

// ErrNone says that this build has no panel for its system.
var ErrNone = errors.New("this build cannot show an icon on this system")

// Options are what a panel needs.
type Options struct {
	First tray.View // shown at first
	Theme icon.Theme
	// Ready is called once, when the panel takes views. It may take its time.
	Ready func(*Panel)
	// Clicked hears what was clicked. It must not wait.
	Clicked func(tray.Action)
	// Opened hears that the menu is looked at, where the system tells.
	Opened func()
}

// Panel is the icon and its menu.
type Panel struct {
	mu      sync.Mutex // guards what follows, and is held while the library is told
	menu    board
	theme   icon.Theme
	icon    tray.Icon
	tooltip string
	told    bool // icon and tooltip have been set once
}

// item is one line of a menu, as the libraries make them.
type item interface {
	SetTitle(string)
	Enable()
	Disable()
	Hide()
	Show()
}

// Show replaces what is shown.
func (p *Panel) Show(v tray.View) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.told || v.Icon != p.icon || v.Tooltip != p.tooltip {
		p.icon, p.tooltip, p.told = v.Icon, v.Tooltip, true
		setIcon(icon.Data(p.icon, p.theme), p.tooltip)
	}
	p.menu.apply(v.Menu)
}

// Theme changes the kind of panel that the icon is for.
func (p *Panel) Theme(t icon.Theme) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t != p.theme {
		p.theme = t
		setIcon(icon.Data(p.icon, t), p.tooltip)
	}
}

// begin makes the menu and shows the first view.
func begin(o Options, add func(parent item, title string) (item, <-chan struct{}), rule func()) *Panel {
	p := &Panel{theme: o.Theme, menu: board{make: add, rule: rule, clicked: o.Clicked}}
	p.menu.build()
	p.Show(o.First)
	return p
}
