package loopback

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"countersign.dev/ipc/peer"
)

// Paths that exist.
const (
	probePath     = "/probe"
	challengePath = "/challenge"
)

// Header values are made once: a header map may share them as long as nobody
// appends in place, and net/http does not.
var (
	typeJSON     = []string{"application/json"}
	noStore      = []string{"no-store"}
	noSniff      = []string{"nosniff"}
	varyOrigin   = []string{"Origin"}
	allowHeaders = []string{"Content-Type, X-Okta-Xsrftoken"}
	allowMethods = []string{"GET, POST, OPTIONS"}
	maxAge       = []string{"600"}
	yes          = []string{"true"}
	closing      = []string{"close"}
)

// answer is a status and the small JSON body that goes with it, for people who
// look; browsers see the status only.
type answer struct {
	status int
	body   []byte
	length []string
}

func says(status int, code string) answer {
	body := []byte(`{"code":"` + code + `"}` + "\n")
	return answer{status, body, []string{strconv.Itoa(len(body))}}
}

var (
	here            = says(http.StatusOK, "ready")
	wrongHost       = says(http.StatusForbidden, "wrong_host")
	wrongOrigin     = says(http.StatusForbidden, "origin_not_allowed")
	wrongPath       = says(http.StatusNotFound, "not_found")
	wrongMethod     = says(http.StatusMethodNotAllowed, "method_not_allowed")
	wrongType       = says(http.StatusUnsupportedMediaType, "content_type_must_be_json")
	tooLarge        = says(http.StatusRequestEntityTooLarge, "too_large")
	notAChallenge   = says(http.StatusBadRequest, "malformed")
	otherUser       = says(http.StatusServiceUnavailable, "other_user")
	unknownUser     = says(http.StatusServiceUnavailable, "unknown_user")
	tooMany         = says(http.StatusTooManyRequests, "too_many_challenges")
	challengeReply  = make([]answer, len(replies))
	errBodyTooLarge = errors.New("the body is too large")
)

func init() {
	for i, r := range replies {
		challengeReply[i] = says(r.status, r.code)
	}
}

// ServeHTTP refuses first and routes last.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if s.connections.Load() > busyConnections {
		h["Connection"] = closing
	}
	// A request line with a whole URL would stand in for Host; browsers send
	// none to us.
	if (r.Host != s.hosts[0] && r.Host != s.hosts[1]) || r.URL.Host != "" {
		s.refuse(w, r, wrongHost)
		return
	}
	origin := r.Header["Origin"]
	if len(origin) != 1 || !validOrigin(origin[0]) || !s.agent.AllowOrigin(r.Context(), origin[0]) {
		s.refuse(w, r, wrongOrigin)
		return
	}

	// From here on the page may see the answer, errors too: a status that it
	// cannot see is a network error to it, and it would not try the next port.
	h["Access-Control-Allow-Origin"] = origin
	h["Vary"] = varyOrigin

	var method string
	switch r.URL.Path {
	case probePath:
		method = http.MethodGet
	case challengePath:
		method = http.MethodPost
	}
	switch {
	case method == "" || r.URL.RawPath != "":
		s.refuse(w, r, wrongPath)
	case r.Method == http.MethodOptions && len(r.Header["Access-Control-Request-Method"]) == 1:
		preflight(w, r)
	case r.Method != method:
		h.Set("Allow", method+", OPTIONS")
		s.refuse(w, r, wrongMethod)
	case method == http.MethodGet:
		send(w, here)
	default:
		s.challenge(w, r, origin[0])
	}
}

func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Access-Control-Allow-Headers"] = allowHeaders
	h["Access-Control-Allow-Methods"] = allowMethods
	h["Access-Control-Max-Age"] = maxAge
	// Chromium before 142 asks this before a page may talk to this machine.
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		h["Access-Control-Allow-Private-Network"] = yes
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) challenge(w http.ResponseWriter, r *http.Request, origin string) {
	if !jsonType(r.Header["Content-Type"]) {
		s.refuse(w, r, wrongType)
		return
	}
	// A10: 503 sends another user's browser on to that user's own agent. Where
	// the system can name owners, one it cannot name is not ours either; where
	// it cannot at all (peer.ErrUnsupported), the account must decide alone.
	who, err := r.Context().Value(ownerKey{}).(*owner).get()
	switch {
	case err != nil && !errors.Is(err, peer.ErrUnsupported):
		s.refuse(w, r, unknownUser)
		return
	case err == nil && !who.Mine():
		s.refuse(w, r, otherUser)
		return
	}
	token, err := readChallenge(w, r)
	switch {
	case errors.Is(err, errBodyTooLarge):
		s.refuse(w, r, tooLarge)
		return
	case err != nil:
		s.refuse(w, r, notAChallenge)
		return
	}
	select {
	case s.challenges <- struct{}{}:
		defer func() { <-s.challenges }()
	default:
		s.refuse(w, r, tooMany)
		return
	}

	// The person may take minutes. The read deadline was for the body: left
	// in place it would end the request's context as if the browser had gone.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	reply := s.agent.Challenge(r.Context(), Request{Token: token, Origin: origin, Peer: who}).known()
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
	send(w, challengeReply[reply])
}

// refuse answers and leaves a line for who looks for the reason.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, a answer) {
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "loopback request refused",
			slog.Int("status", a.status), slog.String("reason", strings.TrimSpace(string(a.body))),
			slog.String("method", r.Method), slog.String("path", r.URL.Path),
			slog.String("host", r.Host), slog.String("origin", r.Header.Get("Origin")))
	}
	send(w, a)
}

func send(w http.ResponseWriter, a answer) {
	h := w.Header()
	h["Content-Type"] = typeJSON
	h["Content-Length"] = a.length
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a browser that has gone away is no news
}

// jsonType accepts application/json, alone or with charset=utf-8: the type a
// page cannot send without a preflight (A2).
func jsonType(values []string) bool {
	if len(values) != 1 {
		return false
	}
	if values[0] == "application/json" {
		return true
	}
	media, params, err := mime.ParseMediaType(values[0])
	if err != nil || media != "application/json" {
		return false
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}

// readChallenge reads the body {"challengeRequest":"…"}.
func readChallenge(w http.ResponseWriter, r *http.Request) (string, error) {
	if r.ContentLength > maxBody {
		return "", errBodyTooLarge
	}
	var body bytes.Buffer
	if r.ContentLength > 0 {
		body.Grow(int(r.ContentLength) + bytes.MinRead) // one allocation, not five
	}
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		if tooMuch := (*http.MaxBytesError)(nil); errors.As(err, &tooMuch) {
			return "", errBodyTooLarge
		}
		return "", err
	}
	return parseChallenge(body.Bytes())
}

// parseChallenge takes exactly the one member that the widget sends, once, by
// its exact name, a string that is not empty, and nothing after it.
// (encoding/json alone would take "CHALLENGEREQUEST", and the last of two.)
func parseChallenge(body []byte) (string, error) {
	if token, ok := plainChallenge(body); ok {
		return token, nil
	}
	malformed := errors.New("the body is not one challengeRequest")
	if !utf8.Valid(body) {
		return "", malformed
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	var got [4]json.Token
	for i := range got {
		token, err := dec.Token()
		if err != nil {
			return "", malformed
		}
		got[i] = token
	}
	if _, err := dec.Token(); err != io.EOF {
		return "", malformed
	}
	value, ok := got[2].(string)
	if got[0] != json.Delim('{') || got[1] != "challengeRequest" || !ok || value == "" || got[3] != json.Delim('}') {
		return "", malformed
	}
	return value, nil
}

// plainChallenge reads the body as every browser writes it: no white space, and
// a token of characters that need no escape. Anything else is for the decoder.
func plainChallenge(body []byte) (token string, ok bool) {
	rest, ok1 := bytes.CutPrefix(body, []byte(`{"challengeRequest":"`))
	rest, ok2 := bytes.CutSuffix(rest, []byte(`"}`))
	if !ok1 || !ok2 || len(rest) == 0 {
		return "", false
	}
	for _, c := range rest {
		if c < '-' || c > 'z' || c == '\\' { // '"' lies below
			return "", false
		}
	}
	return string(rest), true
}
