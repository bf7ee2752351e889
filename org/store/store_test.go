//go:build unix

package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// C6: state that others can read. Modes are right from the first moment, also
// under the most careless umask.
func TestModesUnderUmaskZero(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	parent := filepath.Join(t.TempDir(), "a")
	dir := filepath.Join(parent, "b")
	db, err := store.Open(t.Context(), filepath.Join(dir, "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := store.WriteSecret(dir, "token", []byte("s")); err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, db, func(tx store.Tx) error { // so that the side files exist
		_, err := tx.ExecContext(t.Context(), `INSERT INTO trusted_origins (origin, created_at) VALUES ('x', 1)`)
		return err
	})
	seen := 0
	err = filepath.WalkDir(parent, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: mode %04o, want %04o", path, got, want)
		}
		seen++
		return nil
	})
	if err != nil || seen < 5 { // two folders, database, log, token
		t.Fatalf("walked %d entries: %v", seen, err)
	}
}

// C6: hostile things that were there first.
func TestRefusesUnsafeState(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
	}{
		{"folder others can write", func(t *testing.T, dir string) { mkdir(t, dir, 0o777) }},
		{"folder is a link", func(t *testing.T, dir string) {
			mkdir(t, dir+"-real", 0o700)
			check(t, os.Symlink(dir+"-real", dir))
		}},
		{"folder is a file", func(t *testing.T, dir string) { check(t, os.WriteFile(dir, nil, 0o600)) }},
		{"database others can read", func(t *testing.T, dir string) {
			mkdir(t, dir, 0o700)
			check(t, os.WriteFile(filepath.Join(dir, "org.db"), nil, 0o600))
			check(t, os.Chmod(filepath.Join(dir, "org.db"), 0o644))
		}},
		{"database is a link", func(t *testing.T, dir string) {
			mkdir(t, dir, 0o700)
			check(t, os.Symlink("/nowhere/org.db", filepath.Join(dir, "org.db")))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			c.prepare(t, dir)
			db, err := store.Open(t.Context(), filepath.Join(dir, "org.db"))
			if err == nil {
				db.Close()
			}
			if !errors.Is(err, store.ErrUnsafe) {
				t.Fatalf("error %v, want ErrUnsafe", err)
			}
		})
	}
}

func TestForeignOwnerRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		// Another user's folder that is not writable by others: the root.
		if err := store.MakeStateDir("/"); !errors.Is(err, store.ErrUnsafe) {
			t.Fatalf("error %v, want ErrUnsafe", err)
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "state")
	mkdir(t, dir, 0o700)
	check(t, os.Chown(dir, 12345, 12345))
	if err := store.MakeStateDir(dir); !errors.Is(err, store.ErrUnsafe) {
		t.Fatalf("error %v, want ErrUnsafe", err)
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	check(t, store.WriteSecret(dir, "token", []byte("first")))
	if err := store.WriteSecret(dir, "token", []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("overwriting: %v", err)
	}
	if b, err := store.ReadSecret(dir, "token", 100); err != nil || string(b) != "first" {
		t.Fatalf("%q, %v", b, err)
	}
	if _, err := store.ReadSecret(dir, "token", 2); !errors.Is(err, store.ErrUnsafe) {
		t.Fatalf("over the limit: %v", err)
	}
	check(t, os.Chmod(filepath.Join(dir, "token"), 0o640))
	if _, err := store.ReadSecret(dir, "token", 100); !errors.Is(err, store.ErrUnsafe) {
		t.Fatalf("readable by a group: %v", err)
	}
	if _, err := store.ReadSecret(dir, "absent", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("absent: %v", err)
	}
}

func TestTransactions(t *testing.T) {
	db := storetest.Open(t)
	ctx := t.Context()
	add := func(tx store.Tx, origin string) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO trusted_origins (origin, created_at) VALUES (?, 1)`, origin)
		return err
	}
	boom := errors.New("boom")
	if err := db.Write(ctx, func(tx store.Tx) error { return errors.Join(add(tx, "a"), boom) }); !errors.Is(err, boom) {
		t.Fatalf("error %v", err)
	}
	func() {
		defer func() { recover() }()
		_ = db.Write(ctx, func(tx store.Tx) error { check(t, add(tx, "b")); panic("bug") })
	}()
	if n := count(t, db); n != 0 {
		t.Fatalf("%d rows after rollbacks", n)
	}
	storetest.Write(t, db, func(tx store.Tx) error { return add(tx, "c") })
	if err := db.Read(ctx, func(tx store.Tx) error { return add(tx, "d") }); err == nil {
		t.Error("a read transaction wrote")
	}
	if err := db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO group_members (group_id, user_id) VALUES ('x', 'y')`)
		return err
	}); err == nil {
		t.Error("foreign keys are off")
	}
	if n := count(t, db); n != 1 {
		t.Fatalf("%d rows, want 1", n)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := db.Write(cancelled, func(store.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled write: %v", err)
	}
}

// A reader neither waits for a writer nor sees its half-done work.
func TestReadersDoNotWait(t *testing.T) {
	db := storetest.Open(t)
	storetest.Write(t, db, func(tx store.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO trusted_origins (origin, created_at) VALUES ('x', 1)`); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return db.Read(ctx, func(tx store.Tx) error {
			var n int
			err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM trusted_origins`).Scan(&n)
			if n != 0 {
				t.Error("saw an uncommitted row")
			}
			return err
		})
	})
}

// Writers that read first and write then never lose an update.
func TestWritersQueue(t *testing.T) {
	db := storetest.Open(t)
	const writers = 32
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			err := db.Write(t.Context(), func(tx store.Tx) error {
				var n int
				if err := tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM trusted_origins`).Scan(&n); err != nil {
					return err
				}
				_, err := tx.ExecContext(t.Context(), `INSERT INTO trusted_origins (origin, created_at) VALUES (?, ?)`, n, n)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := count(t, db); n != writers {
		t.Fatalf("%d rows, want %d", n, writers)
	}
}

func TestReopenKeepsData(t *testing.T) {
	// A path with characters that mean something in a URI.
	path := filepath.Join(t.TempDir(), "a b?c#d%41", "org.db")
	for i := range 3 {
		db, err := store.Open(t.Context(), path)
		check(t, err)
		if n := count(t, db); n != i {
			t.Fatalf("opened with %d rows, want %d", n, i)
		}
		storetest.Write(t, db, func(tx store.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO trusted_origins (origin, created_at) VALUES (?, 1)`, i)
			return err
		})
		check(t, db.Close())
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}

func TestPingAfterClose(t *testing.T) {
	db := storetest.Open(t)
	check(t, db.Ping(t.Context()))
	check(t, db.Close())
	if err := db.Ping(t.Context()); err == nil {
		t.Fatal("a closed database answered")
	}
	check(t, db.Close())
}

func count(t *testing.T, db *store.DB) (n int) {
	t.Helper()
	storetest.Read(t, db, func(tx store.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM trusted_origins`).Scan(&n)
	})
	return n
}

func mkdir(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	check(t, os.Mkdir(dir, 0o700))
	check(t, os.Chmod(dir, mode))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
