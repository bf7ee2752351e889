package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// hostedAssets is a path below which the org serves nothing; the files of the
// widget appear there while a page is replaced.
const hostedAssets = "/e2e-widget"

var stateToken = regexp.MustCompile(`"stateToken"\s*:\s*("(?:[^"\\]|\\.)*")`)

// ShowWidgetOnOrgPages makes the org's own sign-in pages show the published
// widget, the way a vendor's hosted page does: the page keeps its address, its
// origin and its state token, only what is inside is the widget. Pages without
// a state token stay as they are.
//
// The org's Content-Security-Policy stays in force, so it has to allow the
// agent's ports. Three things are eased, because the widget does what the org's
// own page does not: it brings fonts, it writes style elements at run time
// (under the page's nonce, which it is told), and generation 2 leaves by
// submitting a form that the org then redirects to the app.
func (p *Page) ShowWidgetOnOrgPages(ctx context.Context, gen Generation, orgURL string) error {
	dist, err := WidgetDir()
	if err != nil {
		return err
	}
	paused := make(chan *fetch.EventRequestPaused, 64)
	err = chromedp.Listen(p.ctx, func(ev any) {
		if ev, ok := ev.(*fetch.EventRequestPaused); ok {
			paused <- ev
		}
	})
	if err != nil {
		return fmt.Errorf("replacing the org's pages: %w", err)
	}
	go func() {
		for {
			select {
			case ev := <-paused:
				p.answerPaused(gen, orgURL, dist, ev)
			case <-p.ctx.Done():
				return
			}
		}
	}()
	// A replaced page comes from no address, so the browser takes it for a
	// public one, as a vendor's page is: the person has to allow it to talk to
	// apps on this device, and has done so here.
	if err := p.AllowLoopback(ctx, orgURL); err != nil {
		return err
	}
	c, cancel := p.within(ctx)
	defer cancel()
	_, err = chromedp.Call(c, fetch.Enable, fetch.EnableParams{Patterns: []*fetch.RequestPattern{
		{URLPattern: orgURL + hostedAssets + "/*", RequestStage: fetch.RequestStageRequest},
		{URLPattern: orgURL + "/*", ResourceType: network.ResourceTypeDocument, RequestStage: fetch.RequestStageResponse},
	}})
	if err != nil {
		return fmt.Errorf("replacing the org's pages: %w", err)
	}
	return nil
}

func (p *Page) answerPaused(gen Generation, orgURL, dist string, ev *fetch.EventRequestPaused) {
	reply, err := p.replacement(gen, orgURL, dist, ev)
	if err != nil {
		p.mu.Lock()
		p.console = append(p.console, "harness: replacing "+ev.Request.URL+": "+err.Error())
		p.mu.Unlock()
		chromedp.Call(p.ctx, fetch.FailRequest, fetch.FailRequestParams{RequestID: ev.RequestID, ErrorReason: network.ErrorReasonFailed})
		return
	}
	if reply == nil {
		chromedp.Call(p.ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: ev.RequestID})
		return
	}
	chromedp.Call(p.ctx, fetch.FulfillRequest, *reply)
}

// replacement returns what to answer instead, or nil to let the answer pass.
func (p *Page) replacement(gen Generation, orgURL, dist string, ev *fetch.EventRequestPaused) (*fetch.FulfillRequestParams, error) {
	u, err := url.Parse(ev.Request.URL)
	if err != nil {
		return nil, err
	}
	if file, ok := strings.CutPrefix(u.Path, hostedAssets); ok {
		return asset(dist, path.Clean("/"+file), ev.RequestID)
	}
	if ev.ResponseStatusCode != http.StatusOK {
		return nil, nil
	}
	res, err := chromedp.Call(p.ctx, fetch.GetResponseBody, fetch.GetResponseBodyParams{RequestID: ev.RequestID})
	if err != nil {
		return nil, err
	}
	token, err := findStateToken(res.Body)
	if err != nil {
		return nil, nil
	}
	headers, nonce := keptHeaders(ev.ResponseHeaders)
	config := map[string]any{"baseUrl": orgURL, "stateToken": token, "cspNonce": nonce}
	page, err := renderWidget(gen, hostedAssets, hostedAssets+"/boot.js", config)
	if err != nil {
		return nil, err
	}
	return &fetch.FulfillRequestParams{RequestID: ev.RequestID, ResponseCode: http.StatusOK, ResponseHeaders: headers, Body: page}, nil
}

func asset(dist, file string, id fetch.RequestID) (*fetch.FulfillRequestParams, error) {
	var body []byte
	var err error
	if file == "/boot.js" {
		body, err = pages.ReadFile("pages/widget.js")
	} else {
		body, err = os.ReadFile(filepath.Join(dist, filepath.FromSlash(file)))
	}
	if err != nil {
		return nil, err
	}
	typ, err := contentType(file)
	if err != nil {
		return nil, err
	}
	return &fetch.FulfillRequestParams{RequestID: id, ResponseCode: http.StatusOK, Body: body,
		ResponseHeaders: []*fetch.HeaderEntry{{Name: "Content-Type", Value: typ}}}, nil
}

// keptHeaders are the headers of the org's answer, with its policy eased
// and without those that describe the body that was replaced. The nonce is the
// policy's.
func keptHeaders(all []*fetch.HeaderEntry) (kept []*fetch.HeaderEntry, nonce string) {
	for _, h := range all {
		switch strings.ToLower(h.Name) {
		case "content-length", "content-encoding", "etag":
			continue
		case "content-security-policy":
			if m := policyNonce.FindStringSubmatch(h.Value); m != nil {
				nonce = m[1]
			}
			kept = append(kept, &fetch.HeaderEntry{Name: h.Name, Value: easePolicy(h.Value, nonce)})
		default:
			kept = append(kept, h)
		}
	}
	return kept, nonce
}

var policyNonce = regexp.MustCompile(`'nonce-([^']+)'`)

func easePolicy(policy, nonce string) string {
	var out []string
	for _, directive := range strings.Split(policy, ";") {
		words := strings.Fields(directive)
		if len(words) > 0 && !slices.Contains([]string{"style-src", "font-src", "form-action"}, words[0]) {
			out = append(out, strings.Join(words, " "))
		}
	}
	return strings.Join(append(out, "style-src 'self' 'nonce-"+nonce+"'", "font-src 'self'", "form-action 'self' http://localhost:*"), "; ")
}

func findStateToken(page []byte) (string, error) {
	m := stateToken.FindSubmatch(page)
	if m == nil {
		return "", errNoStateToken
	}
	var token string
	err := json.Unmarshal(m[1], &token)
	return token, err
}
