package jose_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	gojose "github.com/go-jose/go-jose/v4"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// forge builds a compact token out of any header and payload text.
func forge(header, payload string, sign func(signed string) []byte) string {
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	return signed + "." + b64.EncodeToString(sign(signed))
}

// signedBy signs with the key itself, so that only the form is wrong.
func signedBy(t testing.TB, s jose.Signer) func(string) []byte {
	return func(signed string) []byte {
		digest := sha256.Sum256([]byte(signed))
		sig, err := s.SignDigest(t.Context(), digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
}

func hmacBy(secret []byte) func(string) []byte {
	return func(signed string) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		return mac.Sum(nil)
	}
}

func constant(b ...byte) func(string) []byte { return func(string) []byte { return b } }

const smallPayload = `{"iss":"https://id.example.com"}`

// E1: algorithm confusion. Everything is refused before a signature is
// computed, though most of these are signed by the right key.
func TestE1ForgedHeaders(t *testing.T) {
	org := rsaKey()
	good := signedBy(t, org)
	der, err := x509.MarshalPKIXPublicKey(org.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	jwk, err := json.Marshal(jwkOf(t, org))
	if err != nil {
		t.Fatal(err)
	}
	const typ = `,"typ":"okta-devicebind+jwt"`
	for _, c := range []struct {
		name, header string
		sign         func(string) []byte
		want         error
	}{
		{"none", `{"alg":"none"` + typ + `}`, constant(0), jose.ErrAlgorithm},
		{"None", `{"alg":"None"` + typ + `}`, constant(0), jose.ErrAlgorithm},
		{"NONE", `{"alg":"NONE"` + typ + `}`, good, jose.ErrAlgorithm},
		{"no alg", `{"typ":"okta-devicebind+jwt"}`, good, jose.ErrAlgorithm},
		{"empty alg", `{"alg":""` + typ + `}`, good, jose.ErrAlgorithm},
		{"alg null", `{"alg":null` + typ + `}`, good, jose.ErrMalformed},
		{"alg list", `{"alg":["RS256"]` + typ + `}`, good, jose.ErrMalformed},
		{"alg in lower case", `{"alg":"rs256"` + typ + `}`, good, jose.ErrAlgorithm},
		{"alg with a blank", `{"alg":"RS256 "` + typ + `}`, good, jose.ErrAlgorithm},
		{"member name in capitals", `{"ALG":"RS256"` + typ + `}`, good, jose.ErrHeader},
		{"member name escaped", `{"\u0061lg":"RS256"` + typ + `}`, good, jose.ErrHeader},
		{"HS256 with the public key as DER", `{"alg":"HS256"` + typ + `}`, hmacBy(der), jose.ErrAlgorithm},
		{"HS256 with the public key as PEM", `{"alg":"HS256"` + typ + `}`, hmacBy(publicPEM), jose.ErrAlgorithm},
		{"HS256 with the JWK", `{"alg":"HS256"` + typ + `}`, hmacBy(jwk), jose.ErrAlgorithm},
		{"PS256", `{"alg":"PS256"` + typ + `}`, good, jose.ErrAlgorithm},
		{"EdDSA", `{"alg":"EdDSA"` + typ + `}`, good, jose.ErrAlgorithm},
		{"ES384", `{"alg":"ES384"` + typ + `}`, good, jose.ErrAlgorithm},
		{"jwk", `{"alg":"RS256"` + typ + `,"jwk":` + string(jwk) + `}`, good, jose.ErrHeader},
		{"jku", `{"alg":"RS256"` + typ + `,"jku":"https://evil.example/keys"}`, good, jose.ErrHeader},
		{"x5u", `{"alg":"RS256"` + typ + `,"x5u":"https://evil.example/cert"}`, good, jose.ErrHeader},
		{"x5c", `{"alg":"RS256"` + typ + `,"x5c":["MIIB"]}`, good, jose.ErrHeader},
		{"x5t", `{"alg":"RS256"` + typ + `,"x5t":"AAAA"}`, good, jose.ErrHeader},
		{"x5t#S256", `{"alg":"RS256"` + typ + `,"x5t#S256":"AAAA"}`, good, jose.ErrHeader},
		{"crit", `{"alg":"RS256"` + typ + `,"crit":["exp"],"exp":1}`, good, jose.ErrHeader},
		{"b64 false", `{"alg":"RS256"` + typ + `,"b64":false,"crit":["b64"]}`, good, jose.ErrHeader},
		{"zip", `{"alg":"RS256"` + typ + `,"zip":"DEF"}`, good, jose.ErrHeader},
		{"cty", `{"alg":"RS256"` + typ + `,"cty":"JWT"}`, good, jose.ErrHeader},
		{"nonce", `{"alg":"RS256"` + typ + `,"nonce":"x"}`, good, jose.ErrHeader},
		{"alg twice", `{"alg":"none","alg":"RS256"` + typ + `}`, good, jose.ErrDuplicate},
		{"alg twice, in capitals", `{"alg":"RS256","ALG":"none"` + typ + `}`, good, jose.ErrDuplicate},
		{"alg twice, escaped", `{"alg":"RS256","\u0061lg":"none"` + typ + `}`, good, jose.ErrDuplicate},
		{"kid twice", `{"alg":"RS256","kid":"a","kid":"b"` + typ + `}`, good, jose.ErrDuplicate},
		{"kid number", `{"alg":"RS256","kid":1` + typ + `}`, good, jose.ErrMalformed},
		{"kid of 300 bytes", `{"alg":"RS256","kid":"` + strings.Repeat("k", 300) + `"` + typ + `}`, good, jose.ErrMalformed},
		{"no typ", `{"alg":"RS256"}`, good, jose.ErrType},
		{"empty typ", `{"alg":"RS256","typ":""}`, good, jose.ErrType},
		{"typ of a push", `{"alg":"RS256","typ":"okta-pushbind+jwt"}`, good, jose.ErrType},
		{"typ JWT", `{"alg":"RS256","typ":"JWT"}`, good, jose.ErrType},
		{"typ in capitals", `{"alg":"RS256","typ":"OKTA-DEVICEBIND+JWT"}`, good, jose.ErrType},
		{"typ as media type", `{"alg":"RS256","typ":"application/okta-devicebind+jwt"}`, good, jose.ErrType},
		{"header is a list", `["alg","RS256"]`, good, jose.ErrMalformed},
		{"header is null", `null`, good, jose.ErrMalformed},
		{"header with a tail", `{"alg":"RS256"` + typ + `}{}`, good, jose.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := jose.Parse(forge(c.header, smallPayload, c.sign), jose.DeviceChallenge); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// E1: even a use that lists HS256 or none does not make them verify.
func TestE1OnlyPublicKeysVerify(t *testing.T) {
	org := rsaKey()
	key := jwkOf(t, org)
	careless := jose.Use{Types: []string{""}, Algorithms: []jose.Algorithm{"HS256", "none", "", "RS256"}, MaxSize: 4096}
	token, err := jose.Parse(forge(`{"alg":"HS256"}`, smallPayload, hmacBy([]byte(key.N))), careless)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Verify(key); !errors.Is(err, jose.ErrAlgorithm) || token.Verified() {
		t.Errorf("HS256: %v", err)
	}
	if _, err := jose.Parse(forge(`{"alg":"none"}`, smallPayload, constant(0)), careless); !errors.Is(err, jose.ErrAlgorithm) {
		t.Errorf("none: %v", err)
	}
	if err := token.Verify(jose.JWK{KeyType: "oct", KeyID: "a"}); !errors.Is(err, jose.ErrKey) {
		t.Errorf("symmetric key: %v", err)
	}
	if _, err := jose.Parse(forge(`{"alg":"RS256"}`, smallPayload, constant(0)), jose.Use{}); err == nil {
		t.Error("the zero Use admits a token")
	}
}

// E1: the key, not the header, decides which algorithm may have been used.
func TestE1KeyDecidesAlgorithm(t *testing.T) {
	ec, org := ecKey(), rsaKey()
	ecToken := sign(t, ec, okta.TypeDeviceBind, exampleChallenge())
	rsaToken := sign(t, org, okta.TypeDeviceBind, exampleChallenge())
	only384 := jwkOf(t, org)
	only384.Algorithm = "RS384"
	wrongAlg := jwkOf(t, org)
	wrongAlg.Algorithm = "ES256"
	encryption := jwkOf(t, org)
	encryption.Use = "enc"
	for _, c := range []struct {
		name, token string
		key         jose.JWK
		want        error
	}{
		{"right RSA", rsaToken, jwkOf(t, org), nil},
		{"right EC", ecToken, jwkOf(t, ec), nil},
		{"EC token, RSA key", ecToken, jwkOf(t, org), jose.ErrAlgorithm},
		{"RSA token, EC key", rsaToken, jwkOf(t, ec), jose.ErrAlgorithm},
		{"key for RS384 only", rsaToken, only384, jose.ErrAlgorithm},
		{"key of another alg", rsaToken, wrongAlg, jose.ErrKey},
		{"key for encryption", rsaToken, encryption, jose.ErrKey},
		{"no key", rsaToken, jose.JWK{}, jose.ErrKey},
	} {
		token, err := jose.Parse(c.token, jose.DeviceChallenge)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.Verify(c.key); !errors.Is(err, c.want) || token.Verified() != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

// E1: no other spelling of a token is the token.
func TestE1Encoding(t *testing.T) {
	good := sign(t, ecKey(), okta.TypeDeviceBind, exampleChallenge())
	parts := strings.Split(good, ".")
	payload := func(s string) string { return parts[0] + "." + b64.EncodeToString([]byte(s)) + "." + parts[2] }
	// A 64-byte signature ends in a character of which four bits are unused.
	stray := good[:len(good)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", good[len(good)-1])|1])
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"empty":                     {"", jose.ErrMalformed},
		"one segment":               {parts[0], jose.ErrMalformed},
		"two segments":              {parts[0] + "." + parts[1], jose.ErrMalformed},
		"empty signature":           {parts[0] + "." + parts[1] + ".", jose.ErrMalformed},
		"empty payload":             {parts[0] + ".." + parts[2], jose.ErrMalformed},
		"empty header":              {"." + parts[1] + "." + parts[2], jose.ErrMalformed},
		"four segments":             {good + ".AA", jose.ErrMalformed},
		"trailing dot":              {good + ".", jose.ErrMalformed},
		"JSON serialisation":        {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, jose.ErrMalformed},
		"padding":                   {good + "==", jose.ErrMalformed},
		"padded payload":            {parts[0] + "." + parts[1] + "=." + parts[2], jose.ErrMalformed},
		"stray bits":                {stray, jose.ErrMalformed},
		"leading blank":             {" " + good, jose.ErrMalformed},
		"trailing newline":          {good + "\n", jose.ErrMalformed},
		"newline inside":            {good[:40] + "\r\n" + good[40:], jose.ErrMalformed},
		"standard alphabet":         {parts[0] + "." + parts[1] + "." + "+/" + parts[2][2:], jose.ErrMalformed},
		"NUL":                       {good[:len(good)-1] + "\x00", jose.ErrMalformed},
		"payload is a list":         {payload(`[1]`), jose.ErrMalformed},
		"payload is a string":       {payload(`"x"`), jose.ErrMalformed},
		"payload with a tail":       {payload(`{} {}`), jose.ErrMalformed},
		"payload with a BOM":        {payload("\ufeff{}"), jose.ErrMalformed},
		"payload not UTF-8":         {payload("{\"a\":\"\xff\"}"), jose.ErrMalformed},
		"member twice":              {payload(`{"iss":"a","iss":"b"}`), jose.ErrDuplicate},
		"member twice, case":        {payload(`{"iss":"a","ISS":"b"}`), jose.ErrDuplicate},
		"member twice, long s":      {payload(`{"iss":"a","iſs":"b"}`), jose.ErrDuplicate},
		"member twice, escaped":     {payload(`{"iss":"a","\u0069ss":"b"}`), jose.ErrDuplicate},
		"member twice, nested":      {payload(`{"x":[{"y":{"a":1,"b":2,"a":3}}]}`), jose.ErrDuplicate},
		"member twice, after child": {payload(`{"a":{"b":1},"c":{"b":1},"a":1}`), jose.ErrDuplicate},
	} {
		if _, err := jose.Parse(c.token, jose.DeviceChallenge); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// E3: what is huge or deep is refused, and soon.
func TestE3HugeAndDeep(t *testing.T) {
	org := rsaKey()
	header := `{"alg":"RS256","typ":"okta-devicebind+jwt"}`
	nested := func(n int, open, shut string) string {
		return `{"a":` + strings.Repeat(open, n) + "1" + strings.Repeat(shut, n) + `}`
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%d":0`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	for _, c := range []struct {
		name, payload string
		want          error
	}{
		{"15 lists in an object", nested(15, "[", "]"), nil},
		{"16 lists in an object", nested(16, "[", "]"), jose.ErrMalformed},
		{"15 objects in an object", nested(15, `{"a":`, "}"), nil},
		{"16 objects in an object", nested(16, `{"a":`, "}"), jose.ErrMalformed},
		{"thousands of lists", nested(5000, "[", "]"), jose.ErrMalformed},
		{"512 members", many(512), nil},
		{"513 members", many(513), jose.ErrMalformed},
		{"17 KiB", `{"a":"` + strings.Repeat("x", 17<<10) + `"}`, jose.ErrTooLarge},
		{"unclosed lists", `{"a":` + strings.Repeat("[", 10000), jose.ErrMalformed},
	} {
		if _, err := jose.Parse(forge(header, c.payload, signedBy(t, org)), jose.DeviceChallenge); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	huge, deep := strings.Repeat("A", 64<<20), []byte(strings.Repeat("[", 1<<20))
	start := time.Now()
	if _, err := jose.Parse(huge, jose.DeviceChallenge); !errors.Is(err, jose.ErrTooLarge) {
		t.Error(err)
	}
	var any map[string]any
	if err := jose.DecodeStrict(deep, &any, 1<<20); !errors.Is(err, jose.ErrMalformed) {
		t.Error(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("refusing took %s", took)
	}
}

// E4: an ES256 signature is exactly r and s of 32 bytes, each inside the
// group; no other spelling of the same signature verifies.
func TestE4SignatureEncoding(t *testing.T) {
	signer := ecKey()
	key := jwkOf(t, signer)
	good := sign(t, signer, okta.TypeDeviceBind, exampleChallenge())
	cut := strings.LastIndexByte(good, '.')
	raw, err := b64.DecodeString(good[cut+1:])
	if err != nil || len(raw) != 64 {
		t.Fatalf("signature of %d bytes, %v", len(raw), err)
	}
	der := signedBy(t, signer)(good[:cut])
	order := elliptic.P256().Params().N
	plusOrder := new(big.Int).Add(new(big.Int).SetBytes(raw[32:]), order).Bytes()
	zero := make([]byte, 32)
	for _, c := range []struct {
		name string
		sig  []byte
		want error
	}{
		{"raw", raw, nil},
		{"DER", der, jose.ErrSignature},
		{"63 bytes", raw[:63], jose.ErrSignature},
		{"65 bytes", append(raw[:64:64], 0), jose.ErrSignature},
		{"66 bytes with leading zeros", append(append([]byte{0}, raw[:32]...), append([]byte{0}, raw[32:]...)...), jose.ErrSignature},
		{"r only", raw[:32], jose.ErrSignature},
		{"twice", append(raw[:64:64], raw...), jose.ErrSignature},
		{"r = 0", append(zero[:32:32], raw[32:]...), jose.ErrSignature},
		{"s = 0", append(raw[:32:32], zero...), jose.ErrSignature},
		{"all zero", make([]byte, 64), jose.ErrSignature},
		{"r = s = order", append(order.Bytes(), order.Bytes()...), jose.ErrSignature},
		{"s + order", append(raw[:32:32], plusOrder...), jose.ErrSignature},
		{"r and s exchanged", append(raw[32:64:64], raw[:32]...), jose.ErrSignature},
		{"one bit", append([]byte{raw[0] ^ 1}, raw[1:]...), jose.ErrSignature},
	} {
		token, err := jose.Parse(good[:cut+1]+b64.EncodeToString(c.sig), jose.DeviceChallenge)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.Verify(key); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

// E4: a key off the curve, at infinity, of another length or size is no key.
func TestE4Keys(t *testing.T) {
	ec, org := jwkOf(t, ecKey()), jwkOf(t, rsaKey())
	zero := b64.EncodeToString(make([]byte, 32))
	ff := b64.EncodeToString([]byte(strings.Repeat("\xff", 32)))
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	large := b64.EncodeToString(append([]byte{0x80}, make([]byte, 512)...))
	even := b64.EncodeToString(append([]byte{0x80}, make([]byte, 255)...))
	n, _ := b64.DecodeString(org.N)
	with := func(k jose.JWK, change func(*jose.JWK)) jose.JWK { change(&k); return k }
	for name, k := range map[string]jose.JWK{
		"off the curve":    with(ec, func(k *jose.JWK) { k.X, k.Y = k.Y, k.X }),
		"infinity":         with(ec, func(k *jose.JWK) { k.X, k.Y = zero, zero }),
		"beyond the field": with(ec, func(k *jose.JWK) { k.X = ff }),
		"short x":          with(ec, func(k *jose.JWK) { k.X = k.X[:42] }),
		"long x":           with(ec, func(k *jose.JWK) { k.X = "AA" + k.X }),
		"padded x":         with(ec, func(k *jose.JWK) { k.X += "=" }),
		"x with a newline": with(ec, func(k *jose.JWK) { k.X = k.X[:42] + "\n" }),
		"no y":             with(ec, func(k *jose.JWK) { k.Y = "" }),
		"no curve":         with(ec, func(k *jose.JWK) { k.Curve = "" }),
		"P-384":            with(ec, func(k *jose.JWK) { k.Curve = "P-384" }),
		"OKP":              with(ec, func(k *jose.JWK) { k.KeyType, k.Curve = "OKP", "Ed25519" }),
		"oct":              {KeyType: "oct"},
		"RSA 1024":         with(org, func(k *jose.JWK) { k.N = b64.EncodeToString(small.N.Bytes()) }),
		"RSA 4104":         with(org, func(k *jose.JWK) { k.N = large }),
		"even modulus":     with(org, func(k *jose.JWK) { k.N = even }),
		"leading zero":     with(org, func(k *jose.JWK) { k.N = b64.EncodeToString(append([]byte{0}, n...)) }),
		"no modulus":       with(org, func(k *jose.JWK) { k.N = "" }),
		"e = 1":            with(org, func(k *jose.JWK) { k.E = "AQ" }),
		"e even":           with(org, func(k *jose.JWK) { k.E = "AQAA" }),
		"e = 2^32 - 1":     with(org, func(k *jose.JWK) { k.E = "_____w" }),
		"e of five bytes":  with(org, func(k *jose.JWK) { k.E = "AQAAAAE" }),
		"no e":             with(org, func(k *jose.JWK) { k.E = "" }),
		"kty in lower":     with(org, func(k *jose.JWK) { k.KeyType = "rsa" }),
	} {
		if _, err := k.PublicKey(); !errors.Is(err, jose.ErrKey) {
			t.Errorf("%s: PublicKey: %v", name, err)
		}
		if _, err := k.Thumbprint(); !errors.Is(err, jose.ErrKey) {
			t.Errorf("%s: Thumbprint: %v", name, err)
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, pub := range map[string]any{"P-384": p384.Public(), "RSA 1024": small.Public(), "nil": nil, "a private key": p384} {
		if _, err := jose.NewJWK("k", pub, jose.ProtectionSoftware); !errors.Is(err, jose.ErrKey) {
			t.Errorf("NewJWK of %s: %v", name, err)
		}
	}
}

// What we sign, go-jose verifies; what go-jose signs, we verify.
func TestAgreesWithGoJose(t *testing.T) {
	for _, signer := range []jose.Signer{rsaKey(), ecKey()} {
		key := jwkOf(t, signer)
		token := sign(t, signer, okta.TypeDeviceBind, exampleChallenge())
		theirs, err := gojose.ParseSignedCompact(token, []gojose.SignatureAlgorithm{gojose.RS256, gojose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := theirs.Verify(signer.Public()); err != nil {
			t.Error(err)
		}
		var want gojose.JSONWebKey
		encoded, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := want.UnmarshalJSON(encoded); err != nil {
			t.Fatal(err)
		}
		sum, err := want.Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := key.Thumbprint(); err != nil || got != b64.EncodeToString(sum) {
			t.Errorf("thumbprint %s, %v; want %s", got, err, b64.EncodeToString(sum))
		}
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := jwkOf(t, jose.SoftwareSigner("k", private))
	for _, alg := range []gojose.SignatureAlgorithm{gojose.RS256, gojose.RS384, gojose.RS512} {
		signer, err := gojose.NewSigner(gojose.SigningKey{Algorithm: alg, Key: private}, (&gojose.SignerOptions{}).WithType(okta.TypeDeviceBind))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign([]byte(smallPayload))
		if err != nil {
			t.Fatal(err)
		}
		compact, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		token, err := jose.Parse(compact, jose.DeviceChallenge)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.Verify(key); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
}
