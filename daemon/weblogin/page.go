package weblogin

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"strings"
)

// Ending is what the page in the browser says of how it went.
type Ending struct {
	User string // who signs in from this computer now; "" when it went wrong
	Org  string // its host
	Why  string // what went wrong
	Keys bool   // the sign-in was for changing keys, not for adding the computer
}

// page is a page of a few sentences.
type page struct {
	title string
	text  []string
}

func (e Ending) page() page {
	if e.User != "" && e.Keys {
		return page{title: "The keys are changed", text: []string{
			e.User + " signs in to " + e.Org + " from this computer by other keys now.", "You can close this page."}}
	}
	if e.User != "" {
		return page{title: "This computer is added", text: []string{
			e.User + " can sign in to " + e.Org + " from this computer.", "You can close this page."}}
	}
	why := e.Why
	if why == "" {
		why = "The sign-in did not come to an end."
	}
	if e.Keys {
		return page{title: "The change did not come to an end", text: []string{
			why, "You can close this page. The program that you started says more."}}
	}
	return page{title: "Nothing was added", text: []string{
		why, "You can close this page. To try again, add the account once more."}}
}

var (
	pageStray = page{title: "Nothing to do here", text: []string{
		"This address belongs to a sign-in that has ended, or that somebody else began. Nothing was changed.", "You can close this page."}}
	pageLater = page{title: "Still working", text: []string{
		"You are signed in, and the rest is being done. The program that you started says when it is over.", "You can close this page."}}
)

// style is the look of the org's pages, cut down to what is needed here.
const style = `:root{color-scheme:light dark;--ink:#1b2330;--paper:#fff;--ground:#f3f5f8;--quiet:#5b6678;--line:#d9dee7;--accent:#1f5fbf;--shadow:0 12px 32px rgb(27 35 48/8%)}
@media(prefers-color-scheme:dark){:root{--ink:#e8ecf2;--paper:#12161d;--ground:#0b0e13;--quiet:#9aa6b8;--line:#2a3240;--accent:#7fb0ff;--shadow:0 12px 32px rgb(0 0 0/30%)}}
*{box-sizing:border-box}
html{font:100%/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
body{margin:0;min-height:100vh;padding:clamp(1.5rem,9vh,6rem) 1rem 2rem;background:var(--ground);color:var(--ink)}
header,main{width:100%;max-width:26rem;margin-inline:auto;overflow-wrap:anywhere}
header{display:flex;align-items:center;gap:.75rem;margin-bottom:1.25rem;padding-inline:.25rem;font-weight:600}
svg{flex:none;width:2.5rem;height:2.5rem;fill:none;stroke:var(--accent);stroke-width:2.25;stroke-linecap:round;stroke-linejoin:round}
rect{fill:var(--paper)}
main{padding:2rem;background:var(--paper);border:1px solid var(--line);border-radius:8px;box-shadow:var(--shadow)}
h1{margin:0 0 1.25rem;font-size:1.5rem;line-height:1.25;font-weight:600;text-wrap:balance}
p{margin:0 0 1rem;text-wrap:pretty}
p:last-child{margin:0;color:var(--quiet)}`

// contentPolicy lets the page show itself and nothing else.
var contentPolicy = func() string {
	digest := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) +
		"'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

func (s *SignIn) refuse(w http.ResponseWriter, status int) { s.write(w, status, pageStray) }

func (s *SignIn) write(w http.ResponseWriter, status int, p page) {
	var b strings.Builder
	b.WriteString(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>` + html.EscapeString(p.title) + ` · Countersign</title>
<style>` + style + `</style>
</head>
<body>
<header><svg viewBox="0 0 32 32" aria-hidden="true"><rect x="2" y="2" width="28" height="28" rx="8"/><path d="M8 10l6 6-6 6M24 10l-6 6 6 6"/></svg>Countersign</header>
<main>
<h1>` + html.EscapeString(p.title) + "</h1>\n")
	for _, line := range p.text {
		b.WriteString("<p>" + html.EscapeString(line) + "</p>\n")
	}
	b.WriteString("</main>\n</body>\n</html>\n")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, b.String())
}
