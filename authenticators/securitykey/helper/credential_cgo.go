//go:build cgo && !windows

package helper

import (
	"bytes"
	"errors"
	"slices"

	"github.com/keys-pub/go-libfido2"

	"countersign.dev/authenticators/securitykey/wire"
)

// verified says how the user is to be verified: by the key itself, by the PIN, or
// not at all.
func (k *key) verified() (uv bool, pin string, err error) {
	switch k.req.Verification {
	case "discouraged", "":
		return false, "", nil
	case "preferred", "required":
	default:
		return false, "", fail(wire.BadRequest, "user verification %q", k.req.Verification)
	}
	if err := k.meet(); err != nil {
		return false, "", err
	}
	required := k.req.Verification == "required"
	switch {
	case k.line.hasUV():
		return true, "", nil
	case k.line.hasPIN():
		pin, err = k.pin()
		return false, pin, err
	case required && k.line.noPIN():
		return false, "", fail(wire.PINNotSet, "the key has no PIN")
	case required:
		return false, "", fail(wire.Unsupported, "the key cannot verify its owner")
	}
	return false, "", nil
}

// pin asks for the PIN, after a look at the key.
func (k *key) pin() (string, error) {
	if err := k.meet(); err != nil {
		return "", err
	}
	if !k.line.hasPIN() {
		if !k.line.noPIN() {
			return "", fail(wire.Unsupported, "the key has no PIN")
		}
		return "", fail(wire.PINNotSet, "the key has no PIN")
	}
	left := 0
	if !k.req.PINAtHand {
		left = k.triesLeft()
	}
	p, err := k.askPIN(left)
	defer clear(p.PIN)
	return string(p.PIN), err // copied into C, too: the process ends soon
}

// withVerification tries an operation, and once more with the PIN if the key cannot
// do without. No PIN is tried twice.
func (k *key) withVerification(do func(uv bool, pin string) error) error {
	uv, pin, err := k.verified()
	if err != nil {
		return err
	}
	err = do(uv, pin)
	var e *wire.Error
	if pin != "" || !errors.As(err, &e) || e.Code != needsPIN {
		return err
	}
	if pin, err = k.pin(); err != nil {
		return err
	}
	return do(false, pin)
}

func (k *key) makeCredential() (*wire.Result, error) {
	r := k.req
	if len(r.ClientDataHash) != 32 || r.RPID == "" || r.User == nil || len(r.User.ID) == 0 || len(r.User.ID) > 64 || r.User.Name == "" || len(r.Algorithms) == 0 {
		return nil, fail(wire.BadRequest, "not enough for a credential")
	}
	if err := k.meet(); err != nil {
		return nil, err
	}
	if r.Resident || r.HMACSecret {
		info, err := k.info()
		if err != nil {
			return nil, err
		}
		if k.u2f || r.HMACSecret && !slices.Contains(info.Extensions, "hmac-secret") || r.Resident && option(info, "rk") != libfido2.True {
			return nil, fail(wire.Unsupported, "the key cannot make such a credential")
		}
	}
	wanted := wish{
		rpID: r.RPID, rpName: r.RPName, hash: r.ClientDataHash, resident: r.Resident, secret: r.HMACSecret,
		userID: r.User.ID, userName: r.User.Name, userDisplayName: r.User.DisplayName,
	}
	var made *credential
	err := k.withVerification(func(uv bool, pin string) error {
		wanted.uv, wanted.pin = uv, pin
		if err := k.notThere(pin); err != nil {
			return err
		}
		err := error(fail(wire.Unsupported, "no algorithm in common"))
		for _, a := range r.Algorithms {
			wanted.algorithm = a
			err = k.slow(func() (err error) {
				made, err = k.line.make(wanted)
				return err
			})
			var e *wire.Error
			if !errors.As(err, &e) || e.Code != wire.Unsupported {
				return err
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	auth, ok := byteString(made.auth)
	if !ok {
		return nil, fail(wire.BadKey, "authenticator data that is no byte string")
	}
	a := &wire.Attestation{Format: made.format, AuthData: auth, Signature: made.sig, CredentialID: made.id, Algorithm: made.algorithm}
	if len(made.cert) > 0 {
		a.Certificates = [][]byte{made.cert}
	}
	return &wire.Result{Attestation: a}, nil
}

// notThere refuses a key that has one of the credentials to exclude. The library
// does not pass such a list on: so the key is asked for each of them, silently.
func (k *key) notThere(pin string) error {
	for _, id := range k.req.CredentialIDs {
		if found, _, err := k.has(id, pin); err != nil {
			return err
		} else if found {
			return fail(wire.Excluded, "the key has a credential of this account")
		}
	}
	return nil
}

// has asks silently for a signature by a credential. A U2F key says that it has it,
// and does not sign.
func (k *key) has(id []byte, pin string) (found bool, signed *wire.Assertion, err error) {
	if len(id) == 0 {
		return false, nil, fail(wire.BadRequest, "an empty credential ID")
	}
	var got *answer
	ids := [][]byte{id}
	err = k.quick(func() (err error) {
		got, err = k.line.assert(question{rpID: k.req.RPID, hash: k.req.ClientDataHash, allow: ids, pin: pin, quiet: true})
		return err
	})
	switch {
	case is(err, thereButUntouched):
		return true, nil, nil
	case is(err, wire.NoCredential):
		return false, nil, nil
	case err != nil:
		return false, nil, err
	}
	signed, err = assertion(got, ids)
	return true, signed, err
}

// holds says whether the key has one of the credentials. Nobody is asked for
// anything.
func (k *key) holds() (*wire.Result, error) {
	if len(k.req.ClientDataHash) != 32 || k.req.RPID == "" || len(k.req.CredentialIDs) == 0 {
		return nil, fail(wire.BadRequest, "not enough to look for")
	}
	if err := k.opened(); err != nil {
		return nil, err
	}
	for _, id := range k.req.CredentialIDs {
		found, signed, err := k.has(id, "")
		switch {
		case is(err, needsPIN):
			return nil, fail(wire.Unsupported, "the key says nothing of its credentials without its PIN")
		case err != nil:
			return nil, err
		case found:
			return &wire.Result{Found: true, Assertion: signed}, nil
		}
	}
	return &wire.Result{}, nil
}

func (k *key) getAssertion() (*wire.Result, error) {
	r := k.req
	if len(r.ClientDataHash) != 32 || r.RPID == "" {
		return nil, fail(wire.BadRequest, "not enough for an assertion")
	}
	ask := question{rpID: r.RPID, hash: r.ClientDataHash, allow: r.CredentialIDs}
	if len(r.Salts) > 2 {
		return nil, fail(wire.BadRequest, "%d salts", len(r.Salts))
	}
	for _, salt := range r.Salts {
		if len(salt) != 32 {
			return nil, fail(wire.BadRequest, "a salt of %d bytes", len(salt))
		}
		ask.salts = append(ask.salts, salt...)
	}
	if slices.ContainsFunc(r.CredentialIDs, func(id []byte) bool { return len(id) == 0 }) {
		return nil, fail(wire.BadRequest, "an empty credential ID")
	}
	if err := k.opened(); err != nil {
		return nil, err
	}
	// A credential proves the key by itself; anything else has it say what it is.
	if len(r.CredentialIDs) == 0 {
		if err := k.meet(); err != nil {
			return nil, err
		}
	}
	if len(r.Salts) > 0 {
		info, err := k.info()
		if err != nil {
			return nil, err
		}
		if k.u2f || !slices.Contains(info.Extensions, "hmac-secret") {
			return nil, fail(wire.Unsupported, "the key keeps no secrets")
		}
	}
	var got *answer
	err := k.withVerification(func(uv bool, pin string) error {
		ask.uv, ask.pin = uv, pin
		return k.slow(func() (err error) {
			got, err = k.line.assert(ask)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	a, err := assertion(got, r.CredentialIDs)
	return &wire.Result{Assertion: a}, err
}

// assertion is what a key gave, of which one of the credentials was asked for.
func assertion(got *answer, asked [][]byte) (*wire.Assertion, error) {
	auth, ok := byteString(got.auth)
	if !ok {
		return nil, fail(wire.BadKey, "authenticator data that is no byte string")
	}
	a := &wire.Assertion{CredentialID: got.id, AuthData: auth, Signature: got.sig, UserID: got.user, Secret: got.secret}
	if len(a.CredentialID) == 0 && len(asked) == 1 { // a key may leave it out then
		a.CredentialID = bytes.Clone(asked[0])
	}
	return a, nil
}
