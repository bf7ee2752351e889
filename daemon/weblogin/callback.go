package weblogin

import (
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"countersign.dev/ipc/peer"
	"countersign.dev/okta"
)

const (
	maxQuery       = 8 << 10
	maxConnections = 64
	maxShown       = 200 // characters of what the org says

	// pageWait is how long the browser waits at the callback for the end of the
	// enrolment, so that its page can say what became of it.
	pageWait = time.Minute
)

// callback is what the org's redirect brought.
type callback struct {
	code    okta.Secret
	refusal *RefusedError
}

var (
	errQuery = errors.New("the query is malformed")
	errState = errors.New("the state is not of this sign-in")
)

// readCallback reads the query of the redirect for the sign-in with that state,
// at the org with that issuer. Only what bears the right state is an answer.
func readCallback(rawQuery, state, issuer string) (callback, error) {
	if len(rawQuery) > maxQuery {
		return callback{}, errQuery
	}
	q, err := url.ParseQuery(rawQuery)
	if err != nil {
		return callback{}, errQuery
	}
	for _, name := range [...]string{"state", "code", "error", "error_description", "iss"} {
		if len(q[name]) > 1 {
			return callback{}, errQuery // which of them would count?
		}
	}
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 || state == "" {
		return callback{}, errState
	}
	if q.Has("iss") && q.Get("iss") != issuer {
		return callback{}, errState // another org's answer (RFC 9207)
	}
	switch code, refused := q.Get("code"), q.Has("error"); {
	case refused:
		return callback{refusal: &RefusedError{Code: plain(q.Get("error"), 64), Description: plain(q.Get("error_description"), maxShown)}}, nil
	case code == "":
		return callback{refusal: &RefusedError{Code: "no_code", Description: "it sent neither a code nor a reason"}}, nil
	default:
		return callback{code: okta.Secret(code)}, nil
	}
}

// plain makes text from outside fit for one line.
func plain(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > limit {
		s = string(runes[:limit])
	}
	return s
}

// serve refuses first: whatever is not the browser's navigation to the callback
// of this very listener.
func (s *SignIn) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Connection", "close")
	switch {
	case r.Host != s.host || r.URL.Host != "": // DNS rebinding
		s.refuse(w, http.StatusForbidden)
		return
	case r.Header.Get("Origin") != "" || !navigation(r.Header):
		s.refuse(w, http.StatusForbidden)
		return
	case s.stranger(r):
		s.options.Log.Info("callback refused", "reason", "another user of this computer sent it")
		s.refuse(w, http.StatusForbidden)
		return
	case r.URL.EscapedPath() != callbackPath:
		s.refuse(w, http.StatusNotFound)
		return
	case r.Method != http.MethodGet:
		h.Set("Allow", http.MethodGet)
		s.refuse(w, http.StatusMethodNotAllowed)
		return
	}
	c, err := readCallback(r.URL.RawQuery, s.state, s.options.Metadata.Issuer)
	if err == nil && !s.used.CompareAndSwap(false, true) {
		err = errState
	}
	if err != nil {
		s.options.Log.Info("callback refused", "reason", err.Error())
		s.refuse(w, http.StatusBadRequest)
		return
	}
	s.listener.Close() // nothing else is expected
	s.answered <- c
	late := time.NewTimer(pageWait)
	defer late.Stop()
	select {
	case <-s.ended:
		s.write(w, http.StatusOK, s.ending.page())
	case <-late.C:
		s.write(w, http.StatusOK, pageLater)
	case <-r.Context().Done():
	}
}

// navigation says whether the request may be a browser opening an address. A
// browser that says what it is doing says so; other clients have no business
// here, but do no harm without the state.
func navigation(h http.Header) bool {
	for name, want := range map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"} {
		if got := h.Get(name); got != "" && got != want {
			return false
		}
	}
	return true
}

// connKey is where a request keeps its connection.
type connKey struct{}

// stranger says whether another user of this computer sent the request.
func (s *SignIn) stranger(r *http.Request) bool {
	_, own := s.own.Load(r.Context().Value(connKey{}))
	return !own
}

// ours says whether a connection is of this user: on a shared machine everybody
// reaches 127.0.0.1, and the address that the browser was started with shows in
// the list of processes. Where the system can name owners, one that it cannot
// name is not ours either; where it cannot at all, the state has to do.
func (s *SignIn) ours(c net.Conn) bool {
	local, ok1 := c.LocalAddr().(*net.TCPAddr)
	remote, ok2 := c.RemoteAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		return false
	}
	who, err := s.options.owner(local.AddrPort(), remote.AddrPort())
	return errors.Is(err, peer.ErrUnsupported) || err == nil && who.Mine()
}

// connState bounds the connections. Strangers are counted apart, so that they
// cannot keep the person's browser out.
func (s *SignIn) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		crowd := &s.strangers
		if s.ours(c) {
			s.own.Store(c, true)
			crowd = &s.crowd
		}
		if crowd.Add(1) > maxConnections {
			c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		if _, own := s.own.LoadAndDelete(c); own {
			s.crowd.Add(-1)
		} else {
			s.strangers.Add(-1)
		}
	}
}
