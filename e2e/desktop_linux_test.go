package e2e

import (
	"context"
	"fmt"
	"image"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
)

// desk is a person at a desktop: a panel with the tray's icon, somebody who
// shows notifications, the agent in the person's session, and an org.
type desk struct {
	*harness.Desktop
	stage *harness.Stage
	agent *harness.Agent
	tray  *harness.Tray
	heard *harness.Overheard // on the session bus

	panel, notifications *harness.Process
}

type deskOptions struct {
	number string // when the org wants one in a push; default NEVER
	pin    bool   // alice's keys verify her by a PIN
	light  bool   // the panel's colours
	args   []string
}

// sit makes a desk.
func sit(t *testing.T, o deskOptions) *desk {
	t.Helper()
	ctx := deadline(t)
	desktop, err := harness.StartDesktop(ctx)
	must(t, err)
	d := &desk{Desktop: desktop}
	t.Cleanup(d.Close)
	d.heard, err = d.Session.Overhear()
	must(t, err)
	t.Cleanup(d.heard.Close)
	d.panel, err = d.StartPanel(ctx, !o.light)
	must(t, err)
	d.notifications, err = d.StartNotifications(ctx)
	must(t, err)
	d.stage = newStage(t, harness.StageOptions{AgentEnv: d.Env(), AgentArgs: append([]string{"--desktop", "auto"}, o.args...)})
	if o.number == "" {
		o.number = "NEVER"
	}
	must(t, d.stage.Org.NumberChallenge(ctx, o.number))
	d.agent = newAgent(t, d.stage, nil)
	if o.pin {
		setPIN(t, d.agent)
		enrolWithPIN(t, d.stage, d.agent, harness.Alice)
	} else {
		must(t, d.stage.Enrol(ctx, d.agent, harness.Alice))
	}
	d.startTray(t)
	t.Cleanup(func() { // before anything of it is gone
		if t.Failed() {
			t.Log(d.describe())
		}
	})
	return d
}

func (d *desk) startTray(t *testing.T) {
	t.Helper()
	var err error
	d.tray, err = d.StartTray(deadline(t), programs, d.agent)
	must(t, err)
	tray := d.tray
	t.Cleanup(func() {
		select {
		case <-tray.Exited(): // by the story
		default:
			if err := tray.End(); err != nil {
				t.Error(err)
			}
		}
	})
}

// describe says where the desk stands, for a message to a developer.
func (d *desk) describe() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var b strings.Builder
	if d.tray != nil {
		menu, err := d.tray.Menu(ctx)
		fmt.Fprintf(&b, "--- menu (%v)\n%s%s\n", err, harness.Draw(menu), d.tray.Tail())
	}
	if d.heard == nil {
		return b.String()
	}
	for _, n := range d.heard.Notes() {
		fmt.Fprintf(&b, "notification: %+v\n", n)
	}
	return b.String()
}

// push begins a sign-in to an app by password and push, as a page's server
// would.
func (d *desk) push(t *testing.T, ctx context.Context, app string) *harness.Transaction {
	t.Helper()
	org := d.stage.Org
	tx, err := org.BeginTransaction(ctx, org.NewSignIn(app, "", "http://localhost:1/callback"))
	must(t, err)
	must(t, tx.Choice(ctx, harness.Alice, harness.Password))
	must(t, tx.Choose(ctx, "push"))
	return tx
}

// ends polls as a page does, until the sign-in is decided one way or the other.
func ends(t *testing.T, ctx context.Context, tx *harness.Transaction) (signedIn bool) {
	t.Helper()
	for {
		err := tx.Poll(ctx)
		if tx.Last.Success != nil {
			return true
		}
		if _, waits := tx.Form("challenge-poll"); !waits {
			return false
		}
		must(t, err)
		select {
		case <-time.After(50 * time.Millisecond): // a page polls at its own pace
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
	}
}

const (
	noteClass   = "xfce4-notifyd"
	dialogClass = "zenity"
)

// note waits until a notification is on the screen.
func (d *desk) note(t *testing.T, ctx context.Context) harness.Frame {
	t.Helper()
	f, err := d.AwaitFrame(ctx, "--class", noteClass)
	must(t, err)
	return f
}

// pressNote presses a button of the notification on the screen.
func (d *desk) pressNote(t *testing.T, ctx context.Context, label string) {
	t.Helper()
	f := d.note(t, ctx)
	list := d.heard.Notes()
	var labels []string
	for i := 1; i < len(list[len(list)-1].Actions); i += 2 {
		labels = append(labels, list[len(list)-1].Actions[i])
	}
	n := slices.Index(labels, label)
	if n < 0 {
		t.Fatalf("the notification has buttons %q, not %q", labels, label)
	}
	// A window that has just come is not painted yet, and does not always hear the
	// first click.
	for {
		must(t, d.Point(ctx, image.Pt(10, 600))) // a button under the mouse looks different
		picture, err := d.Picture(ctx)
		must(t, err)
		if buttons := row(picture, f.Rectangle); len(buttons) == len(labels) {
			must(t, d.Click(ctx, buttons[n]))
		}
		soon, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		err = d.NoWindow(soon, f.ID)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("pressing %s: %v", label, err)
		}
	}
}

// row finds the middle of each button at the lower edge of a window: what is
// darker than the window for a while.
func row(picture *image.RGBA, window image.Rectangle) (middles []image.Point) {
	const above, least = 19, 30 // below the labels; wider than any ornament
	y := window.Max.Y - above
	light := func(x int) int { c := picture.RGBAAt(x, y); return int(c.R) + int(c.G) + int(c.B) }
	paper := light(window.Min.X + 6)
	for x, from := window.Min.X+6, -1; x < window.Max.X; x++ {
		button := light(x) < paper-30 && x < window.Max.X-6
		switch {
		case button && from < 0:
			from = x
		case !button && from >= 0:
			if x-from >= least {
				middles = append(middles, image.Pt((from+x)/2, y))
			}
			from = -1
		}
	}
	return middles
}

// dialog waits for the dialog and gives it the keyboard, as a click on it does.
func (d *desk) dialog(t *testing.T, ctx context.Context) harness.Frame {
	t.Helper()
	f, err := d.AwaitFrame(ctx, "--class", dialogClass)
	must(t, err)
	_, err = d.Tool(ctx, "xdotool", "windowactivate", "--sync", f.ID)
	must(t, err)
	return f
}

// quiet waits until nothing of a sign-in is left on the desktop.
func (d *desk) quiet(t *testing.T, ctx context.Context) {
	t.Helper()
	must(t, d.NoFrame(ctx, "--class", noteClass))
	must(t, d.NoFrame(ctx, "--class", dialogClass))
	must(t, d.tray.Without(ctx, "Sign in to"))
}

// read is the time that a person takes to read what has come up. What is pressed
// sooner does not count, on every surface.
func read() { time.Sleep(1700 * time.Millisecond) }

// openFromNote clicks on the notification, whose dialog opens.
func (d *desk) openFromNote(t *testing.T, ctx context.Context) harness.Frame {
	t.Helper()
	d.pressNote(t, ctx, "Open")
	return d.dialog(t, ctx)
}

// answerDialog types into the dialog and approves by its button, which is where
// Enter leads from the entry.
func (d *desk) answerDialog(t *testing.T, ctx context.Context, text string) {
	t.Helper()
	d.dialog(t, ctx)
	read()
	must(t, d.Type(ctx, text))
	must(t, d.Keys(ctx, "Return"))
}

// mustBeWaiting waits until a sign-in shows everywhere.
func (d *desk) mustBeWaiting(t *testing.T, ctx context.Context) {
	t.Helper()
	d.note(t, ctx)
	must(t, d.tray.AwaitTooltip(ctx, "1 sign-in waiting"))
	_, err := d.tray.Await(ctx, "Sign in to")
	must(t, err)
}

func mustSignIn(t *testing.T, ctx context.Context, tx *harness.Transaction) {
	t.Helper()
	if !ends(t, ctx, tx) {
		t.Fatalf("not signed in: %+v", tx.Last.Messages)
	}
}

func mustRefuse(t *testing.T, ctx context.Context, tx *harness.Transaction) {
	t.Helper()
	if ends(t, ctx, tx) {
		t.Fatal("signed in, though nobody approved")
	}
}
