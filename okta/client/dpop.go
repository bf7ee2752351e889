package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"sync"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// ProofKey is the key that tokens are bound to (DPoP, RFC 9449): who finds such
// a token lying about cannot use it. It lives in memory only, as its tokens do.
// Use one per org, so that two orgs cannot tell by it that it is the same
// device. It is safe for concurrent use.
type ProofKey struct {
	key *ecdsa.PrivateKey

	mu    sync.Mutex
	nonce string // what the token endpoint last asked to have in a proof
}

// NewProofKey makes a fresh key.
func NewProofKey() (*ProofKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key to bind tokens to: %w", err)
	}
	return &ProofKey{key: key}, nil
}

// String implements fmt.Stringer without the key.
func (*ProofKey) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer without the key.
func (*ProofKey) GoString() string { return "[redacted]" }

const (
	typDPoP  = "dpop+jwt"
	maxNonce = 1024
)

// proofClaims say for which one request a proof is good.
type proofClaims struct {
	ID       string           `json:"jti"`
	Method   string           `json:"htm"`
	URL      string           `json:"htu"` // without query and fragment
	IssuedAt okta.NumericDate `json:"iat"`
	Nonce    string           `json:"nonce,omitempty"`
	Token    string           `json:"ath,omitempty"` // digest of the access token it goes with
}

// proof signs the proof for one request. A token is named where one goes along;
// the token endpoint's nonce only where none does, since it is its own.
func (k *ProofKey) proof(r *http.Request, token okta.Secret) (string, error) {
	target := *r.URL
	target.RawQuery, target.ForceQuery, target.Fragment = "", false, ""
	c := proofClaims{ID: rand.Text(), Method: r.Method, URL: target.String(), IssuedAt: okta.DateOf(time.Now())}
	if token != "" {
		digest := sha256.Sum256([]byte(token.Reveal()))
		c.Token = base64.RawURLEncoding.EncodeToString(digest[:])
	} else {
		c.Nonce = k.expected()
	}
	return jose.SignEmbedded(k.key, typDPoP, c)
}

func (k *ProofKey) expected() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nonce
}

// expects notes the nonce that the next proof for the token endpoint must have,
// and says whether it is another than before.
func (k *ProofKey) expects(nonce string) bool {
	if nonce == "" || len(nonce) > maxNonce {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	changed := nonce != k.nonce
	k.nonce = nonce
	return changed
}

// DPoP authorises by an access token that is bound to key: each request carries
// a proof of its own.
func DPoP(token okta.Secret, key *ProofKey) Authorization {
	return Authorization{scheme: "DPoP", value: token, proof: key}
}
