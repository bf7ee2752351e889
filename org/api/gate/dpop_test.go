package gate_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/api/gate"
)

const (
	base  = "https://id.example.com"
	path  = "/idp/myaccount/app-authenticators/pfd1"
	scope = okta.ScopeMaintenanceRead
)

// tokens is the token service: "plain" is a bearer's token, "bound" one that
// belongs to a key, until they are revoked.
type tokens struct {
	key     string
	revoked bool
	asked   []string // method and URL of each proof
	err     error
}

func (k *tokens) VerifyAccessToken(_ context.Context, t okta.Secret) (gate.Access, error) {
	if t != "plain" || k.revoked {
		return gate.Access{}, errors.New("no such token")
	}
	return gate.Access{UserID: "00u1", Scopes: []string{scope}}, nil
}

func (k *tokens) VerifyProof(_ context.Context, proofs []string, method, url string, _ okta.Secret) (string, error) {
	k.asked = append(k.asked, method+" "+url)
	if len(proofs) != 1 || k.err != nil {
		return "", errors.Join(errors.New("no proof"), k.err)
	}
	_, key, err := jose.OpenProof(proofs[0])
	if err != nil {
		return "", err
	}
	return key.Thumbprint()
}

func (k *tokens) VerifyBoundToken(_ context.Context, t okta.Secret, key string) (gate.Access, error) {
	if t != "bound" || key != k.key || k.revoked {
		return gate.Access{}, errors.New("no such token")
	}
	return gate.Access{UserID: "00u1", Scopes: []string{scope}, EnrolmentID: "pfd1"}, nil
}

func proof(t *testing.T) (proof, thumbprint string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	proof, err = jose.SignEmbedded(key, "dpop+jwt", map[string]string{"jti": "1"})
	if err != nil {
		t.Fatal(err)
	}
	_, jwk, err := jose.OpenProof(proof)
	if err == nil {
		thumbprint, err = jwk.Thumbprint()
	}
	if err != nil {
		t.Fatal(err)
	}
	return proof, thumbprint
}

func request(authorization string, proofs ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, base+path+"?x=y", nil)
	r.Header.Set("Authorization", authorization)
	r.Header["Dpop"] = proofs
	return r
}

func newGate(k *tokens) gate.Gate {
	return gate.Gate{Tokens: k, Bound: k, BaseURL: base, Full: []string{okta.ScopeManage}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

func TestBoundTokens(t *testing.T) {
	mine, key := proof(t)
	others, _ := proof(t)
	k := &tokens{key: key}
	g := newGate(k)
	for name, c := range map[string]struct {
		r    *http.Request
		want okta.ErrorCode
	}{
		"bearer":                      {request("Bearer plain"), ""},
		"bearer, and a proof besides": {request("Bearer plain", mine), ""},
		"bound":                       {request("DPoP bound", mine), ""},
		"bound, in capitals":          {request("DPOP bound", mine), ""},
		"bound, as bearer":            {request("Bearer bound", mine), okta.CodeInvalidToken},
		"bound, another's proof":      {request("DPoP bound", others), okta.CodeInvalidToken},
		"bound, no proof":             {request("DPoP bound"), okta.CodeInvalidToken},
		"bound, two proofs":           {request("DPoP bound", mine, mine), okta.CodeInvalidToken},
		"bound, rubbish":              {request("DPoP bound", "x"), okta.CodeInvalidToken},
		"bearer's, as bound":          {request("DPoP plain", mine), okta.CodeInvalidToken},
		"nothing":                     {request("DPoP ", mine), okta.CodeInvalidToken},
		"another scheme":              {request("Basic bound", mine), okta.CodeInvalidToken},
	} {
		_, err := g.AccessOf(c.r, scope)
		var got *okta.Error
		if errors.As(err, &got); (err == nil) != (c.want == "") || err != nil && (got == nil || got.Code != c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if i := slices.IndexFunc(k.asked, func(s string) bool { return s != "GET "+base+path }); i >= 0 {
		t.Errorf("a proof for %s", k.asked[i])
	}
	if _, err := g.AccessOf(request("DPoP bound", mine), okta.ScopeManage); !errors.Is(err, okta.NewError(okta.CodeForbidden)) {
		t.Errorf("another scope: %v", err)
	}
	if _, err := g.Caller(request("DPoP bound", mine), "pfd1", scope); err != nil {
		t.Errorf("its enrolment: %v", err)
	}
	if _, err := g.Caller(request("DPoP bound", mine), "pfd2", scope); !errors.Is(err, okta.NewError(okta.CodeNotFound)) {
		t.Errorf("another enrolment: %v", err)
	}
	g.Bound = nil
	if _, err := g.AccessOf(request("DPoP bound", mine), scope); !errors.Is(err, okta.NewError(okta.CodeInvalidToken)) {
		t.Errorf("where none are taken: %v", err)
	}
}

// Whoever waits is let in again by what let it in, for as long as that lasts.
func TestRecheck(t *testing.T) {
	mine, key := proof(t)
	others, _ := proof(t)
	for name, r := range map[string]*http.Request{"bearer": request("Bearer plain"), "bound": request("DPoP bound", mine)} {
		k := &tokens{key: key}
		g := newGate(k)
		ticket := gate.TicketOf(r)
		k.err = errors.New("the proof was used") // nothing asks for it again
		if err := g.Recheck(t.Context(), ticket, scope); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := g.Recheck(t.Context(), ticket, okta.ScopeManage); !errors.Is(err, okta.NewError(okta.CodeForbidden)) {
			t.Errorf("%s, another scope: %v", name, err)
		}
		k.revoked = true
		if err := g.Recheck(t.Context(), ticket, scope); !errors.Is(err, okta.NewError(okta.CodeInvalidToken)) {
			t.Errorf("%s, revoked: %v", name, err)
		}
	}
	g := newGate(&tokens{key: key})
	if err := g.Recheck(t.Context(), gate.TicketOf(request("DPoP bound", others)), scope); err == nil {
		t.Error("another's proof")
	}
	if ticket := gate.TicketOf(request("SSWS bound")); ticket != (gate.Ticket{}) || g.Recheck(t.Context(), ticket, scope) != nil {
		t.Error("a device has no ticket, and needs none")
	}
}

func TestTurnAway(t *testing.T) {
	g := newGate(&tokens{})
	for scheme, want := range map[string]string{
		"Bearer": `Bearer realm="okta"`, "DPoP": `DPoP algs="ES256 RS256", error="invalid_token"`,
	} {
		w := httptest.NewRecorder()
		g.TurnAway(w, request(scheme+" x"), okta.NewError(okta.CodeInvalidToken))
		if got := w.Header().Get("WWW-Authenticate"); got != want || w.Code != 401 {
			t.Errorf("%s: %d %s", scheme, w.Code, got)
		}
		w = httptest.NewRecorder()
		g.TurnAway(w, request(scheme+" x"), okta.NewError(okta.CodeEnrolmentDeleted))
		if got := w.Header().Get("WWW-Authenticate"); got != "" || w.Code != 410 {
			t.Errorf("%s, gone: %d %s", scheme, w.Code, got)
		}
	}
}
