// Package journal is an append-only file whose records are chained by a MAC:
// changing, inserting, dropping or reordering one breaks every record after it.
//
// A record is one line of text: number, MAC and payload, parted by spaces. The
// MAC covers the MAC of the record before, the number and the payload. The
// first line is a header with a MAC of its own; it says where the chain starts,
// so that compaction can drop records and stay provable.
//
// Append returns when the record is on disk. Concurrent callers share fsyncs:
// each writes its line at once, then whoever gets to sync does it for all lines
// written so far, and the others find their work done. One caller alone pays
// one write and one fsync.
//
// After a crash the last line may be incomplete, which is to say without its
// line break; Open cuts it off, because nobody was told that it was written.
// Any other flaw is a TamperedError, and the journal stays as it is.
//
// Limits, plainly: whoever can write the file can cut whole records off its end
// or put an older copy back, and that cannot be told from the file alone. The
// agent must not rest on the journal alone where this matters (the org refuses
// replays too). One process at a time may have a journal open; the lock of the
// state folder sees to that.
package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"countersign.dev/daemon/internal/statefile"
)

// MaxPayload is the size limit of one record.
const MaxPayload = 64 << 10

// Errors of a journal, for callers to branch on.
var (
	ErrClosed  = errors.New("journal is closed")
	ErrPayload = fmt.Errorf("a journal record is one line of at most %d bytes", MaxPayload)
	ErrKey     = errors.New("a journal needs a key of 32 bytes or more") // e.g. from a locked vault
)

// TamperedError says where the chain of a journal breaks.
type TamperedError struct {
	File   string
	Seq    uint64 // number of the first record that cannot be trusted; 0 is the header
	Reason string
}

func (e *TamperedError) Error() string {
	return fmt.Sprintf("%s was changed by somebody else at record %d: %s", e.File, e.Seq, e.Reason)
}

// Journal is an open journal. Its methods may be called at once.
type Journal struct {
	path string
	keys keys // read-only after Open

	// syncing is held by the one caller that syncs; a channel, so that waiting
	// for it can be given up. Taken before mu.
	syncing chan struct{}

	mu     sync.Mutex // guards what follows
	chain  chain
	file   *os.File // opened for appending
	header header
	seq    uint64
	mac    mac
	size   int64
	synced uint64 // highest number known to be on disk
	syncs  int    // fsyncs so far, for tests and benchmarks
	failed error  // sticky: after it nothing is known about the file's end
	line   []byte // reused
}

// Open opens the journal at path, made if missing, and checks all of it. It
// returns a *TamperedError for a chain that does not hold.
func Open(path string, macKey []byte) (*Journal, error) {
	keys, err := newKeys(macKey)
	if err != nil {
		return nil, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{path: path, keys: keys, chain: keys.chain(), syncing: make(chan struct{}, 1)}
	if err := j.open(); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *Journal) open() error {
	info, err := os.Lstat(j.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := j.create(header{Generation: 1}, nil); err != nil {
			return fmt.Errorf("create journal: %w", err)
		}
	case err != nil:
		return fmt.Errorf("open journal: %w", err)
	case !info.Mode().IsRegular():
		return &statefile.FolderError{Path: j.path, Err: statefile.ErrNotFile}
	}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_APPEND|openFlags, 0)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	if err := j.check(f); err != nil {
		f.Close()
		return err
	}
	j.file, j.synced = f, j.seq
	return nil
}

// check walks the file and cuts an incomplete last line off.
func (j *Journal) check(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	if err := statefile.CheckPrivate(j.path, info); err != nil {
		return err
	}
	end, err := j.walk(f, info.Size(), nil)
	if err != nil {
		return err
	}
	j.header, j.seq, j.mac, j.size = end.header, end.seq, end.mac, end.size
	if end.size == info.Size() {
		return nil
	}
	if err := f.Truncate(end.size); err != nil {
		return fmt.Errorf("cut incomplete record off %s: %w", j.path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cut incomplete record off %s: %w", j.path, err)
	}
	return nil
}

// position is how far a walk came.
type position struct {
	header header
	seq    uint64
	mac    mac
	size   int64
}

// walk reads the first size bytes of r, checks every record and hands it to
// visit, when there is one.
func (j *Journal) walk(r io.ReaderAt, size int64, visit func(seq uint64, payload, prev, mac []byte) error) (position, error) {
	lines := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), maxLine)
	tampered := func(seq uint64, reason string) error {
		return &TamperedError{File: j.path, Seq: seq, Reason: reason}
	}
	chain := j.keys.chain()
	var at position
	first, err := lines.ReadSlice('\n')
	if err != nil {
		// The header is there from the file's first moment: see create.
		return at, tampered(0, "it has no header")
	}
	if at.header, err = j.keys.parseHeader(first); err != nil {
		return at, tampered(0, err.Error())
	}
	at.seq, at.mac, at.size = at.header.Base, at.header.BaseMAC, int64(len(first))
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case err == io.EOF: // line, if any, is the incomplete last one
			return at, nil
		case errors.Is(err, bufio.ErrBufferFull):
			if lastLine(lines, err) {
				return at, nil
			}
			return at, tampered(at.seq+1, "it is longer than any record")
		case err != nil:
			return at, fmt.Errorf("read journal: %w", err)
		}
		rec, err := chain.parseRecord(line, at.seq, at.mac)
		if err != nil {
			return at, tampered(at.seq+1, err.Error())
		}
		if visit != nil {
			if err := visit(rec.seq, rec.payload, at.mac[:], rec.mac[:]); err != nil {
				return at, err
			}
		}
		at.seq, at.mac, at.size = rec.seq, rec.mac, at.size+int64(len(line))
	}
}

// lastLine says whether the file ends without another line break: some file
// systems leave a long run of zeros behind a crash.
func lastLine(lines *bufio.Reader, err error) bool {
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = lines.ReadSlice('\n')
	}
	return err == io.EOF
}

// Append adds a record and returns its number when it is on disk. The payload
// holds no line break. After an error the record may or may not be there:
// whoever uses Append to claim something has not claimed it, and must not try
// the same claim again before a Replay.
func (j *Journal) Append(ctx context.Context, payload []byte) (seq uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	seq, err = j.AppendLazy(payload)
	if err != nil {
		return 0, err
	}
	return seq, j.sync(ctx, seq)
}

// AppendLazy adds a record that survives this process at once, and the machine
// from the next Append or Close on.
func (j *Journal) AppendLazy(payload []byte) (seq uint64, err error) {
	if len(payload) > MaxPayload || bytes.IndexByte(payload, '\n') >= 0 {
		return 0, ErrPayload
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return 0, j.failed
	}
	next := j.seq + 1
	mac := j.chain.next(j.mac, next, payload)
	j.line = appendRecord(j.line[:0], next, mac, payload)
	if _, err := j.file.Write(j.line); err != nil {
		// Take half a line back, or the next one would make it whole.
		if terr := j.file.Truncate(j.size); terr != nil {
			j.failed = fmt.Errorf("journal is unusable until the next start: %w", errors.Join(err, terr))
		}
		return 0, fmt.Errorf("append to journal: %w", err)
	}
	j.seq, j.mac, j.size = next, mac, j.size+int64(len(j.line))
	return next, nil
}

// sync returns when record seq is on disk.
func (j *Journal) sync(ctx context.Context, seq uint64) error {
	select {
	case j.syncing <- struct{}{}:
		defer func() { <-j.syncing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return j.syncAll(seq)
}

// syncAll syncs what has been written if seq is not on disk yet. The caller
// holds syncing.
func (j *Journal) syncAll(seq uint64) error {
	j.mu.Lock()
	file, written, synced, failed := j.file, j.seq, j.synced, j.failed
	j.mu.Unlock()
	if synced >= seq {
		return nil // somebody else's fsync covered it
	}
	if failed != nil {
		return failed
	}
	err := file.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		// After a failed fsync the kernel may have dropped what it could not
		// write, and a second fsync would lie.
		j.failed = fmt.Errorf("journal is unusable until the next start: %w", err)
		return j.failed
	}
	j.synced = written
	j.syncs++
	return nil
}

// Replay calls fn for each record, oldest first, checking the chain as it
// goes. The slices are valid during the call only. Records added meanwhile may
// be missing.
func (j *Journal) Replay(fn func(seq uint64, payload, prev, mac []byte) error) error {
	f, size, err := j.reopen()
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := j.walk(f, size, fn)
	if err == nil && end.size != size {
		err = &TamperedError{File: j.path, Seq: end.seq + 1, Reason: "it is cut short"}
	}
	return err
}

// reopen opens the file a second time, so that reading needs no lock and a
// Rewrite does not disturb it. The number of bytes is what this journal wrote:
// a file that was exchanged or cut since is found out.
func (j *Journal) reopen() (*os.File, int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(j.failed, ErrClosed) {
		return nil, 0, ErrClosed
	}
	f, err := os.OpenFile(j.path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("read journal: %w", err)
	}
	return f, j.size, nil
}

// Size is the size of the file in bytes.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}

// Head is the last record's number and MAC; before the first record, 0 and
// zeros.
func (j *Journal) Head() (seq uint64, mac []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq, bytes.Clone(j.mac[:])
}

// Close syncs and closes the journal.
func (j *Journal) Close() error {
	j.syncing <- struct{}{}
	defer func() { <-j.syncing }()
	j.mu.Lock()
	seq, failed := j.seq, j.failed
	j.mu.Unlock()
	if errors.Is(failed, ErrClosed) {
		return nil
	}
	err := j.syncAll(seq)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed = ErrClosed
	return errors.Join(err, j.file.Close())
}
