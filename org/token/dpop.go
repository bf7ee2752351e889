package token

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// How old a proof of possession, and the nonce in it, may be.
const (
	proofLifetime = 5 * time.Minute
	proofLeeway   = time.Minute        // of the clock of who signed
	nonceFresh    = 24 * time.Hour     // then the next one is handed out
	nonceLifetime = 3 * 24 * time.Hour // how long one is taken
	maxProofID    = 256
)

// Possession is a request's proof that its sender holds a key (DPoP, RFC 9449).
type Possession struct {
	Proofs []string // the DPoP headers of the request
	Method string
	URL    string // of the request, as the org's clients know it
}

// Given says whether the request has a proof at all.
func (p Possession) Given() bool { return len(p.Proofs) > 0 }

// possessionClaims say which one request a proof is for.
type possessionClaims struct {
	ID       string           `json:"jti"`
	Method   string           `json:"htm"`
	URL      string           `json:"htu"`
	IssuedAt okta.NumericDate `json:"iat"`
	Nonce    string           `json:"nonce"`
	Token    string           `json:"ath"`
}

// ProveForTokens checks the proof of a request for tokens and uses it up. It
// returns the thumbprint of the key that the tokens are to be bound to, and a
// nonce for the client's next proof if it should change it. NonceNeeded comes
// with a nonce as well.
func (s *Service) ProveForTokens(ctx context.Context, p Possession) (thumbprint, nonce string, err error) {
	c, thumbprint, err := s.prove(p)
	if err != nil {
		return "", "", err
	}
	age, ok := s.nonces.age(c.Nonce, s.now())
	if !ok {
		return "", s.nonces.make(s.now()), NonceNeeded
	}
	if err := s.useProof(ctx, thumbprint, c); err != nil {
		return "", "", err
	}
	if age >= nonceFresh {
		nonce = s.nonces.make(s.now())
	}
	return thumbprint, nonce, nil
}

// ProveForToken checks the proof that goes along with an access token, and uses
// it up. Of the token it says no more than that the org gave it to the holder of
// this key, so that nobody else can have proofs noted; VerifyBoundToken says the
// rest, with the thumbprint that is returned. No nonce is asked for.
func (s *Service) ProveForToken(ctx context.Context, p Possession, token string) (thumbprint string, err error) {
	c, thumbprint, err := s.prove(p)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(token))
	want := base64.RawURLEncoding.EncodeToString(sum[:])
	if token == "" || subtle.ConstantTimeCompare([]byte(c.Token), []byte(want)) != 1 {
		return "", fmt.Errorf("%w: it is for another token", ProofInvalid)
	}
	var of accessClaims
	if err := s.signing.Verify(token, jose.AccessToken, &of); err != nil || of.key() != thumbprint || !s.now().Before(of.ExpiresAt.Time()) {
		return "", errors.Join(fmt.Errorf("%w: it is bound to no such key", TokenInvalid), err)
	}
	if err := s.useProof(ctx, thumbprint, c); err != nil {
		return "", err
	}
	return thumbprint, nil
}

// prove checks what both kinds of proof have in common.
func (s *Service) prove(p Possession) (possessionClaims, string, error) {
	var c possessionClaims
	refuse := func(why string) (possessionClaims, string, error) {
		return possessionClaims{}, "", fmt.Errorf("%w: %s", ProofInvalid, why)
	}
	switch len(p.Proofs) {
	case 0:
		return possessionClaims{}, "", ProofMissing
	case 1:
	default:
		return refuse("more than one")
	}
	t, key, err := jose.OpenProof(p.Proofs[0])
	if err == nil {
		err = t.Claims(&c)
	}
	if err != nil {
		return refuse(err.Error())
	}
	thumbprint, err := key.Thumbprint()
	if err != nil {
		return refuse(err.Error())
	}
	now, at := s.now(), c.IssuedAt.Time()
	switch {
	case c.ID == "" || len(c.ID) > maxProofID:
		return refuse("jti is missing or too long")
	case p.Method == "" || c.Method != p.Method:
		return refuse("htm is another method")
	case !sameTarget(c.URL, p.URL):
		return refuse("htu is another address")
	case c.IssuedAt == 0 || now.Sub(at) > proofLifetime:
		return refuse("it is too old")
	case at.After(now.Add(proofLeeway)):
		return refuse("it was issued in the future")
	}
	return c, thumbprint, nil
}

func (s *Service) useProof(ctx context.Context, thumbprint string, c possessionClaims) error {
	return s.useOnce(ctx, "jkt:"+thumbprint, c.ID, c.IssuedAt.Time().Add(proofLifetime+proofLeeway), ProofInvalid)
}

// useOnce notes what somebody signed until it expires. The second time it
// returns again.
func (s *Service) useOnce(ctx context.Context, signer, id string, until time.Time, again Reason) error {
	err := s.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM oauth_signed_once WHERE expires_at < ?`, s.now().UnixMilli()); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `INSERT INTO oauth_signed_once (signer, digest, expires_at) VALUES (?, ?, ?)
			ON CONFLICT (signer, digest) DO NOTHING`, signer, ids.Digest(id), until.UnixMilli())
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("%w: jti was used before", again)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("noting what was signed: %w", err)
	}
	return nil
}

// sameTarget compares addresses without query and fragment (RFC 9449, 4.3). The
// host's case and a default port do not count; a path counts as it stands.
func sameTarget(a, b string) bool {
	x, ok := target(a)
	y, okToo := target(b)
	return ok && okToo && x == y
}

func target(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" || len(raw) > maxSecret {
		return "", false
	}
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	switch {
	case port != "":
	case scheme == "https":
		port = "443"
	case scheme == "http":
		port = "80"
	default:
		return "", false
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + path, true
}

// nonces makes nonces and knows them again without keeping any: they say when
// they were made. The key is the process's own, so a restart asks every client
// for one more round.
type nonces struct{ key [sha256.Size]byte }

func newNonces() nonces {
	var n nonces
	_, _ = rand.Read(n.key[:]) // never fails
	return n
}

func (n nonces) make(now time.Time) string {
	var raw [8 + 16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.Unix()))
	copy(raw[8:], n.mac(raw[:8]))
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

func (n nonces) mac(at []byte) []byte {
	h := hmac.New(sha256.New, n.key[:])
	h.Write(at)
	return h.Sum(nil)[:16]
}

// age returns how old a nonce is, and false for one that is not taken (any more).
func (n nonces) age(nonce string, now time.Time) (time.Duration, bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(raw) != 8+16 || !hmac.Equal(raw[8:], n.mac(raw[:8])) {
		return 0, false
	}
	age := now.Sub(time.Unix(int64(binary.BigEndian.Uint64(raw[:8])), 0))
	return age, age > -proofLeeway && age < nonceLifetime
}

// VerifyBoundToken is VerifyAccessTokenOf for a token that is bound to a key,
// whose holder has proven to have it.
func (s *Service) VerifyBoundToken(ctx context.Context, server, token, thumbprint string) (AccessClaims, error) {
	if thumbprint == "" {
		return AccessClaims{}, errors.New("verifying a bound token: no key was proven")
	}
	return s.verifyAccess(ctx, server, token, thumbprint)
}

// confirmation is the claim that names the key of a bound token.
type confirmation struct {
	Thumbprint string `json:"jkt"`
}
