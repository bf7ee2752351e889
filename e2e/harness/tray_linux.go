package harness

import (
	"context"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// Tray is the tray program beside an agent, and what a panel reads of it.
type Tray struct {
	*Process
	conn *dbus.Conn
	dest string // its name on the session bus
	menu dbus.ObjectPath
}

// MenuEntry is one entry of the tray's menu.
type MenuEntry struct {
	ID        int32
	Label     string
	Enabled   bool
	Separator bool
	Children  []MenuEntry
}

const (
	itemIface = "org.kde.StatusNotifierItem"
	itemPath  = dbus.ObjectPath("/StatusNotifierItem")
	menuIface = "com.canonical.dbusmenu"
)

// StartTray starts the tray program beside an agent and waits until its menu can
// be read. Stop it.
func (d *Desktop) StartTray(ctx context.Context, programs Programs, a *Agent) (*Tray, error) {
	p, err := launch(d.dir, "tray", append(d.Env(), "COUNTERSIGN_SOCKET="+a.Socket, "COUNTERSIGN_STATE_DIR="+a.State),
		programs.Tray)
	if err != nil {
		return nil, err
	}
	d.programs = append(d.programs, p)
	t := &Tray{Process: p}
	if t.conn, err = d.Session.Connect(); err != nil {
		return nil, err
	}
	if err := t.find(ctx); err != nil {
		t.conn.Close()
		return nil, fmt.Errorf("starting the tray: %w\n%s", err, p.Tail())
	}
	return t, nil
}

// find looks for the tray on the bus, e.g. after the bus was restarted.
func (t *Tray) find(ctx context.Context) error {
	prefix := fmt.Sprintf("%s-%d-", itemIface, t.PID())
	var failed error
	there := func() bool {
		var names []string
		if failed = t.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.ListNames", 0).Store(&names); failed != nil {
			return false
		}
		t.dest = ""
		for _, n := range names {
			if strings.HasPrefix(n, prefix) {
				t.dest = n
			}
		}
		if t.dest == "" {
			failed = fmt.Errorf("no name %s… on the bus", prefix)
			return false
		}
		if failed = t.conn.Object(t.dest, itemPath).StoreProperty(itemIface+".Menu", &t.menu); failed == nil {
			_, failed = t.Menu(ctx)
		}
		return failed == nil
	}
	if !await(ctx, there) {
		return fmt.Errorf("waiting for the tray: %w: %w", context.Cause(ctx), failed)
	}
	return nil
}

// Reconnect finds the tray again after the bus was restarted.
func (t *Tray) Reconnect(ctx context.Context, d *Desktop) error {
	t.conn.Close()
	var err error
	if t.conn, err = d.Session.Connect(); err != nil {
		return err
	}
	return t.find(ctx)
}

// End stops the tray program as the end of a session does.
func (t *Tray) End() error {
	t.conn.Close()
	return t.Stop()
}

// Tooltip is the text that a panel shows when the mouse is over the icon.
func (t *Tray) Tooltip(ctx context.Context) (string, error) {
	var tip struct {
		Icon string
		Pix  []struct {
			W, H int32
			Data []byte
		}
		Title, Text string
	}
	call := t.conn.Object(t.dest, itemPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, itemIface, "ToolTip")
	var v dbus.Variant
	if err := call.Store(&v); err != nil {
		return "", err
	}
	err := v.Store(&tip)
	return tip.Title, err
}

type menuNode struct {
	ID    int32
	Props map[string]dbus.Variant
	Kids  []dbus.Variant
}

// Menu reads the menu, as a panel does that is about to show it.
func (t *Tray) Menu(ctx context.Context) ([]MenuEntry, error) {
	object := t.conn.Object(t.dest, t.menu)
	var update bool
	_ = object.CallWithContext(ctx, menuIface+".AboutToShow", 0, int32(0)).Store(&update) // not every menu has it
	var revision uint32
	var root menuNode
	if err := object.CallWithContext(ctx, menuIface+".GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root); err != nil {
		return nil, fmt.Errorf("reading the tray's menu: %w", err)
	}
	return root.entry().Children, nil
}

func (n menuNode) entry() MenuEntry {
	e := MenuEntry{ID: n.ID, Enabled: true}
	if label, ok := n.Props["label"].Value().(string); ok {
		e.Label = plain(label)
	}
	if enabled, ok := n.Props["enabled"].Value().(bool); ok {
		e.Enabled = enabled
	}
	kind, _ := n.Props["type"].Value().(string)
	e.Separator = kind == "separator"
	for _, k := range n.Kids {
		var kid menuNode
		if dbus.Store([]any{k.Value()}, &kid) != nil {
			continue
		}
		if visible, ok := kid.Props["visible"].Value().(bool); ok && !visible {
			continue
		}
		e.Children = append(e.Children, kid.entry())
	}
	return e
}

// plain is a label as a panel shows it: one underscore marks a letter, two are
// an underscore.
func plain(label string) string {
	var b strings.Builder
	for rest := label; rest != ""; {
		before, after, found := strings.Cut(rest, "_")
		b.WriteString(before)
		if !found {
			break
		}
		if strings.HasPrefix(after, "_") {
			b.WriteByte('_')
			after = after[1:]
		}
		rest = after
	}
	return b.String()
}

// lookUp follows labels, each the beginning of an entry's, into a menu.
func lookUp(menu []MenuEntry, path []string) (MenuEntry, bool) {
	for _, e := range menu {
		if strings.HasPrefix(e.Label, path[0]) {
			if len(path) == 1 {
				return e, true
			}
			if found, ok := lookUp(e.Children, path[1:]); ok {
				return found, true
			}
		}
	}
	return MenuEntry{}, false
}

// Await waits until the menu has an entry: the beginnings of its label and of
// those above it.
func (t *Tray) Await(ctx context.Context, path ...string) (e MenuEntry, err error) {
	var menu []MenuEntry
	has := func() (ok bool) {
		if menu, err = t.Menu(ctx); err == nil {
			e, ok = lookUp(menu, path)
		}
		return ok
	}
	if !await(ctx, has) {
		return e, fmt.Errorf("waiting for %q in the tray's menu: %w (%v)\n%s", path, context.Cause(ctx), err, Draw(menu))
	}
	return e, nil
}

// Without waits until the menu has no such entry.
func (t *Tray) Without(ctx context.Context, path ...string) error {
	var menu []MenuEntry
	var err error
	lacks := func() bool {
		if menu, err = t.Menu(ctx); err != nil {
			return false
		}
		_, ok := lookUp(menu, path)
		return !ok
	}
	if !await(ctx, lacks) {
		return fmt.Errorf("waiting for %q to go from the tray's menu: %w (%v)\n%s", path, context.Cause(ctx), err, Draw(menu))
	}
	return nil
}

// Press waits for an entry that can be pressed, and presses it: again and again
// until the menu says something else, since the tray takes no press on what has
// just come.
func (t *Tray) Press(ctx context.Context, path ...string) error {
	e, err := t.Await(ctx, path...)
	if err != nil {
		return err
	}
	if !e.Enabled || len(e.Children) > 0 {
		return fmt.Errorf("%q cannot be pressed: %+v", path, e)
	}
	var before string
	taken := func() bool {
		var menu []MenuEntry
		if menu, err = t.Menu(ctx); err != nil {
			return false
		}
		now, there := lookUp(menu, path)
		for i := range menu { // what is inside tells the time
			menu[i].Children = nil
		}
		if before == "" {
			before = Draw(menu)
		} else if !there || !now.Enabled || Draw(menu) != before {
			return true
		}
		err = t.PressOnce(ctx, now)
		return err != nil
	}
	if !await(ctx, taken) {
		return fmt.Errorf("pressing %q in the tray's menu: %w (%v)\n%s", path, context.Cause(ctx), err, before)
	}
	return err
}

// PressOnce presses an entry that was read a while ago, whatever comes of it.
func (t *Tray) PressOnce(ctx context.Context, e MenuEntry) error {
	return t.conn.Object(t.dest, t.menu).CallWithContext(ctx, menuIface+".Event", 0, e.ID, "clicked", dbus.MakeVariant(""), uint32(0)).Err
}

// AwaitTooltip waits until the tooltip contains some words.
func (t *Tray) AwaitTooltip(ctx context.Context, words string) error {
	var said string
	var err error
	says := func() bool {
		said, err = t.Tooltip(ctx)
		return err == nil && strings.Contains(said, words)
	}
	if !await(ctx, says) {
		return fmt.Errorf("waiting for the tooltip %q, it is %q: %w (%v)", words, said, context.Cause(ctx), err)
	}
	return nil
}

// Draw is a menu as text.
func Draw(menu []MenuEntry) string {
	var b strings.Builder
	var draw func(menu []MenuEntry, indent string)
	draw = func(menu []MenuEntry, indent string) {
		for _, e := range menu {
			switch {
			case e.Separator:
				b.WriteString(indent + "----\n")
			case e.Enabled:
				b.WriteString(indent + e.Label + "\n")
			default:
				b.WriteString(indent + "(" + e.Label + ")\n")
			}
			draw(e.Children, indent+"  ")
		}
	}
	draw(menu, "")
	return b.String()
}

// watcher plays the panel's part that programs with an icon look for.
type watcher struct{}

func (watcher) RegisterStatusNotifierItem(string) *dbus.Error { return nil }
func (watcher) RegisterStatusNotifierHost(string) *dbus.Error { return nil }

// PlayPanel makes the tray believe that there is a panel, where nobody wants to
// see it. The connection is that of the panel; close it.
func (b *Bus) PlayPanel() (*dbus.Conn, error) {
	const path = dbus.ObjectPath("/StatusNotifierWatcher")
	c, err := b.Connect()
	if err != nil {
		return nil, err
	}
	err = c.Export(watcher{}, path, watcherName)
	if err == nil {
		_, err = prop.Export(c, path, prop.Map{watcherName: {
			"IsStatusNotifierHostRegistered": {Value: true}, "ProtocolVersion": {Value: int32(0)}, "RegisteredStatusNotifierItems": {Value: []string{}},
		}})
	}
	if err == nil {
		_, err = c.RequestName(watcherName, dbus.NameFlagDoNotQueue)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("playing the panel: %w", err)
	}
	return c, nil
}

// OnChange tells of each change of the menu's layout until the tray ends.
func (t *Tray) OnChange(ctx context.Context) (<-chan struct{}, error) {
	err := t.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(t.dest), dbus.WithMatchInterface(menuIface))
	if err != nil {
		return nil, err
	}
	signals, changes := make(chan *dbus.Signal, 1000), make(chan struct{}, 1)
	t.conn.Signal(signals)
	go func() {
		defer close(changes)
		for range signals { // closed with the connection
			select {
			case changes <- struct{}{}:
			default: // one is waiting to be seen
			}
		}
	}()
	return changes, nil
}
