package jose_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// prover makes proofs, honest ones and others.
type prover struct {
	t   testing.TB
	key *ecdsa.PrivateKey
	jwk map[string]any
}

func newProver(t testing.TB) prover {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jose.NewJWK("", key.Public(), "")
	if err != nil {
		t.Fatal(err)
	}
	return prover{t, key, map[string]any{"kty": "EC", "crv": "P-256", "x": jwk.X, "y": jwk.Y}}
}

func (p prover) with(changes map[string]any) map[string]any {
	header := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": p.jwk}
	for name, value := range changes {
		if value == nil {
			delete(header, name)
		} else {
			header[name] = value
		}
	}
	return header
}

// raw signs a header that is written down as it stands.
func (p prover) raw(header string) string {
	p.t.Helper()
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(`{"jti":"1"}`))
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, digest[:])
	if err != nil {
		p.t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + b64.EncodeToString(sig)
}

func (p prover) sign(header map[string]any) string {
	p.t.Helper()
	b, err := json.Marshal(header)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.raw(string(b))
}

func (p prover) keyWith(name string, value any) map[string]any {
	jwk := maps.Clone(p.jwk)
	jwk[name] = value
	return p.with(map[string]any{"jwk": jwk})
}

func TestOpenProof(t *testing.T) {
	p := newProver(t)
	want, err := jose.NewJWK("", p.key.Public(), "")
	if err != nil {
		t.Fatal(err)
	}
	thumbprint, err := want.Thumbprint()
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := jose.SignEmbedded(p.key, "dpop+jwt", map[string]string{"jti": "1"})
	if err != nil {
		t.Fatal(err)
	}
	browsers := maps.Clone(p.jwk)
	browsers["ext"], browsers["key_ops"] = true, []string{"verify"}
	for name, proof := range map[string]string{
		"ours":      embedded,
		"a minimum": p.sign(p.with(nil)),
		"of a page": p.sign(p.with(map[string]any{"jwk": browsers})),
	} {
		token, key, err := jose.OpenProof(proof)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var c struct {
			ID string `json:"jti"`
		}
		got, err := key.Thumbprint()
		if err != nil || got != thumbprint || token.Claims(&c) != nil || c.ID != "1" || !token.Verified() {
			t.Errorf("%s: %+v %+v %v", name, key, c, err)
		}
	}
}

// The header of a proof may hold a public key. It may hold nothing else that it
// could not hold elsewhere, and no other token may hold one (E1).
func TestE1ProofRefused(t *testing.T) {
	p, q := newProver(t), newProver(t)
	scalar, err := p.key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	private := b64.EncodeToString(scalar)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := p.sign(p.with(nil))
	head, rest, _ := strings.Cut(good, ".")
	for name, c := range map[string]struct {
		proof string
		want  error
	}{
		"empty":                   {"", jose.ErrMalformed},
		"huge":                    {strings.Repeat("a", 9<<10), jose.ErrTooLarge},
		"another's key":           {p.sign(p.with(map[string]any{"jwk": q.jwk})), jose.ErrSignature},
		"changed payload":         {head + "." + b64.EncodeToString([]byte(`{"jti":"2"}`)) + rest[strings.IndexByte(rest, '.'):], jose.ErrSignature},
		"no key":                  {p.sign(p.with(map[string]any{"jwk": nil})), jose.ErrKey},
		"null key":                {p.raw(`{"typ":"dpop+jwt","alg":"ES256","jwk":null}`), jose.ErrKey},
		"a key in words":          {p.sign(p.with(map[string]any{"jwk": "x"})), jose.ErrKey},
		"an empty key":            {p.sign(p.with(map[string]any{"jwk": map[string]any{}})), jose.ErrKey},
		"a private key":           {p.sign(p.keyWith("d", private)), jose.ErrKey},
		"a symmetric key":         {p.sign(p.with(map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AAAA"}})), jose.ErrKey},
		"a certificate":           {p.sign(p.keyWith("x5c", []string{"AAAA"})), jose.ErrKey},
		"an address in the key":   {p.sign(p.keyWith("x5u", "https://evil.example")), jose.ErrKey},
		"a key for encryption":    {p.sign(p.keyWith("use", "enc")), jose.ErrKey},
		"a key for another alg":   {p.sign(p.keyWith("alg", "RS256")), jose.ErrKey},
		"another curve":           {p.sign(p.keyWith("crv", "P-384")), jose.ErrKey},
		"off the curve":           {p.sign(p.keyWith("x", q.jwk["x"])), jose.ErrKey},
		"a number as coordinate":  {p.sign(p.keyWith("x", 1)), jose.ErrKey},
		"a weak key":              {p.sign(p.with(map[string]any{"alg": "RS256", "jwk": map[string]any{"kty": "RSA", "e": "AQAB", "n": b64.EncodeToString(weak.N.Bytes())}})), jose.ErrKey},
		"none":                    {p.sign(p.with(map[string]any{"alg": "none"})), jose.ErrAlgorithm},
		"HS256":                   {p.sign(p.with(map[string]any{"alg": "HS256"})), jose.ErrAlgorithm},
		"RS512":                   {p.sign(p.with(map[string]any{"alg": "RS512"})), jose.ErrAlgorithm},
		"no alg":                  {p.sign(p.with(map[string]any{"alg": nil})), jose.ErrAlgorithm},
		"alg of another key type": {p.sign(p.with(map[string]any{"alg": "RS256"})), jose.ErrAlgorithm},
		"no typ":                  {p.sign(p.with(map[string]any{"typ": nil})), jose.ErrType},
		"typ JWT":                 {p.sign(p.with(map[string]any{"typ": "JWT"})), jose.ErrType},
		"typ of an answer":        {p.sign(p.with(map[string]any{"typ": okta.TypeDeviceBind})), jose.ErrType},
		"typ in capitals":         {p.sign(p.with(map[string]any{"typ": "DPOP+JWT"})), jose.ErrType},
		"typ a number":            {p.sign(p.with(map[string]any{"typ": 1})), jose.ErrMalformed},
		"a kid":                   {p.sign(p.with(map[string]any{"kid": "k"})), jose.ErrHeader},
		"a key set":               {p.sign(p.with(map[string]any{"jku": "https://evil.example"})), jose.ErrHeader},
		"crit":                    {p.sign(p.with(map[string]any{"crit": []string{"b64"}, "b64": false})), jose.ErrHeader},
		"two keys":                {p.raw(`{"typ":"dpop+jwt","alg":"ES256","jwk":{},"jwk":{}}`), jose.ErrDuplicate},
		"two keys by case":        {p.raw(`{"typ":"dpop+jwt","alg":"ES256","jwk":{},"JWK":{}}`), jose.ErrDuplicate},
		"capitals":                {p.raw(`{"typ":"dpop+jwt","alg":"ES256","JWK":{}}`), jose.ErrHeader},
		"a list":                  {p.raw(`[]`), jose.ErrMalformed},
	} {
		token, key, err := jose.OpenProof(c.proof)
		if !errors.Is(err, c.want) || token != nil || key != (jose.JWK{}) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// What is a good proof is no token of any use that Parse knows.
	for name, use := range map[string]jose.Use{
		"device challenge": jose.DeviceChallenge, "answer": jose.Answer, "enrolment update": jose.EnrolmentUpdate,
		"client instance": jose.ClientInstance, "maintenance": jose.MaintenanceAssertion, "access token": jose.AccessToken, "ID token": jose.IDToken,
		"a use of its type": {Types: []string{"dpop+jwt"}, Algorithms: []jose.Algorithm{jose.ES256}, MaxSize: 8 << 10},
	} {
		if _, err := jose.Parse(good, use); !errors.Is(err, jose.ErrHeader) {
			t.Errorf("as %s: %v", name, err)
		}
	}
}

// Whatever OpenProof takes was signed by the very key that it returns.
func FuzzOpenProof(f *testing.F) {
	p := newProver(f)
	good := p.sign(p.with(nil))
	f.Add(good)
	f.Add(p.sign(p.keyWith("d", "AAAA")))
	f.Add(p.raw(`{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"","y":""}}`))
	f.Add(p.raw(` { "jwk" : { } , "alg" : "RS256" } `))
	f.Fuzz(func(t *testing.T, proof string) {
		token, key, err := jose.OpenProof(proof)
		if err != nil {
			if token != nil || key != (jose.JWK{}) {
				t.Fatal("a proof and an error")
			}
			return
		}
		pub, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		end := strings.LastIndexByte(proof, '.')
		digest := sha256.Sum256([]byte(proof[:end]))
		sig, err := b64.DecodeString(proof[end+1:])
		if err != nil {
			t.Fatal(err)
		}
		switch pub := pub.(type) {
		case *ecdsa.PublicKey:
			if len(sig) != 64 || !ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
				t.Fatalf("verifies with a key that did not sign: %q", proof)
			}
		case *rsa.PublicKey:
			if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig); err != nil {
				t.Fatalf("verifies with a key that did not sign: %q", proof)
			}
		default:
			t.Fatalf("a key of type %T", pub)
		}
		for part := range strings.SplitSeq(proof, ".") {
			if raw, err := base64.RawURLEncoding.DecodeString(part); err != nil || b64.EncodeToString(raw) != part {
				t.Fatalf("segment %q has another spelling", part)
			}
		}
	})
}
