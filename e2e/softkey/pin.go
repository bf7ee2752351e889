package softkey

import (
	"bytes"
	"crypto/subtle"
	"slices"
	"time"
	"unicode/utf8"
)

// Permissions of a token (CTAP 2.1, 6.5.5.7).
const (
	mayMake byte = 1 << iota
	mayAssert
	mayManage
	mayEnrol
	_ // large blobs
	mayConfigure
)

// A token must be used soon, and is good for so long (CTAP 2.1, 6.5.2.1).
const (
	tokenFirstUse = 30 * time.Second
	tokenLife     = 10 * time.Minute
)

// token is the pinUvAuthToken.
type token struct {
	value       []byte
	protocol    int // 0: not in use
	permissions byte
	rp          string // to which it is bound, "" if to none yet
	issued      time.Time
	used        bool
}

func (t *token) renew() { *t = token{value: random(32)} }

type pinRequest struct {
	Protocol    *int     `cbor:"1,keyasint"`
	Sub         *int     `cbor:"2,keyasint"`
	Agreement   *coseKey `cbor:"3,keyasint"`
	Auth        []byte   `cbor:"4,keyasint"`
	NewPIN      []byte   `cbor:"5,keyasint"`
	PINHash     []byte   `cbor:"6,keyasint"`
	Permissions *byte    `cbor:"9,keyasint"`
	RP          string   `cbor:"10,keyasint"`
}

// clientPIN is authenticatorClientPIN (CTAP 2.1, 6.5).
func (c *call) clientPIN(in []byte) (any, error) {
	var r pinRequest
	if err := decode(in, &r); err != nil {
		return nil, err
	}
	if r.Sub == nil {
		return nil, MissingParameter
	}
	k := c.k
	switch {
	case *r.Sub == 1:
		answer := map[int]any{3: k.store.pinRetries}
		if k.o.Kind == FIDO21 {
			answer[4] = k.power.misses >= maxPINMisses // powerCycleState
		}
		return answer, nil
	case *r.Sub == 7 && k.o.Fingerprints:
		return map[int]any{5: k.store.uvRetries}, nil
	case r.Protocol == nil:
		return nil, MissingParameter
	case !slices.Contains(k.o.PINProtocols, *r.Protocol):
		return nil, InvalidParameter
	case *r.Sub == 2:
		p := k.power.agree.PublicKey().Bytes()
		return map[int]any{1: coseKey{2, algAgreement, 1, p[1:33], p[33:]}}, nil
	case r.Agreement == nil:
		return nil, MissingParameter
	}
	s, err := k.agreed(*r.Protocol, *r.Agreement)
	if err != nil {
		return nil, err
	}
	switch {
	case *r.Sub == 3:
		return nil, k.setPIN(s, r)
	case *r.Sub == 4:
		return nil, k.changePIN(s, r)
	case *r.Sub == 5:
		return k.tokenByPIN(s, r)
	case *r.Sub == 6 && k.o.Kind == FIDO21 && k.o.Fingerprints:
		return c.tokenByFinger(s, r)
	case *r.Sub == 9 && k.o.Kind == FIDO21:
		return k.tokenByPIN(s, r)
	}
	return nil, InvalidSubcommand
}

func (k *Key) setPIN(s secrets, r pinRequest) error {
	switch {
	case r.NewPIN == nil || r.Auth == nil:
		return MissingParameter
	case k.store.pinHash != nil || !s.authentic(r.NewPIN, r.Auth):
		return PINAuthInvalid
	}
	return k.newPIN(s, r.NewPIN)
}

func (k *Key) changePIN(s secrets, r pinRequest) error {
	switch {
	case r.NewPIN == nil || r.Auth == nil || r.PINHash == nil:
		return MissingParameter
	case k.store.pinRetries == 0:
		return PINBlocked
	case !s.authentic(append(bytes.Clone(r.NewPIN), r.PINHash...), r.Auth):
		return PINAuthInvalid
	}
	if err := k.checkPIN(s, r.PINHash); err != nil {
		return err
	}
	return k.newPIN(s, r.NewPIN)
}

// newPIN takes a PIN that is padded to 64 bytes.
func (k *Key) newPIN(s secrets, sealed []byte) error {
	plain, err := s.open(sealed)
	if err != nil || len(plain) != 64 {
		return InvalidParameter
	}
	pin := bytes.TrimRight(plain, "\x00")
	if len(pin) > 63 || !utf8.Valid(pin) || utf8.RuneCount(pin) < k.store.minPIN {
		return PINPolicyViolation
	}
	hash := pinHash(pin)
	if k.store.changePIN && bytes.Equal(hash, k.store.pinHash) {
		return PINPolicyViolation
	}
	k.store.pinHash, k.store.pinRetries, k.store.changePIN = hash, maxPINRetries, false
	k.power.misses = 0
	k.power.token.renew()
	return nil
}

// checkPIN takes a try before it looks (CTAP 2.1, 6.5.5.7.1).
func (k *Key) checkPIN(s secrets, sealed []byte) error {
	switch {
	case k.store.pinHash == nil:
		return PINNotSet
	case k.store.pinRetries == 0:
		return PINBlocked
	case k.power.misses >= maxPINMisses:
		return PINAuthBlocked
	}
	k.store.pinRetries--
	hash, err := s.open(sealed)
	if err != nil || subtle.ConstantTimeCompare(hash, k.store.pinHash) != 1 {
		k.newAgreement()
		k.power.misses++
		switch {
		case k.store.pinRetries == 0:
			return PINBlocked
		case k.power.misses >= maxPINMisses:
			return PINAuthBlocked
		}
		return PINInvalid
	}
	k.store.pinRetries, k.power.misses = maxPINRetries, 0
	return nil
}

func (k *Key) tokenByPIN(s secrets, r pinRequest) (any, error) {
	permissions, rp := mayMake|mayAssert, ""
	switch {
	case r.PINHash == nil:
		return nil, MissingParameter
	case *r.Sub == 5 && (r.Permissions != nil || r.RP != ""):
		return nil, InvalidParameter
	case *r.Sub == 9:
		if err := k.permitted(r); err != nil {
			return nil, err
		}
		permissions, rp = *r.Permissions, r.RP
	}
	if err := k.checkPIN(s, r.PINHash); err != nil {
		return nil, err
	}
	if k.store.changePIN {
		if *r.Sub == 5 {
			return nil, PINInvalid
		}
		return nil, PINPolicyViolation
	}
	return k.issue(s, permissions, rp), nil
}

func (c *call) tokenByFinger(s secrets, r pinRequest) (any, error) {
	if err := c.k.permitted(r); err != nil {
		return nil, err
	}
	if err := c.verifyFinger(r.RP); err != nil {
		return nil, err
	}
	return c.k.issue(s, *r.Permissions, r.RP), nil
}

// permitted says whether a token with these permissions may be given at all.
func (k *Key) permitted(r pinRequest) error {
	if r.Permissions == nil {
		return MissingParameter
	}
	p, can := *r.Permissions, mayMake|mayAssert|mayManage|mayConfigure
	if k.o.Fingerprints && *r.Sub == 9 { // uvBioEnroll is not offered
		can |= mayEnrol
	}
	switch {
	case p == 0:
		return InvalidParameter
	case p&^can != 0:
		return UnauthorizedPermission
	case p&(mayMake|mayAssert) != 0 && r.RP == "":
		return MissingParameter
	}
	return nil
}

func (k *Key) issue(s secrets, permissions byte, rp string) any {
	t := &k.power.token
	t.renew()
	t.protocol, t.permissions, t.rp, t.issued = s.protocol, permissions, rp, k.o.Now()
	return map[int]any{2: s.seal(t.value)}
}

// authorize holds a request to the token: its tag must fit, the permission must be
// there, and rp, if any, must be the one the token is bound to.
func (k *Key) authorize(auth []byte, protocol *int, message []byte, permission byte, rp string) error {
	t := &k.power.token
	if protocol == nil {
		return MissingParameter
	}
	if !slices.Contains(k.o.PINProtocols, *protocol) {
		return InvalidParameter
	}
	age := k.o.Now().Sub(t.issued)
	if t.protocol != *protocol || age > tokenLife || !t.used && age > tokenFirstUse || !sameTag(*protocol, t.value, message, auth) {
		return PINAuthInvalid
	}
	t.used = true
	if t.permissions&permission == 0 || rp != "" && t.rp != "" && t.rp != rp {
		return PINAuthInvalid
	}
	if t.rp == "" && permission&(mayMake|mayAssert) != 0 {
		t.rp = rp
	}
	return nil
}

func sameTag(protocol int, key, message, got []byte) bool {
	return subtle.ConstantTimeCompare(tag(protocol, key, message), got) == 1
}
