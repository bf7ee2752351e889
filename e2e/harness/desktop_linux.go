package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign.dev/daemon/desktop/desktoptest"
)

// Desktop is where a person sits: a screen with a window manager, a session bus
// on which a screen saver is played, a system bus on which logind is, and what
// was started there. Nothing of
// the desktop of the person who runs the tests is used.
type Desktop struct {
	*desktoptest.Desktop
	Session, System *Bus

	dir      string // of logs and buses
	login    *login
	saver    *saver
	programs []*Process
}

// StartDesktop starts the screen and the buses, without a panel or anybody who
// shows notifications.
func StartDesktop(ctx context.Context) (*Desktop, error) {
	screen, err := desktoptest.New()
	if err != nil {
		return nil, err
	}
	d := &Desktop{Desktop: screen, dir: screen.Runtime}
	if err := d.start(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Desktop) start(ctx context.Context) (err error) {
	if d.Session, err = newBus(d.dir, "bus", d.Env()); err != nil {
		return err
	}
	if d.System, err = newBus(d.dir, "system-bus", d.Env()); err != nil {
		return err
	}
	for _, b := range []*Bus{d.Session, d.System} {
		if err := b.Start(ctx); err != nil {
			return err
		}
	}
	if d.saver, err = d.Session.playSaver(); err != nil {
		return err
	}
	d.login, err = d.startLogin(ctx)
	return err
}

// Env is all that a program on the desktop sees of its surroundings.
func (d *Desktop) Env() []string {
	env := programEnv(d.Home)
	vars := d.Vars()
	if d.Session != nil {
		vars["DBUS_SESSION_BUS_ADDRESS"] = d.Session.Address
	}
	if d.System != nil {
		vars["DBUS_SYSTEM_BUS_ADDRESS"] = d.System.Address
	}
	vars["XDG_SESSION_ID"], vars["XDG_SESSION_TYPE"], vars["XDG_CURRENT_DESKTOP"] = sessionID, "x11", "XFCE"
	vars["NO_AT_BRIDGE"] = "1" // nobody reads the screen aloud here
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	return env
}

// Close ends everything on the desktop and removes its folders.
func (d *Desktop) Close() {
	for _, p := range slices.Backward(d.programs) {
		p.Kill()
	}
	if d.login != nil {
		d.login.close()
	}
	if d.saver != nil {
		d.saver.conn.Close()
	}
	for _, b := range []*Bus{d.Session, d.System} {
		if b != nil && b.daemon != nil {
			b.daemon.Kill()
		}
	}
	d.Desktop.Close()
}

// Launch starts a program that is not ours on the desktop; Close ends it.
func (d *Desktop) Launch(name, bin string, args ...string) (*Process, error) {
	p, err := launch(d.dir, name, d.Env(), bin, args...)
	if err == nil {
		d.programs = append(d.programs, p)
	}
	return p, err
}

// panelSettings are a panel along the upper edge with nothing but the tray.
const panelSettings = `<?xml version="1.0"?>
<channel name="xfce4-panel" version="1.0">
 <property name="configver" type="int" value="2"/>
 <property name="panels" type="array"><value type="int" value="1"/>
  <property name="dark-mode" type="bool" value="%v"/>
  <property name="panel-1" type="empty">
   <property name="position" type="string" value="p=6;x=0;y=0"/>
   <property name="length" type="uint" value="100"/>
   <property name="size" type="uint" value="32"/>
   <property name="position-locked" type="bool" value="true"/>
   <property name="plugin-ids" type="array"><value type="int" value="1"/></property>
  </property>
 </property>
 <property name="plugins" type="empty">
  <property name="plugin-1" type="string" value="systray">
   <property name="known-items" type="array"/>
   <property name="icon-size" type="uint" value="24"/>
  </property>
 </property>
</channel>
`

// PanelHeight is that of the panel, in pixels.
const PanelHeight = 32

const watcherName = "org.kde.StatusNotifierWatcher"

// StartPanel starts xfce4-panel, light or dark, and waits until it can show
// icons. Only the first one's settings count on a desktop.
func (d *Desktop) StartPanel(ctx context.Context, dark bool) (*Process, error) {
	settings := filepath.Join(d.Home, ".config", "xfce4", "xfconf", "xfce-perchannel-xml", "xfce4-panel.xml")
	if err := os.MkdirAll(filepath.Dir(settings), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(settings, fmt.Appendf(nil, panelSettings, dark), 0o600); err != nil {
		return nil, err
	}
	p, err := d.Launch("xfce4-panel", "xfce4-panel", "--disable-wm-check")
	if err != nil {
		return nil, err
	}
	if err := d.Session.Awaits(ctx, watcherName); err != nil {
		return nil, fmt.Errorf("starting the panel: %w\n%s", err, p.Tail())
	}
	return p, nil
}

const notificationsName = "org.freedesktop.Notifications"

// StartNotifications starts xfce4-notifyd, which shows notifications with
// buttons.
func (d *Desktop) StartNotifications(ctx context.Context) (*Process, error) {
	const service = "/usr/share/dbus-1/services/org.xfce.xfce4-notifyd.Notifications.service"
	text, err := os.ReadFile(service)
	if err != nil {
		return nil, fmt.Errorf("looking for xfce4-notifyd: %w (run: tools/setup test)", err)
	}
	_, program, _ := strings.Cut(string(text), "Exec=")
	program, _, _ = strings.Cut(program, "\n")
	return d.notifications(ctx, "xfce4-notifyd", strings.TrimSpace(program))
}

// StartDunst starts dunst, whose notifications have no buttons to press with the
// mouse, only a click.
func (d *Desktop) StartDunst(ctx context.Context) (*Process, error) {
	config := filepath.Join(d.dir, "dunstrc")
	if err := os.WriteFile(config, []byte("[global]\nmouse_left_click = do_action\n"), 0o600); err != nil {
		return nil, err
	}
	return d.notifications(ctx, "dunst", "dunst", "-conf", config)
}

func (d *Desktop) notifications(ctx context.Context, name, bin string, args ...string) (*Process, error) {
	p, err := d.Launch(name, bin, args...)
	if err != nil {
		return nil, err
	}
	if err := d.Session.Awaits(ctx, notificationsName); err != nil {
		return nil, fmt.Errorf("starting %s: %w\n%s", name, err, p.Tail())
	}
	return p, nil
}

// Tool runs a program for its output on the desktop.
func (d *Desktop) Tool(ctx context.Context, bin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = d.Env()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", bin, strings.Join(args, " "), err, errs.Bytes())
	}
	return string(out), nil
}

// lookEvery is how often the screen is looked at, which takes programs.
const lookEvery = 80 * time.Millisecond

// Frame is a window of whatever kind, with its place on the screen.
type Frame struct {
	ID string
	image.Rectangle
}

// Frames are the visible windows that xdotool finds by these criteria, e.g.
// "--class", "xfce4-notifyd".
func (d *Desktop) Frames(ctx context.Context, criteria ...string) []Frame {
	out, err := d.Tool(ctx, "xdotool", append([]string{"search", "--onlyvisible"}, criteria...)...)
	if err != nil {
		return nil // none is an error
	}
	var list []Frame
	for _, id := range strings.Fields(out) {
		out, err := d.Tool(ctx, "xdotool", "getwindowgeometry", "--shell", id)
		if err != nil {
			continue // gone meanwhile
		}
		at := map[string]int{}
		for line := range strings.Lines(out) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			at[name], _ = strconv.Atoi(value)
		}
		list = append(list, Frame{id, image.Rect(at["X"], at["Y"], at["X"]+at["WIDTH"], at["Y"]+at["HEIGHT"])})
	}
	return list
}

// AwaitFrame waits until there is such a window, as large as it will be.
func (d *Desktop) AwaitFrame(ctx context.Context, criteria ...string) (f Frame, err error) {
	var before Frame
	stands := func() bool {
		before = f
		f = Frame{}
		if list := d.Frames(ctx, criteria...); len(list) > 0 {
			f = list[0]
		}
		return !f.Empty() && f == before
	}
	if !awaitAt(ctx, lookEvery, stands) {
		return f, fmt.Errorf("waiting for a window %v: %w", criteria, context.Cause(ctx))
	}
	return f, nil
}

// NoFrame waits until there is no such window any more.
func (d *Desktop) NoFrame(ctx context.Context, criteria ...string) error {
	if !awaitAt(ctx, lookEvery, func() bool { return len(d.Frames(ctx, criteria...)) == 0 && ctx.Err() == nil }) {
		return fmt.Errorf("waiting for the window %v to go: %w", criteria, context.Cause(ctx))
	}
	return nil
}

// Click presses the left button of the mouse at a place on the screen.
func (d *Desktop) Click(ctx context.Context, at image.Point) error {
	_, err := d.Tool(ctx, "xdotool", "mousemove", strconv.Itoa(at.X), strconv.Itoa(at.Y), "click", "1")
	return err
}

// Point moves the mouse to a place on the screen.
func (d *Desktop) Point(ctx context.Context, at image.Point) error {
	_, err := d.Tool(ctx, "xdotool", "mousemove", strconv.Itoa(at.X), strconv.Itoa(at.Y))
	return err
}

// Keys presses keys, as xdotool names them, in what has the keyboard.
func (d *Desktop) Keys(ctx context.Context, keys ...string) error {
	_, err := d.Tool(ctx, "xdotool", append([]string{"key", "--delay", "20"}, keys...)...)
	return err
}

// Type types text into what has the keyboard.
func (d *Desktop) Type(ctx context.Context, text string) error {
	_, err := d.Tool(ctx, "xdotool", "type", "--delay", "20", text)
	return err
}

// Paint gives the desktop a colour, as far as it takes one.
func (d *Desktop) Paint(ctx context.Context, c color.RGBA) {
	paper := fmt.Sprintf("xc:#%02x%02x%02x", c.R, c.G, c.B)
	_, _ = d.Tool(ctx, "display", "-size", "1024x768", "-window", "root", paper) // it paints, and fails all the same
}

// Picture is what is on the screen now.
func (d *Desktop) Picture(ctx context.Context) (*image.RGBA, error) {
	out, err := d.Tool(ctx, "import", "-silent", "-window", "root", "png:-")
	if err != nil {
		return nil, err
	}
	img, err := png.Decode(strings.NewReader(out))
	if err != nil {
		return nil, err
	}
	picture := image.NewRGBA(img.Bounds())
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			picture.Set(x, y, img.At(x, y))
		}
	}
	if picture.Bounds().Empty() {
		return nil, errors.New("the picture of the screen is empty")
	}
	return picture, nil
}

// NoWindow waits until a window is gone.
func (d *Desktop) NoWindow(ctx context.Context, id string) error {
	gone := func() bool {
		_, err := d.Tool(ctx, "xdotool", "getwindowname", id)
		return err != nil && ctx.Err() == nil
	}
	if !awaitAt(ctx, lookEvery, gone) {
		return fmt.Errorf("waiting for window %s to go: %w", id, context.Cause(ctx))
	}
	return nil
}

// AwaitDelay waits until somebody wants the computer to wait before it sleeps,
// or until nobody does.
func (d *Desktop) AwaitDelay(ctx context.Context, want bool) (err error) {
	var is bool
	as := func() bool {
		is, err = d.delaysSleep(ctx)
		return err != nil || is == want
	}
	if !await(ctx, as) {
		return fmt.Errorf("waiting for a delay of sleep to be %v: %w", want, context.Cause(ctx))
	}
	return err
}

// Descendants are the processes below another, in no order.
func Descendants(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	parent := map[int]int{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name in parentheses may hold anything; state and parent come after it.
		end := bytes.LastIndexByte(text, ')')
		fields := strings.Fields(string(text[end+1:]))
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && len(fields) > 1 {
			parent[child], _ = strconv.Atoi(fields[1])
		}
	}
	var list []int
	for child := range parent {
		for p := parent[child]; p > 1; p = parent[p] {
			if p == pid {
				list = append(list, child)
				break
			}
		}
	}
	return list, nil
}
