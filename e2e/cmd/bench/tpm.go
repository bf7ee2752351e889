package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
	"countersign.dev/okta"
)

// tpmSigns compares a signature of the agent's key in a TPM with what go-tpm
// makes by itself on the same one: a key that stays loaded, in a session that is
// kept, salted like the agent's or plain.
func (b *bench) tpmSigns() ([]row, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "cs-tpm-") // a socket's path has to be short
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	chip, err := tpmtest.Start(dir)
	if err != nil {
		return nil, err
	}
	defer chip.Kill()
	if err := chip.KeepRoot(); err != nil { // all three keys have room at once then
		return nil, err
	}

	ours := tpm.New(tpm.Options{Address: chip.Socket})
	defer ours.Close()
	key, _, err := tpm.NewStore(ours, &memory{}).Create(ctx, devicekey.Spec{Role: okta.KeyProofOfPossession})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("bench"))
	raw, err := newRawKey(chip)
	if err != nil {
		return nil, err
	}
	salted, closeSalted, err := raw.session(chip, true)
	if err != nil {
		return nil, err
	}
	defer closeSalted()
	plain, closePlain, err := raw.session(chip, false)
	if err != nil {
		return nil, err
	}
	defer closePlain()

	times := make([][]time.Duration, 3)
	for range b.n * b.rounds {
		for i, sign := range []func() error{
			func() error { _, err := key.Sign(ctx, digest[:], devicekey.Authorisation{}); return err },
			func() error { return raw.sign(chip, salted, digest[:]) },
			func() error { return raw.sign(chip, plain, digest[:]) },
		} { // in turn, so that all see the same other load
			began := time.Now()
			if err := sign(); err != nil {
				return nil, err
			}
			times[i] = append(times[i], time.Since(began))
		}
	}
	p50 := func(i int) float64 {
		slices.Sort(times[i])
		return times[i][len(times[i])/2].Seconds() * 1000
	}
	us, same, bare := p50(0), p50(1), p50(2)
	text := func(ms float64) string { return fmt.Sprintf("%.2f ms", ms) }
	return []row{
		{what: "8 a signature by a key in the TPM, p50 / go-tpm, salted", ours: text(us), floor: text(same), ratio: us / same, goal: 1.3, atMost: true, gate: true},
		{what: "8 the same / go-tpm, plain session", ours: text(us), floor: text(bare), ratio: us / bare, goal: 1.5, atMost: true},
	}, nil
}

// rawKey is a key that go-tpm alone looks after.
type rawKey struct {
	srk    tpm2.TPMHandle
	public tpm2.TPMTPublic // of the SRK
	key    tpm2.NamedHandle
}

func newRawKey(t transport.TPM) (*rawKey, error) {
	srk, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(0x81000001)}.Execute(t)
	if err != nil {
		return nil, err
	}
	public, err := srk.OutPublic.Contents()
	if err != nil {
		return nil, err
	}
	parent := tpm2.NamedHandle{Handle: 0x81000001, Name: srk.Name}
	made, err := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, SignEncrypt: true, NoDA: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
	})}.Execute(t)
	if err != nil {
		return nil, err
	}
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(t)
	if err != nil {
		return nil, err
	}
	return &rawKey{0x81000001, *public, tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name}}, nil
}

func (k *rawKey) session(t transport.TPM, salted bool) (tpm2.Session, func() error, error) {
	if !salted {
		return tpm2.HMACSession(t, tpm2.TPMAlgSHA256, 16)
	}
	return tpm2.HMACSession(t, tpm2.TPMAlgSHA256, 16, tpm2.Salted(k.srk, k.public))
}

func (k *rawKey) sign(t transport.TPM, s tpm2.Session, digest []byte) error {
	_, err := tpm2.Sign{
		KeyHandle: tpm2.AuthHandle{Handle: k.key.Handle, Name: k.key.Name, Auth: s},
		Digest:    tpm2.TPM2BDigest{Buffer: digest},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
	}.Execute(t)
	return err
}

// memory is a vault that lasts for the bench.
type memory struct {
	mu    sync.Mutex
	rooms map[string][]byte
}

func (m *memory) Load(room string, dst any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.rooms[room]
	if !ok {
		return fs.ErrNotExist
	}
	return json.Unmarshal(data, dst)
}

func (m *memory) Save(room string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rooms == nil {
		m.rooms = map[string][]byte{}
	}
	m.rooms[room] = bytes.Clone(data)
	return nil
}

func (*memory) Locked() bool { return false }
