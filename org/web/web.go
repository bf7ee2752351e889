// Package web holds what a person sees of the org in a browser: the sign-in
// page, the landing page after it, and the page that says why something could
// not be done.
//
// The sign-in page is an IDX client: one readable script (assets/signin.js)
// that takes the forms the org sends, draws them, and asks the authenticator
// agent on loopback the way the Okta Sign-In Widget does. It gets nothing but
// a state token from here. There is no framework, no build step and nothing
// from third parties, so that each page's Content-Security-Policy can allow
// its own files and the loopback ports and refuse all else.
//
// It owns these paths:
//
//	/login           starts a sign-in for the org's own landing page
//	/app/UserHome    the landing page
//	/assets/*        styles, scripts, the mark
package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/session"
	"countersign.dev/org/signin"
	"countersign.dev/org/store"
)

const (
	// HomeClientID is the built-in app behind the landing page.
	HomeClientID = "countersign-home"
	// HomePath is the landing page.
	HomePath = "/app/UserHome"
)

// Starter begins a sign-in; *signin.Engine is one.
type Starter interface {
	Start(ctx context.Context, i signin.Intent) (signin.Handle, error)
}

// Deps is what the pages work with. Now and Log may be nil.
type Deps struct {
	DB            *store.DB
	Engine        Starter
	BaseURL       string // the org's own address, without a trailing slash
	LoopbackPorts []int  // where the sign-in page may look for an agent
	Now           func() time.Time
	Log           *slog.Logger
}

// Pages draws the pages and serves the paths in the package comment.
type Pages struct {
	Deps
	host string // shown as the organisation's name
	mux  *http.ServeMux
}

//go:embed assets/*
var assets embed.FS

//go:embed templates/*.html
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "templates/*.html"))

// New returns the pages.
func New(d Deps) *Pages {
	d.BaseURL = strings.TrimSuffix(d.BaseURL, "/")
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	p := &Pages{Deps: d, host: d.BaseURL, mux: http.NewServeMux()}
	if _, host, ok := strings.Cut(d.BaseURL, "://"); ok {
		p.host = host
	}
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	static := http.StripPrefix("/assets/", http.FileServerFS(files))
	p.mux.HandleFunc("GET /login", p.login)
	p.mux.HandleFunc("GET "+HomePath, p.home)
	p.mux.HandleFunc("GET /assets/{file}", func(w http.ResponseWriter, r *http.Request) {
		policy(w, "default-src 'none'")
		w.Header().Set("Cache-Control", "no-cache") // revalidated: page and script change together
		static.ServeHTTP(w, r)
	})
	p.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { p.Problem(w, r, http.StatusNotFound, NoPage) })
	return p
}

func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// login signs in to the org itself. Somebody whose session is good enough goes
// straight on.
func (p *Pages) login(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
	ip, _, _ := net.SplitHostPort(r.RemoteAddr)
	ua := r.UserAgent()
	handle, err := p.Engine.Start(r.Context(), signin.Intent{
		ClientID: HomeClientID, Mode: signin.Redirect, RedirectURI: p.BaseURL + HomePath, PageOrigin: p.BaseURL,
		ClientIP: ip, UserAgent: ua[:min(len(ua), 256)], SessionID: session.FromRequest(r), Browser: session.Browser(w, r, p.BaseURL),
	})
	if err != nil {
		p.Log.ErrorContext(r.Context(), "starting a sign-in", "error", err)
		p.Problem(w, r, http.StatusInternalServerError, Broken)
		return
	}
	if handle.Satisfied {
		http.Redirect(w, r, HomePath, http.StatusSeeOther)
		return
	}
	p.SignIn(w, r, SignIn{StateToken: handle.StateToken})
}

// SignIn is what the sign-in page needs: where the sign-in stands, and the
// label of the app it is for (empty for the org itself).
type SignIn struct {
	StateToken okta.Secret
	App        string
}

// SignIn serves the sign-in page.
func (p *Pages) SignIn(w http.ResponseWriter, r *http.Request, s SignIn) {
	title := "Sign in"
	if s.App != "" {
		title = "Sign in to " + s.App
	}
	n := nonce()
	loopback := p.loopback()
	policy(w, "default-src 'none'", "script-src 'self' 'nonce-"+n+"'", "style-src 'self'", "img-src 'self' data:",
		"connect-src 'self'"+loopback, "frame-src com-okta-authenticator:", "form-action 'self'")
	p.render(w, r, http.StatusOK, "signin", struct {
		frame
		Nonce, StateToken, App string
	}{p.frame(title), n, s.StateToken.Reveal(), s.App})
}

// loopback lists the addresses where an agent may answer, for connect-src.
func (p *Pages) loopback() string {
	var b strings.Builder
	for _, host := range [...]string{"localhost", "127.0.0.1"} {
		for _, port := range p.LoopbackPorts {
			b.WriteString(" http://" + host + ":" + strconv.Itoa(port))
		}
	}
	return b.String()
}

// FormPost serves the page that posts an answer to an app's redirect URI
// (response mode form_post). The URI must have been checked.
func (p *Pages) FormPost(w http.ResponseWriter, r *http.Request, action string, v url.Values) {
	type field struct{ Name, Value string }
	var fields []field
	for name, values := range v {
		for _, value := range values {
			fields = append(fields, field{name, value})
		}
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	n := nonce()
	target := "'none'"
	if u, err := url.Parse(action); err == nil && u.Host != "" {
		target = u.Scheme + "://" + u.Host
	}
	policy(w, "default-src 'none'", "script-src 'nonce-"+n+"'", "style-src 'self'", "img-src 'self'", "form-action "+target)
	p.render(w, r, http.StatusOK, "formpost", struct {
		frame
		Nonce, Action string
		Fields        []field
	}{p.frame("Signed in"), n, action, fields})
}

// Problem is a page that says what happened, what it means and what to do.
type Problem struct {
	Title     string
	Text      []string
	Technical string // a smaller line for whoever looks after the app
	Again     bool   // offers to start again at /login
}

// The problems that have no data of their own.
var (
	EndedSignIn = Problem{
		Title: "This sign-in has ended",
		Text: []string{"It took too long, was finished before, or was started in another window.",
			"Nothing was changed. Start again, from the app if you came from one."},
		Again: true,
	}
	NoPage = Problem{Title: "There is no page here", Text: []string{"The address may be mistyped, or the page has moved."}, Again: true}
	Broken = Problem{
		Title: "The organisation could not do that",
		Text:  []string{"Something failed on its side. Your account is not affected. Try again in a moment."},
		Again: true,
	}
)

// BadLink tells why an app's sign-in request was refused when the refusal may
// not be sent to the app.
func BadLink(e *okta.TokenError) Problem {
	if e.HTTPStatus >= http.StatusInternalServerError {
		return Broken
	}
	return Problem{
		Title: "This sign-in link does not work",
		Text: []string{"The app that sent you here asked in a way the organisation does not accept, so you were not signed in. Your account is not affected.",
			"Go back to the app and try again. If you followed a link from a message, close this page."},
		Technical: e.Code + ": " + e.Description,
	}
}

// Problem serves such a page.
func (p *Pages) Problem(w http.ResponseWriter, r *http.Request, status int, what Problem) {
	w.Header().Set("Cache-Control", "no-store")
	policy(w, "default-src 'none'", "style-src 'self'", "img-src 'self'", "form-action 'none'")
	p.render(w, r, status, "problem", struct {
		frame
		Problem
		Title string
	}{p.frame(what.Title), what, what.Title})
}

// frame is what every page shows around its own content.
type frame struct{ Title, Host string }

func (p *Pages) frame(title string) frame { return frame{Title: title, Host: p.host} }

// policy sets the page's Content-Security-Policy; no page may be framed or
// given another base.
func policy(w http.ResponseWriter, directives ...string) {
	directives = append(directives, "frame-ancestors 'none'", "base-uri 'none'")
	w.Header().Set("Content-Security-Policy", strings.Join(directives, "; "))
	w.Header().Del("Access-Control-Allow-Origin") // pages are for windows, not for other pages' scripts
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if w.Header().Get("Referrer-Policy") == "" {
		w.Header().Set("Referrer-Policy", "same-origin")
	}
}

func (p *Pages) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var page bytes.Buffer // whole or not at all
	if err := templates.ExecuteTemplate(&page, name, data); err != nil {
		p.Log.ErrorContext(r.Context(), "rendering a page", "page", name, "error", fmt.Errorf("executing the template: %w", err))
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	w.Write(page.Bytes())
}

func nonce() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}
