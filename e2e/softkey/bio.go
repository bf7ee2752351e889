package softkey

import (
	"bytes"
	"slices"
)

type fingerprint struct {
	id   []byte
	name string
}

// enrolling is a fingerprint of which samples are still missing.
type enrolling struct {
	id   []byte
	left int
}

const (
	fingerSamples = 3
	maxPrints     = 5
	maxPrintName  = 32
)

// What became of a sample (CTAP 2.1, 6.7.2).
const (
	sampleGood       = 0x00
	sampleNoActivity = 0x0d
)

// EnrolFingerprint puts a finger on the key as its owner did long ago.
func (k *Key) EnrolFingerprint(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.store.prints = append(k.store.prints, fingerprint{random(4), name})
}

// Fingerprints are the names of those enrolled.
func (k *Key) Fingerprints() (names []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.store.prints {
		names = append(names, p.name)
	}
	return names
}

// verifyFinger verifies the owner by a finger.
func (c *call) verifyFinger(rp string) error {
	switch {
	case len(c.k.store.prints) == 0:
		return NotAllowed
	case c.k.store.uvRetries == 0:
		return UVBlocked
	}
	switch err := c.ask(Ask{Step: c.step, RP: rp, Fingerprint: true}); {
	case err == nil:
		c.k.store.uvRetries = maxUVRetries
		return nil
	case err != UserActionTimeout:
		return err
	}
	// No finger in time, and the wrong one, are the same here: not verified.
	if c.k.store.uvRetries--; c.k.store.uvRetries == 0 {
		return UVBlocked
	}
	return UVInvalid
}

type bioRequest struct {
	Modality    *int   `cbor:"1,keyasint"`
	Sub         *byte  `cbor:"2,keyasint"`
	Params      raw    `cbor:"3,keyasint"`
	Protocol    *int   `cbor:"4,keyasint"`
	Auth        []byte `cbor:"5,keyasint"`
	GetModality bool   `cbor:"6,keyasint"`
}

type bioParams struct {
	ID   []byte `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
	Time *int   `cbor:"3,keyasint"` // in milliseconds; the key's own patience is shorter or longer
}

const (
	bioEnrol byte = 1 + iota
	bioMore
	bioCancel
	bioList
	bioName
	bioDelete
	bioSensor
)

// bio is authenticatorBioEnrollment (CTAP 2.1, 6.7).
func (c *call) bio(in []byte) (any, error) {
	k := c.k
	var r bioRequest
	if err := decode(in, &r); err != nil {
		return nil, err
	}
	switch {
	case r.GetModality:
		return map[int]any{1: 1}, nil
	case r.Sub == nil || r.Modality == nil:
		return nil, MissingParameter
	case *r.Modality != 1:
		return nil, UnsupportedOption
	case *r.Sub == bioCancel:
		k.power.enrolling = nil
		return nil, nil
	case *r.Sub == bioSensor:
		return map[int]any{2: 1, 3: fingerSamples, 8: maxPrintName}, nil
	case *r.Sub < bioEnrol || *r.Sub > bioSensor:
		return nil, InvalidSubcommand
	case r.Auth == nil:
		return nil, PINRequired
	}
	if err := k.authorize(r.Auth, r.Protocol, append([]byte{1, *r.Sub}, r.Params...), mayEnrol, ""); err != nil {
		return nil, err
	}
	var p bioParams
	if len(r.Params) > 0 {
		if err := decode(r.Params, &p); err != nil {
			return nil, err
		}
	}
	switch at := k.print(p.ID); {
	case *r.Sub == bioEnrol || *r.Sub == bioMore:
		return c.enrol(*r.Sub, p)
	case *r.Sub == bioList:
		return k.listPrints()
	case p.ID == nil || *r.Sub == bioName && p.Name == "":
		return nil, MissingParameter
	case at < 0:
		return nil, InvalidOption
	case *r.Sub == bioDelete:
		k.store.prints = slices.Delete(k.store.prints, at, at+1)
	case len(p.Name) > maxPrintName:
		return nil, InvalidLength
	default:
		k.store.prints[at].name = p.Name
	}
	return nil, nil
}

func (k *Key) print(id []byte) int {
	return slices.IndexFunc(k.store.prints, func(p fingerprint) bool { return bytes.Equal(p.id, id) })
}

func (k *Key) listPrints() (any, error) {
	if len(k.store.prints) == 0 {
		return nil, InvalidOption
	}
	var all []any
	for _, p := range k.store.prints {
		all = append(all, map[int]any{1: p.id, 2: p.name})
	}
	return map[int]any{7: all}, nil
}

// enrol takes one sample.
func (c *call) enrol(sub byte, p bioParams) (any, error) {
	k := c.k
	if sub == bioEnrol {
		if len(k.store.prints) >= maxPrints {
			return nil, FingerprintsFull
		}
		k.power.enrolling = &enrolling{id: random(4), left: fingerSamples}
	}
	e := k.power.enrolling
	if e == nil || sub == bioMore && !bytes.Equal(p.ID, e.id) {
		return nil, InvalidOption
	}
	answer := map[int]any{}
	if sub == bioEnrol {
		answer[4] = e.id
	}
	answer[5] = sampleGood
	switch err := c.ask(Ask{Step: c.step, Fingerprint: true}); {
	case err == UserActionTimeout:
		answer[5] = sampleNoActivity
	case err != nil:
		k.power.enrolling = nil
		return nil, err
	default:
		e.left--
	}
	answer[6] = e.left
	if e.left == 0 {
		k.store.prints = append(k.store.prints, fingerprint{e.id, ""})
		k.power.enrolling = nil
	}
	return answer, nil
}
