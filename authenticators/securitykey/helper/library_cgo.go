//go:build cgo && !windows

package helper

import (
	"encoding/hex"
	"errors"
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
	k := &key{session: s}
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
	asked *libfido2.DeviceInfo // once it was; nil of U2F keys
	u2f   bool
}

// meet opens the key, and refuses another one than was expected. It comes before a
// PIN is sent. Of a key that has not been pulled out since it was listed, as take
// has seen, nothing more is asked.
func (k *key) meet() error {
	if err := k.opened(); err != nil {
		return err
	}
	want := k.req.Expect
	if k.u2f = !k.line.fido2(); want == nil || want.AAGUID == "" || want.Arrival != "" && !k.u2f {
		return nil
	}
	_, err := k.info()
	return err
}

// info asks the key what it is, and refuses another one than was expected. It comes
// before anything on the key is changed.
func (k *key) info() (*libfido2.DeviceInfo, error) {
	if k.asked != nil {
		return k.asked, nil
	}
	if err := k.opened(); err != nil {
		return nil, err
	}
	if k.u2f = !k.line.fido2(); !k.u2f {
		if err := k.quick(func() (err error) {
			k.asked, err = k.line.info()
			return err
		}); err != nil {
			k.asked = nil
			return nil, err
		}
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
	info, err := k.info()
	if err != nil {
		return nil, err
	}
	out.Firmware = k.line.firmware()
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
func (s *session) triesLeft() (n int) {
	if err := s.raw(s.line.cancel, false, func() (err error) {
		if s.line.get() == nil {
			if err := s.line.open(s.req.Device); err != nil {
				return err
			}
		}
		n, err = s.line.retries()
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
	info, err := (&key{session: one}).inspect()
	if err != nil {
		return place, err
	}
	return info, nil
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
	if set == libfido2.True && !k.req.PINAtHand {
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
	return k.quick(func() error { return k.line.setPIN(string(p.PIN), string(p.Old)) })
}

// reset wipes the key. It is the last step: what the person saw is looked at again.
func (k *key) reset() error {
	if _, err := k.info(); err != nil {
		return err
	}
	if k.u2f {
		return fail(wire.Unsupported, "a U2F key keeps nothing that could be wiped")
	}
	return k.slow(k.line.reset)
}
