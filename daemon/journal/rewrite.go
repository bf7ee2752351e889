package journal

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"countersign.dev/daemon/internal/statefile"
)

// Rewrite drops the records that keep says no to, oldest first. Records keep
// their numbers. Dropping only the oldest ones leaves the others' MACs as they
// were too: the new header vouches for the last one dropped. The file is
// replaced whole, so a crash leaves the old journal or the new one. keep must
// not use the journal.
func (j *Journal) Rewrite(keep func(payload []byte) bool) error {
	j.syncing <- struct{}{}
	defer func() { <-j.syncing }()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return j.failed
	}
	if err := j.rewrite(keep); err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	return nil
}

func (j *Journal) rewrite(keep func(payload []byte) bool) error {
	next := header{Generation: j.header.Generation + 1, Base: j.header.Base, BaseMAC: j.header.BaseMAC}
	var records []byte
	kept := false
	var last mac
	end, err := j.walk(j.file, j.size, func(seq uint64, payload, _, m []byte) error {
		if !keep(payload) {
			if !kept {
				next.Base, next.BaseMAC = seq, mac(m)
			}
			return nil
		}
		if !kept {
			kept, last = true, next.BaseMAC
		}
		last = j.chain.next(last, seq, payload)
		records = appendRecord(records, seq, last, payload)
		return nil
	})
	if err == nil && end.size != j.size {
		err = &TamperedError{File: j.path, Seq: end.seq + 1, Reason: "it is cut short"}
	}
	if err != nil {
		return err
	}
	if err := j.create(next, records); err != nil {
		return err
	}
	// From here on the old file is no longer the journal: without the new one
	// open, nothing more may be written.
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_APPEND|openFlags, 0)
	if err == nil {
		if end, err = j.walk(f, fileSize(f), nil); err != nil {
			f.Close()
		}
	}
	if err != nil {
		j.failed = fmt.Errorf("journal is unusable until the next start: %w", err)
		return j.failed
	}
	j.file.Close()
	j.file = f
	j.header, j.mac, j.size = end.header, end.mac, end.size
	// The numbers go on from where they were, whatever was dropped at the end.
	j.synced = j.seq
	return nil
}

func fileSize(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// create puts a journal with the given header and records in place of what is
// there.
func (j *Journal) create(h header, records []byte) (err error) {
	root, err := os.OpenRoot(filepath.Dir(j.path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return statefile.ReplaceIn(root, filepath.Base(j.path), func(f *os.File) error {
		w := bufio.NewWriter(f)
		w.Write(j.keys.appendHeader(nil, h))
		w.Write(records)
		return w.Flush()
	})
}
