package unlock

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Changing what protects the data key, so that the world may stop at any moment:
//
//	note      vault.json says that a new secret is about to lie somewhere
//	protect   the new secret is made, durably
//	check     and fetched again, as the next start would
//	switch    vault.json is replaced: from here on the new one is in force
//	settle    the copy of vault.json follows, the old secret is removed,
//	          and so is the note
//
// Until the switch the old protection is in force and complete, after it the
// new one. What is left to do after a crash stands in vault.json, and Settle
// does it at the next start, once the vault has opened: nothing is removed on
// the word of a protection that has not proved itself.
//
// The data key itself stays. It is what every room is sealed under and every
// journal chained with, and those cannot all be replaced at one moment. So
// Rekey helps against what may happen to the old protection from now on, and
// not against what has happened: who has the data key already, from a stolen
// vault.key or an old copy of the folder whose passphrase they know, can open
// what is sealed tomorrow, too. The remedy for that is a new vault.

// Errors of Rekey, besides those of unlocking.
var (
	// ErrCurrentPassphrase: a vault that a passphrase protects is given away
	// for that passphrase only. The agent has the key in its memory; whoever
	// may talk to it shall not get it written to a file on that account.
	ErrCurrentPassphrase = errors.New("the passphrase in force is needed, too")
	ErrBadPassphrase     = errors.New("a passphrase is one line of at most 4096 bytes")
	// ErrWeaker: Auto would have ended at a file, where now is something better.
	ErrWeaker = errors.New("the vault was not given a weaker protection than it has")
)

// Secret is a passphrase. It prints as "[redacted]".
type Secret []byte

func (Secret) String() string             { return redacted }
func (Secret) GoString() string           { return redacted }
func (Secret) Format(f fmt.State, _ rune) { f.Write([]byte(redacted)) }
func (Secret) LogValue() slog.Value       { return slog.StringValue(redacted) }

// Change says how the data key is to be protected from now on.
type Change struct {
	To         Kind   // Auto is the keyring if it answers, else what is there already
	Passphrase Secret // of kind Passphrase
	Current    Secret // the passphrase in force, of a vault that has one
}

// settleTimeout bounds the removal of one old secret.
const settleTimeout = 10 * time.Second

// leavesSecret says whether a kind keeps a secret outside vault.json.
func leavesSecret(k Kind) bool { return k == File || k == Keyring }

// Rekey protects key, which must be the vault's, as c says. It returns the
// Method that is in force now, also with an error: that is m, or one like it,
// unless the error is about a change that was made and may not last.
//
// The same kind again is a change, too: another passphrase, a fresh sealing, an
// item that was deleted from the keyring put back. Settle is left to the caller.
func (m *Method) Rekey(ctx context.Context, key Key, c Change) (*Method, error) {
	if checkOf(key) != m.config.Check {
		return m, ErrWrongKey
	}
	if err := m.refuses(c); err != nil {
		return m, err
	}
	if c.To == Auto {
		return m.rekeyAuto(ctx, key)
	}
	return m.rekey(ctx, key, c)
}

// rekeyAuto asks the keyring as the first start does. A vault is not moved to a
// file because its owner left the choice to the agent.
func (m *Method) rekeyAuto(ctx context.Context, key Key) (*Method, error) {
	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	next, err := m.rekey(probe, key, Change{To: Keyring})
	switch {
	case err == nil || next.config.Kind == Keyring:
		return next, err
	case next.config.Kind == File:
		return next.rekey(ctx, key, Change{To: File})
	}
	return next, fmt.Errorf("%w: %w", ErrWeaker, err)
}

// refuses looks at what a change must bring along.
func (m *Method) refuses(c Change) error {
	switch c.To {
	case Auto, Keyring, File:
	case TPM:
		if m.sealer == nil {
			return ErrNoSealer
		}
	case Passphrase:
		// As the next start will read it: the first line of a file.
		line, err := firstLine(bytes.NewReader(c.Passphrase))
		defer clear(line)
		if len(c.Passphrase) == 0 {
			return ErrNoPassphrase
		}
		if err != nil || !bytes.Equal(line, c.Passphrase) {
			return ErrBadPassphrase
		}
	default:
		return fmt.Errorf("unknown kind of vault key %q", c.To)
	}
	if c.To != Passphrase && len(c.Passphrase) != 0 {
		return fmt.Errorf("a passphrase does not go with a vault key of kind %s", c.To)
	}
	if m.config.Kind != Passphrase {
		return nil
	}
	if len(c.Current) == 0 {
		return ErrCurrentPassphrase
	}
	current, err := m.unwrap(c.Current)
	current.Wipe()
	return err
}

func (m *Method) rekey(ctx context.Context, key Key, c Change) (*Method, error) {
	if c.To == Keyring {
		if err := m.keyringAnswers(ctx); err != nil {
			return m, fmt.Errorf("protect the vault's key by %s: %w", c.To, err)
		}
	}
	before, err := m.note(c.To)
	if err != nil {
		return m.asWritten(m), err
	}
	next := before.with(config{Version: configVersion, ID: m.config.ID, Check: m.config.Check})
	next.fallback = nil
	err = next.at("noted")
	if err == nil {
		err = next.protect(ctx, c.To, key, c.Passphrase)
	}
	if err == nil {
		err = next.at("protected")
	}
	if err == nil {
		err = next.proves(ctx, key, c.Passphrase)
	}
	if err == nil {
		err = next.at("checked")
	}
	if err != nil {
		return before.undo(ctx), fmt.Errorf("protect the vault's key by %s: %w", c.To, err)
	}
	next.config.Leftovers = leftovers(before.config.Leftovers, m.config.Kind, c.To)
	err = next.write(ConfigFile)
	if err == nil {
		err = next.at("switched")
	}
	if err == nil {
		return next, nil
	}
	// The folder has the old vault.json or the new one, for all that is known.
	// Both secrets are there, so either opens. Settle writes the one that is
	// there once more, and removes nothing before that is on the disk.
	inForce := before.asWritten(next)
	settled, failed := inForce.Settle(context.WithoutCancel(ctx))
	if inForce == next && failed == nil {
		return settled, nil
	}
	return settled, err
}

// keyringAnswers keeps a keyring that takes nothing out of the notes: what it
// was never given need not be removed from it later, when it does not answer.
func (m *Method) keyringAnswers(ctx context.Context) error {
	there, err := m.ring.get(ctx, m.itemName())
	clear(there)
	if errors.Is(err, ErrKeyMissing) {
		return nil
	}
	return err
}

// note writes down that a secret of that kind is about to be made, where none
// is in force. A vault.key that nobody knows of would be the data key in the
// clear beside a vault that says it is protected otherwise.
func (m *Method) note(kind Kind) (*Method, error) {
	if !leavesSecret(kind) || kind == m.config.Kind || slices.Contains(m.config.Leftovers, kind) {
		return m, nil
	}
	c := m.config
	c.Leftovers = append(slices.Clone(c.Leftovers), kind)
	noted := m.with(c)
	return noted, noted.write(ConfigFile)
}

// leftovers is what is left when one kind gives way to another.
func leftovers(before []Kind, from, to Kind) []Kind {
	list := slices.DeleteFunc(slices.Clone(before), func(k Kind) bool { return k == to })
	if from != to && leavesSecret(from) && !slices.Contains(list, from) {
		list = append(list, from)
	}
	return list
}

// proves fetches the key as the next start will.
func (m *Method) proves(ctx context.Context, key Key, passphrase Secret) error {
	switch m.config.Kind {
	case Keyring, TPM:
		return nil // protect has asked them already
	}
	back, err := m.fetch(ctx, func() ([]byte, error) { return bytes.Clone(passphrase), nil })
	if err != nil {
		return err
	}
	defer back.Wipe()
	if subtle.ConstantTimeCompare(back.Bytes(), key.Bytes()) != 1 {
		return ErrWrongKey
	}
	return nil
}

// undo takes back what was prepared. What cannot be taken back now stays noted.
// It does not end with the caller, whose patience may be what has ended.
func (m *Method) undo(ctx context.Context) *Method {
	undone, _ := m.Settle(context.WithoutCancel(ctx))
	return undone
}

// asWritten is m or other, whichever vault.json names.
func (m *Method) asWritten(other *Method) *Method {
	data, err := m.dir.Read(ConfigFile, maxConfig)
	if err != nil {
		return m
	}
	c, err := parseConfig(data)
	if err != nil {
		return m
	}
	if encoded, err := other.config.encode(); err == nil && bytes.Equal(encoded, data) {
		return other
	}
	if c.Kind == m.config.Kind {
		return m.with(c)
	}
	return m
}

// with is m with another configuration.
func (m *Method) with(c config) *Method {
	next := *m
	next.config = c
	return &next
}

func (m *Method) at(step string) error {
	if m.step == nil {
		return nil
	}
	return m.step(step)
}

// Leftovers are the kinds whose secret waits to be removed.
func (m *Method) Leftovers() []Kind { return slices.Clone(m.config.Leftovers) }

// Settle ends what a change has left undone, whenever that was: it makes the
// copy of vault.json follow, and removes secrets that are not in force. It is
// for a vault that has opened with m. It returns the Method in force; with an
// error something is still left, and Settle may be tried again.
func (m *Method) Settle(ctx context.Context) (*Method, error) {
	data, err := m.config.encode()
	if err != nil {
		return m, err
	}
	if len(m.config.Leftovers) == 0 {
		if backup, err := m.dir.Read(ConfigBackup, maxConfig); err == nil && bytes.Equal(backup, data) {
			return m, nil
		}
	}
	// What is in force goes to the disk first, for certain: until then the vault
	// may have to be opened with what is about to be removed.
	if err := m.write(ConfigFile, ConfigBackup); err != nil {
		return m, err
	}
	if err := m.at("backup follows"); err != nil {
		return m, err
	}
	if len(m.config.Leftovers) == 0 {
		return m, nil
	}
	c := m.config
	c.Leftovers = nil
	var errs []error
	for _, kind := range m.config.Leftovers {
		if err := m.remove(ctx, kind); err != nil {
			errs = append(errs, fmt.Errorf("remove the vault's key of kind %s: %w", kind, err))
			c.Leftovers = append(c.Leftovers, kind)
		}
	}
	if err := m.at("removed"); err != nil {
		return m, err
	}
	if len(c.Leftovers) == len(m.config.Leftovers) {
		return m, errors.Join(errs...)
	}
	next := m.with(c)
	if err := next.write(ConfigFile); err != nil {
		return m, errors.Join(append(errs, err)...)
	}
	if err := next.at("note gone"); err != nil {
		return next, err
	}
	return next, errors.Join(append(errs, next.write(ConfigBackup))...)
}

// remove deletes the secret of a kind that is not in force.
func (m *Method) remove(ctx context.Context, kind Kind) error {
	if kind == m.config.Kind {
		return errors.New("it is in force")
	}
	switch kind {
	case File:
		return m.dir.Wipe(keyFile)
	case Keyring:
		ctx, cancel := context.WithTimeout(ctx, settleTimeout)
		defer cancel()
		if err := m.ring.remove(ctx, m.itemName()); err != nil && !errors.Is(err, ErrKeyMissing) {
			return err
		}
	}
	return nil
}
