package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/ipc/api"
)

// rekeyWait bounds a change of the vault key: the desktop may be asking for the
// keyring's password, and a TPM may be busy with others.
const rekeyWait = 90 * time.Second

// RekeyVault protects the state in another way. It does not end with its caller:
// a command line that is killed shall not leave the change half done, though the
// vault would stand that.
func (f front) RekeyVault(caller context.Context, in api.Rekey) (api.Rekeyed, error) {
	d := f.d
	c, err := f.open(caller)
	if err != nil {
		return api.Rekeyed{}, err
	}
	if err := checkRekey(in); err != nil {
		return api.Rekeyed{}, err
	}
	ctx, cancel := context.WithTimeout(d.ctx, rekeyWait)
	defer cancel()
	from, _ := d.vault.State()
	change := unlock.Change{To: unlock.Kind(in.Kind), Passphrase: unlock.Secret(in.Passphrase), Current: unlock.Secret(in.Current)}
	defer clear(change.Passphrase)
	defer clear(change.Current)
	if err := d.vault.Rekey(ctx, change); err != nil {
		_ = d.record(c, audit.Record{Event: "vault_rekeyed", Outcome: "failed", Reason: err.Error()})
		return api.Rekeyed{}, explainRekey(err, from)
	}
	kind, state := d.vault.State()
	_ = d.record(c, audit.Record{Event: "vault_rekeyed", Outcome: "done", Reason: fmt.Sprintf("from %s to %s", from, kind)})
	d.log.Info("vault rekeyed", "from", from, "to", kind)
	d.hub.publish(api.Event{Type: "status"})
	defer d.quiet.Reset(quietAfter)
	return api.Rekeyed{VaultKey: api.Component{Kind: string(kind), State: state}, Hints: d.rekeyHints(from, kind)}, nil
}

// checkRekey refuses what is no change whatever the vault says.
func checkRekey(in api.Rekey) error {
	kinds := []unlock.Kind{unlock.Auto, unlock.Keyring, unlock.TPM, unlock.Passphrase, unlock.File}
	switch {
	case !slices.Contains(kinds, unlock.Kind(in.Kind)):
		return &api.Error{Status: http.StatusBadRequest, Code: "bad_kind", Message: "there is no such vault key", Hint: "auto, keyring, tpm, passphrase or file"}
	case in.Passphrase != "" && in.Kind != string(unlock.Passphrase):
		return &api.Error{Status: http.StatusBadRequest, Code: "bad_passphrase", Message: "a new passphrase goes with the kind passphrase only"}
	}
	return nil
}

// rekeyHints say what a change asks of the person, and what it is not worth.
func (d *Daemon) rekeyHints(from, to unlock.Kind) []string {
	var hints []string
	add := func(text string) { hints = append(hints, text) }
	if to == unlock.Passphrase {
		add("from now on start the agent with --passphrase-file; without the passphrase nobody opens the state again")
	}
	if to != unlock.Passphrase && d.config.PassphraseFile != "" {
		add("start the agent without --passphrase-file from now on")
	}
	if asked := d.config.VaultKey; asked != "" && asked != string(unlock.Auto) && asked != string(to) {
		add("the agent was started with --vault-key " + asked + ": leave that out from now on, or say " + string(to))
	}
	if to == unlock.TPM {
		add("the state opens on this computer only, and not after its TPM was cleared: then the accounts have to be enrolled again")
	}
	if from == unlock.File && to != unlock.File {
		add("copies of vault.key made before, in backups too, still open this state: remove them, or enrol again with a new --state folder")
	}
	for _, left := range d.vault.Leftovers() {
		add(leftoverWords(left) + "; " + leftoverHint(left))
	}
	return hints
}

// settleVault ends what a change of the vault key has left undone when the agent
// stopped. The vault has been opened by what protects it now.
func (d *Daemon) settleVault(ctx context.Context) {
	if err := d.vault.Settle(ctx); err != nil {
		d.log.Warn("old vault key not removed", "error", err)
	}
}

func leftoverWords(kind unlock.Kind) string {
	if kind == unlock.Keyring {
		return "a key of this state that is not used any more may still be in the OS keyring"
	}
	return "a key of this state that is not used any more may still be in vault.key"
}

func leftoverHint(kind unlock.Kind) string {
	if kind == unlock.Keyring {
		return "open the keyring and start the agent again: it removes that key then"
	}
	return "remove that file from the state folder, or start the agent again: it tries then"
}

// explainRekey says why the protection was not changed.
func explainRekey(err error, kind unlock.Kind) error {
	kept := "the state is protected by " + kindWords(kind) + " as before"
	var e *api.Error
	var store *devicekey.StateError
	switch {
	case errors.Is(err, unlock.ErrWrongPassphrase):
		return &api.Error{Status: http.StatusForbidden, Code: "wrong_passphrase", Message: "that is not the passphrase in force", Hint: "nothing was changed"}
	case errors.Is(err, unlock.ErrCurrentPassphrase):
		return &api.Error{Status: http.StatusForbidden, Code: "current_passphrase_needed", Message: "the state is protected by a passphrase: changing that needs it", Hint: "countersign vault rekey asks for it on a terminal, or takes it from --current-passphrase-file"}
	case errors.Is(err, unlock.ErrNoPassphrase):
		return &api.Error{Status: http.StatusBadRequest, Code: "passphrase_needed", Message: "a passphrase is needed", Hint: "countersign vault rekey --to passphrase --passphrase-file FILE"}
	case errors.Is(err, unlock.ErrBadPassphrase):
		return &api.Error{Status: http.StatusBadRequest, Code: "bad_passphrase", Message: unlock.ErrBadPassphrase.Error()}
	case errors.Is(err, unlock.ErrWeaker):
		e = &api.Error{Status: http.StatusConflict, Code: "keyring_unavailable", Message: "the OS keyring cannot take the key, and a file would protect it less than now", Hint: "to have it in a file all the same: countersign vault rekey --to file"}
	case errors.Is(err, unlock.ErrKeyringLocked):
		e = &api.Error{Status: http.StatusServiceUnavailable, Code: "keyring_locked", Message: "the OS keyring is locked", Hint: "unlock the desktop's keyring, then try again"}
	case errors.Is(err, unlock.ErrKeyringUnavailable):
		e = &api.Error{Status: http.StatusServiceUnavailable, Code: "keyring_unavailable", Message: "the OS keyring does not answer", Hint: "run the agent in a desktop session with an open keyring"}
	case errors.Is(err, unlock.ErrKeyMissing):
		e = &api.Error{Status: http.StatusServiceUnavailable, Code: "keyring_unavailable", Message: "the OS keyring does not keep what it is given"}
	case errors.As(err, &store):
		e = &api.Error{Status: http.StatusServiceUnavailable, Code: "tpm_" + store.State.State, Message: tpmIs(store), Hint: store.State.Hint}
	case errors.Is(err, unlock.ErrNoSealer):
		e = &api.Error{Status: http.StatusServiceUnavailable, Code: "tpm_absent", Message: unlock.ErrNoSealer.Error(), Hint: "countersign doctor"}
	case errors.Is(err, context.DeadlineExceeded):
		e = &api.Error{Status: http.StatusServiceUnavailable, Code: "timed_out", Message: "the change took too long", Hint: "try again"}
	default:
		return explain(err)
	}
	e.Message += "; " + kept
	return e
}

// kindWords names a protection in a sentence.
func kindWords(kind unlock.Kind) string {
	switch kind {
	case unlock.Keyring:
		return "the OS keyring"
	case unlock.TPM:
		return "the TPM"
	case unlock.Passphrase:
		return "a passphrase"
	}
	return "file permissions only"
}
