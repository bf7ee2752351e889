package tpm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// maxSecret is what every TPM can seal (Part 2, MAX_SYM_DATA).
const maxSecret = 128

// blob is a sealed secret. Nothing in it is secret: only the TPM that made it
// opens it, until that is cleared.
type blob struct {
	Version int    `json:"version"` // 1
	SRK     []byte `json:"srk"`     // name of the storage root key it lies under
	EK      []byte `json:"ek,omitempty"`
	Public  []byte `json:"public"`  // TPMT_PUBLIC
	Private []byte `json:"private"` // TPM2B_PRIVATE
}

const (
	blobVersion = 1
	maxPart     = 1024
	nameSize    = 2 + 32 // of an object whose name algorithm is SHA-256
)

// sealTemplate is the public part of a sealed secret, but for its digest. It is
// outside the dictionary-attack protection: it demands no secret that could be
// guessed.
func sealTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}),
	}
}

// Seal has the TPM seal a secret of up to 128 bytes. The blob may be shown to
// anybody.
func (t *TPM) Seal(ctx context.Context, secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > maxSecret {
		return nil, fmt.Errorf("seal a secret of %d bytes: at most %d", len(secret), maxSecret)
	}
	own := bytes.Clone(secret) // the caller may leave before we do
	b, err := run(ctx, t, op[*blob]{
		do:   func(l *link) (*blob, error) { return l.seal(own) },
		done: func() { clear(own) },
	})
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return json.Marshal(b)
}

func (l *link) seal(secret []byte) (*blob, error) {
	r, err := l.root(nil, nil)
	if err != nil {
		return nil, err
	}
	ek, err := l.endorsementOf(r)
	if err != nil {
		return nil, err
	}
	made, err := l.create(r, sealTemplate(), tpm2.TPMSSensitiveCreate{
		Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
	})
	if err != nil {
		return nil, err
	}
	return &blob{Version: blobVersion, SRK: r.name, EK: ek, Public: made.public, Private: made.private}, nil
}

// Unseal returns what Seal was given. The caller wipes it.
func (t *TPM) Unseal(ctx context.Context, sealed []byte) ([]byte, error) {
	b, public, err := parseBlob(sealed)
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	secret, err := run(ctx, t, op[[]byte]{
		do:     func(l *link) ([]byte, error) { return l.unseal(b, public) },
		unread: func(secret []byte) { clear(secret) },
	})
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	return secret, nil
}

func (l *link) unseal(b *blob, public *tpm2.TPMTPublic) ([]byte, error) {
	r, err := l.root(b.SRK, b.EK)
	if err != nil {
		return nil, err
	}
	o, err := l.load(r, public, b.Private)
	if err != nil {
		return nil, err
	}
	s, err := l.session()
	if err != nil {
		return nil, err
	}
	rsp, err := tpm2.Unseal{
		ItemHandle: tpm2.AuthHandle{Handle: o.handle, Name: o.name, Auth: s.with(nil, encryptOut)},
	}.Execute(l)
	if err != nil {
		return nil, err
	}
	if err := l.unload(); err != nil { // not used again soon
		clear(rsp.OutData.Buffer)
		return nil, err
	}
	return rsp.OutData.Buffer, nil
}

// parseBlob reads what Seal returned, wherever it has been meanwhile.
func parseBlob(sealed []byte) (*blob, *tpm2.TPMTPublic, error) {
	var b blob
	dec := json.NewDecoder(bytes.NewReader(sealed))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil || dec.More() {
		return nil, nil, errors.New("not a sealed secret")
	}
	if b.Version != blobVersion {
		return nil, nil, fmt.Errorf("sealed by another version (%d)", b.Version)
	}
	if err := checkParts(b.SRK, b.EK, b.Public, b.Private); err != nil {
		return nil, nil, err
	}
	public, err := unmarshal(b.Public)
	if err != nil {
		return nil, nil, err
	}
	same, want := *public, sealTemplate()
	if _, err := public.Unique.KeyedHash(); err != nil {
		return nil, nil, errors.New("not a sealed secret")
	}
	same.Unique = want.Unique
	if !bytes.Equal(tpm2.Marshal(same), tpm2.Marshal(want)) {
		return nil, nil, errors.New("not a secret that this agent sealed")
	}
	return &b, public, nil
}

// checkParts looks at the sizes of what is stored with an object.
func checkParts(srk, ek, public, private []byte) error {
	switch {
	case len(srk) != nameSize:
		return errors.New("name of the storage root key of the wrong size")
	case len(ek) != 0 && len(ek) != nameSize:
		return errors.New("name of the endorsement key of the wrong size")
	case len(public) == 0 || len(public) > maxPart || len(private) == 0 || len(private) > maxPart:
		return errors.New("object of the wrong size")
	}
	return nil
}

// made is what Create returned.
type made struct{ public, private []byte }

// create has the TPM make an object under a root key. What it is made of
// travels encrypted.
func (l *link) create(r *root, public tpm2.TPMTPublic, of tpm2.TPMSSensitiveCreate) (*made, error) {
	s, err := l.session()
	if err != nil {
		return nil, err
	}
	rsp, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: r.handle, Name: tpm2.TPM2BName{Buffer: r.name}, Auth: s.with(nil, encryptIn, encryptOut)},
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &of},
		InPublic:     tpm2.New2B(public),
	}.Execute(l)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	return &made{rsp.OutPublic.Bytes(), rsp.OutPrivate.Buffer}, nil
}
