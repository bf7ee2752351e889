// Package unlock keeps the vault's data key.
package unlock

import "errors"

// Kind names what protects the data key.
type Kind string

// The kinds. Auto is only ever asked for, never stored.
const (
	Auto       Kind = "auto"
	Keyring    Kind = "keyring"
	Passphrase Kind = "passphrase"
	File       Kind = "file"
)

// Errors of unlocking, for callers to branch on.
var (
	ErrWrongPassphrase    = errors.New("wrong passphrase")
	ErrNoPassphrase       = errors.New("no passphrase given")
	ErrKeyringUnavailable = errors.New("OS keyring does not answer")
	ErrKeyringLocked      = errors.New("OS keyring is locked")
	ErrKeyMissing         = errors.New("the vault's key is not there")
)
