package vault

import (
	"context"
	"fmt"

	"countersign.dev/daemon/vault/unlock"
)

// Rekey protects the data key in another way; package unlock says what happens
// at each step and what a new protection is worth after a leak. It needs an
// open vault, and returns the old protection in force or the new one.
//
// An error says that nothing was changed. What cannot be tidied up after a
// change is no error of it: see Leftovers.
func (v *Vault) Rekey(ctx context.Context, c unlock.Change) error {
	if err := v.take(ctx); err != nil {
		return fmt.Errorf("rekey vault: %w", err)
	}
	defer v.give()
	method, key, err := v.opened()
	if err != nil {
		return fmt.Errorf("rekey vault: %w", err)
	}
	defer key.Wipe()
	next, err := method.Rekey(ctx, key, c)
	v.adopt(next)
	if err != nil {
		return fmt.Errorf("rekey vault: %w", err)
	}
	next, _ = next.Settle(ctx)
	v.adopt(next)
	return nil
}

// Settle removes what an interrupted Rekey has left. An open vault calls it
// once, and again when there are Leftovers; it may ask the OS keyring.
func (v *Vault) Settle(ctx context.Context) error {
	if err := v.take(ctx); err != nil {
		return fmt.Errorf("settle vault: %w", err)
	}
	defer v.give()
	method, key, err := v.opened()
	if err != nil {
		return fmt.Errorf("settle vault: %w", err)
	}
	key.Wipe()
	next, err := method.Settle(ctx)
	v.adopt(next)
	if err != nil {
		return fmt.Errorf("settle vault: %w", err)
	}
	return nil
}

// Verify says whether what protects the data key would still give it back, as
// the next start must be able to. A passphrase is not asked for again: the agent
// does not keep it.
func (v *Vault) Verify(ctx context.Context) error {
	if err := v.take(ctx); err != nil {
		return fmt.Errorf("verify vault: %w", err)
	}
	defer v.give()
	method, key, err := v.opened()
	if err != nil {
		return fmt.Errorf("verify vault: %w", err)
	}
	key.Wipe()
	if method.Kind() == unlock.Passphrase {
		return nil
	}
	back, err := method.Unlock(ctx)
	if err != nil {
		return fmt.Errorf("verify vault: %w", err)
	}
	back.Wipe()
	return nil
}

// Leftovers are the kinds of protection that are not in force any more, and
// whose secret could not be removed yet.
func (v *Vault) Leftovers() []unlock.Kind { return v.current().Leftovers() }

// opened returns the protection and a copy of the data key that it has proved
// to hold. The caller wipes the key.
func (v *Vault) opened() (*unlock.Method, unlock.Key, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seal == nil {
		return nil, unlock.Key{}, v.reason
	}
	return v.method, v.key.Clone(), nil
}

func (v *Vault) adopt(m *unlock.Method) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.method = m
}
