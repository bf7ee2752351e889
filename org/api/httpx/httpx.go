// Package httpx is the org's edge to HTTP: what is decided about a request
// before any room sees it, and how answers look.
//
// It refuses first. A request for another host, with a body too large or of
// the wrong kind never reaches a handler; a page of an origin that the org does
// not trust gets an answer that its browser will not let it read; a panic
// becomes an error object. The facades behind it share its readers and writers,
// so that every error has one shape.
package httpx

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/ids"
)

// MaxBody bounds every request body, whatever a handler allows.
const MaxBody = 64 << 10

// ContentType is the media type of the APIs' answers.
const ContentType = "application/json"

// WriteJSON answers with a document.
func WriteJSON(w http.ResponseWriter, status int, v any) { WriteJSONAs(w, status, ContentType, v) }

// WriteJSONAs answers with a document of a media type.
func WriteJSONAs(w http.ResponseWriter, status int, contentType string, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // URLs stay readable; nosniff keeps the answer from being a page
	if err := enc.Encode(v); err != nil {
		// The program's own types always encode: this is a bug, and the
		// panic handler's business.
		panic(err)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may be gone
}

// WriteError answers with an error object of the Okta APIs. nil is an internal
// error: no handler means to say that nothing went wrong here.
func WriteError(w http.ResponseWriter, e *okta.Error) {
	if e == nil {
		e = okta.NewError(okta.CodeInternal)
	}
	out := *e
	if out.ID == "" {
		out.ID = ids.New("oae")
	}
	if out.Link == "" {
		out.Link = string(out.Code)
	}
	if out.Causes == nil {
		out.Causes = []okta.ErrorCause{}
	}
	status := out.HTTPStatus
	if status < 400 || status > 599 {
		status = http.StatusInternalServerError
	}
	if status == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="okta"`)
	}
	WriteJSON(w, status, out)
}

// WriteOAuthError answers with an error object of the OAuth endpoints.
func WriteOAuthError(w http.ResponseWriter, e *okta.TokenError) {
	if e == nil {
		e = &okta.TokenError{Code: "server_error", HTTPStatus: http.StatusInternalServerError}
	}
	status := e.HTTPStatus
	if status < 400 || status > 599 {
		status = http.StatusBadRequest
	}
	w.Header().Set("Cache-Control", "no-cache, no-store")
	w.Header().Set("Pragma", "no-cache")
	WriteJSON(w, status, e)
}

// Fail answers with err: as it stands when it is meant for the client, else as
// an internal error whose cause goes to the log only.
func Fail(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	var e *okta.Error
	if errors.As(err, &e) {
		WriteError(w, e)
		return
	}
	if r.Context().Err() == nil { // otherwise the client left: nobody's fault
		log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "request_id", RequestID(r.Context()), "error", err)
	}
	WriteError(w, okta.NewError(okta.CodeInternal))
}

// ReadJSON decodes a request's body of at most limit bytes into dst, strictly:
// one document, no duplicate members, bounded depth. The error is an
// *okta.Error.
func ReadJSON(w http.ResponseWriter, r *http.Request, dst any, limit int) error {
	if !jsonMediaType(r.Header.Values("Content-Type")) {
		return okta.NewError(okta.CodeUnsupportedMediaType)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			e := okta.NewError(okta.CodeValidation, "the request body is too large")
			e.HTTPStatus = http.StatusRequestEntityTooLarge
			return e
		}
		return okta.NewError(okta.CodeValidation, "the request body could not be read")
	}
	if err := jose.DecodeStrict(body, dst, limit); err != nil {
		return okta.NewError(okta.CodeValidation, "the request body is not well-formed")
	}
	return nil
}

// jsonMediaType is tolerant where clients differ: spaces, parameters after ";"
// or, as one published example has it, after ",".
func jsonMediaType(headers []string) bool {
	if len(headers) != 1 {
		return false
	}
	m, _ := splitMediaType(headers[0])
	return slices.Contains([]string{"application/json", "application/ion+json", "application/merge-patch+json"}, m)
}

// splitMediaType returns the type and its okta-version parameter.
func splitMediaType(s string) (mediaType, version string) {
	mediaType, rest, _ := strings.Cut(strings.ReplaceAll(s, ",", ";"), ";")
	for p := range strings.SplitSeq(rest, ";") {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(name), "okta-version") {
			version = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return strings.ToLower(strings.TrimSpace(mediaType)), version
}

// APIVersion is the version of the MyAccount protocol that is served.
const APIVersion = "1.0.0"

// Acceptable says whether the Accept header admits what we answer. Only one
// that names versions, all of them others than ours, or media types, none of
// which is ours, does not; an absent one does.
func Acceptable(r *http.Request) bool {
	headers := r.Header.Values("Accept")
	if len(headers) == 0 || strings.TrimSpace(strings.Join(headers, "")) == "" {
		return true
	}
	// A comma separates alternatives, but is also seen in front of the
	// version: a part without a slash belongs to the one before it.
	var options []string
	for part := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		if !strings.Contains(part, "/") && len(options) > 0 {
			options[len(options)-1] += ";" + part
			continue
		}
		options = append(options, part)
	}
	for _, o := range options {
		m, version := splitMediaType(o)
		switch m {
		case "application/json", "application/merge-patch+json", "application/*", "*/*":
			if version == "" || version == APIVersion {
				return true
			}
		}
	}
	return false
}

// Methods serves one path by HTTP method and answers others with the error
// object.
type Methods map[string]http.HandlerFunc

func (m Methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, ok := m[r.Method]
	if !ok && r.Method == http.MethodHead {
		h, ok = m[http.MethodGet]
	}
	if !ok {
		allowed := make([]string, 0, len(m))
		for method := range m {
			allowed = append(allowed, method)
		}
		slices.Sort(allowed)
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		WriteError(w, okta.NewError(okta.CodeMethodNotAllowed))
		return
	}
	h(w, r)
}

// NotFound answers for paths that nobody serves.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	WriteError(w, okta.NewError(okta.CodePathNotFound))
}

// Authorization splits the header into its scheme, in lower case, and the
// credential. Both are empty when there is no header, or more than one.
func Authorization(r *http.Request) (scheme string, credential okta.Secret) {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return "", ""
	}
	scheme, rest, _ := strings.Cut(headers[0], " ")
	return strings.ToLower(scheme), okta.Secret(strings.TrimSpace(rest))
}

// SameSecret compares two secrets in a time that tells nothing about them, not
// even their lengths. Nothing equals the empty secret.
func SameSecret(a, b okta.Secret) bool {
	if a == "" || b == "" {
		return false
	}
	x, y := sha256.Sum256([]byte(a.Reveal())), sha256.Sum256([]byte(b.Reveal()))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
