package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Page is one tab in a profile of its own. Its methods act like a person: they
// wait until the thing is there and can be clicked, and give up when ctx ends.
type Page struct {
	ctx    context.Context // carries the tab, as chromedp wants it
	cancel context.CancelFunc

	mu        sync.Mutex
	exchanges []*Exchange
	byID      map[network.RequestID]*Exchange
	console   []string
}

// Exchange is one request of a page and what became of it.
type Exchange struct {
	Method, URL string
	Status      int    // 0 while there is no answer
	Failed      string // the network error, if any
}

// NewPage opens an empty tab in a fresh profile.
func (b *Browser) NewPage() (*Page, error) {
	return openPage(chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext()))
}

// NewTab opens another tab in the page's profile: it has the same cookies.
func (p *Page) NewTab() (*Page, error) {
	return openPage(chromedp.NewContext(p.ctx))
}

// openPage is not bounded by the context of a story: the tab lives as long as
// the context it starts with.
func openPage(ctx context.Context, cancel context.CancelFunc) (*Page, error) {
	p := &Page{ctx: ctx, cancel: cancel, byID: map[network.RequestID]*Exchange{}}
	if err := chromedp.Listen(p.ctx, p.observe); err != nil {
		p.cancel()
		return nil, fmt.Errorf("opening a tab: %w", err)
	}
	if _, err := chromedp.Call(p.ctx, network.Enable, network.EnableParams{}); err != nil {
		p.cancel()
		return nil, fmt.Errorf("opening a tab: %w", err)
	}
	return p, nil
}

// Close closes the tab and forgets its profile.
func (p *Page) Close() { p.cancel() }

// observe runs inside the loop that reads the browser's messages.
func (p *Page) observe(ev any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		x := &Exchange{Method: ev.Request.Method, URL: ev.Request.URL}
		p.exchanges, p.byID[ev.RequestID] = append(p.exchanges, x), x
	case *network.EventResponseReceived:
		if x := p.byID[ev.RequestID]; x != nil && ev.Response != nil {
			x.Status = int(ev.Response.Status)
		}
	case *network.EventLoadingFailed:
		if x := p.byID[ev.RequestID]; x != nil {
			x.Failed = ev.ErrorText
		}
	case *runtime.EventConsoleAPICalled:
		var words []string
		for _, a := range ev.Args {
			words = append(words, strings.Trim(string(a.Value), `"`)+a.Description)
		}
		p.console = append(p.console, string(ev.Type)+": "+strings.Join(words, " "))
	case *runtime.EventExceptionThrown:
		text := ev.ExceptionDetails.Text
		if ev.ExceptionDetails.Exception != nil {
			text += " " + ev.ExceptionDetails.Exception.Description
		}
		p.console = append(p.console, "exception: "+text)
	}
}

// Exchanges returns the requests so far whose URL contains part.
func (p *Page) Exchanges(part string) []Exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []Exchange
	for _, x := range p.exchanges {
		if strings.Contains(x.URL, part) {
			found = append(found, *x)
		}
	}
	return found
}

// within derives a context that carries the tab and ends with ctx.
func (p *Page) within(ctx context.Context) (context.Context, context.CancelFunc) {
	c, cancel := context.WithCancel(p.ctx)
	stop := context.AfterFunc(ctx, cancel)
	return c, func() { stop(); cancel() }
}

// Open navigates to url and waits until the page is loaded.
func (p *Page) Open(ctx context.Context, url string) error {
	c, cancel := p.within(ctx)
	defer cancel()
	if err := chromedp.Do(c, chromedp.Navigate(url)); err != nil {
		return fmt.Errorf("opening %s: %w", url, err)
	}
	return nil
}

// Reload loads the page again, as the person's F5 does.
func (p *Page) Reload(ctx context.Context) error {
	c, cancel := p.within(ctx)
	defer cancel()
	if err := chromedp.Do(c, chromedp.Reload()); err != nil {
		return fmt.Errorf("loading the page again: %w", err)
	}
	return nil
}

// Eval evaluates a JavaScript expression, awaits it if it is a promise, and
// decodes its JSON value into dst, which may be nil.
func (p *Page) Eval(ctx context.Context, dst any, expression string) error {
	c, cancel := p.within(ctx)
	defer cancel()
	value, err := chromedp.Run(c, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise, chromedp.EvalAsValue))
	if err != nil {
		return err
	}
	if dst == nil || len(value) == 0 {
		return nil
	}
	return json.Unmarshal(value, dst)
}

// pollEvery is how often a condition in the page is looked at.
const pollEvery = 20 * time.Millisecond

// Until waits until the expression is true in the page. A page that is just
// being replaced by the next one is looked at again.
func (p *Page) Until(ctx context.Context, what, expression string) error {
	holds := func() bool {
		var ok bool
		err := p.Eval(ctx, &ok, "!!("+expression+")")
		return err == nil && ok
	}
	if !await(ctx, holds) {
		return fmt.Errorf("waiting for %s: %w\n%s", what, context.Cause(ctx), p.Describe())
	}
	return nil
}

// await waits until the condition holds, and says whether it came to hold
// before ctx ended.
func await(ctx context.Context, holds func() bool) bool { return awaitAt(ctx, pollEvery, holds) }

// awaitAt does so at another pace.
func awaitAt(ctx context.Context, pace time.Duration, holds func() bool) bool {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// quote makes a JavaScript string.
func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// visible is a JavaScript function: the first element for the selector that a
// person could see.
const visible = `(s => [...document.querySelectorAll(s)].find(e => e.getClientRects().length && getComputedStyle(e).visibility !== 'hidden'))`

// WaitFor waits until something that the CSS selector describes can be seen.
func (p *Page) WaitFor(ctx context.Context, selector string) error {
	return p.Until(ctx, selector, visible+"("+quote(selector)+")")
}

// WaitForText waits until the page shows text.
func (p *Page) WaitForText(ctx context.Context, text string) error {
	return p.Until(ctx, "the text "+quote(text), "document.body && document.body.innerText.includes("+quote(text)+")")
}

// WaitForURL waits until the page's address starts with prefix.
func (p *Page) WaitForURL(ctx context.Context, prefix string) error {
	return p.Until(ctx, "the address "+prefix, "location.href.startsWith("+quote(prefix)+") && document.readyState === 'complete'")
}

// Sees says whether something that the CSS selector describes can be seen now.
func (p *Page) Sees(ctx context.Context, selector string) bool {
	var ok bool
	err := p.Eval(ctx, &ok, "!!"+visible+"("+quote(selector)+")")
	return err == nil && ok
}

// Text returns what the page shows.
func (p *Page) Text(ctx context.Context) string {
	var text string
	p.Eval(ctx, &text, "document.body ? document.body.innerText : ''")
	return text
}

// Click waits for the element, scrolls it into view and clicks its middle with
// the mouse, once it stands still and nothing covers it.
func (p *Page) Click(ctx context.Context, selector string) error {
	find := `(() => { const e = ` + visible + `(` + quote(selector) + `);
		if (!e || e.disabled || e.getAttribute('aria-disabled') === 'true') return null;
		e.scrollIntoView({block: 'center', behavior: 'instant'});
		const r = [...e.getClientRects()].find(r => r.width > 4 && r.height > 4) ?? e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2; // the first line of a link that is broken
		const hit = document.elementFromPoint(x, y);
		return hit && (e.contains(hit) || hit.contains(e)) ? [Math.round(x), Math.round(y)] : null })()`
	var at []float64
	stands := func() bool {
		var now []float64
		if err := p.Eval(ctx, &now, find); err != nil {
			return false
		}
		before := at
		at = now
		return len(now) == 2 && slices.Equal(before, now)
	}
	if !await(ctx, stands) {
		return fmt.Errorf("waiting to click %s: %w\n%s", selector, context.Cause(ctx), p.Describe())
	}
	c, cancel := p.within(ctx)
	defer cancel()
	if err := chromedp.Do(c, chromedp.MouseClickXY(at[0], at[1])); err != nil {
		return fmt.Errorf("clicking %s: %w", selector, err)
	}
	return nil
}

// Fill clicks into the field and types text over what is there.
func (p *Page) Fill(ctx context.Context, selector, text string) error {
	focused := `document.activeElement && document.activeElement.matches(` + quote(selector) + `) && (document.activeElement.select(), true)`
	for { // a page may put another field in its place just under the click
		if err := p.Click(ctx, selector); err != nil {
			return err
		}
		wait, cancel := context.WithTimeoutCause(ctx, nothingHappens, errDeaf)
		err := p.Until(wait, "the focus in "+selector, focused)
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil || !errors.Is(err, errDeaf) {
			return err
		}
	}
	c, cancel := p.within(ctx)
	defer cancel()
	if _, err := chromedp.Call(c, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		return fmt.Errorf("typing into %s: %w", selector, err)
	}
	return p.Until(ctx, "the text in "+selector, "document.querySelector("+quote(selector)+")?.value === "+quote(text))
}

// nothingHappens is how long a person waits until they click once more.
const nothingHappens = time.Second

var errDeaf = errors.New("nothing happened")

// Press sends a key, e.g. kb.Tab or kb.Enter, to what has the focus.
func (p *Page) Press(ctx context.Context, key string) error {
	c, cancel := p.within(ctx)
	defer cancel()
	return chromedp.Do(c, chromedp.KeyEvent(key))
}

// Resize sets the size of the window's inside in CSS pixels.
func (p *Page) Resize(ctx context.Context, width, height int) error {
	c, cancel := p.within(ctx)
	defer cancel()
	return chromedp.Do(c, chromedp.EmulateViewport(int64(width), int64(height)))
}

// HurryLongWaits lets the pages that are opened from now on show within a
// second or two what they show after half a minute: timers of 20 to 60 seconds
// ring early, and their clock runs fast.
func (p *Page) HurryLongWaits(ctx context.Context) error {
	c, cancel := p.within(ctx)
	defer cancel()
	_, err := chromedp.Call(c, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `(() => {
			const patient = window.setTimeout, now = Date.now, began = now();
			window.setTimeout = (f, ms, ...rest) => patient(f, ms >= 20000 && ms <= 60000 ? 800 : ms, ...rest);
			Date.now = () => began + 20 * (now() - began);
		})()`,
	})
	return err
}

// PreferDark sets whether the person likes dark pages. Pages also stand still,
// so that what is looked at next is how they stay.
func (p *Page) PreferDark(ctx context.Context, dark bool) error {
	c, cancel := p.within(ctx)
	defer cancel()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	_, err := chromedp.Call(c, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		},
	})
	return err
}

// AllowLoopback answers the browser's question whether pages of this origin
// may reach apps on this device with yes.
func (p *Page) AllowLoopback(ctx context.Context, origin string) error {
	c, cancel := p.within(ctx)
	defer cancel()
	_, err := chromedp.CallBrowser(c, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "loopback-network"}, Setting: browser.PermissionSettingGranted,
		Origin: origin, BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	if err != nil {
		return fmt.Errorf("allowing %s to reach this device: %w", origin, err)
	}
	return nil
}

// Screenshot returns what the window shows, as PNG.
func (p *Page) Screenshot(ctx context.Context) ([]byte, error) {
	c, cancel := p.within(ctx)
	defer cancel()
	return chromedp.Run(c, chromedp.CaptureScreenshot())
}

// KeepScreenshot writes what the window shows to a file, for a person who
// wants to know why something went wrong.
func (p *Page) KeepScreenshot(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	shot, err := p.Screenshot(ctx)
	if err != nil {
		return err
	}
	return os.WriteFile(path, shot, 0o600)
}

// URL returns the address of the page.
func (p *Page) URL(ctx context.Context) *url.URL {
	var href string
	p.Eval(ctx, &href, "location.href")
	u, err := url.Parse(href)
	if err != nil {
		return &url.URL{}
	}
	return u
}

// Describe says where the page stands, for a message to a developer. It works
// after the context of a step has ended, too.
func (p *Page) Describe() string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var b strings.Builder
	fmt.Fprintf(&b, "--- page %s\n%s\n", p.URL(ctx), strings.TrimSpace(p.Text(ctx)))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.exchanges[max(0, len(p.exchanges)-12):] {
		fmt.Fprintf(&b, "request: %s %s -> %d %s\n", x.Method, shorten(x.URL), x.Status, x.Failed)
	}
	for _, line := range p.console[max(0, len(p.console)-8):] {
		fmt.Fprintf(&b, "console: %s\n", shorten(line))
	}
	return b.String()
}

func shorten(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

var errNoResult = errors.New("the page shows no result")

// Result waits for the element #result of the harness's own pages and decodes
// the JSON it holds.
func (p *Page) Result(ctx context.Context, dst any) error {
	if err := p.Until(ctx, "the result", "document.getElementById('result')?.textContent"); err != nil {
		return err
	}
	var text string
	if err := p.Eval(ctx, &text, "document.getElementById('result').textContent"); err != nil {
		return err
	}
	if text == "" {
		return errNoResult
	}
	return json.Unmarshal([]byte(text), dst)
}
