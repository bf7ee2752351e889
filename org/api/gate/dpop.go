package gate

import (
	"context"
	"net/http"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/api/httpx"
)

// BoundTokens verifies access tokens that are bound to a key (DPoP, RFC 9449).
// Its errors are as those of Tokens.
type BoundTokens interface {
	// VerifyProof checks the proof that a request brings for its token, once, and
	// returns the thumbprint of the key that made it. url is without query.
	VerifyProof(ctx context.Context, proofs []string, method, url string, token okta.Secret) (key string, err error)
	// VerifyBoundToken verifies a token that is bound to that key.
	VerifyBoundToken(ctx context.Context, token okta.Secret, key string) (Access, error)
}

// AccessOf verifies the access token that a request brings, which must carry
// one of the scopes, and the proof that goes along with one bound to a key.
func (g Gate) AccessOf(r *http.Request, scopes ...string) (Access, error) {
	scheme, credential := httpx.Authorization(r)
	switch scheme {
	case "bearer":
		return g.access(r.Context(), Ticket{token: credential}, scopes)
	case "dpop":
	default:
		return Access{}, okta.NewError(okta.CodeInvalidToken)
	}
	if g.Bound == nil || credential == "" {
		return Access{}, okta.NewError(okta.CodeInvalidToken)
	}
	key, err := g.Bound.VerifyProof(r.Context(), r.Header.Values("DPoP"), r.Method, g.BaseURL+r.URL.EscapedPath(), credential)
	if err != nil || key == "" {
		if r.Context().Err() != nil {
			return Access{}, context.Cause(r.Context())
		}
		g.Log.DebugContext(r.Context(), "proof of possession refused", "error", err)
		return Access{}, okta.NewError(okta.CodeInvalidToken, "the DPoP proof is missing or not valid")
	}
	return g.access(r.Context(), Ticket{credential, key}, scopes)
}

// Ticket is the access token by which a caller was let in, to be looked at
// again while it waits. The zero value is that of a caller without one, whose
// signature was good for one request.
type Ticket struct {
	token okta.Secret
	key   string // thumbprint of the key that was proven along with it; "" for a bearer
}

// TicketOf returns the ticket of a request that Caller has let in. The proof in
// it has been checked and used up; here it only says which key that was.
func TicketOf(r *http.Request) Ticket {
	scheme, credential := httpx.Authorization(r)
	switch scheme {
	case "bearer":
		return Ticket{token: credential}
	case "dpop":
		t := Ticket{token: credential} // no bearer's: refused, should the key not be read
		if _, key, err := jose.OpenProof(r.Header.Get("DPoP")); err == nil {
			t.key, _ = key.Thumbprint()
		}
		return t
	}
	return Ticket{}
}

// Recheck says whether a ticket still lets its holder in.
func (g Gate) Recheck(ctx context.Context, t Ticket, scopes ...string) error {
	if t == (Ticket{}) {
		return nil
	}
	_, err := g.access(ctx, t, scopes)
	return err
}

func (g Gate) verify(ctx context.Context, t Ticket) (Access, error) {
	switch {
	case t.key == "":
		return g.Tokens.VerifyAccessToken(ctx, t.token)
	case g.Bound == nil:
		return Access{}, okta.NewError(okta.CodeInvalidToken)
	}
	return g.Bound.VerifyBoundToken(ctx, t.token, t.key)
}

// TurnAway answers a caller that is not let in; one that came with a bound
// token hears which proofs are taken.
func (g Gate) TurnAway(w http.ResponseWriter, r *http.Request, err error) {
	if scheme, _ := httpx.Authorization(r); scheme == "dpop" {
		w = &challenger{w, `DPoP algs="` + strings.Join(jose.ProofAlgorithms(), " ") + `", error="invalid_token"`}
	}
	httpx.Fail(w, r, g.Log, err)
}

// challenger puts its challenge on an answer with status 401 and on no other.
type challenger struct {
	http.ResponseWriter
	challenge string
}

func (c *challenger) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		c.Header().Set("WWW-Authenticate", c.challenge)
	}
	c.ResponseWriter.WriteHeader(status)
}
