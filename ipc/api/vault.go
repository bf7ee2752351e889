package api

import (
	"fmt"
	"log/slog"
)

// PathRekey takes POST Rekey and answers Rekeyed.
const PathRekey = "/v1/vault/rekey"

// Passphrase is one on its way to the agent. It prints as "[redacted]", in all
// ways but JSON.
type Passphrase string

const redacted = "[redacted]"

func (Passphrase) String() string             { return redacted }
func (Passphrase) GoString() string           { return redacted }
func (Passphrase) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }
func (Passphrase) LogValue() slog.Value       { return slog.StringValue(redacted) }

// Rekey asks for another protection of the agent's state. The same kind again
// is one, too: another passphrase, a fresh sealing.
type Rekey struct {
	Kind       string     `json:"kind"`                 // "auto", "keyring", "tpm", "passphrase", "file"
	Passphrase Passphrase `json:"passphrase,omitempty"` // the new one, of kind "passphrase"
	Current    Passphrase `json:"current,omitempty"`    // the one in force, of a state that has one
}

// Rekeyed is what protects the state now.
type Rekeyed struct {
	VaultKey Component `json:"vaultKey"`
	// Hints are what there is to know or to do, in words.
	Hints []string `json:"hints,omitempty"`
}
