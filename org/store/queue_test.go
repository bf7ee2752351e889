package store

import (
	"database/sql"
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// Another process holds the database: of the writers that wait in a row one
// finds that out by waiting, and the others with it. Afterwards all is well.
func TestWritersDoNotWaitInTurnForNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "org", "org.db")
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	other, err := sql.Open("sqlite", dsn(path, "journal_mode(WAL)"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	held, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	const writers = 5
	ends := make(chan error, writers)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() { ends <- db.Write(t.Context(), func(Tx) error { return nil }) })
	}
	for db.write.Stats().WaitCount < writers-1 { // all but the first are in the queue
		runtime.Gosched()
	}
	wg.Wait()
	close(ends)
	told := 0
	for err := range ends {
		if err == nil {
			t.Error("written beside another process")
		}
		if errors.Is(err, ErrNotWritable) {
			told++
		}
	}
	if told != writers-1 {
		t.Errorf("%d were told, want %d", told, writers-1)
	}
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(Tx) error { return nil }); err != nil {
		t.Error(err)
	}
}
