package e2e

import (
	"context"
	"image"
	"image/color"
	"image/draw"
	"testing"

	"countersign.dev/e2e/harness"
)

// What the person sees: the icon in each of its states in a real panel, light and
// dark, the notification, the menu that a click on the icon opens, the dialog.
// With UPDATE_SCREENSHOTS=1 the pictures in docs/screenshots are made anew.
func TestScreenshotDesktop(t *testing.T) {
	t.Parallel()
	var rows []*image.RGBA
	t.Run("dark", func(t *testing.T) { rows = append(rows, tour(t, "dark", color.RGBA{66, 86, 111, 255})) })
	if !updateScreenshots {
		return // the light one looks different, and is no other story
	}
	t.Run("light", func(t *testing.T) { rows = append(rows, tour(t, "light", color.RGBA{186, 200, 214, 255})) })
	if !t.Failed() {
		must(t, keepPicture(twice(below(rows)), "tray-panel"))
	}
}

// tour looks at everything once and returns the icon in all its states.
func tour(t *testing.T, panel string, wall color.RGBA) *image.RGBA {
	d := sit(t, deskOptions{number: "ALWAYS", light: panel == "light"})
	ctx := deadline(t)
	d.Paint(ctx, wall)
	var states []*image.RGBA
	state := func() { states = append(states, d.icon(t, ctx, states)) }
	state()

	tx := d.push(t, ctx, "demo-strict")
	d.mustBeWaiting(t, ctx)
	state()
	d.keep(t, ctx, "desktop-notification-"+panel)
	must(t, d.Click(ctx, image.Pt(12, 16)))
	d.covers(t, ctx, image.Pt(40, harness.PanelHeight+12))
	must(t, d.Keys(ctx, "Down", "Right")) // into the sign-in
	read()
	d.keep(t, ctx, "desktop-menu-"+panel)
	must(t, d.Keys(ctx, "Escape", "Escape", "Escape"))
	d.openFromNote(t, ctx)
	read()
	d.keep(t, ctx, "desktop-dialog-"+panel)
	d.answerDialog(t, ctx, tx.Number())
	mustSignIn(t, ctx, tx)
	d.quiet(t, ctx)

	ctx = deadline(t) // it is long
	must(t, d.tray.Press(ctx, "Pause", "For 15 minutes"))
	must(t, d.tray.AwaitTooltip(ctx, "paused"))
	state()
	must(t, d.tray.Press(ctx, "End the pause"))
	must(t, d.tray.AwaitTooltip(ctx, "no sign-in"))

	tx = d.push(t, ctx, "demo-strict")
	d.mustBeWaiting(t, ctx)
	must(t, d.tray.Press(ctx, "Sign in to", "This wasn't me"))
	mustRefuse(t, ctx, tx)
	must(t, d.tray.AwaitTooltip(ctx, "held back"))
	state()

	must(t, d.agent.Stop())
	must(t, d.tray.AwaitTooltip(ctx, "not running"))
	state()
	must(t, d.agent.Restart(ctx))
	return besides(states)
}

// icon is where the panel shows the icon.
var icon = image.Rect(0, 0, 28, harness.PanelHeight)

// icon waits until the icon is another one than all those before.
func (d *desk) icon(t *testing.T, ctx context.Context, before []*image.RGBA) *image.RGBA {
	t.Helper()
	must(t, d.Point(ctx, image.Pt(500, 600)))
	for ctx.Err() == nil {
		whole, err := d.Picture(ctx)
		must(t, err)
		now := part(whole, icon)
		again := !colourful(now)
		for _, b := range before {
			again = again || string(b.Pix) == string(now.Pix)
		}
		if !again {
			return now
		}
	}
	t.Fatalf("the icon does not change: %v", context.Cause(ctx))
	return nil
}

// colourful is a picture of more than one colour.
func colourful(p *image.RGBA) bool {
	for i := 4; i < len(p.Pix); i++ {
		if p.Pix[i] != p.Pix[i-4] {
			return true
		}
	}
	return false
}

// covers waits until something covers the desktop at a place.
func (d *desk) covers(t *testing.T, ctx context.Context, at image.Point) {
	t.Helper()
	for {
		p, err := d.Picture(ctx)
		must(t, err)
		if p.At(at.X, at.Y) != p.At(at.X, p.Bounds().Max.Y-1) {
			return
		}
	}
}

// keep takes a picture of the screen.
func (d *desk) keep(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	p, err := d.Picture(ctx)
	must(t, err)
	must(t, keepPicture(p, name))
}

func part(p *image.RGBA, of image.Rectangle) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, of.Dx(), of.Dy()))
	draw.Draw(out, out.Bounds(), p, of.Min, draw.Src)
	return out
}

// besides puts pictures of one height into a row.
func besides(list []*image.RGBA) *image.RGBA {
	var size image.Point
	for _, p := range list {
		size = image.Pt(size.X+p.Bounds().Dx(), p.Bounds().Dy())
	}
	out, x := image.NewRGBA(image.Rectangle{Max: size}), 0
	for _, p := range list {
		draw.Draw(out, p.Bounds().Add(image.Pt(x, 0)), p, image.Point{}, draw.Src)
		x += p.Bounds().Dx()
	}
	return out
}

// below puts pictures of one width below each other.
func below(list []*image.RGBA) *image.RGBA {
	var size image.Point
	for _, p := range list {
		size = image.Pt(p.Bounds().Dx(), size.Y+p.Bounds().Dy())
	}
	out, y := image.NewRGBA(image.Rectangle{Max: size}), 0
	for _, p := range list {
		draw.Draw(out, p.Bounds().Add(image.Pt(0, y)), p, image.Point{}, draw.Src)
		y += p.Bounds().Dy()
	}
	return out
}

// twice makes a picture twice as large.
func twice(p *image.RGBA) *image.RGBA {
	b := p.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, 2*b.Dx(), 2*b.Dy()))
	for y := range 2 * b.Dy() {
		for x := range 2 * b.Dx() {
			out.SetRGBA(x, y, p.RGBAAt(x/2, y/2))
		}
	}
	return out
}
