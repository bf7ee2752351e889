// Package storetest gives tests of the org's rooms a database of their own.
package storetest

import (
	"path/filepath"
	"testing"

	"countersign.dev/org/store"
)

// Open opens an empty, migrated database that is closed with the test.
func Open(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "state", "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// Write runs fn in a write transaction that must succeed.
func Write(t testing.TB, db *store.DB, fn func(store.Tx) error) {
	t.Helper()
	if err := db.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// Read runs fn in a read transaction that must succeed.
func Read(t testing.TB, db *store.DB, fn func(store.Tx) error) {
	t.Helper()
	if err := db.Read(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
