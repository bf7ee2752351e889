package main

import (
	"crypto/rand"
	_ "embed"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"countersign.dev/e2e/harness"
)

// app is a small app that people sign in to: it sends the browser to the org
// and shows who came back, after it has verified the token.
type app struct {
	URL    string
	org    *harness.Org
	server *http.Server

	mu      sync.Mutex
	signIns map[string]*harness.SignIn // by state; bounded by maxSignIns
}

const maxSignIns = 100

func startApp(org *harness.Org) (*app, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &app{
		URL: "http://localhost:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port), org: org,
		signIns: map[string]*harness.SignIn{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.begin("demo-web"))
	mux.HandleFunc("GET /strict", a.begin("demo-strict"))
	mux.HandleFunc("GET /verified", a.begin("demo-uv"))
	mux.HandleFunc("GET /callback", a.callback)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go a.server.Serve(l)
	return a, nil
}

// Close stops serving.
func (a *app) Close() error { return a.server.Close() }

func (a *app) begin(client string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := a.org.NewSignIn(client, "default", a.URL+"/callback")
		a.mu.Lock()
		if len(a.signIns) >= maxSignIns {
			clear(a.signIns)
		}
		a.signIns[s.State] = s
		a.mu.Unlock()
		http.Redirect(w, r, s.AuthorizeURL(), http.StatusFound)
	}
}

func (a *app) callback(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	a.mu.Lock()
	s := a.signIns[q.Get("state")]
	delete(a.signIns, q.Get("state"))
	a.mu.Unlock()
	if s == nil || q.Get("code") == "" {
		refused(w, "This sign-in is unknown, was used before, or was refused. "+q.Get("error_description"))
		return
	}
	tokens, err := s.Redeem(r.Context(), q.Get("code"))
	var who harness.Identity
	if err == nil {
		who, err = harness.VerifyIDToken(r.Context(), s.Issuer, s.Client, tokens.IDToken)
	}
	if err == nil && who.Nonce != s.Nonce {
		err = fmt.Errorf("the token belongs to another sign-in")
	}
	if err != nil {
		refused(w, err.Error())
		return
	}
	how := "Not by a password and a key"
	if who.ByPasswordAndKey() {
		how = "By a password and a key"
	}
	show(w, page{Title: "Signed in to " + s.Client, Who: who, How: how, AMR: strings.Join(who.AMR, ", ")})
}

// page is what the app shows.
type page struct {
	Title, Problem, How, AMR, Nonce string
	Who                             harness.Identity
}

//go:embed app.html
var markup string

var pageTemplate = template.Must(template.New("page").Parse(markup))

func refused(w http.ResponseWriter, why string) { show(w, page{Title: "Not signed in", Problem: why}) }

func show(w http.ResponseWriter, p page) {
	p.Nonce = rand.Text()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'nonce-"+p.Nonce+"'")
	w.Header().Set("Cache-Control", "no-store")
	pageTemplate.Execute(w, p)
}
