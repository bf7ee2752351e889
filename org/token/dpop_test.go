package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/okta/jose"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

const tokenURL = base + "/oauth2/v1/token"

// holder holds a key and makes proofs with it, honest unless told otherwise.
type holder struct {
	f   *fixture
	key *ecdsa.PrivateKey
}

func (f *fixture) holder() holder {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	return holder{f, key}
}

func (h holder) thumbprint() string {
	h.f.t.Helper()
	jwk, err := jose.NewJWK("", h.key.Public(), "")
	if err != nil {
		h.f.t.Fatal(err)
	}
	thumbprint, err := jwk.Thumbprint()
	if err != nil {
		h.f.t.Fatal(err)
	}
	return thumbprint
}

// proof is for the token endpoint; changes replace claims, nil removes one.
func (h holder) proof(changes map[string]any) string {
	h.f.t.Helper()
	claims := map[string]any{"jti": ids.Secret(), "htm": "POST", "htu": tokenURL, "iat": h.f.now.Unix(), "nonce": h.f.nonces.make(h.f.now)}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	proof, err := jose.SignEmbedded(h.key, "dpop+jwt", claims)
	if err != nil {
		h.f.t.Fatal(err)
	}
	return proof
}

func request(proofs ...string) Possession {
	return Possession{Proofs: proofs, Method: "POST", URL: tokenURL}
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestProofs(t *testing.T) {
	f := setUp(t)
	h := f.holder()
	for name, changes := range map[string]map[string]any{
		"plain":                 nil,
		"query and fragment":    {"htu": tokenURL + "?a=b#c"},
		"host in capitals":      {"htu": "HTTPS://ID.example.COM/oauth2/v1/token"},
		"the default port":      {"htu": "https://id.example.com:443/oauth2/v1/token"},
		"almost too old":        {"iat": f.now.Add(-5 * time.Minute).Unix()},
		"of a clock before us":  {"iat": f.now.Add(time.Minute).Unix()},
		"a part of a second":    {"iat": float64(f.now.Unix()) + 0.5},
		"with a digest as well": {"ath": digest("x")},
	} {
		key, nonce, err := f.ProveForTokens(t.Context(), request(h.proof(changes)))
		if err != nil || key != h.thumbprint() || nonce != "" {
			t.Errorf("%s: %q %q %v", name, key, nonce, err)
		}
	}
}

func TestProofRefused(t *testing.T) {
	f := setUp(t)
	h := f.holder()
	good := h.proof(nil)
	used := h.proof(nil)
	if _, _, err := f.ProveForTokens(t.Context(), request(used)); err != nil {
		t.Fatal(err)
	}
	usedID := h.proof(map[string]any{"jti": "same"})
	if _, _, err := f.ProveForTokens(t.Context(), request(usedID)); err != nil {
		t.Fatal(err)
	}
	private, err := jose.Sign(t.Context(), jose.SoftwareSigner("k", h.key), "dpop+jwt", map[string]any{"jti": "1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		p    Possession
		want Reason
	}{
		"none":                  {request(), ProofMissing},
		"two":                   {request(good, h.proof(nil)), ProofInvalid},
		"empty":                 {request(""), ProofInvalid},
		"rubbish":               {request("a.b.c"), ProofInvalid},
		"without its key":       {request(private), ProofInvalid},
		"cut":                   {request(good[:len(good)-2]), ProofInvalid},
		"no jti":                {request(h.proof(map[string]any{"jti": nil})), ProofInvalid},
		"long jti":              {request(h.proof(map[string]any{"jti": strings.Repeat("j", 257)})), ProofInvalid},
		"no htm":                {request(h.proof(map[string]any{"htm": nil})), ProofInvalid},
		"another method":        {request(h.proof(map[string]any{"htm": "GET"})), ProofInvalid},
		"method in small":       {request(h.proof(map[string]any{"htm": "post"})), ProofInvalid},
		"no htu":                {request(h.proof(map[string]any{"htu": nil})), ProofInvalid},
		"another host":          {request(h.proof(map[string]any{"htu": "https://other.example.com/oauth2/v1/token"})), ProofInvalid},
		"another port":          {request(h.proof(map[string]any{"htu": "https://id.example.com:8443/oauth2/v1/token"})), ProofInvalid},
		"another scheme":        {request(h.proof(map[string]any{"htu": "http://id.example.com/oauth2/v1/token"})), ProofInvalid},
		"the other server":      {request(h.proof(map[string]any{"htu": base + "/oauth2/default/v1/token"})), ProofInvalid},
		"a path alone":          {request(h.proof(map[string]any{"htu": "/oauth2/v1/token"})), ProofInvalid},
		"path in capitals":      {request(h.proof(map[string]any{"htu": base + "/oauth2/v1/TOKEN"})), ProofInvalid},
		"slash at the end":      {request(h.proof(map[string]any{"htu": tokenURL + "/"})), ProofInvalid},
		"user in the address":   {request(h.proof(map[string]any{"htu": "https://id.example.com@id.example.com/oauth2/v1/token"})), ProofInvalid},
		"no iat":                {request(h.proof(map[string]any{"iat": nil})), ProofInvalid},
		"too old":               {request(h.proof(map[string]any{"iat": f.now.Add(-5*time.Minute - time.Second).Unix()})), ProofInvalid},
		"of the future":         {request(h.proof(map[string]any{"iat": f.now.Add(time.Minute + time.Second).Unix()})), ProofInvalid},
		"iat in words":          {request(h.proof(map[string]any{"iat": "now"})), ProofInvalid},
		"used":                  {request(used), ProofInvalid},
		"used, signed anew":     {request(h.proof(map[string]any{"jti": "same", "ath": "x"})), ProofInvalid},
		"no nonce":              {request(h.proof(map[string]any{"nonce": nil})), NonceNeeded},
		"an empty nonce":        {request(h.proof(map[string]any{"nonce": ""})), NonceNeeded},
		"a nonce of another":    {request(h.proof(map[string]any{"nonce": newNonces().make(f.now)})), NonceNeeded},
		"an old nonce":          {request(h.proof(map[string]any{"nonce": f.nonces.make(f.now.Add(-72 * time.Hour))})), NonceNeeded},
		"a nonce of the future": {request(h.proof(map[string]any{"nonce": f.nonces.make(f.now.Add(time.Hour))})), NonceNeeded},
	} {
		key, nonce, err := f.ProveForTokens(t.Context(), c.p)
		if !errors.Is(err, c.want) || key != "" || (nonce != "") != (c.want == NonceNeeded) {
			t.Errorf("%s: %q %q %v, want %v", name, key, nonce, err, c.want)
		}
	}
	// A proof that was refused for its nonce, or not looked at, is not used up.
	if _, _, err := f.ProveForTokens(t.Context(), request(good)); err != nil {
		t.Error(err)
	}
	// Another key may well choose the same jti.
	if _, _, err := f.ProveForTokens(t.Context(), request(f.holder().proof(map[string]any{"jti": "same"}))); err != nil {
		t.Error(err)
	}
}

func TestNonceAges(t *testing.T) {
	f := setUp(t)
	h := f.holder()
	_, nonce, err := f.ProveForTokens(t.Context(), request(h.proof(map[string]any{"nonce": nil})))
	if !errors.Is(err, NonceNeeded) {
		t.Fatal(err)
	}
	for _, c := range []struct {
		age  time.Duration
		next bool // a fresh one is handed out
		ok   bool
	}{{0, false, true}, {24*time.Hour - time.Second, false, true}, {24 * time.Hour, true, true}, {72*time.Hour - time.Second, true, true}, {72 * time.Hour, true, false}} {
		f.now = f.now.Add(c.age)
		_, next, err := f.ProveForTokens(t.Context(), request(h.proof(map[string]any{"nonce": nonce})))
		if (err == nil) != c.ok || (next != "") != c.next || next == nonce {
			t.Errorf("after %v: %q %v", c.age, next, err)
		}
		f.now = f.now.Add(-c.age)
	}
}

// A proof is remembered for as long as it would be taken.
func TestProofIsRememberedLongEnough(t *testing.T) {
	f := setUp(t)
	h := f.holder()
	proof := h.proof(map[string]any{"iat": f.now.Add(time.Minute).Unix()})
	if _, _, err := f.ProveForTokens(t.Context(), request(proof)); err != nil {
		t.Fatal(err)
	}
	start := f.now
	for _, age := range []time.Duration{time.Minute, 5 * time.Minute, 6 * time.Minute, 7 * time.Minute} {
		f.now = start.Add(age)
		if _, _, err := f.ProveForTokens(t.Context(), request(proof)); !errors.Is(err, ProofInvalid) {
			t.Errorf("after %v: %v", age, err)
		}
		if _, _, err := f.ProveForTokens(t.Context(), request(h.proof(nil))); err != nil { // which tidies
			t.Error(err)
		}
	}
	f.now = start.Add(time.Hour)
	if _, _, err := f.ProveForTokens(t.Context(), request(h.proof(nil))); err != nil {
		t.Fatal(err)
	}
	var rows int
	f.write(func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM oauth_signed_once`).Scan(&rows)
	})
	if rows != 1 {
		t.Errorf("%d rows, want those of the last minutes alone", rows)
	}
}

// E7: of any number of requests with one proof, one is let in.
func TestParallelProofs(t *testing.T) {
	f := setUp(t)
	proof := f.holder().proof(nil)
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, _, err := f.ProveForTokens(t.Context(), request(proof)); err == nil {
				won.Add(1)
			} else if !errors.Is(err, ProofInvalid) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d were let in", won.Load())
	}
}

func (f *fixture) boundSignIn(key string) Tokens {
	f.t.Helper()
	r := f.redemption(f.code(f.grant()))
	r.Key = key
	tokens, err := f.RedeemCode(f.t.Context(), r)
	if err != nil {
		f.t.Fatal(err)
	}
	return tokens
}

// A bound token is worth nothing without a proof of its key, and a bearer's is
// no bound one.
func TestBoundTokens(t *testing.T) {
	f := setUp(t)
	mine, other := f.holder(), f.holder()
	bound, plain := f.boundSignIn(mine.thumbprint()), f.signIn()
	if bound.TokenType != "DPoP" || plain.TokenType != "Bearer" {
		t.Errorf("%s, %s", bound.TokenType, plain.TokenType)
	}
	if cnf, _ := claims(t, bound.AccessToken)["cnf"].(map[string]any); len(cnf) != 1 || cnf["jkt"] != mine.thumbprint() {
		t.Errorf("cnf: %v", cnf)
	}
	if claims(t, plain.AccessToken)["cnf"] != nil {
		t.Error("a bearer's token names a key")
	}
	c, err := f.VerifyBoundToken(t.Context(), ServerOrg, bound.AccessToken, mine.thumbprint())
	if err != nil || c.Key != mine.thumbprint() {
		t.Errorf("%+v %v", c, err)
	}
	for name, got := range map[string]func() error{
		"bound, as bearer": func() error { _, err := f.VerifyAccessToken(t.Context(), bound.AccessToken); return err },
		"bound, another key": func() error {
			_, err := f.VerifyBoundToken(t.Context(), ServerOrg, bound.AccessToken, other.thumbprint())
			return err
		},
		"bound, the other server": func() error {
			_, err := f.VerifyBoundToken(t.Context(), ServerDefault, bound.AccessToken, mine.thumbprint())
			return err
		},
		"bearer's, with a key": func() error {
			_, err := f.VerifyBoundToken(t.Context(), ServerOrg, plain.AccessToken, mine.thumbprint())
			return err
		},
	} {
		if err := got(); !errors.Is(err, TokenInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.VerifyBoundToken(t.Context(), ServerOrg, plain.AccessToken, ""); err == nil {
		t.Error("no key at all will do")
	}
	f.write(func(ctx context.Context, tx store.Tx) error { // the row decides
		_, err := tx.ExecContext(ctx, `UPDATE oauth_access_tokens SET key_thumbprint = ''`)
		return err
	})
	if _, err := f.VerifyAccessToken(t.Context(), bound.AccessToken); !errors.Is(err, TokenInvalid) {
		t.Errorf("row and claim disagree: %v", err)
	}
}

func TestBoundRefresh(t *testing.T) {
	f := setUp(t)
	mine, other := f.holder().thumbprint(), f.holder().thumbprint()
	tokens := f.boundSignIn(mine)
	refresh := func(token, key string) (Tokens, error) {
		return f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: token, Key: key})
	}
	first := tokens.RefreshToken
	for key, want := range map[string]Reason{"": ProofMissing, other: ProofInvalid} {
		if _, err := refresh(first, key); !errors.Is(err, want) {
			t.Errorf("%q: %v", key, err)
		}
	}
	next, err := refresh(first, mine)
	if err != nil || next.TokenType != "DPoP" {
		t.Fatalf("%s %v", next.TokenType, err)
	}
	if _, err := f.VerifyBoundToken(t.Context(), ServerOrg, next.AccessToken, mine); err != nil {
		t.Error(err)
	}
	// Without the key, a token that was used long ago does not even revoke.
	f.now = f.now.Add(time.Hour / 2)
	if _, err := refresh(first, other); !errors.Is(err, ProofInvalid) {
		t.Error(err)
	}
	if _, err := f.VerifyBoundToken(t.Context(), ServerOrg, next.AccessToken, mine); err != nil {
		t.Errorf("a thief ended the sign-in: %v", err)
	}
	if _, err := refresh(first, mine); !errors.Is(err, RefreshReused) {
		t.Error(err)
	}
	// A sign-in that began without a key is bound from when one is brought.
	plain := f.signIn()
	bound, err := refresh(plain.RefreshToken, mine)
	if err != nil || bound.TokenType != "DPoP" {
		t.Fatalf("%s %v", bound.TokenType, err)
	}
	if _, err := refresh(bound.RefreshToken, ""); !errors.Is(err, ProofMissing) {
		t.Error(err)
	}
}

func TestProofForAToken(t *testing.T) {
	f := setUp(t)
	h, other := f.holder(), f.holder()
	token, others, plain := f.boundSignIn(h.thumbprint()).AccessToken, f.boundSignIn(other.thumbprint()).AccessToken, f.signIn().AccessToken
	const where = base + "/idp/myaccount/app-authenticators"
	p := func(changes map[string]any) Possession {
		all := map[string]any{"htm": "GET", "htu": where, "nonce": nil, "ath": digest(token)}
		for name, value := range changes {
			all[name] = value
		}
		return Possession{Proofs: []string{h.proof(all)}, Method: "GET", URL: where}
	}
	good := p(nil)
	if key, err := f.ProveForToken(t.Context(), good, token); err != nil || key != h.thumbprint() {
		t.Errorf("%q %v", key, err)
	}
	for name, c := range map[string]struct {
		p     Possession
		token string
		want  Reason
	}{
		"used":           {good, token, ProofInvalid},
		"another token":  {p(nil), others, ProofInvalid},
		"no ath":         {p(map[string]any{"ath": nil}), token, ProofInvalid},
		"the token":      {p(map[string]any{"ath": "token"}), token, ProofInvalid},
		"no token":       {p(map[string]any{"ath": digest("")}), "", ProofInvalid},
		"none":           {Possession{Method: "GET", URL: where}, token, ProofMissing},
		"another method": {p(map[string]any{"htm": "DELETE"}), token, ProofInvalid},
		"another key's":  {p(map[string]any{"ath": digest(others)}), others, TokenInvalid},
		"a bearer's":     {p(map[string]any{"ath": digest(plain)}), plain, TokenInvalid},
		"nobody's":       {p(map[string]any{"ath": digest("token")}), "token", TokenInvalid},
		"another place":  {p(map[string]any{"htu": where + "/x"}), token, ProofInvalid},
	} {
		if key, err := f.ProveForToken(t.Context(), c.p, c.token); !errors.Is(err, c.want) || key != "" {
			t.Errorf("%s: %q %v", name, key, err)
		}
	}
	// Strangers fill no tables: what is refused is not noted.
	var rows int
	f.write(func(ctx context.Context, tx store.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM oauth_signed_once`).Scan(&rows)
	})
	if rows != 1 {
		t.Errorf("%d proofs noted, want that of the holder", rows)
	}
	f.now = f.now.Add(2 * time.Hour)
	if _, err := f.ProveForToken(t.Context(), p(nil), token); !errors.Is(err, TokenInvalid) {
		t.Errorf("expired: %v", err)
	}
}
