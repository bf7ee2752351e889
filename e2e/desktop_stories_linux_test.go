package e2e

import (
	"net/http"
	"os"
	"slices"
	"testing"

	"countersign.dev/e2e/harness"
)

// A push arrives: the notification shows, the icon's state changes, the menu
// names the sign-in. A click on the notification opens the dialog, which asks for
// the number that the page shows, and Approve signs the page in.
func TestDesktopPushWithNumber(t *testing.T) {
	t.Parallel()
	d := sit(t, deskOptions{number: "ALWAYS"})
	ctx := deadline(t)
	must(t, d.tray.AwaitTooltip(ctx, "no sign-in is waiting"))
	v := doors[4].knock(t, d.stage.Org, newSite(t, d.stage.Org), "demo-strict")
	v.toChoice(t, ctx, harness.Alice)
	must(t, v.page.ChoosePush(ctx))
	number, err := v.page.Number(ctx)
	must(t, err)

	d.mustBeWaiting(t, ctx)
	_, err = d.tray.Await(ctx, "Sign in to Demo, strict")
	must(t, err)
	if notes := d.heard.Notes(); len(notes) != 1 || notes[0].Summary != "Sign in to Demo, strict?" {
		t.Errorf("notifications: %+v", notes)
	}
	d.openFromNote(t, ctx)
	v.mustNotBeSignedIn(t)
	d.answerDialog(t, ctx, number)
	who, err := v.byEnd(ctx)
	mustBe(t, harness.Alice, who, err, "swk")
	d.quiet(t, ctx)
	must(t, d.tray.AwaitTooltip(ctx, "no sign-in is waiting"))
}

// B2: the number of another page ends the sign-in, and nobody is signed in.
func TestB2DesktopWrongNumber(t *testing.T) {
	t.Parallel()
	d := sit(t, deskOptions{number: "ALWAYS"})
	ctx := deadline(t)
	tx := d.push(t, ctx, "demo-strict")
	d.mustBeWaiting(t, ctx)
	p := onlyPrompt(t, ctx, d.agent)
	wrong := slices.DeleteFunc(p.Numbers, func(n string) bool { return n == tx.Number() })[0]
	d.openFromNote(t, ctx)
	d.answerDialog(t, ctx, wrong)
	mustRefuse(t, ctx, tx)
	d.quiet(t, ctx)
}

// No, said in the notification and in the tray's menu, ends the sign-in.
func TestDesktopDeny(t *testing.T) {
	t.Parallel()
	d := sit(t, deskOptions{})
	ctx := deadline(t)
	tx := d.push(t, ctx, "demo-strict")
	d.mustBeWaiting(t, ctx)
	d.pressNote(t, ctx, "Deny")
	mustRefuse(t, ctx, tx)
	d.quiet(t, ctx)

	tx = d.push(t, ctx, "demo-strict")
	d.mustBeWaiting(t, ctx)
	must(t, d.tray.Press(ctx, "Sign in to", "Deny"))
	mustRefuse(t, ctx, tx)
	d.quiet(t, ctx)

	// Yes is as near.
	tx = d.push(t, ctx, "demo-strict")
	d.mustBeWaiting(t, ctx)
	must(t, d.tray.Press(ctx, "Sign in to", "Approve"))
	mustSignIn(t, ctx, tx)
	d.quiet(t, ctx)
}

// Somebody who was not signing in says so: further pushes are held back, and the
// tray says that until the person lets them through again.
func TestDesktopReport(t *testing.T) {
	t.Parallel()
	d := sit(t, deskOptions{})
	ctx := deadline(t)
	tx := d.push(t, ctx, "demo-strict")
	d.mustBeWaiting(t, ctx)
	d.pressNote(t, ctx, "This wasn't me")
	mustRefuse(t, ctx, tx)
	d.quiet(t, ctx)
	_, err := d.tray.Await(ctx, "Pushes of", "Let pushes through again")
	must(t, err)

	shown := len(d.heard.Notes())
	tx = d.push(t, ctx, "demo-strict")
	must(t, d.agent.Problem(ctx, "pushes_held"))
	mustStillWait(t, tx)
	if notes := d.heard.Notes(); len(notes) != shown {
		t.Errorf("shown all the same: %+v", notes[shown:])
	}
	d.quiet(t, ctx)

	must(t, d.tray.Press(ctx, "Pushes of", "Let pushes through again"))
	must(t, d.tray.Without(ctx, "Pushes of"))
	tx = d.push(t, ctx, "demo-strict")
	d.note(t, ctx)
	read()
	d.pressNote(t, ctx, "Approve")
	mustSignIn(t, ctx, tx)
}

// The org wants to know that the person is there: the dialog asks for the PIN,
// says when it was wrong, and asks again.
func TestDesktopPIN(t *testing.T) {
	t.Parallel()
	d := sit(t, deskOptions{pin: true})
	ctx := deadline(t)
	tx := d.push(t, ctx, "demo-uv")
	d.mustBeWaiting(t, ctx)
	first := d.openFromNote(t, ctx)
	d.answerDialog(t, ctx, "000011")
	must(t, d.NoWindow(ctx, first.ID))
	mustStillWait(t, tx)
	d.answerDialog(t, ctx, pin)
	mustSignIn(t, ctx, tx)
	d.quiet(t, ctx)
}

// An app that wants the person's own word: where a yes is all it takes, the
// notification's button says it.
func TestDesktopApproveInTheNotification(t *testing.T) {
	t.Parallel()
	d := sit(t, deskOptions{})
	ctx := deadline(t)
	v := doors[4].knock(t, d.stage.Org, newSite(t, d.stage.Org), "demo-strict")
	v.toChoice(t, ctx, harness.Alice)
	must(t, v.page.VerifyWithDevice(ctx, "the hand-over of the challenge", harness.WaitsForDevice))
	d.mustBeWaiting(t, ctx)
	v.mustNotBeSignedIn(t)
	read()
	d.pressNote(t, ctx, "Approve")
	who, err := v.finish(ctx)
	mustBeAlice(t, who, err)
	d.quiet(t, ctx)
}

// The screen is locked: notification, dialog and menu show nothing, nothing is
// signed, and a push waits. Unlocked, all is back.
func TestDesktopLockHoldsEverythingBack(t *testing.T) {
	t.Parallel()
	d := sit(t, deskOptions{number: "ALWAYS"})
	ctx := deadline(t)
	silent := func() (status int) {
		org := d.stage.Org
		tx, err := org.BeginTransaction(ctx, org.NewSignIn("demo-web", "", "http://localhost:1/callback"))
		must(t, err)
		c, err := tx.Challenge(ctx, harness.Alice, harness.Password)
		must(t, err)
		return hand(t, d.agent, org.URL, c.Request)
	}
	if status := silent(); status != http.StatusOK {
		t.Fatalf("before: %d", status)
	}
	tx := d.push(t, ctx, "demo-strict")
	d.mustBeWaiting(t, ctx)
	d.openFromNote(t, ctx)

	must(t, d.Lock(ctx))
	must(t, d.tray.AwaitTooltip(ctx, "the screen is locked"))
	d.quiet(t, ctx)
	if status := silent(); status != http.StatusServiceUnavailable {
		t.Errorf("a silent sign-in while the screen is locked: %d", status)
	}
	if _, err := d.agent.Run(ctx, "prompt", "approve", "--number", tx.Number()); err == nil {
		t.Error("approved in a terminal while the screen is locked")
	}
	mustStillWait(t, tx)

	must(t, d.Unlock(ctx))
	d.mustBeWaiting(t, ctx)
	if status := silent(); status != http.StatusOK {
		t.Errorf("afterwards: %d", status)
	}
	d.openFromNote(t, ctx)
	d.answerDialog(t, ctx, tx.Number())
	mustSignIn(t, ctx, tx)
	d.quiet(t, ctx)
}

// The computer sleeps: it waits until all is put away, and what was sent
// meanwhile shows at once afterwards.
func TestDesktopSleep(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("an agent believes in a sleep on root's bus alone: package session tests the rest")
		return
	}
	d := sit(t, deskOptions{})
	ctx := deadline(t)
	must(t, d.AwaitDelay(ctx, true))
	old := d.push(t, ctx, "demo-strict")
	d.mustBeWaiting(t, ctx)
	must(t, d.Sleep(ctx))
	must(t, d.AwaitDelay(ctx, false))
	d.quiet(t, ctx)
	mustStillWait(t, old)
	// The page asks anew: only that is left when the person is back.
	tx := d.push(t, ctx, "demo-strict")
	d.quiet(t, ctx)
	must(t, d.Wake(ctx))
	d.mustBeWaiting(t, ctx)
	must(t, d.AwaitDelay(ctx, true))
	read()
	d.pressNote(t, ctx, "Approve")
	mustSignIn(t, ctx, tx)
}

// `countersign prompt watch` on a terminal asks there, takes the number and says
// what became of it. It leaves the terminal as it was.
func TestTerminalPushWithNumber(t *testing.T) {
	t.Parallel()
	stage, agent, site := newPusher(t, "ALWAYS")
	ctx := deadline(t)
	terminal, err := agent.Terminal(ctx, "prompt", "watch")
	must(t, err)
	v := doors[4].knock(t, stage.Org, site, "demo-strict")
	v.toChoice(t, ctx, harness.Alice)
	must(t, v.page.ChoosePush(ctx))
	number, err := v.page.Number(ctx)
	must(t, err)
	must(t, terminal.Await(ctx, "Sign in to Demo, strict?"))
	read()
	must(t, terminal.Type("a"))
	must(t, terminal.Await(ctx, "Enter approves"))
	read()
	must(t, terminal.Type("\r"))
	must(t, terminal.Await(ctx, "umber"))
	v.mustNotBeSignedIn(t)
	must(t, terminal.Type(number))
	read()
	must(t, terminal.Type("\r"))
	must(t, terminal.Await(ctx, "approved"))
	who, err := v.byEnd(ctx)
	mustBe(t, harness.Alice, who, err, "swk")
	must(t, terminal.Type("q"))
	must(t, terminal.End())
}
