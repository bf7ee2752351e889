// Package journal is an append-only file whose records are chained by a MAC.
package journal

import (
	"context"
	"errors"
)

// Journal is an open append-only file. Its methods may be called at once.
type Journal struct{}

// TamperedError says where the chain of a journal breaks.
type TamperedError struct {
	File string
	Seq  uint64 // the first record that does not fit
}

func (e *TamperedError) Error() string { return e.File + " was tampered with" }

// MaxPayload is the size limit of one record.
const MaxPayload = 64 << 10

// Open opens or creates the journal at path; macKey has at least 32 bytes.
func Open(path string, macKey []byte) (*Journal, error) { return nil, errors.New("not there yet") }

// Append adds a record (one line: no newline inside) and returns when it is on disk.
func (j *Journal) Append(ctx context.Context, payload []byte) (seq uint64, err error) { return 0, nil }

// AppendLazy adds a record that reaches the disk with the next Append or Close.
func (j *Journal) AppendLazy(payload []byte) (seq uint64, err error) { return 0, nil }

// Replay calls fn for each record; the slices are valid only during the call.
func (j *Journal) Replay(fn func(seq uint64, payload, prev, mac []byte) error) error { return nil }

// Rewrite drops the records keep says no to, atomically.
func (j *Journal) Rewrite(keep func(payload []byte) bool) error { return nil }

// Size is the size of the file in bytes.
func (j *Journal) Size() int64 { return 0 }

// Head is the last record's number and MAC.
func (j *Journal) Head() (seq uint64, mac []byte) { return 0, nil }

// Close syncs and closes the file.
func (j *Journal) Close() error { return nil }
