package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// link is an open TPM with what we have in it. It belongs to whoever holds the
// turn.
type link struct {
	tpm   *TPM
	port  port
	ctx   context.Context // of the operation under way
	tried bool            // it has sent what a wrong secret is counted for
	// Nobody waits for the answers any more, so they may be lost.
	tidying bool

	ours   map[tpm2.TPMHandle]bool // what the TPM has given us and not taken back
	storer *root
	talk   *session // salted to storer
	object *object  // the one that stays while we are busy
}

// root is a storage root key.
type root struct {
	handle tpm2.TPMHandle
	name   []byte
	public tpm2.TPMTPublic
}

func (r *root) named() tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: r.handle, Name: tpm2.TPM2BName{Buffer: r.name}}
}

// object is a key or a sealed secret that lies in the TPM.
type object struct {
	handle  tpm2.TPMHandle
	name    tpm2.TPM2BName
	private string // which it is
}

func newLink(t *TPM, p port) *link {
	return &link{tpm: t, port: p, ctx: t.base, ours: map[tpm2.TPMHandle]bool{}}
}

// Sizes and tags of answers (Part 1, 18; Part 2, 6.9).
const (
	headerSize = 10
	maxAnswer  = 4096
	tag12      = 0x00C4 // what a TPM 1.2 begins its answers with
)

// Send is transport.TPM for go-tpm: it sends one command, again while the TPM
// says that it could not begin with it, and keeps book of what the TPM gives us.
// An operation whose caller has left ends here, between two commands.
func (l *link) Send(command []byte) ([]byte, error) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		if err := l.ctx.Err(); err != nil {
			return nil, err
		}
		answer, code, err := l.exchange(command)
		if err != nil {
			return nil, err
		}
		if !again(code) {
			l.book(command, answer, code)
			return answer, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
			return answer, nil // the caller sees what the TPM said last
		}
	}
}

// exchange sends a command and checks the form of the answer.
func (l *link) exchange(command []byte) ([]byte, tpm2.TPMRC, error) {
	ctx := l.tpm.base // not the caller's, who may leave: what it made would be lost
	if l.tidying {
		ctx = l.ctx
	}
	ctx, cancel := context.WithTimeout(ctx, cmdTimeout)
	defer cancel()
	answer, err := l.port.send(ctx, command)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errPort, err)
	}
	if len(answer) < headerSize || len(answer) > maxAnswer || int(binary.BigEndian.Uint32(answer[2:])) != len(answer) {
		return nil, 0, fmt.Errorf("%w: %d bytes", errGarbage, len(answer))
	}
	tag, code := tpm2.TPMST(binary.BigEndian.Uint16(answer)), tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:]))
	switch {
	case tag == tag12:
		return nil, 0, errTooOld
	case code == tpm2.TPMRCSuccess && (tag == tpm2.TPMSTSessions || tag == tpm2.TPMSTNoSessions) && tag == tpm2.TPMST(binary.BigEndian.Uint16(command)):
	case code != tpm2.TPMRCSuccess && tag == tpm2.TPMSTNoSessions && len(answer) == headerSize:
	default:
		return nil, 0, fmt.Errorf("%w: tag %04x, code %x, %d bytes", errGarbage, uint16(tag), uint32(code), len(answer))
	}
	return answer, code, nil
}

// again says whether the TPM wants the same command once more. It has not begun
// with it.
func again(code tpm2.TPMRC) bool {
	switch code {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate:
		return true
	}
	return false
}

// book remembers handles by the bytes alone: an answer that turns out to be
// forged later has still left something in the TPM.
func (l *link) book(command, answer []byte, code tpm2.TPMRC) {
	if code != tpm2.TPMRCSuccess {
		return
	}
	switch tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) {
	case tpm2.TPMCCCreatePrimary, tpm2.TPMCCLoad, tpm2.TPMCCStartAuthSession:
		if len(answer) >= headerSize+4 {
			l.ours[tpm2.TPMHandle(binary.BigEndian.Uint32(answer[headerSize:]))] = true
		}
	case tpm2.TPMCCFlushContext:
		if len(command) >= headerSize+4 {
			delete(l.ours, tpm2.TPMHandle(binary.BigEndian.Uint32(command[headerSize:])))
		}
	}
}

func (l *link) flush(h tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(l); err != nil {
		return fmt.Errorf("flush %08x: %w", uint32(h), err)
	}
	return nil
}

// flushAll forgets everything. What a resource manager looks after goes with
// the connection.
func (l *link) flushAll() error {
	if l.talk != nil {
		l.talk.wipe()
	}
	l.storer, l.talk, l.object = nil, nil, nil
	if l.port.managed() {
		return nil
	}
	var errs []error
	for h := range l.ours {
		if err := l.flush(h); err != nil {
			if errors.Is(err, errPort) {
				return err // the TPM is gone, and what it held with it
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sweep flushes all that lies in a TPM without a resource manager, after
// something went wrong. Such a TPM has one user, and there may be things in it
// that we know no handle of: of a lost answer, or of an agent that was killed.
func (l *link) sweep() error {
	for _, first := range []tpm2.TPMHandle{0x80000000, 0x02000000, 0x03000000} {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(first), PropertyCount: 64}.Execute(l)
		if err != nil {
			return fmt.Errorf("look for what was left behind: %w", err)
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return fmt.Errorf("%w: %w", errGarbage, err)
		}
		for _, h := range list.Handle {
			if h>>24 == first>>24 {
				_ = l.flush(h) // gone meanwhile, or will be said by the next command
			}
		}
	}
	return nil
}

// session is the salted session.
func (l *link) session() (*session, error) {
	if l.talk != nil {
		return l.talk, nil
	}
	if l.storer == nil {
		return nil, errors.New("a session needs a storage root key")
	}
	s, err := startSession(l, l.storer)
	if err != nil {
		return nil, err
	}
	l.talk = s
	return s, nil
}

// load puts an object into the TPM, or finds it there. Only one stays.
func (l *link) load(r *root, public *tpm2.TPMTPublic, private []byte) (*object, error) {
	if l.object != nil && l.object.private == string(private) {
		return l.object, nil
	}
	if err := l.unload(); err != nil {
		return nil, err
	}
	s, err := l.session()
	if err != nil {
		return nil, err
	}
	want, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, err
	}
	rsp, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: r.handle, Name: tpm2.TPM2BName{Buffer: r.name}, Auth: s.with(nil, encryptIn)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: private},
		InPublic:     tpm2.New2B(*public),
	}.Execute(l)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if !bytes.Equal(rsp.Name.Buffer, want.Buffer) {
		return nil, fmt.Errorf("%w: another object was loaded", errGarbage)
	}
	l.object = &object{handle: rsp.ObjectHandle, name: rsp.Name, private: string(private)}
	return l.object, nil
}

func (l *link) unload() error {
	if l.object == nil {
		return nil
	}
	h := l.object.handle
	l.object = nil
	return l.flush(h)
}

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
