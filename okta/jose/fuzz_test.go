package jose_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"

	"countersign.dev/okta"
	"countersign.dev/okta/internal/vectors"
	"countersign.dev/okta/jose"
)

// What Parse accepts has one spelling and an algorithm of its use, and go-jose
// reads the same payload from it.
func FuzzParse(f *testing.F) {
	for _, token := range vectors.Load(f).Tokens {
		f.Add(token.JWT)
	}
	f.Add(sign(f, ecKey(), okta.TypeDeviceBind, exampleChallenge()))
	for _, header := range []string{
		`{"alg":"none","typ":"okta-devicebind+jwt"}`, `{"alg":"RS256","typ":"okta-devicebind+jwt","jku":"https://evil.example"}`,
		`{"alg":"RS256","typ":"okta-devicebind+jwt","kid":"../../etc/passwd"}`, `{"alg":"RS256","alg":"none"}`,
		` { "typ" : "okta-devicebind+jwt" , "alg" : "ES256" } `, `{"alg":"ES256","typ":"okta-devicebind\u002bjwt"}`,
	} {
		f.Add(forge(header, smallPayload, constant(1, 2, 3)))
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := jose.Parse(text, jose.AnyChallenge)
		if err != nil {
			if token != nil {
				t.Fatal("a token and an error")
			}
			return
		}
		if !slices.Contains(jose.AnyChallenge.Algorithms, token.Header.Algorithm) || !slices.Contains(jose.AnyChallenge.Types, token.Header.Type) {
			t.Fatalf("header %+v", token.Header)
		}
		parts := strings.Split(text, ".")
		for _, part := range parts {
			raw, err := b64.DecodeString(part)
			if err != nil || len(parts) != 3 || b64.EncodeToString(raw) != part {
				t.Fatalf("segment %q has another spelling", part)
			}
		}
		theirs, err := gojose.ParseSignedCompact(text, []gojose.SignatureAlgorithm{gojose.RS256, gojose.RS384, gojose.RS512, gojose.ES256})
		if err != nil {
			t.Fatalf("go-jose refuses: %v", err)
		}
		var payload json.RawMessage
		if err := token.Claims(&payload); err != nil || !bytes.Equal(payload, bytes.TrimSpace(theirs.UnsafePayloadWithoutVerification())) {
			t.Fatalf("payload %s, %v", payload, err)
		}
		if token.Verify(jwkOf(t, rsaKey())) == nil || token.Verified() {
			t.Fatal("verifies with a key that signed nothing here")
		}
	})
}

// What DecodeStrict accepts, encoding/json accepts too, and no object in it
// has a member twice.
func FuzzDecodeStrict(f *testing.F) {
	for _, s := range []string{
		`{"a":1,"b":[true,false,null,-0.5e+10,"\u00e9\n"],"c":{"a":{}}}`, `{"a":1,"a":2}`, `{"a":{"b":1,"B":2}}`, `[[[[]]]]`,
		`{"\ud800":1,"\ud801":2}`, `01`, `1.`, `-`, `"\x"`, "\"\x00\"", "\xff", `{"a":1}x`, `nul`, ` 1 `, `{"K":1,"k":2}`, `{"":0}`,
	} {
		f.Add([]byte(s))
	}
	for _, token := range vectors.Load(f).Tokens {
		if payload, err := b64.DecodeString(strings.Split(token.JWT, ".")[1]); err == nil {
			f.Add(payload)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got any
		err := jose.DecodeStrict(data, &got, 1<<16)
		var want any
		plain := json.Unmarshal(data, &want)
		switch {
		case err == nil && plain != nil:
			t.Fatalf("encoding/json refuses: %v", plain)
		case err == nil && hasTwice(t, json.NewDecoder(bytes.NewReader(data))):
			t.Fatal("a member appears twice")
		case err != nil && !errors.Is(err, jose.ErrMalformed) && !errors.Is(err, jose.ErrDuplicate) && !errors.Is(err, jose.ErrTooLarge):
			t.Fatalf("untyped error %v", err)
		}
	})
}

// hasTwice reads a document token by token, another way than the scanner.
func hasTwice(t *testing.T, d *json.Decoder) bool {
	type frame struct {
		names map[string]bool // nil for a list
		value bool            // a value comes next
	}
	var stack []frame
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		top := len(stack) - 1
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:top]
			continue
		}
		if top >= 0 && stack[top].names != nil {
			if name, ok := token.(string); ok && !stack[top].value {
				if stack[top].names[name] {
					return true
				}
				stack[top].names[name], stack[top].value = true, true
				continue
			}
			stack[top].value = false
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, frame{names: map[string]bool{}})
		case json.Delim('['):
			stack = append(stack, frame{})
		}
	}
}

// A key that is accepted comes back the same through NewJWK, and go-jose takes
// it too.
func FuzzJWK(f *testing.F) {
	for _, k := range []jose.JWK{jwkOf(f, ecKey()), jwkOf(f, rsaKey()), vectors.Load(f).JWK} {
		encoded, err := json.Marshal(k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Add([]byte(`{"kty":"oct","k":"AAAA","kid":"a"}`))
	f.Add([]byte(`{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"a"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var k jose.JWK
		if json.Unmarshal(data, &k) != nil {
			return
		}
		pub, err := k.PublicKey()
		if err != nil {
			if !errors.Is(err, jose.ErrKey) || pub != nil {
				t.Fatalf("%v with %v", pub, err)
			}
			return
		}
		again, err := jose.NewJWK(k.KeyID, pub, k.KPR)
		if err != nil {
			t.Fatal(err)
		}
		if again.X != k.X || again.Y != k.Y || again.N != k.N || again.E != k.E {
			t.Fatalf("%+v became %+v", k, again)
		}
		want := gojose.JSONWebKey{Key: pub, KeyID: k.KeyID}
		if !want.Valid() {
			t.Fatal("go-jose says it is not valid")
		}
	})
}
