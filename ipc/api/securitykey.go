package api

import "time"

// SecurityKeyList is every FIDO2 and U2F key that is plugged in.
type SecurityKeyList struct {
	Keys []SecurityKey `json:"keys"`
}

// SecurityKey is a FIDO2 or U2F key, as it describes itself. Lists hold what is
// known without asking a key much; one key by its id says all.
type SecurityKey struct {
	// ID names the key for as long as it is plugged in. A key that takes its place
	// has another one.
	ID           string   `json:"id"`
	Product      string   `json:"product"`
	Manufacturer string   `json:"manufacturer"`
	AAGUID       string   `json:"aaguid"`          // of its model; "" of U2F keys
	Model        string   `json:"model,omitempty"` // the name that goes with the AAGUID, where it is known
	Firmware     string   `json:"firmware"`
	Protocols    []string `json:"protocols"` // "FIDO_2_0", "U2F_V2", …
	Path         string   `json:"path,omitempty"`

	Extensions  []string        `json:"extensions,omitempty"`
	Options     map[string]bool `json:"options,omitempty"`
	PINSet      bool            `json:"pinSet,omitempty"`
	TriesLeft   int             `json:"triesLeft,omitempty"` // wrong PINs before the key is blocked
	Advisories  []string        `json:"advisories,omitempty"`
	Problem     *Error          `json:"problem,omitempty"`    // why not more is known
	Verifies    bool            `json:"verifies,omitempty"`   // it is set up to verify the person to this agent
	BySystem    bool            `json:"bySystem,omitempty"`   // it stands for whatever Windows reaches, which asks for PIN and touch itself
	PluggedInAt time.Time       `json:"pluggedInAt,omitzero"` // as far as this agent has seen it
}

// KeyPIN is a request that may take the key's PIN. It is for the key whose id is
// in the path, and for no other.
type KeyPIN struct {
	PIN PIN `json:"pin,omitempty"`
}

// SetKeyPIN sets the first PIN of a key, or changes it from OldPIN.
type SetKeyPIN struct {
	PIN    PIN `json:"pin"`
	OldPIN PIN `json:"oldPin,omitempty"`
}

// KeyCredentialList is what is kept on a key.
type KeyCredentialList struct {
	Credentials []KeyCredential `json:"credentials"`
	Left        int             `json:"left"` // room for more
}

// KeyCredential is a credential that is kept on a key.
type KeyCredential struct {
	ID      string `json:"id"` // base64url
	RPID    string `json:"rpId"`
	RP      string `json:"rp,omitempty"`
	User    string `json:"user"`
	Display string `json:"displayName,omitempty"`
}

// DeleteKeyCredential deletes one. Confirm is what the person has typed: the
// rpId of the credential.
type DeleteKeyCredential struct {
	PIN     PIN    `json:"pin,omitempty"`
	ID      string `json:"id"`
	Confirm string `json:"confirm"`
}

// ResetKey wipes a key. Confirm is what the person has typed: its product name.
type ResetKey struct {
	Confirm string `json:"confirm"`
}

// FingerprintList is what is enrolled on a key that reads fingers.
type FingerprintList struct {
	Fingerprints []KeyFingerprint `json:"fingerprints"`
}

// KeyFingerprint is one finger.
type KeyFingerprint struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// ChangeFingerprint enrols a finger under a name, or with Drop forgets one.
type ChangeFingerprint struct {
	PIN  PIN    `json:"pin,omitempty"`
	Name string `json:"name,omitempty"`
	Drop string `json:"drop,omitempty"` // id
}

// KeySignIn signs in at an org with a key and without a browser. What is missing
// is refused by name ("password_needed", "key_pin_needed", "enrolment_needed"),
// so that the person can be asked and the sign-in begun again; nothing is tried
// twice by itself.
type KeySignIn struct {
	Org      string `json:"org"` // URL
	Username string `json:"username"`
	Password PIN    `json:"password,omitempty"`
	Key      string `json:"key,omitempty"` // id; "": the only one, or the one that is touched first
	PIN      PIN    `json:"pin,omitempty"`
	// Enrol lets the key be enrolled if the org asks for one.
	Enrol bool `json:"enrol,omitempty"`
	// Client is the app that is signed in to; "" is the agent itself.
	Client string `json:"client,omitempty"`
	// RedirectURI is one that is registered for the client; nothing is sent there.
	// "" is that of the agent, or http://localhost:8080/callback for another client.
	RedirectURI string `json:"redirectUri,omitempty"`
}

// KeySignedIn is how it ended well.
type KeySignedIn struct {
	Org      string    `json:"org"`
	User     string    `json:"user"`
	UserID   string    `json:"userId"`
	AMR      []string  `json:"amr"`
	At       time.Time `json:"at"`
	Enrolled bool      `json:"enrolled,omitempty"` // the key was enrolled on the way
	Key      string    `json:"key"`                // product
}

// KeyEvent tells what a key waits for, on the event stream.
type KeyEvent struct {
	Key     string `json:"key"`
	Product string `json:"product"`
	State   string `json:"state"`          // "touch", "sample", "done"
	Left    int    `json:"left,omitempty"` // samples
}
