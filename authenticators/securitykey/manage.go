package securitykey

import (
	"context"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey/wire"
)

// What an owner does with a key: its PIN, what is kept on it, its fingers, and to wipe
// it.

// SetPIN sets the first PIN of a key, or changes it from the old one.
func (ks *Keys) SetPIN(ctx context.Context, id string, pin, old devicekey.Secret) error {
	op := operation{req: wire.Request{Op: wire.SetPIN}, time: askTime, pin: wire.PIN{PIN: pin, Old: old}}
	if len(old) > 0 {
		op.req.Op = wire.ChangePIN
	}
	_, _, err := ks.on(ctx, id, op)
	return err
}

// Stored is what is kept on a key.
type Stored struct {
	Credentials []Credential
	Left        int // room for more
}

// Credential is one of them.
type Credential struct {
	ID       []byte
	RPID, RP string
	User     User
}

// User is the account of a credential.
type User struct {
	ID          []byte
	Name        string
	DisplayName string
}

// Credentials lists what is kept on a key.
func (ks *Keys) Credentials(ctx context.Context, id string, pin devicekey.Secret) (Stored, error) {
	result, _, err := ks.on(ctx, id, operation{req: wire.Request{Op: wire.Credentials}, time: manyStored, pin: wire.PIN{PIN: pin}})
	if err != nil {
		return Stored{}, err
	}
	s := Stored{Left: result.Left, Credentials: []Credential{}}
	for _, c := range result.Credentials {
		s.Credentials = append(s.Credentials, Credential{c.ID, c.RPID, c.RP, User(c.User)})
	}
	return s, nil
}

// DeleteCredential deletes one.
func (ks *Keys) DeleteCredential(ctx context.Context, id string, pin devicekey.Secret, credentialID []byte) error {
	_, _, err := ks.on(ctx, id, operation{
		req: wire.Request{Op: wire.DeleteCredential, CredentialIDs: [][]byte{credentialID}}, time: askTime, pin: wire.PIN{PIN: pin},
	})
	return err
}

// Fingerprint is one that is enrolled on a key.
type Fingerprint struct{ ID, Name string }

// Fingerprints lists those that are enrolled.
func (ks *Keys) Fingerprints(ctx context.Context, id string, pin devicekey.Secret) ([]Fingerprint, error) {
	result, _, err := ks.on(ctx, id, operation{req: wire.Request{Op: wire.Fingerprints}, time: askTime, pin: wire.PIN{PIN: pin}})
	if err != nil {
		return nil, err
	}
	prints := []Fingerprint{}
	for _, f := range result.Fingerprints {
		prints = append(prints, Fingerprint(f))
	}
	return prints, nil
}

// EnrolFingerprint enrols a finger under a name.
func (ks *Keys) EnrolFingerprint(ctx context.Context, id string, pin devicekey.Secret, name string, progress Progress) (Fingerprint, error) {
	result, _, err := ks.on(ctx, id, operation{
		req: wire.Request{Op: wire.EnrolFingerprint, Name: name}, time: finger, pin: wire.PIN{PIN: pin}, progress: progress,
	})
	if err != nil {
		return Fingerprint{}, err
	}
	if len(result.Fingerprints) != 1 {
		return Fingerprint{}, &HelperError{Why: "gave no fingerprint"}
	}
	return Fingerprint(result.Fingerprints[0]), nil
}

// DropFingerprint forgets one.
func (ks *Keys) DropFingerprint(ctx context.Context, id string, pin devicekey.Secret, fingerprint string) error {
	_, _, err := ks.on(ctx, id, operation{req: wire.Request{Op: wire.DropFingerprint, Template: fingerprint}, time: askTime, pin: wire.PIN{PIN: pin}})
	return err
}

// Reset wipes a key, which takes a touch, and with most within ten seconds of when
// it was plugged in.
func (ks *Keys) Reset(ctx context.Context, id string, progress Progress) error {
	_, _, err := ks.on(ctx, id, operation{req: wire.Request{Op: wire.Reset}, time: touchTime, progress: progress})
	return err
}
