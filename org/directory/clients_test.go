package directory_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

func clientKey(t *testing.T, kid string) jose.JWK {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jose.NewJWK(kid, key.Public(), "")
	if err != nil {
		t.Fatal(err)
	}
	return jwk
}

func TestAuthMethods(t *testing.T) {
	db, ctx, now := storetest.Open(t), t.Context(), time.Now()
	a, b := clientKey(t, "a"), clientKey(t, "b")
	broken := a
	broken.X = b.X
	for name, c := range map[string]struct {
		method       directory.AuthMethod
		keys         []jose.JWK
		ok           bool
		confidential bool
	}{
		"unset":             {"", nil, true, false},
		"none":              {directory.AuthNone, nil, true, false},
		"basic":             {directory.AuthBasic, nil, true, true},
		"post":              {directory.AuthPost, nil, true, true},
		"private key":       {directory.AuthPrivateKey, []jose.JWK{a, b}, true, true},
		"unknown":           {"client_secret_jwt", nil, false, false},
		"key without":       {directory.AuthPrivateKey, nil, false, true},
		"key for none":      {directory.AuthNone, []jose.JWK{a}, false, false},
		"key without an id": {directory.AuthPrivateKey, []jose.JWK{clientKey(t, "")}, false, true},
		"two of one id":     {directory.AuthPrivateKey, []jose.JWK{a, clientKey(t, "a")}, false, true},
		"broken key":        {directory.AuthPrivateKey, []jose.JWK{broken}, false, true},
	} {
		app := directory.App{ClientID: "app", AuthMethod: c.method, Keys: c.keys}
		if app.Confidential() != c.confidential {
			t.Errorf("%s: confidential %v", name, app.Confidential())
		}
		err := db.Write(ctx, func(tx store.Tx) error { return directory.PutApp(ctx, tx, app, now) })
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if !c.ok {
			continue
		}
		var got directory.App
		storetest.Read(t, db, func(tx store.Tx) (err error) {
			got, err = directory.AppByClientID(ctx, tx, "app")
			return err
		})
		if want := c.method; got.AuthMethod != want && !(want == "" && got.AuthMethod == directory.AuthNone) || len(got.Keys) != len(c.keys) {
			t.Errorf("%s: %+v", name, got)
		}
		if k, ok := got.Key("b"); ok != (len(c.keys) == 2) || ok && k != b {
			t.Errorf("%s: key %+v", name, k)
		}
		if _, ok := got.Key(""); ok {
			t.Errorf("%s: a key without a name", name)
		}
	}
}

func TestClientSecrets(t *testing.T) {
	db, ctx, now := storetest.Open(t), t.Context(), time.Now()
	secret := func(s string) okta.Secret { return okta.Secret(strings.Repeat(s, 32)) }
	add := func(s okta.Secret) error {
		now = now.Add(time.Second)
		return db.Write(ctx, func(tx store.Tx) error { return directory.AddClientSecret(ctx, tx, "app", s, now) })
	}
	storetest.Write(t, db, func(tx store.Tx) error {
		return directory.PutApp(ctx, tx, directory.App{ClientID: "app", AuthMethod: directory.AuthBasic}, now)
	})
	check := func(client string, s okta.Secret) (ok bool) {
		t.Helper()
		storetest.Read(t, db, func(tx store.Tx) (err error) {
			ok, err = directory.CheckClientSecret(ctx, tx, client, s)
			return err
		})
		return ok
	}
	if check("app", "") || check("app", secret("a")) {
		t.Error("a client without a secret has one")
	}
	for _, s := range []okta.Secret{"", "short", secret("a")[:31]} {
		if add(s) == nil {
			t.Errorf("a secret of %d characters", len(s))
		}
	}
	for _, s := range []string{"a", "b", "c"} {
		if err := add(secret(s)); err != nil {
			t.Fatal(err)
		}
	}
	for s, want := range map[okta.Secret]bool{secret("a"): false, secret("b"): true, secret("c"): true, "": false, secret("c")[:31]: false, secret("c") + "c": false} {
		if check("app", s) != want {
			t.Errorf("a secret of %d characters: %v", len(s), !want)
		}
	}
	if check("other", secret("c")) {
		t.Error("another client's secret")
	}
	storetest.Read(t, db, func(tx store.Tx) error {
		var digest string
		if err := tx.QueryRowContext(ctx, `SELECT digest FROM app_secrets WHERE client_id = 'app'`).Scan(&digest); err != nil {
			return err
		}
		if strings.Contains(digest, "bbb") || strings.Contains(digest, "ccc") {
			t.Error("a secret is stored")
		}
		return nil
	})
}
