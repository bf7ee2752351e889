package e2e

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"countersign.dev/e2e/harness"
)

// The org's own page from /login to its landing page, which says who is signed
// in and how.
func TestOwnPageLeadsHome(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	newAgent(t, stage, nil, harness.Alice)
	ctx := deadline(t)
	page := newPage(t)
	must(t, page.Open(ctx, stage.Org.URL+"/login"))
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the landing page", "location.pathname === '/app/UserHome'"))
	must(t, page.WaitForText(ctx, harness.Alice))
}

// The way through with the keyboard alone: the focus is where there is
// something to type, a Tab or two lead to the button, and Enter presses it.
func TestOwnPageWorksWithTheKeyboard(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	newAgent(t, stage, nil, harness.Alice)
	ctx := deadline(t)
	page := newPage(t)
	must(t, page.Open(ctx, stage.Org.URL+"/login"))
	for _, step := range []struct{ field, text string }{{"identifier", harness.Alice}, {"credentials.passcode", harness.Password}} {
		must(t, page.Until(ctx, "the focus in "+step.field, `document.activeElement?.name === "`+step.field+`"`))
		must(t, page.Press(ctx, step.text))
		onButton := false
		for tabs := 0; tabs < 3 && !onButton; tabs++ {
			must(t, page.Press(ctx, kb.Tab))
			must(t, page.Eval(ctx, &onButton, `document.activeElement.matches('button[type="submit"]')`))
		}
		if !onButton {
			t.Fatalf("three Tabs after %s lead to no button", step.field)
		}
		must(t, page.Press(ctx, kb.Enter))
	}
	must(t, page.VerifyWithDevice(ctx, "the landing page", "location.pathname === '/app/UserHome'"))
}

// accessible lists what is wrong with a page for somebody who does not see it,
// sees it badly, or has a narrow screen.
const accessible = `(() => {
	const wrong = [], shown = (e) => e.getClientRects().length > 0;
	if (!document.documentElement.lang) wrong.push('the page has no language');
	if (!document.title) wrong.push('the page has no title');
	if (document.querySelectorAll('main').length !== 1) wrong.push('there is not one main part');
	if (document.querySelectorAll('h1').length !== 1) wrong.push('there is not one heading of the first level');
	for (const e of document.querySelectorAll('input, button, a[href], select, textarea')) {
		if (!shown(e) || e.type === 'hidden') continue;
		const name = e.getAttribute('aria-label') || [...(e.labels ?? [])].map((l) => l.innerText).join(' ') || e.innerText;
		if (!name.trim()) wrong.push('no name: ' + e.outerHTML.slice(0, 120));
		const box = (e.type === 'checkbox' ? e.closest('label') ?? e : e).getBoundingClientRect();
		if (e.tagName !== 'A' && box.height < 24) wrong.push('too small to hit: ' + e.outerHTML.slice(0, 120));
	}
	for (const e of document.querySelectorAll('img, svg')) {
		if (shown(e) && !e.hasAttribute('alt') && !e.closest('[aria-hidden="true"]') && !e.getAttribute('aria-label')) wrong.push('no text instead of: ' + e.outerHTML.slice(0, 120));
	}
	const numbers = (c) => c.match(/[\d.]+/g).map(Number);
	const light = (c) => { const [r, g, b] = numbers(c).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const paper = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor, n = numbers(c); if (n.length < 4 || n[3] === 1) return c; } return 'rgb(255, 255, 255)'; };
	for (const e of document.querySelectorAll('h1, p, label, button, a, li, dt, dd, strong, span')) {
		if (!shown(e) || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
		const [a, b] = [light(getComputedStyle(e).color), light(paper(e))].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) wrong.push('contrast ' + ratio.toFixed(2) + ': ' + e.outerHTML.slice(0, 120));
	}
	if (document.documentElement.scrollWidth > innerWidth) wrong.push('wider than the window: ' + document.documentElement.scrollWidth + ' > ' + innerWidth);
	return wrong;
})()`

func mustBeAccessible(t *testing.T, page *harness.Page, what string) {
	t.Helper()
	var wrong []string
	must(t, page.Eval(deadline(t), &wrong, accessible))
	for _, w := range wrong {
		t.Errorf("%s: %s", what, w)
	}
}

// mustAnnounce fails unless a live region says something.
func mustAnnounce(t *testing.T, page *harness.Page) {
	t.Helper()
	must(t, page.Until(deadline(t), "a live region that says what is waited for",
		`[...document.querySelectorAll('[role="status"], [aria-live]')].some((e) => e.innerText.trim())`))
}

// Every page of the org, in light and dark, wide and narrow: what a screen
// reader needs is there, text can be read, and nothing sticks out. With
// UPDATE_SCREENSHOTS=1 the pictures in docs/screenshots are made anew.
func TestScreenshotsOfTheOwnPages(t *testing.T) {
	t.Parallel()
	var options harness.StageOptions
	if updateScreenshots {
		options.Listen = "127.0.0.1:8080" // the pages show it
	}
	stage := newStage(t, options)
	agent := newAgent(t, stage, nil)
	setPIN(t, agent)
	enrolWithPIN(t, stage, agent, harness.Alice)
	site := newSite(t, stage.Org)
	ctx := deadline(t)
	page := newPage(t)

	must(t, page.Open(ctx, stage.Org.URL+"/no-such-page"))
	look(t, page, "problem")

	must(t, page.Open(ctx, stage.Org.NewSignIn("no-such-app", "", site.URL+"/callback").AuthorizeURL()))
	look(t, page, "bad-link")

	must(t, page.Open(ctx, stage.Org.NewSignIn("demo-strict", "", site.URL+"/callback").AuthorizeURL()))
	must(t, page.WaitFor(ctx, `input[name="identifier"]`))
	look(t, page, "sign-in")
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.WaitFor(ctx, `input[type="password"]`))
	look(t, page, "password")
	must(t, page.EnterPassword(ctx, "wrong"))
	must(t, page.WaitForText(ctx, "does not fit this account"))
	look(t, page, "password-wrong")
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.WaitFor(ctx, `[data-se="okta_verify-push"]`))
	look(t, page, "choose")
	must(t, page.ChoosePush(ctx))
	_, err := page.Number(ctx)
	must(t, err)
	mustAnnounce(t, page)
	must(t, page.Until(ctx, "the other way that is offered after a while", "!document.getElementById('more').hidden"))
	look(t, page, "push")
	_, err = agent.Run(ctx, "prompt", "deny", onlyPrompt(t, ctx, agent).ID)
	must(t, err)
	must(t, page.WaitForText(ctx, "denied on your device"))
	look(t, page, "push-denied")
	must(t, page.Click(ctx, `[data-se="switchAuthenticator"]`))
	must(t, page.ChooseCode(ctx))
	look(t, page, "code")
	must(t, page.Click(ctx, `[data-se="switchAuthenticator"]`))
	must(t, page.VerifyWithDevice(ctx, "the hand-over of the challenge", harness.WaitsForDevice))
	prompts, err := agent.WaitForPrompt(ctx)
	must(t, err)
	mustAnnounce(t, page)
	must(t, page.WaitForText(ctx, "Approve the sign-in on this device"))
	must(t, page.Until(ctx, "the other way that is offered after a while", "!document.getElementById('more').hidden"))
	look(t, page, "waiting")
	_, err = agent.Run(ctx, "prompt", "deny", prompts[0].ID)
	must(t, err)
	must(t, page.WaitForText(ctx, "denied on your device"))
	look(t, page, "denied")

	must(t, page.Open(ctx, stage.Org.NewSignIn("demo-uv", "", site.URL+"/callback").AuthorizeURL()))
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the hand-over of the challenge", harness.WaitsForDevice))
	prompts, err = agent.WaitForPrompt(ctx)
	must(t, err)
	_, _ = agent.Run(ctx, "prompt", "cancel", prompts[0].ID)
	must(t, page.WaitForText(ctx, "that was cancelled on the device"))
	look(t, page, "unverified")

	must(t, page.Open(ctx, stage.Org.URL+"/login"))
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the landing page", "location.pathname === '/app/UserHome'"))
	must(t, page.WaitForText(ctx, harness.Alice))
	must(t, page.Until(ctx, "the whole page", "document.readyState === 'complete'"))
	look(t, page, "home")

	second, err := stage.StartAgent(ctx, stage.Ports[1:]...)
	must(t, err)
	add := addAccount(t, ctx, second, stage.Org.URL, "--no-browser")
	must(t, page.Open(ctx, add.url))
	must(t, page.GoOn(ctx, harness.Alice, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the agent's own page", "location.href.startsWith('http://127.0.0.1:')"))
	must(t, page.WaitForText(ctx, "close this page"))
	look(t, page, "account-added")
	add.end(t, ctx)
	must(t, second.Stop())

	must(t, page.Open(ctx, stage.Org.URL+"/app/UserHome"))
	must(t, page.Click(ctx, `form[action="/login/signout"] button`))
	must(t, agent.Stop())
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the word that no agent answers", `document.body.innerText.includes("did not answer on this device")`))
	look(t, page, "unreachable")
}

// look checks the page in light and dark and on a narrow screen.
func look(t *testing.T, page *harness.Page, name string) {
	t.Helper()
	ctx := deadline(t)
	var paper [2]string
	for i, scheme := range []string{"light", "dark"} {
		must(t, page.PreferDark(ctx, scheme == "dark"))
		must(t, page.Resize(ctx, 320, 640))
		mustBeAccessible(t, page, name+", "+scheme+", narrow")
		must(t, page.Resize(ctx, 800, 760))
		mustBeAccessible(t, page, name+", "+scheme)
		must(t, page.Eval(ctx, &paper[i], "getComputedStyle(document.body).backgroundColor"))
		must(t, keepScreenshot(ctx, page, name+"-"+scheme))
	}
	if paper[0] == paper[1] {
		t.Errorf("%s: the dark page is as light as the light one: %s", name, paper[0])
	}
}

var updateScreenshots = os.Getenv("UPDATE_SCREENSHOTS") != ""

// keepScreenshot takes a picture and writes it, when asked to.
func keepScreenshot(ctx context.Context, page *harness.Page, name string) error {
	if !updateScreenshots {
		return nil
	}
	shot, err := page.Screenshot(ctx)
	if err != nil {
		return err
	}
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return err
	}
	return keepPicture(img, name)
}

// keepPicture writes a picture to the others, when asked to.
func keepPicture(img image.Image, name string) error {
	if !updateScreenshots {
		return nil
	}
	small, err := smaller(img)
	if err != nil {
		return err
	}
	root, err := harness.Root()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "docs", "screenshots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".png"), small, 0o644)
}

// smaller makes a PNG with at most 256 colours out of a screenshot: the most
// frequent ones stay as they are, where a colourful one counts for many greys,
// because it means something. The rare shades at the edge of letters move a little.
func smaller(img image.Image) ([]byte, error) {
	bounds := img.Bounds()
	if bounds.Empty() {
		return nil, errors.New("the screenshot is empty")
	}
	var buf bytes.Buffer
	encoder := &png.Encoder{CompressionLevel: png.BestCompression}
	if bounds.Dx()*bounds.Dy() < 1<<16 { // small already
		err := encoder.Encode(&buf, img)
		return buf.Bytes(), err
	}
	weight := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA {
		r, g, b, _ := img.At(x, y).RGBA()
		return color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255}
	}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(x, y)
			weight[c] += 1 + int(max(c.R, c.G, c.B)-min(c.R, c.G, c.B))
		}
	}
	colours := slices.SortedFunc(maps.Keys(weight), func(a, b color.RGBA) int { return weight[b] - weight[a] })
	var palette color.Palette
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	nearest := map[color.RGBA]uint8{}
	for _, c := range colours {
		nearest[c] = uint8(palette.Index(c))
	}
	out := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			out.SetColorIndex(x, y, nearest[at(x, y)])
		}
	}
	err := encoder.Encode(&buf, out)
	return buf.Bytes(), err
}
