package signingkey

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta/jose"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

type claims struct {
	Subject string `json:"sub"`
}

func TestRestartKeepsKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "org.db")
	var token string
	var kids []string
	for i := range 2 {
		db, err := store.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Open(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		keys, _ := r.Public(t.Context())
		if len(keys) != 2 {
			t.Fatalf("%d keys, want ACTIVE and NEXT", len(keys))
		}
		if i == 0 {
			kids = []string{keys[0].KeyID, keys[1].KeyID}
			if token, err = r.Sign(t.Context(), "JWT", claims{"alice"}); err != nil {
				t.Fatal(err)
			}
		} else {
			if kids[0] != keys[0].KeyID || kids[1] != keys[1].KeyID {
				t.Error("the keys changed with a restart")
			}
			var c claims
			if err := r.Verify(token, jose.AccessToken, &c); err != nil || c.Subject != "alice" {
				t.Errorf("a token from before the restart: %+v, %v", c, err)
			}
		}
		db.Close()
	}
}

func TestPublishedShape(t *testing.T) {
	r := open1(t, time.Now)
	keys, maxAge := r.Public(t.Context())
	if maxAge <= 0 {
		t.Error("no max-age")
	}
	for _, k := range keys {
		if k.KeyType != "RSA" || k.Algorithm != "RS256" || k.Use != "sig" || k.KeyID == "" || k.N == "" || k.E != "AQAB" || k.KPR != "" {
			t.Errorf("published key %+v", k)
		}
	}
}

func TestRotation(t *testing.T) {
	now := time.Now()
	r := open1(t, func() time.Time { return now })
	ctx := t.Context()
	published := func() map[string]bool {
		out := map[string]bool{}
		keys, _ := r.Public(ctx)
		for _, k := range keys {
			out[k.KeyID] = true
		}
		return out
	}
	signedBy := func() (token, kid string) {
		token, err := r.Sign(ctx, "", claims{"x"})
		if err != nil {
			t.Fatal(err)
		}
		p, err := jose.Parse(token, jose.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		return token, p.Header.KeyID
	}
	before := published()
	first, kid := signedBy()
	if err := r.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	_, kid2 := signedBy()
	if kid2 == kid || !before[kid2] {
		t.Error("the key that signs now was not published before")
	}
	if after := published(); !after[kid] || len(after) != 3 {
		t.Errorf("published %v, want the old, the new and the next key", after)
	}
	var c claims
	if err := r.Verify(first, jose.AccessToken, &c); err != nil {
		t.Errorf("a token from before the rotation: %v", err)
	}
	// When everything the old key signed has run out, so has the key.
	now = now.Add(publishExpired + time.Second)
	if published()[kid] {
		t.Error("an expired key is still published")
	}
	if err := r.Verify(first, jose.AccessToken, &c); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("verified by an expired key: %v", err)
	}
	if err := r.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(r.keys); n != 3 {
		t.Errorf("%d keys kept, want 3", n)
	}
}

// E2: a token that names a key which has never signed, or none of ours.
func TestVerifyRefusesOtherKeys(t *testing.T) {
	r, other := open1(t, time.Now), open1(t, time.Now)
	foreign, err := other.Sign(t.Context(), "", claims{"x"})
	if err != nil {
		t.Fatal(err)
	}
	var c claims
	if err := r.Verify(foreign, jose.AccessToken, &c); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("another org's token: %v", err)
	}
	for _, k := range r.keys {
		if k.state != Next {
			continue
		}
		early, err := jose.Sign(t.Context(), jose.SoftwareSigner(k.id, k.private), "", claims{"x"})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Verify(early, jose.AccessToken, &c); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("the next key verified: %v", err)
		}
	}
	if err := r.Verify("", jose.AccessToken, &c); err == nil {
		t.Error("an empty token verified")
	}
}

// Rotate while running: nobody who signs or verifies notices.
func TestRotateWhileSigning(t *testing.T) {
	r := open1(t, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				token, err := r.Sign(context.WithoutCancel(ctx), "", claims{"x"})
				if err != nil {
					t.Error(err)
					return
				}
				var c claims
				if err := r.Verify(token, jose.AccessToken, &c); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		if err := r.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
}

func open1(t *testing.T, now func() time.Time) *Ring {
	t.Helper()
	r, err := open(t.Context(), storetest.Open(t), now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
