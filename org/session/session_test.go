package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"countersign.dev/okta"
	"countersign.dev/org/store"
)

var start = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

func open(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func write(t *testing.T, db *store.DB, fn func(context.Context, store.Tx) error) {
	t.Helper()
	if err := db.Write(t.Context(), func(tx store.Tx) error { return fn(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, db *store.DB, s Session) (id okta.Secret) {
	t.Helper()
	write(t, db, func(ctx context.Context, tx store.Tx) (err error) {
		id, err = Create(ctx, tx, s, start)
		return err
	})
	return id
}

func lookup(t *testing.T, db *store.DB, id okta.Secret, now time.Time) (s Session, err error) {
	t.Helper()
	err = db.Read(t.Context(), func(tx store.Tx) (err error) {
		s, err = Lookup(t.Context(), tx, id, now)
		return err
	})
	return s, err
}

var alice = Session{UserID: "00u1", AMR: []string{"pwd", "okta_verify", "phr"}, AuthTime: start.Add(-time.Second),
	EnrolmentID: "pfd1", DeviceID: "guo1", KeyID: "KEY", KeyProtection: "SOFTWARE"}

func TestSessionKeepsTheFacts(t *testing.T) {
	db := open(t)
	id := create(t, db, alice)
	got, err := lookup(t, db, id, start.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	want := alice
	want.CreatedAt, want.LastSeenAt, want.ExpiresAt = start, start, start.Add(Absolute)
	if d := cmp.Diff(want, got); d != "" { // time.Time has Equal: zones do not matter
		t.Error(d)
	}
}

func TestSessionEnds(t *testing.T) {
	db := open(t)
	for name, c := range map[string]struct {
		seen time.Duration // last use, 0 for none
		at   time.Duration
		live bool
	}{
		"just made":                {0, 0, true},
		"before idle":              {0, Idle - time.Second, true},
		"idle":                     {0, Idle, false},
		"used in between":          {Idle - time.Minute, Idle + time.Minute, true},
		"idle after use":           {time.Hour, time.Hour + Idle, false},
		"in use to the end":        {Absolute - time.Minute, Absolute - time.Second, true},
		"in use past the end":      {Absolute - time.Minute, Absolute, false},
		"a use after the end":      {Absolute + time.Minute, Absolute + 2*time.Minute, false},
		"clock that jumped back":   {0, -time.Hour, true},
		"use older than the newer": {0, time.Minute, true},
	} {
		id := create(t, db, alice)
		if c.seen != 0 {
			write(t, db, func(ctx context.Context, tx store.Tx) error { return Touch(ctx, tx, id, start.Add(c.seen)) })
		}
		if _, err := lookup(t, db, id, start.Add(c.at)); (err == nil) != c.live || err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEnd(t *testing.T) {
	db := open(t)
	one, two := create(t, db, alice), create(t, db, alice)
	write(t, db, func(ctx context.Context, tx store.Tx) error { return End(ctx, tx, one) })
	if _, err := lookup(t, db, one, start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("ended: %v", err)
	}
	if _, err := lookup(t, db, two, start); err != nil {
		t.Errorf("the other: %v", err)
	}
	write(t, db, func(ctx context.Context, tx store.Tx) error { return EndAll(ctx, tx, alice.UserID) })
	if _, err := lookup(t, db, two, start); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("all ended: %v", err)
	}
}

func TestUnknownValues(t *testing.T) {
	db := open(t)
	id := create(t, db, alice)
	for _, v := range []okta.Secret{"", "x", okta.Secret(strings.Repeat("A", 43)), id + "A", okta.Secret(Reference(id)), okta.Secret(strings.ToLower(id.Reveal()))} {
		if _, err := lookup(t, db, v, start); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("value of %d characters: %v", len(v), err)
		}
	}
	if err := db.Write(t.Context(), func(tx store.Tx) error {
		_, err := Create(t.Context(), tx, Session{AuthTime: start}, start)
		return err
	}); err == nil {
		t.Error("a session of nobody was made")
	}
}

// C1: a copy of the database signs nobody in.
func TestValueIsNotStored(t *testing.T) {
	db := open(t)
	id := create(t, db, alice)
	var stored string
	if err := db.Read(t.Context(), func(tx store.Tx) error {
		return tx.QueryRowContext(t.Context(), "SELECT hash FROM sessions").Scan(&stored)
	}); err != nil {
		t.Fatal(err)
	}
	if stored == id.Reveal() || stored != Reference(id) {
		t.Error("the table holds the cookie's value")
	}
	if s := fmt.Sprint(id); strings.Contains(s, id.Reveal()) {
		t.Error("the value prints")
	}
}

func TestCookie(t *testing.T) {
	for base, secure := range map[string]bool{"https://id.example.com": true, "http://localhost:8080": false} {
		w := httptest.NewRecorder()
		value := okta.Secret(strings.Repeat("v", 43))
		SetCookie(w, value, base)
		c := w.Result().Cookies()[0]
		if c.Name != "sid" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure != secure || c.Path != "/" || c.Domain != "" || c.MaxAge != 0 {
			t.Errorf("%s: %v", base, c)
		}
		r := httptest.NewRequest(http.MethodGet, base, nil)
		r.AddCookie(c)
		if FromRequest(r) != value {
			t.Error("the cookie does not come back")
		}
		w = httptest.NewRecorder()
		ClearCookie(w, base)
		if c := w.Result().Cookies()[0]; c.MaxAge >= 0 || c.Value != "" {
			t.Errorf("cleared: %v", c)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if FromRequest(r) != "" {
		t.Error("a session without a cookie")
	}
}
