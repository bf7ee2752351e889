// Package store keeps the org's state in one SQL database: the connection,
// its migrations, and transactions.
//
// Queries live with the rooms that own the tables and take a Tx; this package
// knows none of them. The SQL is kept portable (placeholders "?", times as
// unix milliseconds, JSON as text), so that a larger database can stand in
// for the built-in SQLite later.
//
// SQLite has one writer. Write therefore queues on a single connection and
// starts with BEGIN IMMEDIATE: a transaction that checks a one-time thing and
// consumes it cannot be overtaken between the two. Reads go to a pool of their
// own and never wait for the writer. Slow work (password hashing, signing,
// network) has no place inside either.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// ErrNotFound is returned by look-ups, in every room, that found nothing.
var ErrNotFound = errors.New("not found")

// ErrNotWritable is the end of a write that waited for another one, which could
// not begin: another process holds the database, or the disk takes nothing.
var ErrNotWritable = errors.New("the database cannot be written at the moment")

// Tx is a running transaction: what *sql.Tx offers to queries, without the
// power to end it.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// DB is an open database.
type DB struct {
	read  *sql.DB
	write *sql.DB // one connection

	// failed is when a transaction could not begin last (UnixNano): those that
	// waited for it meanwhile need not find that out by waiting as long each.
	failed atomic.Int64
}

//go:embed migrations/*.sql
var migrations embed.FS

// Open opens or creates the database at path and brings its tables up to date.
// The file is created with mode 0600 in a folder of mode 0700, whatever the
// umask; a folder or file that others could write to is refused.
func Open(ctx context.Context, path string) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("finding the database: %w", err)
	}
	if err := MakeStateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := makeFile(path); err != nil {
		return nil, err
	}
	db := &DB{}
	ok := false
	defer func() {
		if !ok {
			db.Close()
		}
	}()
	// The writer comes first: it puts the file into WAL mode.
	if db.write, err = sql.Open("sqlite", dsn(path, "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)")); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	db.write.SetMaxOpenConns(1)
	db.write.SetMaxIdleConns(1)
	if err := migrate(ctx, db.write); err != nil {
		return nil, err
	}
	if db.read, err = sql.Open("sqlite", dsn(path, "query_only(1)")); err != nil {
		return nil, fmt.Errorf("opening the database for reading: %w", err)
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	db.read.SetConnMaxIdleTime(5 * time.Minute)
	if err := db.Ping(ctx); err != nil {
		return nil, err
	}
	ok = true
	return db, nil
}

// busyWait is how long a transaction waits for another process that writes. A
// request may wait twice and still be answered before an agent gives up (10 s).
const busyWait = 2 * time.Second

// dsn names the database for the driver. Every transaction of the writer is
// immediate; the readers' are told to be read-only below.
func dsn(path string, pragmas ...string) string {
	q := url.Values{"_pragma": {fmt.Sprintf("busy_timeout(%d)", busyWait.Milliseconds())}}
	q["_pragma"] = append(q["_pragma"], pragmas...)
	if !strings.HasPrefix(pragmas[0], "query_only") {
		q.Set("_txlock", "immediate")
	}
	// A path may hold characters that mean something in a URI.
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}).String()
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	return nil
}

// Read runs fn in a read-only transaction: everything fn sees is of one
// moment.
func (db *DB) Read(ctx context.Context, fn func(Tx) error) error {
	tx, err := db.read.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("starting a read: %w", err)
	}
	defer tx.Rollback() // nothing was written; also ends it when fn panics
	return fn(tx)
}

// Write runs fn in the one write transaction and commits when fn returns nil.
// An error or a panic of fn rolls back. Calling Write or waiting for another
// writer inside fn would wait for itself.
func (db *DB) Write(ctx context.Context, fn func(Tx) error) error {
	came := time.Now()
	conn, err := db.write.Conn(ctx) // when its turn comes
	if err != nil {
		return fmt.Errorf("starting a write: %w", err)
	}
	defer conn.Close()
	if db.failed.Load() > came.UnixNano() {
		return fmt.Errorf("starting a write: %w", ErrNotWritable)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		if ctx.Err() == nil {
			db.failed.Store(time.Now().UnixNano())
		}
		return fmt.Errorf("starting a write: %w", err)
	}
	defer tx.Rollback() // no effect after Commit
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

// Ping asks the database a question and so tells whether it really answers.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	if err := db.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM org").Scan(&one); err != nil {
		return fmt.Errorf("asking the database: %w", err)
	}
	return nil
}

// Close closes the database. It may be called more than once.
func (db *DB) Close() error {
	var errs []error
	for _, d := range []*sql.DB{db.read, db.write} {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

// Millis is how times are stored.
func Millis(t time.Time) int64 { return t.UnixMilli() }

// Time reads a stored time back.
func Time(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
