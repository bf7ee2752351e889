package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
)

// meddler sits on the bus between the agent and its TPM: it hears everything and
// may change it.
type meddler struct {
	door

	mu     sync.Mutex
	heard  [][]byte // commands and answers, as they passed
	codes  []tpm2.TPMCC
	meddle func(m *exchange) ([]byte, error) // nil lets all pass
	shut   error                             // of open and probe
}

// exchange is one command and what becomes of it.
type exchange struct {
	n       int // counted since the last reset
	code    tpm2.TPMCC
	command []byte
	pass    func() ([]byte, error) // has the TPM answer
}

// meddled returns the agent's side of a TPM with somebody in between.
func meddled(t testing.TB, x *tpmtest.TPM) (*TPM, *meddler) {
	t.Helper()
	c := open(t, x)
	m := &meddler{door: c.door}
	c.door = m
	return c, m
}

func (m *meddler) probe() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut != nil {
		return m.shut
	}
	return m.door.probe()
}

func (m *meddler) open() (port, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut != nil {
		return nil, m.shut
	}
	p, err := m.door.open()
	return meddlerPort{m, p}, err
}

// reset forgets what was heard, and meddles from now on.
func (m *meddler) reset(meddle func(*exchange) ([]byte, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard, m.codes, m.meddle, m.shut = nil, nil, meddle, nil
}

// vanish makes the TPM one that is not there.
func (m *meddler) vanish(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shut = err
}

// passed lists the commands since the last reset.
func (m *meddler) passed() []tpm2.TPMCC {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]tpm2.TPMCC(nil), m.codes...)
}

// hears says whether any of it has passed in the clear.
func (m *meddler) hears(what []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.heard {
		if bytes.Contains(b, what) {
			return true
		}
	}
	return false
}

type meddlerPort struct {
	m *meddler
	port
}

func (p meddlerPort) send(ctx context.Context, command []byte) ([]byte, error) {
	e := &exchange{command: command, code: tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))}
	e.pass = func() ([]byte, error) { return p.port.send(ctx, command) }
	p.m.mu.Lock()
	e.n = len(p.m.codes)
	p.m.codes = append(p.m.codes, e.code)
	p.m.heard = append(p.m.heard, bytes.Clone(command))
	meddle, shut := p.m.meddle, p.m.shut
	p.m.mu.Unlock()
	if shut != nil {
		return nil, shut
	}
	var answer []byte
	var err error
	if meddle == nil {
		answer, err = e.pass()
	} else {
		answer, err = meddle(e)
	}
	p.m.mu.Lock()
	p.m.heard = append(p.m.heard, bytes.Clone(answer))
	p.m.mu.Unlock()
	return answer, err
}

// says is the answer of a TPM that refuses.
func says(code tpm2.TPMRC) []byte {
	b := []byte{0x80, 0x01, 0, 0, 0, headerSize}
	return binary.BigEndian.AppendUint32(b, uint32(code))
}
