package api

import "time"

// KeyList is every key of the accounts. There is no secret in it: private keys
// never leave their store.
type KeyList struct {
	Keys []Key `json:"keys"`
}

// Key is one key of an account.
type Key struct {
	ID      string `json:"id"`
	Account string `json:"account"` // account id
	Name    string `json:"name"`    // of the account
	Method  string `json:"method"`  // "push", "signed_nonce"; "" of the device's own
	// Role is "proofOfPossession", "userVerification", "userVerificationBioOrPin",
	// or "clientInstance" for the device's own.
	Role       string `json:"role"`
	Kind       string `json:"kind"`               // "tpm", "software": the store that has it
	Protection string `json:"protection"`         // "hardware" or "software"
	SealedBy   string `json:"sealedBy,omitempty"` // of software keys: what protects the vault that they are in
	// State is "ready", "lost", "locked", or that of its store; "new" is one that
	// is to take another's place, and the organisation may or may not know.
	State string `json:"state"`
	Hint  string `json:"hint,omitempty"`
}

// ChangeKeys changes the keys of an account, by a sign-in in the browser. Keys
// that demand the person's verification take it, for the old and for the new.
type ChangeKeys struct {
	Action string `json:"action"`       // one of KeyActions
	To     string `json:"to,omitempty"` // of "migrate": "tpm" or "software"; else the other one
	PIN    PIN    `json:"pin,omitempty"`
	// Verification is a method besides the PIN to be verified by.
	Verification string `json:"verification,omitempty"`
}

// KeyActions are the changes: keys that demand verification, in addition or
// anew; new keys for everything; and those in another store.
var KeyActions = []string{"verify", "rotate", "migrate"}

// Notice is something that happened to another device of the person at an
// organisation. All text is cleaned.
type Notice struct {
	Account string    `json:"account"` // account id
	Event   string    `json:"event"`   // "ENROLLED", "KEYS_REPLACED", …
	Device  string    `json:"device"`
	At      time.Time `json:"at"`
	Message string    `json:"message"` // a sentence
}
