package softkey

import (
	"bytes"
	"crypto/sha256"
	"slices"
)

// listing is where an enumeration stands.
type listing struct {
	sub  byte // that continues it
	left []*Credential
}

type managementRequest struct {
	Sub      *byte  `cbor:"1,keyasint"`
	Params   raw    `cbor:"2,keyasint"`
	Protocol *int   `cbor:"3,keyasint"`
	Auth     []byte `cbor:"4,keyasint"`
}

type managementParams struct {
	RPHash     []byte      `cbor:"1,keyasint"`
	Credential *descriptor `cbor:"2,keyasint"`
	User       *User       `cbor:"3,keyasint"`
}

const (
	manageMetadata byte = 1 + iota
	manageRPs
	manageNextRP
	manageCredentials
	manageNextCredential
	manageDelete
	manageUpdate
)

// credentialManagement is authenticatorCredentialManagement (CTAP 2.1, 6.8).
func (k *Key) credentialManagement(in []byte) (any, error) {
	var r managementRequest
	if err := decode(in, &r); err != nil {
		return nil, err
	}
	if r.Sub == nil {
		return nil, MissingParameter
	}
	before := k.power.listing
	k.power.listing = nil
	switch *r.Sub {
	case manageNextRP, manageNextCredential:
		if before == nil || before.sub != *r.Sub || len(before.left) == 0 {
			return nil, NotAllowed
		}
		k.power.listing = before
		return k.listed(false), nil
	case manageMetadata, manageRPs, manageCredentials, manageDelete, manageUpdate:
	default:
		return nil, InvalidSubcommand
	}
	var p managementParams
	if len(r.Params) > 0 {
		if err := decode(r.Params, &p); err != nil {
			return nil, err
		}
	}
	target, err := k.target(*r.Sub, p)
	if err != nil {
		return nil, err
	}
	if r.Auth == nil {
		return nil, PINRequired
	}
	message := append([]byte{*r.Sub}, r.Params...)
	if err := k.authorize(r.Auth, r.Protocol, message, mayManage, ""); err != nil {
		return nil, err
	}
	// A token for one relying party shows nothing of others.
	if rp := k.power.token.rp; rp != "" && (target.all || sha256.Sum256([]byte(rp)) != target.rp) {
		return nil, PINAuthInvalid
	}
	return k.manage(*r.Sub, p, target)
}

// target is what a subcommand is about.
type target struct {
	all        bool // not of one relying party
	rp         [32]byte
	credential *Credential
}

func (k *Key) target(sub byte, p managementParams) (target, error) {
	switch sub {
	case manageMetadata, manageRPs:
		return target{all: true}, nil
	case manageCredentials:
		if len(p.RPHash) != 32 {
			return target{}, MissingParameter
		}
		return target{rp: [32]byte(p.RPHash)}, nil
	}
	if p.Credential == nil || sub == manageUpdate && p.User == nil {
		return target{}, MissingParameter
	}
	for _, c := range k.store.credentials {
		if c.Resident && bytes.Equal(c.ID, p.Credential.ID) {
			return target{rp: c.RPHash, credential: c}, nil
		}
	}
	return target{}, nil // said once the host has shown that it may know
}

func (k *Key) manage(sub byte, p managementParams, t target) (any, error) {
	switch sub {
	case manageMetadata:
		return map[int]any{1: k.residents(), 2: k.room()}, nil
	case manageRPs:
		l := &listing{sub: manageNextRP}
		for _, c := range k.store.credentials {
			seen := func(o *Credential) bool { return o.RPHash == c.RPHash }
			if c.Resident && !slices.ContainsFunc(l.left, seen) {
				l.left = append(l.left, c)
			}
		}
		if len(l.left) == 0 {
			return nil, NoCredentials
		}
		k.power.listing = l
		return k.listed(true), nil
	case manageCredentials:
		found := k.find(t.rp, nil)
		if len(found) == 0 {
			return nil, NoCredentials
		}
		k.power.listing = &listing{sub: manageNextCredential, left: found}
		return k.listed(true), nil
	}
	if t.credential == nil {
		return nil, NoCredentials
	}
	if sub == manageDelete {
		k.store.credentials = slices.DeleteFunc(k.store.credentials, func(c *Credential) bool { return c == t.credential })
		return nil, nil
	}
	if !bytes.Equal(p.User.ID, t.credential.User.ID) {
		return nil, InvalidParameter
	}
	t.credential.User = *p.User
	return nil, nil
}

// listed is the next entry of the listing, with the total before the first.
func (k *Key) listed(first bool) any {
	l := k.power.listing
	c, total := l.left[0], len(l.left)
	l.left = l.left[1:]
	if l.sub == manageNextRP {
		entry := map[int]any{3: c.RP, 4: c.RPHash[:]}
		if first {
			entry[5] = total
		}
		return entry
	}
	entry := map[int]any{6: c.User, 7: described(c.ID), 8: c.cose(), 10: c.Protect}
	if first {
		entry[9] = total
	}
	return entry
}
