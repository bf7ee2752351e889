package directory_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestUsers(t *testing.T) {
	db, ctx := storetest.Open(t), t.Context()
	var made directory.User
	storetest.Write(t, db, func(tx store.Tx) (err error) {
		made, err = directory.CreateUser(ctx, tx, directory.User{Login: "Alice@Example.com", FirstName: "Alice", LastName: "A", PasswordHash: "h"}, now)
		return err
	})
	storetest.Read(t, db, func(tx store.Tx) error {
		for _, login := range []string{"alice@example.com", "ALICE@EXAMPLE.COM", " alice@example.com "} {
			u, err := directory.UserByLogin(ctx, tx, login)
			if err != nil || u.ID != made.ID || !u.Active() || u.Name() != "Alice A" || !u.CreatedAt.Equal(now) {
				t.Errorf("%q: %+v, %v", login, u, err)
			}
		}
		if _, err := directory.UserByLogin(ctx, tx, "bob"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("unknown login: %v", err)
		}
		if _, err := directory.UserByID(ctx, tx, ""); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("empty id: %v", err)
		}
		groups, err := directory.Groups(ctx, tx, made.ID)
		if !slices.Equal(groups, []string{"Everyone"}) {
			t.Errorf("groups %v", groups)
		}
		return err
	})
	if err := db.Write(ctx, func(tx store.Tx) error {
		_, err := directory.CreateUser(ctx, tx, directory.User{Login: "alice@EXAMPLE.com"}, now)
		return err
	}); err == nil {
		t.Error("two users with one login")
	}
	for status, code := range map[string]okta.ErrorCode{
		directory.StatusSuspended: okta.CodeUserSuspended, directory.StatusDeprovisioned: okta.CodeUserDeleted, "LOCKED_OUT": okta.CodeUserSuspended,
	} {
		storetest.Write(t, db, func(tx store.Tx) error { return directory.SetUserStatus(ctx, tx, made.ID, status, now) })
		storetest.Read(t, db, func(tx store.Tx) error {
			u, err := directory.UserByID(ctx, tx, made.ID)
			if u.Active() || u.Refusal().Code != code {
				t.Errorf("%s: active %v, refusal %v", status, u.Active(), u.Refusal())
			}
			return err
		})
	}
	if (directory.User{}).Active() {
		t.Error("the zero user is active")
	}
}

func TestAssigned(t *testing.T) {
	db, ctx := storetest.Open(t), t.Context()
	storetest.Write(t, db, func(tx store.Tx) error {
		u, err := directory.CreateUser(ctx, tx, directory.User{Login: "a"}, now)
		if err != nil {
			return err
		}
		everyone, err := directory.EnsureGroup(ctx, tx, directory.EveryoneGroup, now)
		if err != nil {
			return err
		}
		app := directory.App{ClientID: "app", Label: "App", RedirectURIs: []string{"https://a/cb"}, Scopes: []string{"openid"}, PolicyID: "p"}
		if err := directory.PutApp(ctx, tx, app, now); err != nil {
			return err
		}
		for _, want := range []bool{false, true} {
			got, err := directory.Assigned(ctx, tx, u.ID, "app")
			if err != nil || got != want {
				t.Errorf("assigned: %v, %v; want %v", got, err, want)
			}
			if err := directory.AssignGroup(ctx, tx, "app", everyone.ID); err != nil {
				return err
			}
		}
		for _, pair := range [][2]string{{u.ID, "other"}, {"other", "app"}, {"", ""}} {
			if got, _ := directory.Assigned(ctx, tx, pair[0], pair[1]); got {
				t.Errorf("%v: assigned", pair)
			}
		}
		got, err := directory.AppByClientID(ctx, tx, "app")
		if got.Label != "App" || got.PolicyID != "p" || len(got.RedirectURIs) != 1 || got.BuiltIn {
			t.Errorf("app %+v", got)
		}
		return err
	})
}

func TestAllowsRedirect(t *testing.T) {
	app := directory.App{RedirectURIs: []string{"https://app.example.com/cb", "http://localhost:*/callback", "http://127.0.0.1:*/cb", "https://evil.example:*/x"}}
	for uri, want := range map[string]bool{
		"https://app.example.com/cb":                  true,
		"http://localhost:3000/callback":              true,
		"http://127.0.0.1:65535/cb":                   true,
		"":                                            false,
		"https://app.example.com/cb/":                 false,
		"https://app.example.com/cb?x=1":              false,
		"https://app.example.com.evil/cb":             false,
		"https://APP.example.com/cb":                  false,
		"http://localhost/callback":                   false,
		"http://localhost:/callback":                  false,
		"http://localhost:0/callback":                 false,
		"http://localhost:080/callback":               false,
		"http://localhost:65536/callback":             false,
		"http://localhost:+80/callback":               false,
		"http://localhost:3000/callback2":             false,
		"http://localhost:3000/x/callback":            false,
		"http://localhost:3000@evil.example/cb":       false,
		"http://localhost:3000.evil/callback":         false,
		"https://localhost:3000/callback":             false,
		"http://localhost:*/callback":                 false,
		"http://127.0.0.1:3000/callback":              false,
		"http://localhost:1/callback#/callback":       false,
		"http://localhost:1?@evil.example/callback":   false,
		"http://localhost.evil.example:80/callback":   false,
		"https://evil.example:443/x":                  false,
		"https://evil.example:*/x":                    false,
		"http://localhost:80\\@evil.example/callback": false,
	} {
		if got := app.AllowsRedirect(uri); got != want {
			t.Errorf("%q: %v, want %v", uri, got, want)
		}
	}
	if (directory.App{}).AllowsRedirect("https://x/") {
		t.Error("the zero app allows a redirect")
	}
}

// A3: over-wide CORS. Lookalikes, other schemes and ports, null, absent.
func TestOriginTrusted(t *testing.T) {
	list := []string{"https://app.example.com", "http://localhost:*", "https://evil.example:*"}
	for origin, want := range map[string]bool{
		"https://app.example.com":         true,
		"http://localhost:3000":           true,
		"http://localhost":                true,
		"":                                false,
		"null":                            false,
		"https://app.example.com:8443":    false,
		"http://app.example.com":          false,
		"https://app.example.com.evil":    false,
		"https://app.example.com/":        false,
		"https://xapp.example.com":        false,
		"https://APP.example.com":         false,
		"https://localhost:3000":          false,
		"http://localhost:":               false,
		"http://localhost:0":              false,
		"http://localhost:03000":          false,
		"http://localhost:*":              false,
		"http://localhost:3000.evil":      false,
		"http://localhost.evil.example":   false,
		"http://localhost:3000@evil":      false,
		"http://127.0.0.1:3000":           false,
		"http://[::1]:3000":               false,
		"https://evil.example:1":          false,
		"https://evil.example:*":          false,
		"https://xn--pp-fka.example.com":  false,
		"chrome-extension://abcdefghijkl": false,
		"file://":                         false,
	} {
		if got := directory.OriginTrusted(list, origin); got != want {
			t.Errorf("%q: %v, want %v", origin, got, want)
		}
	}
	if directory.OriginTrusted(nil, "https://app.example.com") {
		t.Error("an empty list trusts")
	}
}

func FuzzOriginTrusted(f *testing.F) {
	for _, s := range []string{"http://localhost:3000", "https://app.example.com", "null", "", "http://localhost:*", "http://localhost:1@evil"} {
		f.Add(s)
	}
	list := []string{"https://app.example.com", "http://localhost:*"}
	f.Fuzz(func(t *testing.T, origin string) {
		if !directory.OriginTrusted(list, origin) {
			return
		}
		u, err := url.Parse(origin)
		if err != nil {
			t.Fatalf("trusted what is no URL: %q", origin)
		}
		if h := u.Hostname(); h != "localhost" && h != "app.example.com" || u.User != nil || u.Path != "" {
			t.Fatalf("trusted %q", origin)
		}
	})
}

func TestNormalOrigin(t *testing.T) {
	for in, want := range map[string]string{
		"https://App.Example.com":      "https://app.example.com",
		"https://app.example.com:443/": "https://app.example.com",
		"http://app.example.com:80":    "http://app.example.com",
		"http://localhost:3000":        "http://localhost:3000",
		"http://localhost:*":           "http://localhost:*",
		"http://[::1]:8080":            "http://[::1]:8080",
		"https://*.example.com":        "",
		"https://app.example.com:*":    "",
		"https://app.example.com/x":    "",
		"https://a@app.example.com":    "",
		"app.example.com":              "",
		"ftp://app.example.com":        "",
		"https://app.example.com:":     "",
		"https://app.example.com:0":    "",
		"null":                         "",
		"":                             "",
	} {
		got, err := directory.NormalOrigin(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestPasswords(t *testing.T) {
	h, ctx := directory.NewHasher(2), t.Context()
	hash, err := h.Hash(ctx, "Countersign-Demo-1")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(hash), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %.40s", string(hash))
	}
	if again, _ := h.Hash(ctx, "Countersign-Demo-1"); again == hash {
		t.Error("no salt")
	}
	for _, c := range []struct {
		hash     directory.PasswordHash
		password okta.Secret
		want     bool
	}{
		{hash, "Countersign-Demo-1", true},
		{hash, "countersign-demo-1", false},
		{hash, "Countersign-Demo-1 ", false},
		{hash, "", false},
		{hash, okta.Secret(strings.Repeat("x", 5000)), false},
		{"", "Countersign-Demo-1", false}, // an unknown user
		{"", "", false},
	} {
		if got, err := h.Verify(ctx, c.hash, c.password); got != c.want || err != nil {
			t.Errorf("%d-byte password, hash %v: %v, %v", len(c.password), c.hash != "", got, err)
		}
	}
	for _, bad := range []directory.PasswordHash{
		"x", hash[:len(hash)-1], hash + "A",
		directory.PasswordHash(strings.Replace(string(hash), "m=19456", "m=99999999", 1)), // would eat the memory
		directory.PasswordHash(strings.Replace(string(hash), "argon2id", "argon2i", 1)),
	} {
		if ok, err := h.Verify(ctx, bad, "Countersign-Demo-1"); ok || err == nil {
			t.Errorf("damaged hash: %v, %v", ok, err)
		}
	}
	for _, bad := range []okta.Secret{"", okta.Secret(strings.Repeat("x", 1025))} {
		if _, err := h.Hash(ctx, bad); err == nil {
			t.Errorf("hashed a password of %d bytes", len(bad))
		}
	}
	if s := fmt.Sprintf("%v %+v %#v %s %v", hash, hash, hash, hash, directory.User{PasswordHash: hash}); strings.Contains(s, "argon2") {
		t.Errorf("a hash prints: %s", s)
	}
}

// Memory is bounded by slots: who finds none waits, and gives up with its context.
func TestSlots(t *testing.T) {
	h := directory.NewHasher(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	refused := 0
	for range 20 { // select takes either ready case; a free slot may win
		if _, err := h.Hash(ctx, "x"); errors.Is(err, context.Canceled) {
			refused++
		}
	}
	if refused == 0 {
		t.Error("a cancelled caller was never refused")
	}
}

// Unknown users must not be told apart by time: both do the same work.
func BenchmarkVerify(b *testing.B) {
	h := directory.NewHasher(1)
	hash, err := h.Hash(b.Context(), "Countersign-Demo-1")
	if err != nil {
		b.Fatal(err)
	}
	for name, hash := range map[string]directory.PasswordHash{"known": hash, "unknown": ""} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := h.Verify(b.Context(), hash, "wrong"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
