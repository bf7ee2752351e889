package oidc

import (
	"net/http"

	"countersign.dev/org/token"
)

// possession is the proof that a request brings, for the address that the org
// is known by: what a proxy in front of it has made of the request is not what
// the client signed.
func (s *server) possession(r *http.Request) token.Possession {
	return token.Possession{Proofs: r.Header.Values("DPoP"), Method: r.Method, URL: s.BaseURL + r.URL.EscapedPath()}
}

// prove returns the thumbprint of the key to bind tokens to; "" when the client
// brings no proof and gets bearer tokens. The nonce for its next proof goes
// with the answer, whatever that is.
func (s *server) prove(w http.ResponseWriter, r *http.Request) (key string, err error) {
	p := s.possession(r)
	if !p.Given() {
		return "", nil
	}
	key, nonce, err := s.Tokens.ProveForTokens(r.Context(), p)
	if nonce != "" {
		w.Header().Set("DPoP-Nonce", nonce)
	}
	return key, err
}
