package harness

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

//go:embed pages
var pages embed.FS

var widgetPage = template.Must(template.ParseFS(pages, "pages/widget.html"))

// Generation is one of the two user interfaces that the widget comes with.
type Generation int

// The generations of the widget.
const (
	Gen2 Generation = 2
	Gen3 Generation = 3
)

func (g Generation) String() string { return "gen" + strconv.Itoa(int(g)) }

func (g Generation) files() (js, css string) {
	if g == Gen2 {
		return "okta-sign-in.min.js", "okta-sign-in.min.css"
	}
	return "okta-sign-in.next.js", "okta-sign-in.next.css"
}

// renderWidget makes a page that shows the widget. All its parts are files of
// the page's own origin, so that it also works under a strict policy.
func renderWidget(gen Generation, assets, boot string, config map[string]any) ([]byte, error) {
	config["language"] = "en" // the one language that is not fetched from a CDN
	config["assets"] = map[string]string{"baseUrl": assets}
	encoded, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	js, css := gen.files()
	var page bytes.Buffer
	err = widgetPage.Execute(&page, map[string]any{"Assets": assets, "JS": js, "CSS": css, "Boot": boot, "Config": string(encoded)})
	return page.Bytes(), err
}

// Site is an app's web site on http://localhost with the widget in it.
type Site struct {
	URL    string // its origin
	server *http.Server
}

// StartSite serves the widget page for the apps of the org.
func StartSite(orgURL string) (*Site, error) {
	dist, err := WidgetDir()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Site{URL: "http://localhost:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}
	mux := http.NewServeMux()
	mux.Handle("GET /widget/", http.StripPrefix("/widget/", http.FileServerFS(os.DirFS(dist))))
	mux.HandleFunc("GET /boot.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, pages, "pages/widget.js") })
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, pages, "pages/callback.html")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		gen := Gen3
		if q.Get("gen") == "2" {
			gen = Gen2
		}
		if token := q.Get("stateToken"); token != "" {
			show(w, gen, map[string]any{"baseUrl": orgURL, "stateToken": token})
			return
		}
		config := map[string]any{
			"issuer":      orgURL + q.Get("server"),
			"clientId":    q.Get("client"),
			"redirectUri": s.URL + "/callback",
			"scopes":      []string{"openid", "profile", "email", "offline_access"},
			// Gen3 has no default for this and would take the page for the org's own.
			"authScheme": "OAUTH2",
			"ending":     q.Get("ending"),
		}
		if e := Ending(q.Get("ending")); e == Redirect || e == Untouched {
			config["redirect"] = "always" // generation 3 reads it nowhere else
		}
		show(w, gen, config)
	})
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go s.server.Serve(l)
	return s, nil
}

// show writes the page with the widget.
func show(w http.ResponseWriter, gen Generation, config map[string]any) {
	page, err := renderWidget(gen, "/widget", "/boot.js", config)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(page)
}

// Close stops serving.
func (s *Site) Close() error { return s.server.Close() }

// Ending is how a page of the app gets the result from the widget.
type Ending string

// The endings.
const (
	Tokens    Ending = "tokens"    // asks for tokens
	Callback  Ending = "callback"  // renders with the defaults and is called
	Redirect  Ending = "redirect"  // lets the widget leave for the redirect address with an interaction code
	Untouched Ending = "untouched" // Redirect, without the setting that generation 3 needs to end well
)

// Page returns the address of the widget page. The authorization server is
// "" for the org itself, or "default".
func (s *Site) Page(gen Generation, client, authorizationServer string, ending Ending) string {
	q := url.Values{"gen": {strconv.Itoa(int(gen))}, "client": {client}, "server": {serverPath(authorizationServer)}, "ending": {string(ending)}}
	return s.URL + "/?" + q.Encode()
}

// StateTokenPage returns the address of the widget page for a sign-in that
// somebody else asked the org for.
func (s *Site) StateTokenPage(gen Generation, stateToken string) string {
	return s.URL + "/?" + url.Values{"gen": {strconv.Itoa(int(gen))}, "stateToken": {stateToken}}.Encode()
}

// serverPath is the issuer of an authorization server below the org's URL.
func serverPath(authorizationServer string) string {
	if authorizationServer == "" {
		return ""
	}
	return "/oauth2/" + authorizationServer
}

var errNoStateToken = errors.New("the org's page carries no stateToken")

func contentType(path string) (string, error) {
	for suffix, typ := range map[string]string{".js": "text/javascript", ".css": "text/css", ".png": "image/png",
		".svg": "image/svg+xml", ".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".gif": "image/gif"} {
		if len(path) > len(suffix) && path[len(path)-len(suffix):] == suffix {
			return typ, nil
		}
	}
	return "", fmt.Errorf("no content type known for %s", path)
}
