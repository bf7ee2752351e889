package softkey

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"time"
)

type hmacRequest struct {
	Agreement coseKey `cbor:"1,keyasint"`
	Salts     []byte  `cbor:"2,keyasint"`
	Auth      []byte  `cbor:"3,keyasint"`
	Protocol  int     `cbor:"4,keyasint"`
}

type assertRequest struct {
	RP         string       `cbor:"1,keyasint"`
	Hash       []byte       `cbor:"2,keyasint"`
	Allow      []descriptor `cbor:"3,keyasint"`
	Extensions struct {
		HMAC *hmacRequest `cbor:"hmac-secret"`
	} `cbor:"4,keyasint"`
	Options  map[string]bool `cbor:"5,keyasint"`
	Auth     *[]byte         `cbor:"6,keyasint"`
	Protocol *int            `cbor:"7,keyasint"`
}

// nextAssertions are what getNextAssertion gives.
type nextAssertions struct {
	left       []*Credential
	hash       []byte
	flags      byte
	extensions *hmacRequest
	since      time.Time
}

const nextTime = 30 * time.Second

// getAssertion is authenticatorGetAssertion (CTAP 2.1, 6.2.2).
func (c *call) getAssertion(in []byte) (any, error) {
	k := c.k
	var r assertRequest
	if err := decode(in, &r); err != nil {
		return nil, err
	}
	if probe, err := c.probed(r.Auth, r.Protocol); probe {
		return nil, err
	}
	_, rk := r.Options["rk"]
	up, asked := r.Options["up"]
	up = up || !asked
	switch {
	case r.RP == "" || r.Hash == nil:
		return nil, MissingParameter
	case len(r.Hash) != 32:
		return nil, InvalidParameter
	case len(r.Allow) > maxList:
		return nil, RequestTooLarge
	case rk:
		return nil, UnsupportedOption
	case r.Options["uv"] && r.Auth == nil && len(k.store.prints) == 0:
		return nil, InvalidOption
	case r.Extensions.HMAC != nil && !up:
		return nil, UnsupportedOption
	}
	verified, err := c.verified(r.Auth, r.Protocol, r.Hash, mayAssert, r.RP, r.Options["uv"])
	if err != nil {
		return nil, err
	}
	if k.store.alwaysUV && !verified && up {
		return nil, PINRequired
	}
	found := slices.DeleteFunc(k.find(sha256.Sum256([]byte(r.RP)), r.Allow), func(f *Credential) bool {
		return !verified && (f.Protect == protectRequired || f.Protect == protectOptionalWithList && len(r.Allow) == 0)
	})
	if len(found) == 0 {
		return nil, NoCredentials
	}
	if up {
		if err := c.touch(r.RP); err != nil {
			return nil, err
		}
		k.spend()
	}
	if len(r.Allow) > 0 {
		found = found[:1]
	}
	var flags byte
	if up {
		flags |= flagPresent
	}
	if verified {
		flags |= flagVerified
	}
	next := &nextAssertions{left: found, hash: r.Hash, flags: flags, extensions: r.Extensions.HMAC, since: k.o.Now()}
	answer, err := c.assert(next)
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		answer[5] = len(found)
		k.power.next = next
	}
	return answer, nil
}

// getNextAssertion is the command of that name (CTAP 2.1, 6.3).
func (c *call) getNextAssertion() (any, error) {
	next := c.k.power.next
	if next == nil || len(next.left) == 0 || c.k.o.Now().Sub(next.since) > nextTime {
		c.k.power.next = nil
		return nil, NotAllowed
	}
	next.since = c.k.o.Now()
	return c.assert(next)
}

// assert signs with the first credential that is left.
func (c *call) assert(n *nextAssertions) (map[int]any, error) {
	with := n.left[0]
	n.left = n.left[1:]
	extensions := map[string]any{}
	if n.extensions != nil && with.HMAC {
		secret := with.secretWithout
		if n.flags&flagVerified != 0 {
			secret = with.secretWith
		}
		out, err := c.hmacSecret(*n.extensions, secret)
		if err != nil {
			return nil, err
		}
		extensions["hmac-secret"] = out
	}
	data := c.authData(with.RPHash, n.flags, nil, extensions)
	id, user := with.ID, User{ID: with.User.ID}
	if n.flags&flagVerified != 0 {
		user = with.User
	}
	switch c.fault.lie {
	case lieCredential:
		id = random(len(id))
	case lieUser:
		user = User{ID: random(len(user.ID)), Name: "somebody else"}
	}
	answer := map[int]any{1: described(id), 2: data, 3: c.signed(with.key, data, n.hash)}
	if with.Resident {
		answer[4] = user
	}
	return answer, nil
}

// hmacSecret is the extension hmac-secret (CTAP 2.1, 12.5).
func (c *call) hmacSecret(r hmacRequest, secret []byte) ([]byte, error) {
	protocol := orElse(r.Protocol, 1)
	if !slices.Contains(c.k.o.PINProtocols, protocol) {
		return nil, InvalidParameter
	}
	s, err := c.k.agreed(protocol, r.Agreement)
	if err != nil {
		return nil, err
	}
	if !s.authentic(r.Salts, r.Auth) {
		return nil, PINAuthInvalid
	}
	salts, err := s.open(r.Salts)
	if err != nil || len(salts) != 32 && len(salts) != 64 {
		return nil, InvalidLength
	}
	if c.fault.lie == lieSecret {
		secret = random(32)
	}
	var out []byte
	for ; len(salts) > 0; salts = salts[32:] {
		h := hmac.New(sha256.New, secret)
		h.Write(salts[:32])
		out = h.Sum(out)
	}
	return s.seal(out), nil
}

// find gives the relying party's credentials, the newest first: those in the list,
// or the resident ones if there is none.
func (k *Key) find(rp [32]byte, list []descriptor) (found []*Credential) {
	for _, c := range slices.Backward(k.store.credentials) {
		listed := func(d descriptor) bool { return d.Type == "public-key" && bytes.Equal(d.ID, c.ID) }
		if c.RPHash == rp && (len(list) == 0 && c.Resident || slices.ContainsFunc(list, listed)) {
			found = append(found, c)
		}
	}
	return found
}

// probed answers an empty pinUvAuthParam: a host that has several keys asks which
// one the owner means.
func (c *call) probed(auth *[]byte, protocol *int) (is bool, err error) {
	if auth == nil || len(*auth) > 0 {
		return false, nil
	}
	switch err := c.touch(""); {
	case err != nil:
		return true, err
	case protocol == nil:
		return true, MissingParameter
	case c.k.store.pinHash == nil:
		return true, PINNotSet
	}
	return true, PINInvalid
}

// verified says whether the owner is who they should be: by the token, or by
// finger if that is asked for.
func (c *call) verified(auth *[]byte, protocol *int, hash []byte, permission byte, rp string, uv bool) (bool, error) {
	switch {
	case auth != nil:
		err := c.k.authorize(*auth, protocol, hash, permission, rp)
		return err == nil, err
	case uv:
		err := c.verifyFinger(rp)
		return err == nil, err
	}
	return false, nil
}

// spend takes the permissions from a token that was used with a touch.
func (k *Key) spend() { k.power.token.permissions = 0 }
