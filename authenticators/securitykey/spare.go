package securitykey

import (
	"errors"
	"os"
	"time"

	"countersign.dev/authenticators/securitykey/wire"
)

// spareTime is how long a helper that was started ahead waits for its request. It
// gives up by itself a little later.
const spareTime = 8 * time.Second

// spare is a helper that was started ahead of the operation that it is for: to
// start takes longer than to sign. It knows nothing yet, and has opened nothing.
type spare struct {
	p    *process
	file os.FileInfo // of its program
	over *time.Timer
}

// begin gives a helper that has its request: the spare one, or a new one. It gives
// none for a request that is too long.
func (ks *Keys) begin(path string, req *wire.Request) (*process, error) {
	if s := ks.takeSpare(); s != nil {
		if sameProgram(s.file, path) && s.p.ask(req) == nil {
			return s.p, nil
		}
		s.drop() // it was of another version, or had ended: nobody has read the request
	}
	p, err := start(path)
	if err != nil {
		return nil, err
	}
	if err := p.ask(req); errors.Is(err, wire.ErrTooLong) {
		p.kill()
		p.wait()
		return nil, nil
	}
	return p, nil // one that did not read has no result, either
}

// ask sends the request. A helper that does not read is ended: a pipe does not hold
// the longest requests.
func (p *process) ask(req *wire.Request) error {
	deaf := time.AfterFunc(dying, p.kill)
	defer deaf.Stop()
	return wire.Write(p.stdin, req)
}

// ahead starts a spare helper, if there is none.
func (ks *Keys) ahead(path string) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.spare != nil || ks.closed {
		return
	}
	file, err := os.Lstat(path)
	if err != nil {
		return // whoever needs one will say so
	}
	p, err := start(path)
	if err != nil {
		return
	}
	s := &spare{p: p, file: file}
	s.over = time.AfterFunc(ks.spareTime, func() {
		ks.mu.Lock()
		mine := ks.spare == s
		if mine {
			ks.spare = nil
		}
		ks.mu.Unlock()
		if mine {
			s.drop()
		}
	})
	ks.spare = s
}

// sameProgram says whether the program at path is still the one it was.
func sameProgram(was os.FileInfo, path string) bool {
	is, err := os.Lstat(path)
	return err == nil && os.SameFile(was, is) && was.ModTime().Equal(is.ModTime()) && was.Size() == is.Size()
}

func (ks *Keys) takeSpare() *spare {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	s := ks.spare
	if ks.spare = nil; s != nil {
		s.over.Stop()
	}
	return s
}

// drop ends a spare that is not needed: its input ends, and so does it.
func (s *spare) drop() {
	s.p.kill()
	s.p.wait()
}

// Close ends what was started ahead. Operations end by their contexts.
func (ks *Keys) Close() {
	ks.mu.Lock()
	ks.closed = true
	ks.mu.Unlock()
	if s := ks.takeSpare(); s != nil {
		s.drop()
	}
}
