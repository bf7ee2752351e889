// Package vault keeps the agent's state at rest: one sealed file per room
// (accounts, keys, settings, …) in a private folder that one agent at a time
// may hold.
//
// A room is replaced whole and is always the old or the new one, whenever the
// machine stops; its previous generation stays beside it as ROOM.bak. The file
// is AES-256-GCM over the room's JSON, with format, room name and generation as
// associated data, so neither a flipped bit nor another room's file nor another
// vault's opens. What does not open is a DamagedError that names file, reason
// and backup; it is never taken for "nothing there" and never written over. The
// backup is not used by itself: going back to an older state is the user's
// decision (mv accounts.bak accounts.sealed).
//
// Folder:
//
//	vault.json, vault.json.bak   what protects the data key; public parameters
//	vault.key                    the data key itself, kind "file" only
//	ROOM.sealed, ROOM.bak        the rooms
//	index.json                   what a locked agent may know; no names
//	lock                         held with flock; tells the holder's pid
//
// Limits, plainly: an older copy of the whole folder opens like the current one
// (the software back end has no counter outside the folder; the org's replay
// check is what catches it), and memory of a running agent can be read by root.
package vault

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"countersign.dev/daemon/internal/statefile"
	"countersign.dev/daemon/vault/unlock"
)

// Errors of a vault, for callers to branch on.
var (
	// ErrLocked: the data key is not here; LockReason says why, Unlock tries again.
	ErrLocked = errors.New("vault is locked")
	// ErrNoRoom: neither the room nor a backup of it was ever written.
	ErrNoRoom = fmt.Errorf("room was never written: %w", fs.ErrNotExist)
	// ErrInUse: another agent holds the folder.
	ErrInUse = statefile.ErrInUse
	// ErrClosed: the vault was closed.
	ErrClosed = errors.New("vault is closed")
	// ErrTooLarge: a room does not fit its size limit.
	ErrTooLarge = fmt.Errorf("room exceeds %d bytes", MaxRoom)
)

// MaxRoom is the size limit of a room's JSON.
const MaxRoom = 4 << 20

// DamagedError says that a file of the state folder cannot be trusted. Nothing
// is written over it.
type DamagedError struct {
	File   string // absolute path
	Backup string // absolute path of what may replace it; "" when there is none
	Reason string
}

func (e *DamagedError) Error() string {
	s := e.File + " is damaged: " + e.Reason
	if e.Backup != "" {
		s += "; the previous state is in " + e.Backup
	}
	return s
}

// Options say how a new vault is to be protected. The zero value means
// unlock.Auto. For a vault that exists they must agree with what it is.
type Options struct {
	Key            unlock.Kind
	PassphraseFile string        // implies unlock.Passphrase
	Sealer         unlock.Sealer // the TPM, for unlock.TPM; nil: there is none
}

// Vault is an open state folder. Its methods may be called at once.
type Vault struct {
	dir *statefile.Dir

	// One Unlock, Rekey, Settle or Verify at a time: whose turn it is has put
	// something in. Taken before mu, which none of them holds while it waits for
	// a keyring, a TPM or a person.
	turn chan struct{}

	mu     sync.Mutex // guards what follows, and all writing of rooms
	closed bool
	method *unlock.Method // changed by Rekey and Settle only
	key    unlock.Key     // zero while locked
	seal   cipher.AEAD    // nil while locked
	reason error          // why it is locked
	rooms  map[string]uint64
}

// Open opens the state folder dir, made if missing, and takes it for this
// process. The first start chooses what protects the data key, which may take
// the two seconds a keyring is waited for. Otherwise Open asks nobody: a vault
// whose key lies in a file is open at once, any other is locked until Unlock.
func Open(ctx context.Context, dir string, o Options) (*Vault, error) {
	d, err := statefile.Open(dir)
	if err != nil {
		return nil, err
	}
	v := &Vault{dir: d, turn: make(chan struct{}, 1), rooms: map[string]uint64{}, reason: ErrLocked}
	if err := v.open(ctx, o); err != nil {
		d.Close()
		return nil, err
	}
	return v, nil
}

func (v *Vault) open(ctx context.Context, o Options) error {
	if err := v.dir.Lock(); err != nil {
		return err
	}
	first, err := v.checkConfig()
	if err != nil {
		return err
	}
	v.method, err = unlock.Choose(ctx, v.dir, unlock.Options{Kind: o.Key, PassphraseFile: o.PassphraseFile, Sealer: o.Sealer})
	var bad *unlock.ConfigError
	if errors.As(err, &bad) {
		return v.damaged(unlock.ConfigFile, unlock.ConfigBackup, bad.Reason)
	}
	if err != nil {
		return err
	}
	if first || v.method.Kind() == unlock.File {
		// A failure is a state of the vault, not of Open: see LockReason.
		_ = v.Unlock(ctx)
	}
	return nil
}

// checkConfig says whether this is the first start: no vault.json, and nothing
// that was sealed under one. Rooms without vault.json would otherwise get a
// fresh key and never open again.
func (v *Vault) checkConfig() (first bool, err error) {
	names, err := v.dir.Names()
	if err != nil {
		return false, fmt.Errorf("list state folder: %w", err)
	}
	sealed := false
	for _, name := range names {
		if name == unlock.ConfigFile {
			return false, nil
		}
		sealed = sealed || strings.HasSuffix(name, sealedSuffix) || strings.HasSuffix(name, ".log")
	}
	if sealed {
		return false, v.damaged(unlock.ConfigFile, unlock.ConfigBackup, "it is missing, but there is sealed state beside it")
	}
	return true, nil
}

// Unlock fetches the data key. It does nothing when the vault is open already,
// and may be tried again after any error. A passphrase, the desktop's keyring
// and a TPM may make the user wait: give ctx a deadline.
func (v *Vault) Unlock(ctx context.Context) error {
	if err := v.take(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
	defer v.give()
	if !v.Locked() {
		return nil
	}
	key, err := v.current().Unlock(ctx)
	if err == nil {
		err = v.hold(key)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrLocked, err)
		v.mu.Lock()
		v.reason = err
		v.mu.Unlock()
	}
	return err
}

// current is how the data key is protected now.
func (v *Vault) current() *unlock.Method {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.method
}

// take waits for the turn, which give ends.
func (v *Vault) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case v.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *Vault) give() { <-v.turn }

func (v *Vault) hold(key unlock.Key) error {
	seal, err := newSeal(key)
	if err != nil {
		key.Wipe()
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		key.Wipe()
		return ErrClosed
	}
	v.key, v.seal, v.reason = key, seal, nil
	return nil
}

// Lock forgets the data key. Rooms are refused until the next Unlock.
func (v *Vault) Lock() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lock(ErrLocked)
}

func (v *Vault) lock(reason error) {
	v.key.Wipe()
	v.key, v.seal, v.reason = unlock.Key{}, nil, reason
	clear(v.rooms)
}

// Close forgets the data key and gives the folder back.
func (v *Vault) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	v.lock(ErrClosed)
	return v.dir.Close()
}

// Locked says whether the data key is missing.
func (v *Vault) Locked() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seal == nil
}

// LockReason is why the vault is locked; nil when it is not. It wraps ErrLocked
// and what package unlock says.
func (v *Vault) LockReason() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reason
}

// Fallback is why the first start could not use the OS keyring and took a file
// instead; nil when that did not happen now.
func (v *Vault) Fallback() error { return v.current().Fallback() }

// State is what protects the data key and how that is doing: "ready", "locked"
// or "file_permissions_only".
func (v *Vault) State() (unlock.Kind, string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	kind := v.method.Kind()
	switch {
	case v.seal == nil:
		return kind, "locked"
	case kind == unlock.File:
		return kind, "file_permissions_only"
	}
	return kind, "ready"
}

// Dir is the absolute path of the state folder.
func (v *Vault) Dir() string { return v.dir.Path() }

// MACKey derives the key of one journal. It is nil while the vault is locked,
// which no journal accepts.
func (v *Vault) MACKey(name string) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seal == nil {
		return nil
	}
	key, err := subKey(v.key, "journal "+name)
	if err != nil {
		return nil
	}
	return key
}

// subKey derives a key for one purpose; the data key itself seals nothing.
func subKey(key unlock.Key, purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, key.Bytes(), nil, "countersign vault v1 "+purpose, 32)
}

// Load reads a room into dst, which json.Unmarshal understands. It returns
// ErrNoRoom when the room was never written.
func (v *Vault) Load(room string, dst any) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	plain, generation, err := v.read(room)
	if err != nil {
		return err
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, dst); err != nil {
		// Sealed by us, so not damage: another version's shape.
		return fmt.Errorf("room %s: %w", room, err)
	}
	v.rooms[room] = generation
	return nil
}

// Save replaces a room. When it returns nil the new state is on disk; after an
// error the room is the old one or the new one.
func (v *Vault) Save(room string, value any) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.ready(room); err != nil {
		return err
	}
	generation, known := v.rooms[room]
	if !known {
		// Never write over a room that would not open.
		plain, g, err := v.read(room)
		if err != nil && !errors.Is(err, ErrNoRoom) {
			return err
		}
		clear(plain)
		generation = g
	}
	plain, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("room %s: %w", room, err)
	}
	defer clear(plain)
	if len(plain) > MaxRoom {
		return fmt.Errorf("room %s: %w", room, ErrTooLarge)
	}
	generation++
	// Until it is known how this ends, the next Save looks at the disk.
	delete(v.rooms, room)
	if err := v.dir.Replace(room+sealedSuffix, sealRoom(v.seal, room, generation, plain), room+backupSuffix); err != nil {
		return fmt.Errorf("save room %s: %w", room, err)
	}
	v.rooms[room] = generation
	return nil
}

func (v *Vault) ready(room string) error {
	if !validRoom(room) {
		return fmt.Errorf("%q cannot be the name of a room", room)
	}
	if v.seal == nil {
		return v.reason
	}
	return nil
}

// read opens a room's file. A generation of 0 goes with ErrNoRoom.
func (v *Vault) read(room string) (plain []byte, generation uint64, err error) {
	if err := v.ready(room); err != nil {
		return nil, 0, err
	}
	file, backup := room+sealedSuffix, room+backupSuffix
	data, err := v.dir.Read(file, maxSealed)
	if errors.Is(err, fs.ErrNotExist) {
		if exists, err := v.dir.Exists(backup); err != nil {
			return nil, 0, fmt.Errorf("load room %s: %w", room, err)
		} else if exists {
			return nil, 0, v.damaged(file, backup, "it is missing, but its backup is there")
		}
		return nil, 0, fmt.Errorf("room %s: %w", room, ErrNoRoom)
	}
	var untrusted *statefile.FolderError
	if errors.As(err, &untrusted) && (untrusted.Err == statefile.ErrNotFile || untrusted.Err == statefile.ErrTooLarge) {
		return nil, 0, v.damaged(file, backup, "it "+untrusted.Err.Error())
	}
	if err != nil {
		return nil, 0, fmt.Errorf("load room %s: %w", room, err)
	}
	plain, generation, err = openRoom(v.seal, room, data)
	if err != nil {
		return nil, 0, v.damaged(file, backup, err.Error())
	}
	return plain, generation, nil
}

func (v *Vault) damaged(file, backup, reason string) error {
	e := &DamagedError{File: v.path(file), Reason: reason}
	if exists, err := v.dir.Exists(backup); err == nil && exists {
		e.Backup = v.path(backup)
	}
	return e
}

// ProtectMemory forbids core dumps of this process and, where the system can,
// other processes' looking into it. The agent calls it before it has secrets.
func ProtectMemory() error { return unlock.ProtectMemory() }
