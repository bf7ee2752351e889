package tpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"countersign.dev/authenticators/devicekey"
)

// persistentSRK is where systems keep an SRK for everybody (TCG, "Registry of
// Reserved TPM 2.0 Handles and Localities").
const persistentSRK = tpm2.TPMHandle(0x81000001)

// root finds the storage root key: the one of that name, or for a new key
// (nil) any that fits. The TPM makes it again from its owner seed each time, so
// nothing has to be kept; one that the system keeps is as good, and quicker.
//
// Not finding the one of a name means that what it keeps is lost. ek is the
// name of the endorsement key of the TPM that made it: that outlives clearing,
// and tells a TPM that was cleared from another one.
func (l *link) root(want, ek []byte) (*root, error) {
	if l.storer != nil && (want == nil || bytes.Equal(l.storer.name, want)) {
		return l.storer, nil
	}
	if err := l.leaveRoot(); err != nil {
		return nil, err
	}
	kept, err := l.keptRoot()
	if err != nil {
		return nil, err
	}
	if kept != nil && (want == nil || bytes.Equal(kept.name, want)) {
		l.storer = kept
		return kept, nil
	}
	made, err := l.makeRoot()
	if err != nil {
		return nil, err
	}
	if want == nil || bytes.Equal(made.name, want) {
		l.storer = made
		return made, nil
	}
	// Said only of a TPM that says the same twice.
	if err := l.flush(made.handle); err != nil {
		return nil, err
	}
	twice, err := l.makeRoot()
	if err != nil {
		return nil, err
	}
	if err := l.flush(twice.handle); err != nil {
		return nil, err
	}
	if !bytes.Equal(twice.name, made.name) {
		return nil, fmt.Errorf("%w: it makes another storage root key each time", errGarbage)
	}
	return nil, l.gone(ek)
}

// leaveRoot makes room for another root key, and ends what was salted to it.
func (l *link) leaveRoot() error {
	if l.storer == nil {
		return nil
	}
	if err := l.unload(); err != nil {
		return err
	}
	if s := l.talk; s != nil {
		l.talk = nil
		s.wipe()
		if err := l.flush(s.handle); err != nil {
			return err
		}
	}
	h := l.storer.handle
	l.storer = nil
	if h == persistentSRK {
		return nil
	}
	return l.flush(h)
}

// keptRoot is the SRK that the system keeps; nil when there is none that fits.
func (l *link) keptRoot() (*root, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: persistentSRK}.Execute(l)
	var code tpm2.TPMRC
	if errors.As(err, &code) {
		switch {
		case errors.Is(code, tpm2.TPMRCHandle), errors.Is(code, tpm2.TPMRCValue), errors.Is(code, tpm2.TPMRCReferenceH0):
			return nil, nil // nobody there
		}
	}
	if err != nil {
		return nil, fmt.Errorf("look for a storage root key: %w", err)
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	if fits(public) != nil {
		return nil, nil // often an RSA key
	}
	return rooted(persistentSRK, public, rsp.Name.Buffer)
}

func (l *link) makeRoot() (*root, error) {
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner, // with an empty password; nothing in it is secret
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(l)
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return nil, l.tpm.refuse(devicekey.OwnerAuthSet, err)
	}
	if err != nil {
		return nil, fmt.Errorf("make the storage root key: %w", err)
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	if err := fits(public); err != nil {
		return nil, fmt.Errorf("%w: storage root key: %w", errGarbage, err)
	}
	return rooted(rsp.ObjectHandle, public, rsp.Name.Buffer)
}

func rooted(h tpm2.TPMHandle, public *tpm2.TPMTPublic, name []byte) (*root, error) {
	own, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	if !bytes.Equal(own.Buffer, name) {
		return nil, fmt.Errorf("%w: a storage root key under another name", errGarbage)
	}
	return &root{handle: h, name: name, public: *public}, nil
}

// fits says why a public part is not that of an SRK of our template: what is
// salted to anything else might be read by whoever made it.
func fits(public *tpm2.TPMTPublic) error {
	point, err := public.Unique.ECC()
	if err != nil {
		return errors.New("not an ECC key")
	}
	same := *public
	same.Unique = tpm2.ECCSRKTemplate.Unique
	if !bytes.Equal(tpm2.Marshal(same), tpm2.Marshal(tpm2.ECCSRKTemplate)) {
		return errors.New("not of the standard template")
	}
	_, err = publicKey(point)
	return err
}

// endorsement is the name of the TPM's endorsement key; nil when it cannot be
// known, e.g. since somebody has given that hierarchy a password.
func (l *link) endorsement() ([]byte, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.ECCEKTemplate)}.Execute(l)
	var code tpm2.TPMRC
	if errors.As(err, &code) && !noRoom(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make the endorsement key: %w", err)
	}
	if err := l.flush(rsp.ObjectHandle); err != nil {
		return nil, err
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	own, err := tpm2.ObjectName(public)
	if err != nil || !bytes.Equal(own.Buffer, rsp.Name.Buffer) {
		return nil, fmt.Errorf("%w: an endorsement key under another name", errGarbage)
	}
	return own.Buffer, nil
}

// endorsementOf is endorsement, asked once for a root key.
func (l *link) endorsementOf(r *root) ([]byte, error) {
	if bytes.Equal(l.tpm.knownRoot, r.name) {
		return l.tpm.knownEK, nil
	}
	ek, err := l.endorsement()
	if err != nil {
		return nil, err
	}
	l.tpm.knownRoot, l.tpm.knownEK = r.name, ek
	return ek, nil
}

// gone says why what was made under another root key is lost.
func (l *link) gone(ek []byte) error {
	now, err := l.endorsement()
	if err != nil {
		return err
	}
	if len(ek) != 0 && len(now) != 0 && !bytes.Equal(ek, now) {
		return l.tpm.refuse(devicekey.OtherDevice, errors.New("another endorsement key"))
	}
	return l.tpm.refuse(devicekey.Cleared, errors.New("another storage root key"))
}
