package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/prompt"
	"countersign.dev/daemon/vault"
	"countersign.dev/daemon/vault/unlock"
)

// sealer is the TPM as the vault sees it: it sorts out the states in which what
// was sealed is lost, whatever anybody does.
type sealer struct{ tpm unlock.Sealer }

func (s sealer) Seal(ctx context.Context, secret []byte) ([]byte, error) {
	blob, err := s.tpm.Seal(ctx, secret)
	return blob, sealBroken(err)
}

func (s sealer) Unseal(ctx context.Context, blob []byte) ([]byte, error) {
	secret, err := s.tpm.Unseal(ctx, blob)
	return secret, sealBroken(err)
}

func sealBroken(err error) error {
	var store *devicekey.StateError
	if errors.As(err, &store) && (store.State.State == devicekey.Cleared || store.State.State == devicekey.OtherDevice) {
		return fmt.Errorf("%w: %w", unlock.ErrSealBroken, err)
	}
	return err
}

// whyLocked says in words why the vault's key cannot be had.
func whyLocked(reason error) string {
	var store *devicekey.StateError
	for _, known := range []error{unlock.ErrSealBroken, unlock.ErrNoSealer, unlock.ErrKeyringLocked, unlock.ErrKeyringUnavailable} {
		if errors.Is(reason, known) {
			return known.Error()
		}
	}
	switch {
	case errors.As(reason, &store):
		return tpmIs(store)
	case reason == nil, reason == vault.ErrLocked:
		return "its key was not fetched yet"
	}
	return strings.TrimPrefix(reason.Error(), vault.ErrLocked.Error()+": ")
}

// tpmIs is a state of the TPM in words, with what was seen.
func tpmIs(e *devicekey.StateError) string {
	words := tpmWords[e.State.State]
	if words == "" {
		words = "the TPM does not work"
	}
	if e.Err != nil {
		words += " (" + prompt.Clean(e.Err.Error(), 120) + ")"
	}
	return words
}

// unlockHint says how to open this vault, by why it is locked.
func (d *Daemon) unlockHint() string { return d.lockHint(d.vault.LockReason()) }

// lockHint says what to do when the vault's key cannot be had. What is lost is
// called so: nobody shall wait for it.
func (d *Daemon) lockHint(reason error) string {
	const again = "start the agent with another --state folder and enrol again; this computer's old entries can be removed at the organisations"
	kind, _ := d.vault.State()
	var store *devicekey.StateError
	switch {
	case errors.Is(reason, unlock.ErrSealBroken):
		return "nothing opens this state any more, here or elsewhere, unless it is put back on the computer it comes from: " + again
	case errors.As(reason, &store) && store.State.Hint != "":
		return store.State.Hint + "; then try again"
	case kind == unlock.TPM && errors.Is(reason, unlock.ErrWrongKey):
		return "vault.json is not this state's: put back the one that is, or " + again
	case kind == unlock.TPM:
		return "the state's key is sealed to the TPM of this computer: mend that, then try again"
	case kind == unlock.Keyring && (errors.Is(reason, unlock.ErrKeyMissing) || errors.Is(reason, unlock.ErrWrongKey)):
		return "put back a backup of the keyring that has this state's key, or " + again
	case kind == unlock.Keyring && errors.Is(reason, unlock.ErrKeyringUnavailable):
		return "start the desktop's keyring in this session, then try again"
	case kind == unlock.Keyring:
		return "unlock the desktop's keyring, then try again"
	case kind == unlock.Passphrase && errors.Is(reason, unlock.ErrWrongPassphrase):
		return "the first line of the passphrase file is the passphrase; it may have been changed by countersign vault rekey"
	case kind == unlock.Passphrase:
		return "start the agent with --passphrase-file"
	}
	return "put this state's vault.key back into " + d.vault.Dir() + ", or " + again
}
