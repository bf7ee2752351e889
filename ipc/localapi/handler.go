package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
)

// call is one request after every check that does not need the agent.
type call struct {
	ctx   context.Context
	w     http.ResponseWriter
	r     *http.Request
	id    string // from the path
	query url.Values
	in    any // pointer to the decoded body
	peer  peer.Peer
}

// refusal makes an error for the caller.
func refusal(status int, code, message string) *api.Error {
	return &api.Error{Status: status, Code: code, Message: message}
}

// ServeHTTP refuses first and routes last.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := checkCaller(r); err != nil {
		s.fail(w, r, err)
		return
	}
	route, escapedID, allow := find(r.Method, r.URL.EscapedPath())
	if route == nil {
		if allow == "" {
			s.fail(w, r, refusal(http.StatusNotFound, "not_found", "there is no such path"))
			return
		}
		w.Header().Set("Allow", allow)
		s.fail(w, r, refusal(http.StatusMethodNotAllowed, "method_not_allowed", "this path takes "+allow))
		return
	}
	c := &call{ctx: r.Context(), w: w, r: r}
	c.peer, _ = r.Context().Value(peerKey{}).(peer.Peer)
	var err error
	if c.id, err = pathID(escapedID); err == nil {
		c.query, err = readQuery(r.URL.RawQuery, route.query)
	}
	if err == nil {
		c.in, err = readBody(w, r, route.in)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	// The read deadline was for the request. Left in place it would end the
	// context of a long answer as if the caller had gone.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	out, err := route.serve(s, c)
	switch {
	case err != nil:
		s.fail(w, r, err)
	case route.stream != "": // written by the handler
	case route.out == nil:
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(route.status)
	default:
		send(w, max(route.status, http.StatusOK), out)
	}
}

// checkCaller refuses whatever a browser could send.
func checkCaller(r *http.Request) error {
	if r.Host != api.Host || r.URL.Host != "" {
		return refusal(http.StatusForbidden, "wrong_host", "the Host of this API is "+api.Host)
	}
	for name := range r.Header {
		if name == "Origin" || name == "Referer" || strings.HasPrefix(name, "Sec-Fetch-") {
			return refusal(http.StatusForbidden, "browser", "this API is not for browsers")
		}
	}
	return nil
}

func pathID(escaped string) (string, error) {
	id, err := url.PathUnescape(escaped)
	if err != nil || len(id) > 256 || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
		return "", refusal(http.StatusBadRequest, "bad_id", "the id in the path is malformed")
	}
	return id, nil
}

// readQuery accepts the route's parameters, each at most once and of its kind.
func readQuery(raw string, allowed []parameter) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, refusal(http.StatusBadRequest, "bad_query", "the query is malformed")
	}
	for name, given := range values {
		kind := ""
		for _, p := range allowed {
			if p.name == name {
				kind = p.kind
			}
		}
		var kindErr error
		switch kind {
		case "":
			return nil, refusal(http.StatusBadRequest, "unknown_parameter", "there is no such query parameter here")
		case "boolean":
			if given[0] != "true" && given[0] != "false" {
				kindErr = errors.New("not a boolean")
			}
		case "integer":
			_, kindErr = strconv.ParseUint(given[0], 10, 64)
		}
		if name == frontEndParameter.name && !frontEndName(given[0]) {
			kindErr = errors.New("not a name")
		}
		if len(given) != 1 || kindErr != nil {
			return nil, refusal(http.StatusBadRequest, "bad_parameter", "the query parameter "+name+" is malformed")
		}
	}
	return values, nil
}

// frontEndName accepts short lower-case words: they are shown to people.
func frontEndName(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z'
		other := '0' <= c && c <= '9' || c == '-' || c == '_'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

// readBody decodes the body into a new value of in's type.
func readBody(w http.ResponseWriter, r *http.Request, in any) (any, error) {
	if in == nil {
		if r.ContentLength != 0 {
			return nil, refusal(http.StatusBadRequest, "unexpected_body", "this operation takes no body")
		}
		return nil, nil
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	delete(params, "charset")
	if err != nil || media != jsonType || len(params) != 0 || len(r.Header["Content-Type"]) != 1 {
		return nil, refusal(http.StatusUnsupportedMediaType, "content_type", "the body must be "+jsonType)
	}
	large := refusal(http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body may have %d bytes", maxBody))
	if r.ContentLength > maxBody {
		return nil, large
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooMuch := (*http.MaxBytesError)(nil); errors.As(err, &tooMuch) {
		return nil, large
	} else if err != nil {
		return nil, refusal(http.StatusBadRequest, "bad_body", "the body ended early")
	}
	defer clear(body) // it may hold a PIN
	value := reflect.New(reflect.TypeOf(in)).Interface()
	if err := decode(body, value); err != nil {
		return nil, refusal(http.StatusBadRequest, "bad_body", err.Error())
	}
	return value, nil
}

func send(w http.ResponseWriter, status int, value any) {
	body, ok := value.(json.RawMessage)
	if !ok {
		var err error
		if body, err = marshal(value); err != nil {
			status, body = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"the answer cannot be written as JSON"}}`)
		}
	}
	body = append(body, '\n')
	h := w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// fail answers with the error when it is meant for the caller, else with a
// sentence that says where to look.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var public *api.Error
	if !errors.As(err, &public) {
		if r.Context().Err() != nil {
			return // the caller has gone
		}
		s.log.LogAttrs(r.Context(), slog.LevelError, "local api request failed",
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Any("error", err))
		public = refusal(http.StatusInternalServerError, "internal", "the agent could not do that; its log says why")
	}
	status := public.Status
	if status < 400 || status > 599 {
		status = http.StatusBadRequest
	}
	send(w, status, api.ErrorBody{Error: public})
}

// marshal writes JSON for programs and for people with curl, not for web pages:
// an & stays one.
func marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
