// Package unlock keeps the vault's data key: 32 random bytes that exist in the
// clear only in the memory of a running agent. What protects them while no
// agent runs is chosen once, at the first start, written to vault.json in the
// state folder and binding from then on:
//
//   - Keyring: the key is an item of the desktop's keyring, which the user's
//     login unlocks;
//   - TPM: the key is sealed to the TPM of this computer, which opens it for
//     whoever may use that TPM, and no other TPM does;
//   - Passphrase: the key is wrapped under a key derived with Argon2id;
//   - File: the key lies in a 0600 file beside the vault. This protects against
//     a copied disk image of the rest and against other users, nothing more,
//     and is called file_permissions_only wherever it shows.
//
// vault.json holds public parameters only. A keyring or TPM that does not
// answer, a missing file or a wrong passphrase leave the vault locked; they
// never make a new key and never switch to a weaker kind. Changing the kind is
// what Rekey is for, and the person's to ask for.
//
// # The keyring helper
//
// The keyring library connects to the session bus in its package initialiser,
// its calls know no deadline and can panic on odd answers. So the agent's
// process never talks to the bus: package busguard makes that initialiser give
// up at once, and each access runs in a short-lived child, this same program
// started as `keyring-helper get|set|delete NAME`. A deadline is then a kill, an open
// password prompt of the desktop closes with it, and neither connection,
// goroutine nor memory stays behind: an agent pays for its keyring once, at
// unlock. The child is handled in this package's init so that no program that
// links it can forget to.
//
// The library speaks the Secret Service's plain sessions: the key crosses the
// user's own session bus unencrypted. Who can read that bus can also ask the
// keyring itself.
package unlock

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"countersign.dev/daemon/internal/statefile"
)

// Kind names what protects the data key.
type Kind string

// The kinds. Auto is only ever asked for, never stored.
const (
	Auto       Kind = "auto"
	Keyring    Kind = "keyring"
	TPM        Kind = "tpm"
	Passphrase Kind = "passphrase"
	File       Kind = "file"
)

// Errors of unlocking, for callers to branch on. All of them leave the vault
// locked; none of them means that nobody is enrolled.
var (
	ErrWrongPassphrase    = errors.New("wrong passphrase")
	ErrNoPassphrase       = errors.New("no passphrase given")
	ErrKeyringUnavailable = errors.New("the OS keyring does not answer")
	ErrKeyringLocked      = errors.New("the OS keyring is locked")
	ErrKeyMissing         = errors.New("the vault's key is not where it was put")
	ErrWrongKey           = errors.New("the key found does not belong to this vault")
	ErrNoSealer           = errors.New("this agent cannot use a TPM here")
	// ErrSealBroken: the TPM was cleared, or is another one. It will never open
	// this vault again, and nothing else can.
	ErrSealBroken = errors.New("the TPM that sealed the vault's key was cleared or is another one")
)

// Sealer is the TPM, as far as this package needs it: what Seal returns, Unseal
// opens on the same TPM until that is cleared. Both are asked with a deadline,
// by one caller at a time. Their errors go up as they are; for a TPM that will
// never open the blob again that is an ErrSealBroken. They do not keep what
// they are given, and what Unseal returns is the caller's to wipe.
type Sealer interface {
	Seal(ctx context.Context, secret []byte) ([]byte, error)
	Unseal(ctx context.Context, blob []byte) ([]byte, error)
}

// KindError says that a vault is already protected in another way than asked.
type KindError struct{ Stored, Wanted Kind }

func (e *KindError) Error() string {
	return fmt.Sprintf("this vault is protected by %s, not by %s", e.Stored, e.Wanted)
}

// Files of the state folder.
const (
	ConfigFile   = "vault.json"
	ConfigBackup = "vault.json.bak" // an identical copy
	keyFile      = "vault.key"
)

// probeTimeout is how long the first start waits for the keyring. Tests with a
// real one are patient.
var probeTimeout = 2 * time.Second

// promptTimeout bounds an unlock whose caller set no deadline: the desktop may
// be asking the user for the keyring's password.
const promptTimeout = time.Minute

// Options say what protects a new vault, and what is at hand for one that
// exists. The zero value is Auto, without passphrase or TPM.
type Options struct {
	Kind           Kind
	PassphraseFile string // implies Passphrase
	Sealer         Sealer // nil: there is no TPM to be used
}

// Method is how the data key of one vault is protected. It does not change:
// Rekey and Settle return another one.
type Method struct {
	dir            *statefile.Dir
	config         config
	passphraseFile string
	ring           ring
	sealer         Sealer
	fallback       error

	// step is called at each step of a change; tests fail or die there. Nil
	// outside tests.
	step func(name string) error
}

// Choose returns the stored choice for the state folder dir. On the first start
// it makes it: as wanted (Auto is the keyring if it answers within 2 s, else a
// file), or Passphrase when a passphrase file is given.
func Choose(ctx context.Context, dir *statefile.Dir, o Options) (*Method, error) {
	return choose(ctx, dir, o, helper{})
}

func choose(ctx context.Context, dir *statefile.Dir, o Options, r ring) (*Method, error) {
	wanted := o.Kind
	switch wanted {
	case "":
		wanted = Auto
	case Auto, Keyring, TPM, Passphrase, File:
	default:
		return nil, fmt.Errorf("unknown kind of vault key %q", wanted)
	}
	if o.PassphraseFile != "" {
		if wanted != Auto && wanted != Passphrase {
			return nil, fmt.Errorf("a passphrase file does not go with a vault key of kind %s", wanted)
		}
		wanted = Passphrase
	}
	m := &Method{dir: dir, passphraseFile: o.PassphraseFile, ring: r, sealer: o.Sealer}
	data, err := dir.Read(ConfigFile, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return m.create(ctx, wanted)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ConfigFile, err)
	}
	if m.config, err = parseConfig(data); err != nil {
		return nil, &ConfigError{Reason: err.Error()}
	}
	if wanted != Auto && wanted != m.config.Kind {
		return nil, &KindError{Stored: m.config.Kind, Wanted: wanted}
	}
	return m, nil
}

// Kind is the stored choice.
func (m *Method) Kind() Kind { return m.config.Kind }

// Fallback is why the first start did not take the keyring; nil otherwise.
func (m *Method) Fallback() error { return m.fallback }

// Unlock fetches the data key. It may be tried again after any error.
func (m *Method) Unlock(ctx context.Context) (Key, error) {
	return m.fetch(ctx, m.readPassphrase)
}

// fetch gets the data key out of its protection. A passphrase is asked for when
// it is needed only, and wiped.
func (m *Method) fetch(ctx context.Context, ask func() ([]byte, error)) (Key, error) {
	var key Key
	var err error
	switch m.config.Kind {
	case File:
		key, err = m.readKeyFile()
	case Passphrase:
		var passphrase []byte
		if passphrase, err = ask(); err == nil {
			key, err = m.unwrap(passphrase)
			clear(passphrase)
		}
	case Keyring:
		ctx, cancel := within(ctx, promptTimeout)
		defer cancel()
		key, err = m.fromKeyring(ctx)
	case TPM:
		key, err = m.unseal(ctx)
	default:
		err = fmt.Errorf("unknown kind of vault key %q", m.config.Kind)
	}
	if err != nil {
		return Key{}, err
	}
	if subtle.ConstantTimeCompare([]byte(checkOf(key)), []byte(m.config.Check)) != 1 {
		key.Wipe()
		return Key{}, ErrWrongKey
	}
	return key, nil
}

// within bounds what has no deadline yet.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// create makes the data key and its protection. The secret part is durable
// before vault.json says where it is, so a crash in between just starts anew:
// nothing can have been sealed with the lost key.
func (m *Method) create(ctx context.Context, wanted Kind) (*Method, error) {
	key := newKey()
	defer key.Wipe()
	m.config = config{Version: configVersion, ID: rand.Text(), Check: checkOf(key)}

	var err error
	switch wanted {
	case Auto:
		if m.fallback = m.intoKeyringIfItAnswers(ctx, key); m.fallback != nil {
			err = m.protect(ctx, File, key, nil)
		}
	case Passphrase:
		var passphrase []byte
		if passphrase, err = m.readPassphrase(); err == nil {
			err = m.protect(ctx, Passphrase, key, passphrase)
			clear(passphrase)
		}
	default:
		err = m.protect(ctx, wanted, key, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("protect the new vault's key: %w", err)
	}
	// The backup goes first: once vault.json exists the choice is made.
	if err := m.write(ConfigBackup, ConfigFile); err != nil {
		return nil, err
	}
	return m, nil
}

// protect puts the key where that kind keeps it, durably, and says so in m. What
// a keyring or a TPM has taken is asked back for: one that does not return it is
// worse than none.
func (m *Method) protect(ctx context.Context, kind Kind, key Key, passphrase []byte) error {
	switch kind {
	case File:
		return m.writeKeyFile(key)
	case Passphrase:
		return m.wrap(key, passphrase)
	case Keyring:
		return m.intoKeyring(ctx, key)
	case TPM:
		return m.seal(ctx, key)
	}
	return fmt.Errorf("unknown kind of vault key %q", kind)
}

// intoKeyringIfItAnswers waits for the keyring as long as Auto does.
func (m *Method) intoKeyringIfItAnswers(ctx context.Context, key Key) error {
	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return m.intoKeyring(probe, key)
}

// write replaces vault.json or its copy, or both, in that order.
func (m *Method) write(names ...string) error {
	data, err := m.config.encode()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := m.dir.Replace(name, data, ""); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func (m *Method) writeKeyFile(key Key) error {
	m.config.Kind = File
	text := hex.AppendEncode(nil, key.Bytes())
	defer clear(text)
	return m.dir.Replace(keyFile, append(text, '\n'), "")
}

func (m *Method) readKeyFile() (Key, error) {
	data, err := m.dir.Read(keyFile, 1024)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, fmt.Errorf("%s: %w", keyFile, ErrKeyMissing)
	}
	if err != nil {
		return Key{}, fmt.Errorf("read %s: %w", keyFile, err)
	}
	defer clear(data)
	b, err := hex.DecodeString(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", keyFile, ErrWrongKey)
	}
	return keyFrom(b)
}

// readPassphrase returns the first line of the passphrase file. Any readable
// file will do, a pipe or a service manager's credential included.
func (m *Method) readPassphrase() ([]byte, error) {
	if m.passphraseFile == "" {
		return nil, ErrNoPassphrase
	}
	f, err := os.Open(m.passphraseFile)
	if err != nil {
		return nil, fmt.Errorf("read passphrase file: %w", err)
	}
	defer f.Close()
	return firstLine(f)
}

// checkOf is a public value by which a key is recognised.
func checkOf(key Key) string {
	check, err := hkdf.Key(sha256.New, key.Bytes(), nil, "countersign vault key check v1", 16)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(check)
}
