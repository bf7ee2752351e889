//go:build cgo

package helper

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keys-pub/go-libfido2"

	"countersign.dev/authenticators/securitykey/wire"
)

// operate is the whole of one operation.
func (s *session) operate() (*wire.Result, error) {
	if s.req.Op == wire.List {
		return s.list()
	}
	k, err := s.open()
	if err != nil {
		return nil, err
	}
	switch s.req.Op {
	case wire.Inspect:
		info, err := k.inspect()
		return &wire.Result{Info: info}, err
	case wire.Select:
		return &wire.Result{}, s.waitForTouch()
	case wire.MakeCredential:
		return k.makeCredential()
	case wire.GetAssertion:
		return k.getAssertion()
	case wire.Holds:
		return k.holds()
	case wire.SetPIN, wire.ChangePIN:
		return &wire.Result{}, k.setPIN()
	case wire.Credentials:
		return k.credentials()
	case wire.DeleteCredential:
		return &wire.Result{}, k.deleteCredential()
	case wire.Fingerprints:
		return k.fingerprints()
	case wire.EnrolFingerprint:
		return k.enrolFingerprint()
	case wire.DropFingerprint:
		return &wire.Result{}, k.dropFingerprint()
	case wire.Reset:
		return &wire.Result{}, k.reset()
	}
	return nil, fail(wire.BadRequest, "no operation %q", s.req.Op)
}

// key is the key of the operation.
type key struct {
	*session
	dev *libfido2.Device

	asked *libfido2.DeviceInfo // once it was; nil of U2F keys
	u2f   bool
}

func (s *session) open() (*key, error) {
	dev, err := libfido2.NewDevice(s.req.Device)
	if err != nil {
		return nil, fail(wire.BadRequest, "%v", err)
	}
	return &key{session: s, dev: dev}, nil
}

func (k *key) cancel() { _ = k.dev.Cancel() }

// quick is a call that waits for nobody; slow is one that may wait for a touch.
func (k *key) quick(do func() error) error { return k.call(k.cancel, false, do) }
func (k *key) slow(do func() error) error  { return k.call(k.cancel, true, do) }

// info asks the key what it is, and refuses another one than was expected. It comes
// before a PIN is sent, and before anything on the key is changed.
func (k *key) info() (*libfido2.DeviceInfo, error) {
	if k.asked != nil || k.u2f {
		return k.asked, nil
	}
	err := k.quick(func() (err error) {
		k.asked, err = k.dev.Info()
		return err
	})
	var refused *wire.Error
	if errors.As(err, &refused) && refused.Code == wire.Unsupported { // not FIDO2
		k.u2f, err = true, nil
	}
	if err != nil {
		k.asked = nil
		return nil, err
	}
	aaguid := ""
	if !k.u2f {
		aaguid = dashes(k.asked.AAGUID)
	}
	if want := k.req.Expect; want != nil && want.AAGUID != "" && want.AAGUID != aaguid {
		if k.u2f { // also what the library makes of a key that does not answer that question
			if k.held.gone(pulling) {
				return nil, fail(wire.Removed, "gone when it was asked what it is")
			}
			return nil, fail(wire.BadKey, "does not say any more what it is")
		}
		return nil, fail(wire.OtherKey, "AAGUID %q, expected %q", aaguid, want.AAGUID)
	}
	return k.asked, nil
}

// dashes writes an AAGUID as a UUID.
func dashes(b []byte) string {
	if len(b) != 16 {
		return ""
	}
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// option is "true", "false", or "" if the key does not name it.
func option(info *libfido2.DeviceInfo, name string) libfido2.OptionValue {
	if info != nil {
		for _, o := range info.Options {
			if o.Name == name {
				return o.Value
			}
		}
	}
	return libfido2.Default
}

// inspect is everything a key says of itself without a PIN.
func (k *key) inspect() (*wire.Info, error) {
	out := &wire.Info{Identity: k.held.identity()}
	var hid *libfido2.HIDInfo
	if err := k.quick(func() (err error) {
		hid, err = k.dev.CTAPHIDInfo()
		return err
	}); err != nil {
		return nil, err
	}
	out.Firmware = fmt.Sprintf("%d.%d.%d", hid.Major, hid.Minor, hid.Build)
	info, err := k.info()
	if err != nil {
		return nil, err
	}
	if k.u2f {
		out.Versions = []string{"U2F_V2"}
		return out, nil
	}
	out.AAGUID, out.Versions, out.Extensions = dashes(info.AAGUID), clean(info.Versions), clean(info.Extensions)
	out.Options = map[string]bool{}
	for _, o := range info.Options[:min(len(info.Options), maxWords)] {
		if word, ok := cleanWord(o.Name); ok {
			out.Options[word] = o.Value == libfido2.True
		}
	}
	if option(info, "clientPin") == libfido2.True && k.req.Op == wire.Inspect {
		out.PINRetries = k.triesLeft()
	}
	return out, nil
}

// Bounds of what a key may say of itself.
const (
	maxWords = 64
	maxWord  = 64
)

// clean leaves words that are words.
func clean(words []string) (out []string) {
	for _, w := range words[:min(len(words), maxWords)] {
		if w, ok := cleanWord(w); ok {
			out = append(out, w)
		}
	}
	return out
}

func cleanWord(w string) (string, bool) {
	for _, c := range []byte(w) {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return w, w != "" && len(w) <= maxWord
}

// triesLeft is how many wrong PINs the key still takes, 0 if it does not say. Its
// error is not explained: to explain a wrong PIN takes this question, and a key may
// answer it with a wrong PIN.
func (k *key) triesLeft() (n int) {
	if err := k.raw(k.cancel, false, func() (err error) {
		n, err = k.dev.RetryCount()
		return err
	}); err != nil {
		return 0
	}
	return max(0, n)
}

// listPatience is how long one key may take to say what it is, among others.
const listPatience = 1200 * time.Millisecond

// list finds all keys, and asks them side by side: one that hangs or is in use is
// listed with that.
func (s *session) list() (*wire.Result, error) {
	var found []*libfido2.DeviceLocation
	if err := s.call(func() {}, false, func() (err error) {
		found, err = libfido2.DeviceLocations()
		return err
	}); err != nil {
		return nil, err
	}
	infos := make([]wire.Info, len(found))
	var all sync.WaitGroup
	for i, at := range found {
		all.Go(func() {
			place := wire.Identity{Path: at.Path, VendorID: uint16(at.VendorID), ProductID: uint16(at.ProductID)}
			info, err := s.look(at.Path)
			if info == nil {
				info = &wire.Info{Identity: place}
			}
			if err != nil && !errors.As(err, &info.Problem) {
				info.Problem = fail(wire.Failed, "%v", err)
			}
			info.Path, info.VendorID, info.ProductID = place.Path, place.VendorID, place.ProductID
			info.Manufacturer, info.Product = at.Manufacturer, at.Product
			infos[i] = *info
		})
	}
	all.Wait()
	return &wire.Result{Keys: infos}, nil
}

// look asks one key of several, within listPatience. What is known of one that does
// not answer is where it is.
func (s *session) look(path string) (*wire.Info, error) {
	h, err := hold(path)
	if err != nil {
		return nil, err
	}
	defer h.release()
	place := &wire.Info{Identity: h.identity()}
	if err := h.free(0); err != nil {
		return place, err
	}
	one := &session{req: &wire.Request{Op: wire.List, Device: path}, held: h, out: s.out}
	ctx, cancel := patience(s.ctx, listPatience)
	defer cancel()
	one.ctx = ctx
	k, err := one.open()
	if err != nil {
		return place, err
	}
	info, err := k.inspect()
	if err != nil {
		return place, err
	}
	return info, nil
}

// verified says how the user is to be verified: by the key itself, by the PIN, or
// not at all.
func (k *key) verified() (uv libfido2.OptionValue, pin string, err error) {
	switch k.req.Verification {
	case "discouraged", "":
		return libfido2.Default, "", nil
	case "preferred", "required":
	default:
		return "", "", fail(wire.BadRequest, "user verification %q", k.req.Verification)
	}
	info, err := k.info()
	if err != nil {
		return "", "", err
	}
	required := k.req.Verification == "required"
	switch {
	case option(info, "uv") == libfido2.True:
		return libfido2.True, "", nil
	case option(info, "clientPin") == libfido2.True:
		pin, err = k.pin()
		return libfido2.Default, pin, err
	case required && option(info, "clientPin") == libfido2.False:
		return "", "", fail(wire.PINNotSet, "the key has no PIN")
	case required:
		return "", "", fail(wire.Unsupported, "the key cannot verify its owner")
	}
	return libfido2.Default, "", nil
}

// pin asks for the PIN, after a look at the key.
func (k *key) pin() (string, error) {
	info, err := k.info()
	if err != nil {
		return "", err
	}
	if option(info, "clientPin") != libfido2.True {
		if k.u2f || option(info, "clientPin") == libfido2.Default {
			return "", fail(wire.Unsupported, "the key has no PIN")
		}
		return "", fail(wire.PINNotSet, "the key has no PIN")
	}
	left := k.triesLeft()
	p, err := k.askPIN(left)
	defer clear(p.PIN)
	return string(p.PIN), err // copied into C, too: the process ends soon
}

// withVerification tries an operation, and once more with the PIN if the key cannot
// do without. No PIN is tried twice.
func (k *key) withVerification(do func(uv libfido2.OptionValue, pin string) error) error {
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
	return do(libfido2.Default, pin)
}

func (k *key) makeCredential() (*wire.Result, error) {
	r := k.req
	if len(r.ClientDataHash) != 32 || r.RPID == "" || r.User == nil || len(r.User.ID) == 0 || len(r.User.ID) > 64 || r.User.Name == "" || len(r.Algorithms) == 0 {
		return nil, fail(wire.BadRequest, "not enough for a credential")
	}
	info, err := k.info()
	if err != nil {
		return nil, err
	}
	if k.u2f && (r.Resident || r.HMACSecret) || r.HMACSecret && !slices.Contains(info.Extensions, "hmac-secret") ||
		r.Resident && option(info, "rk") != libfido2.True {
		return nil, fail(wire.Unsupported, "the key cannot make such a credential")
	}
	opts := &libfido2.MakeCredentialOpts{}
	if r.Resident {
		opts.RK = libfido2.True
	}
	if r.HMACSecret {
		opts.Extensions = []libfido2.Extension{libfido2.HMACSecretExtension}
	}
	var made *libfido2.Attestation
	err = k.withVerification(func(uv libfido2.OptionValue, pin string) error {
		opts.UV = uv
		if err := k.notThere(pin); err != nil {
			return err
		}
		err := error(fail(wire.Unsupported, "no algorithm in common"))
		for _, a := range r.Algorithms {
			err = k.slow(func() (err error) {
				made, err = k.dev.MakeCredential(r.ClientDataHash, libfido2.RelyingParty{ID: r.RPID, Name: r.RPName},
					libfido2.User{ID: r.User.ID, Name: r.User.Name, DisplayName: r.User.DisplayName}, libfido2.CredentialType(a), pin, opts)
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
	auth, ok := byteString(made.AuthData)
	if !ok {
		return nil, fail(wire.BadKey, "authenticator data that is no byte string")
	}
	a := &wire.Attestation{Format: made.Format, AuthData: auth, Signature: made.Sig, CredentialID: made.CredentialID, Algorithm: int(made.CredentialType)}
	if len(made.Cert) > 0 {
		a.Certificates = [][]byte{made.Cert}
	}
	return &wire.Result{Attestation: a}, nil
}

// notThere refuses a key that has one of the credentials to exclude. The library
// does not pass such a list on: so the key is asked for each of them, silently.
func (k *key) notThere(pin string) error {
	for _, id := range k.req.CredentialIDs {
		if len(id) == 0 {
			return fail(wire.BadRequest, "an empty credential ID")
		}
		err := k.quick(func() error {
			_, err := k.dev.Assertion(k.req.RPID, k.req.ClientDataHash, [][]byte{id}, pin, &libfido2.AssertionOpts{UP: libfido2.False})
			return err
		})
		var e *wire.Error
		switch {
		case err == nil, errors.As(err, &e) && e.Code == thereButUntouched:
			return fail(wire.Excluded, "the key has a credential of this account")
		case errors.As(err, &e) && e.Code == wire.NoCredential:
		default:
			return err
		}
	}
	return nil
}

// holds says whether the key has one of the credentials. Nobody is asked for
// anything.
func (k *key) holds() (*wire.Result, error) {
	if len(k.req.ClientDataHash) != 32 || k.req.RPID == "" || len(k.req.CredentialIDs) == 0 {
		return nil, fail(wire.BadRequest, "not enough to look for")
	}
	err := k.notThere("")
	var e *wire.Error
	if errors.As(err, &e) && e.Code == wire.Excluded {
		return &wire.Result{Found: true}, nil
	}
	if is(err, needsPIN) {
		return nil, fail(wire.Unsupported, "the key says nothing of its credentials without its PIN")
	}
	return &wire.Result{}, err
}

func (k *key) getAssertion() (*wire.Result, error) {
	r := k.req
	if len(r.ClientDataHash) != 32 || r.RPID == "" {
		return nil, fail(wire.BadRequest, "not enough for an assertion")
	}
	opts := &libfido2.AssertionOpts{}
	if len(r.Salts) > 2 {
		return nil, fail(wire.BadRequest, "%d salts", len(r.Salts))
	}
	for _, salt := range r.Salts {
		if len(salt) != 32 {
			return nil, fail(wire.BadRequest, "a salt of %d bytes", len(salt))
		}
		opts.Extensions = []libfido2.Extension{libfido2.HMACSecretExtension}
		opts.HMACSalt = append(opts.HMACSalt, salt...)
	}
	if slices.ContainsFunc(r.CredentialIDs, func(id []byte) bool { return len(id) == 0 }) {
		return nil, fail(wire.BadRequest, "an empty credential ID")
	}
	// A credential proves the key by itself; anything else has it say what it is.
	if len(r.CredentialIDs) == 0 || len(r.Salts) > 0 {
		info, err := k.info()
		if err != nil {
			return nil, err
		}
		if len(r.Salts) > 0 && (k.u2f || !slices.Contains(info.Extensions, "hmac-secret")) {
			return nil, fail(wire.Unsupported, "the key keeps no secrets")
		}
	}
	var got *libfido2.Assertion
	err := k.withVerification(func(uv libfido2.OptionValue, pin string) error {
		opts.UV = uv
		return k.slow(func() (err error) {
			got, err = k.dev.Assertion(r.RPID, r.ClientDataHash, r.CredentialIDs, pin, opts)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	auth, ok := byteString(got.AuthDataCBOR)
	if !ok {
		return nil, fail(wire.BadKey, "authenticator data that is no byte string")
	}
	a := &wire.Assertion{CredentialID: got.CredentialID, AuthData: auth, Signature: got.Sig, UserID: got.User.ID, Secret: got.HMACSecret}
	if len(a.CredentialID) == 0 && len(r.CredentialIDs) == 1 { // a key may leave it out then
		a.CredentialID = bytes.Clone(r.CredentialIDs[0])
	}
	return &wire.Result{Assertion: a}, nil
}

func (k *key) setPIN() error {
	info, err := k.info()
	if err != nil {
		return err
	}
	set := option(info, "clientPin")
	switch {
	case set == libfido2.Default:
		return fail(wire.Unsupported, "the key has no PIN")
	case k.req.Op == wire.SetPIN && set == libfido2.True:
		return fail(wire.NotAllowed, "the key has a PIN already")
	case k.req.Op == wire.ChangePIN && set == libfido2.False:
		return fail(wire.PINNotSet, "the key has no PIN")
	}
	left := 0
	if set == libfido2.True {
		left = k.triesLeft()
	}
	p, err := k.askPIN(left)
	if err != nil {
		return err
	}
	defer clear(p.PIN)
	defer clear(p.Old)
	if (k.req.Op == wire.ChangePIN) != (len(p.Old) > 0) {
		return fail(wire.BadRequest, "an old PIN too many or too few")
	}
	return k.quick(func() error { return k.dev.SetPIN(string(p.PIN), string(p.Old)) })
}

// reset wipes the key. It is the last step: what the person saw is looked at again.
func (k *key) reset() error {
	if _, err := k.info(); err != nil {
		return err
	}
	if k.u2f {
		return fail(wire.Unsupported, "a U2F key keeps nothing that could be wiped")
	}
	return k.slow(k.dev.Reset)
}
