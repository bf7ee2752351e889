package oidc

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"countersign.dev/okta/jose"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/token"
)

// maxForm bounds the body of a request; the largest real ones are some 3 KB.
const maxForm = 64 << 10

// form reads the parameters of a form-encoded POST, from the body alone: what
// comes in the query ends up in logs and is no credential.
func form(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, token.NotForm
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, errors.Join(token.Malformed, err)
	}
	return r.PostForm, once(r.PostForm)
}

// once refuses a parameter that was given twice (RFC 6749, 3.1): which of the
// two counts must not depend on who reads it.
func once(v url.Values) error {
	for _, values := range v {
		if len(values) > 1 {
			return token.DuplicateParameter
		}
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // our own types: cannot happen
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if !strings.HasPrefix(h.Get("Cache-Control"), "max-age") { // set by the documents that may be kept
		h.Set("Cache-Control", "no-cache, no-store")
		h.Set("Pragma", "no-cache")
	}
	w.WriteHeader(status)
	w.Write(body)
}

// refuse answers an OAuth endpoint's request with the error object of err. The
// cause of a server error goes to the log only.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := token.OAuthError(err)
	if e.HTTPStatus >= 500 {
		s.Log.ErrorContext(r.Context(), "oauth request failed", "path", r.URL.Path, "error", err)
	} else {
		s.Log.InfoContext(r.Context(), "oauth request refused", "path", r.URL.Path, "error", err)
	}
	if e.HTTPStatus == http.StatusUnauthorized && e.Code == "invalid_token" || e.Code == "insufficient_scope" {
		scheme := "Bearer"
		if given, _ := httpx.Authorization(r); given == "dpop" {
			scheme = `DPoP algs="` + strings.Join(jose.ProofAlgorithms(), " ") + `",`
		}
		w.Header().Set("WWW-Authenticate", scheme+` error="`+e.Code+`", error_description="`+e.Description+`"`)
	}
	if _, _, tried := r.BasicAuth(); tried && e.Code == "invalid_client" {
		w.Header().Set("WWW-Authenticate", `Basic realm="okta"`) // RFC 6749, 5.2
	}
	writeJSON(w, e.HTTPStatus, e)
}
