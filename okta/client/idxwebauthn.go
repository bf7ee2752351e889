package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"countersign.dev/okta/jose"
)

const (
	maxChallenge   = 1 << 10
	maxCredential  = 1023 // bytes of a credential's id (CTAP 2.1)
	maxCredentials = 64   // of one person at one org
	maxUserHandle  = 64   // WebAuthn 5.4.3
	maxName        = 256
	maxAlgorithms  = 32
)

// ErrWebAuthn says that what an org wants of a security key is not what
// WebAuthn has.
var ErrWebAuthn = errors.New("what the org wants of the security key is malformed")

// KeyChallenge is what a security key is to sign.
type KeyChallenge struct {
	Challenge    []byte
	RPID         string   // the org's host unless it says otherwise
	Verification string   // "required", "preferred", "discouraged"
	Allow        [][]byte // the person's credentials
}

// KeyCreation is the credential that a security key is to make.
type KeyCreation struct {
	Challenge       []byte
	RPID, RPName    string
	UserID          []byte
	UserName        string
	UserDisplayName string
	Algorithms      []int
	Exclude         [][]byte
	Verification    string
	Resident        string // as Verification: whether the key keeps it
	Platform        bool   // it may only be one that is built into the computer
}

// encodedBytes is base64url in a document, padded or not.
type encodedBytes []byte

func (b *encodedBytes) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	v, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return errors.New("not base64url")
	}
	*b = v
	return nil
}

// Challenge reads what the form wants signed. host is that of the org.
func (f *Form) Challenge(host string) (KeyChallenge, error) {
	var d struct {
		Challenge    encodedBytes `json:"challenge"`
		RPID         string       `json:"rpId"`
		Verification string       `json:"userVerification"`
	}
	if err := readData(f.data.Challenge, &d); err != nil {
		return KeyChallenge{}, err
	}
	c := KeyChallenge{Challenge: d.Challenge, RPID: d.RPID, Verification: d.Verification}
	if c.RPID == "" {
		c.RPID = host
	}
	var err error
	if c.Allow, err = f.credentials(); err != nil {
		return KeyChallenge{}, err
	}
	switch {
	case len(c.Allow) == 0:
		return KeyChallenge{}, fmt.Errorf("%w: it names no credential", ErrWebAuthn)
	case len(c.Challenge) == 0 || len(c.Challenge) > maxChallenge:
		return KeyChallenge{}, fmt.Errorf("%w: challenge", ErrWebAuthn)
	}
	return c, verification(c.Verification)
}

// Creation reads which credential the form wants made.
func (f *Form) Creation(host string) (KeyCreation, error) {
	var d struct {
		RP struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"rp"`
		User struct {
			ID          encodedBytes `json:"id"`
			Name        string       `json:"name"`
			DisplayName string       `json:"displayName"`
		} `json:"user"`
		Challenge  encodedBytes `json:"challenge"`
		Parameters []struct {
			Type      string `json:"type"`
			Algorithm int    `json:"alg"`
		} `json:"pubKeyCredParams"`
		Selection struct {
			Verification    string `json:"userVerification"`
			Attachment      string `json:"authenticatorAttachment"`
			ResidentKey     string `json:"residentKey"`
			RequireResident bool   `json:"requireResidentKey"`
		} `json:"authenticatorSelection"`
		Exclude []struct {
			ID encodedBytes `json:"id"`
		} `json:"excludeCredentials"`
	}
	if err := readData(f.data.Activation, &d); err != nil {
		return KeyCreation{}, err
	}
	c := KeyCreation{
		Challenge: d.Challenge, RPID: d.RP.ID, RPName: d.RP.Name,
		UserID: d.User.ID, UserName: d.User.Name, UserDisplayName: d.User.DisplayName,
		Verification: d.Selection.Verification, Platform: d.Selection.Attachment == "platform",
		Resident: d.Selection.ResidentKey,
	}
	if d.Selection.RequireResident { // older than the other, and says less
		c.Resident = "required"
	}
	if c.RPID == "" {
		c.RPID = host
	}
	for _, p := range d.Parameters {
		if p.Type == "public-key" && len(c.Algorithms) < maxAlgorithms && !slices.Contains(c.Algorithms, p.Algorithm) {
			c.Algorithms = append(c.Algorithms, p.Algorithm)
		}
	}
	var err error
	if c.Exclude, err = f.credentials(); err != nil {
		return KeyCreation{}, err
	}
	for _, e := range d.Exclude {
		if c.Exclude, err = appendCredential(c.Exclude, e.ID); err != nil {
			return KeyCreation{}, err
		}
	}
	switch {
	case len(c.Challenge) == 0 || len(c.Challenge) > maxChallenge:
		return KeyCreation{}, fmt.Errorf("%w: challenge", ErrWebAuthn)
	case len(c.UserID) == 0 || len(c.UserID) > maxUserHandle || c.UserName == "":
		return KeyCreation{}, fmt.Errorf("%w: user", ErrWebAuthn)
	case len(c.RPName) > maxName || len(c.UserName) > maxName || len(c.UserDisplayName) > maxName:
		return KeyCreation{}, fmt.Errorf("%w: a name that is too long", ErrWebAuthn)
	case len(c.Algorithms) == 0:
		return KeyCreation{}, fmt.Errorf("%w: no algorithm", ErrWebAuthn)
	}
	return c, verification(c.Verification)
}

// readData reads data of a step, which is a part of a document that was found
// to be strict JSON.
func readData(raw json.RawMessage, dst any) error {
	if len(raw) == 0 || string(raw) == "null" {
		return fmt.Errorf("%w: there is nothing", ErrWebAuthn)
	}
	if err := jose.DecodeStrict(raw, dst, maxAnswer); err != nil {
		return fmt.Errorf("%w: %w", ErrWebAuthn, err)
	}
	return nil
}

// verification admits the words of WebAuthn 5.8.6; none means "preferred".
func verification(s string) error {
	switch s {
	case "", "required", "preferred", "discouraged":
		return nil
	}
	return fmt.Errorf("%w: userVerification %.20q", ErrWebAuthn, s)
}

// credentials are those that the org knows of the person.
func (f *Form) credentials() (list [][]byte, err error) {
	for _, e := range f.enrolled {
		if e.Key != KeyWebAuthn || e.CredentialID == "" {
			continue
		}
		var id encodedBytes
		quoted, _ := json.Marshal(e.CredentialID)
		if err := id.UnmarshalJSON(quoted); err != nil {
			return nil, fmt.Errorf("%w: credentialId: %w", ErrWebAuthn, err)
		}
		if list, err = appendCredential(list, id); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func appendCredential(list [][]byte, id []byte) ([][]byte, error) {
	if len(id) == 0 || len(id) > maxCredential || len(list) >= maxCredentials {
		return nil, fmt.Errorf("%w: credentials", ErrWebAuthn)
	}
	if slices.ContainsFunc(list, func(other []byte) bool { return slices.Equal(other, id) }) {
		return list, nil
	}
	return append(list, id), nil
}

// Host is the org's host, without a port.
func (o *Org) Host() string {
	u, err := url.Parse(o.url)
	if err != nil {
		return "" // New has parsed it
	}
	return u.Hostname()
}
