package main

import (
	"fmt"
	"html"
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
		page(w, "Not signed in", "This sign-in is unknown, was used before, or was refused: "+q.Get("error_description"))
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
		page(w, "Not signed in", err.Error())
		return
	}
	page(w, "Signed in to "+s.Client, who.Username+", by "+strings.Join(who.AMR, ", ")+".")
}

func page(w http.ResponseWriter, title, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	fmt.Fprintf(w, `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>%[1]s</title>
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui;max-width:26rem;margin:4rem auto;padding:0 1rem}</style></head>
<body><main><h1>%[1]s</h1><p>%[2]s</p><p><a href="/">Sign in again</a>, or <a href="/strict">to the app that asks you</a></p></main></body></html>
`, html.EscapeString(title), html.EscapeString(text))
}
