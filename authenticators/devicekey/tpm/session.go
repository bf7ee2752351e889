package tpm

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// session is an HMAC session salted to the SRK (TPM 2.0 Part 1, 17 to 21). It
// is go-tpm's with two differences: what it proves and encrypts is said at each
// use, so one session serves keys with and without a secret; and of an auth
// value only trailing zeros are left out, as the TPM does, not all that follows
// the first zero.
type session struct {
	handle      tpm2.TPMHandle
	key         []byte
	nonceCaller []byte
	nonceTPM    []byte
	// Of the one command that it is used for next:
	auth  []byte
	attrs tpm2.TPMASession
}

// use says what the next command is for.
type use int

const (
	plain      use = iota // nothing in it is secret; its answer is protected all the same
	encryptIn             // its first parameter is
	encryptOut            // the first parameter of its answer is
	audited               // for commands that authorise nothing: protects the answer
)

const nonceSize = 16

// startSession salts a session to a key of the TPM's.
func startSession(l *link, root *root) (*session, error) {
	key, err := tpm2.ImportEncapsulationKey(&root.public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	salt, encrypted, err := tpm2.CreateEncryptedSalt(rand.Reader, key)
	if err != nil {
		return nil, fmt.Errorf("salt a session: %w", err)
	}
	defer clear(salt)
	s := &session{nonceCaller: make([]byte, nonceSize)}
	rand.Read(s.nonceCaller)
	rsp, err := tpm2.StartAuthSession{
		TPMKey: root.handle, Bind: tpm2.TPMRHNull,
		NonceCaller:   tpm2.TPM2BNonce{Buffer: s.nonceCaller},
		EncryptedSalt: tpm2.TPM2BEncryptedSecret{Buffer: encrypted},
		SessionType:   tpm2.TPMSEHMAC, AuthHash: tpm2.TPMAlgSHA256,
		Symmetric: tpm2.TPMTSymDef{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(128)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
	}.Execute(l)
	if err != nil {
		return nil, fmt.Errorf("start a session: %w", err)
	}
	if len(rsp.NonceTPM.Buffer) < nonceSize {
		return nil, fmt.Errorf("%w: a nonce of %d bytes", errGarbage, len(rsp.NonceTPM.Buffer))
	}
	s.handle, s.nonceTPM = tpm2.TPMHandle(rsp.SessionHandle.HandleValue()), rsp.NonceTPM.Buffer
	s.key = tpm2.KDFa(crypto.SHA256, salt, "ATH", s.nonceTPM, s.nonceCaller, 256)
	return s, nil
}

// with prepares the session for one command. auth is what the command's first
// handle demands, if anything.
func (s *session) with(auth []byte, uses ...use) *session {
	s.auth, s.attrs = auth, tpm2.TPMASession{ContinueSession: true}
	for _, u := range uses {
		switch u {
		case encryptIn:
			s.attrs.Decrypt = true
		case encryptOut:
			s.attrs.Encrypt = true
		case audited:
			s.attrs.Audit = true
		}
	}
	return s
}

func (s *session) wipe() { clear(s.key) }

func (*session) Init(transport.TPM) error           { return nil }
func (*session) CleanupFailure(transport.TPM) error { return nil }
func (s *session) NonceTPM() tpm2.TPM2BNonce        { return tpm2.TPM2BNonce{Buffer: s.nonceTPM} }
func (s *session) IsEncryption() bool               { return s.attrs.Encrypt }
func (s *session) IsDecryption() bool               { return s.attrs.Decrypt }
func (s *session) Handle() tpm2.TPMHandle           { return s.handle }

func (s *session) NewNonceCaller() error {
	rand.Read(s.nonceCaller)
	return nil
}

// Authorize proves to the TPM who sends the command.
func (s *session) Authorize(cc tpm2.TPMCC, parms, addNonces []byte, names []tpm2.TPM2BName, _ int) (*tpm2.TPMSAuthCommand, error) {
	h := crypto.SHA256.New()
	h.Write(be32(uint32(cc)))
	for _, name := range names {
		h.Write(name.Buffer)
	}
	h.Write(parms)
	mac := s.mac(h.Sum(nil), s.nonceCaller, s.nonceTPM, addNonces, s.attrs)
	return &tpm2.TPMSAuthCommand{
		Handle: s.handle, Nonce: tpm2.TPM2BNonce{Buffer: s.nonceCaller}, Attributes: s.attrs,
		Authorization: tpm2.TPM2BData{Buffer: mac},
	}, nil
}

// Validate has the TPM prove that the answer is its own, and to this command.
func (s *session) Validate(rc tpm2.TPMRC, cc tpm2.TPMCC, parms []byte, _ []tpm2.TPM2BName, _ int, auth *tpm2.TPMSAuthResponse) error {
	h := crypto.SHA256.New()
	h.Write(be32(uint32(rc)))
	h.Write(be32(uint32(cc)))
	h.Write(parms)
	mac := s.mac(h.Sum(nil), auth.Nonce.Buffer, s.nonceCaller, nil, auth.Attributes)
	if !hmac.Equal(mac, auth.Authorization.Buffer) {
		return errors.New("the answer is not authentic")
	}
	want := s.attrs
	want.AuditExclusive = s.attrs.Audit && auth.Attributes.AuditExclusive
	if auth.Attributes != want { // reserved bits too, which the proof does not cover
		return errors.New("the answer has other attributes than were asked for")
	}
	s.nonceTPM = bytes.Clone(auth.Nonce.Buffer)
	return nil
}

func (s *session) mac(hash, newer, older, add []byte, attrs tpm2.TPMASession) []byte {
	mac := hmac.New(crypto.SHA256.New, append(bytes.Clone(s.key), bytes.TrimRight(s.auth, "\x00")...))
	for _, part := range [][]byte{hash, newer, older, add, {attributes(attrs)}} {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// attributes is TPMA_SESSION as it goes over the wire (Part 2, 8.4).
func attributes(a tpm2.TPMASession) byte {
	var b byte
	for bit, on := range [8]bool{a.ContinueSession, a.AuditExclusive, a.AuditReset, false, false, a.Decrypt, a.Encrypt, a.Audit} {
		if on {
			b |= 1 << bit
		}
	}
	return b
}

// Encrypt hides a parameter on its way to the TPM.
func (s *session) Encrypt(parameter []byte) error {
	block, iv, err := s.cfb(s.nonceCaller, s.nonceTPM)
	if err != nil {
		return err
	}
	//lint:ignore SA1019 the TPM's parameter encryption is AES-CFB; the HMAC over it authenticates
	cipher.NewCFBEncrypter(block, iv).XORKeyStream(parameter, parameter)
	return nil
}

// Decrypt reads a parameter that the TPM has hidden.
func (s *session) Decrypt(parameter []byte) error {
	block, iv, err := s.cfb(s.nonceTPM, s.nonceCaller)
	if err != nil {
		return err
	}
	//lint:ignore SA1019 see Encrypt
	cipher.NewCFBDecrypter(block, iv).XORKeyStream(parameter, parameter)
	return nil
}

func (s *session) cfb(newer, older []byte) (cipher.Block, []byte, error) {
	value := append(bytes.Clone(s.key), s.auth...)
	defer clear(value)
	keyIV := tpm2.KDFa(crypto.SHA256, value, "CFB", newer, older, 256)
	block, err := aes.NewCipher(keyIV[:16])
	return block, keyIV[16:], err
}
