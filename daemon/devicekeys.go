package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/software"
	"countersign.dev/authenticators/devicekey/tpm"
	"countersign.dev/daemon/account"
	"countersign.dev/ipc/api"
)

// keyStore is the agent's stores as one, with what locks them.
type keyStore struct {
	*devicekey.Set
	software *software.Store
	tpm      *tpm.Store
}

func (d *Daemon) newKeyStore() keyStore {
	s := keyStore{software: software.New(d.vault), tpm: tpm.NewStore(d.tpm, d.vault)}
	s.Set = devicekey.NewSet(d.keysIn, map[devicekey.Kind]devicekey.Store{
		devicekey.KindSoftware: s.software, devicekey.KindTPM: s.tpm,
	})
	return s
}

// check looks for damage of what the vault has of keys, while nothing rests on
// them yet. It does not ask a TPM.
func (s keyStore) check(ctx context.Context) error {
	for _, kind := range []devicekey.Kind{devicekey.KindSoftware, devicekey.KindTPM} {
		if _, err := s.Open(ctx, devicekey.Ref{Kind: kind}); err != nil && !errors.Is(err, devicekey.ErrNotFound) {
			return fmt.Errorf("read the device keys: %w", err)
		}
	}
	return nil
}

func (s keyStore) lock() {
	s.software.Lock()
	s.tpm.Lock()
}

// chooseKeys decides where new keys go, once for this run: what the TPM does
// later changes nothing about it. It looks whether a TPM may be opened and sends
// no command.
func (d *Daemon) chooseKeys() error {
	d.tpm = tpm.New(tpm.Options{Address: d.config.TPM, Now: d.now, Log: d.log})
	switch d.config.DeviceKey {
	case "", "auto":
		d.keysIn, d.noTPM = devicekey.KindTPM, d.tpm.Detect()
		if slices.Contains(withoutTPM, d.noTPM.State) {
			d.keysIn = devicekey.KindSoftware
		}
	case string(devicekey.KindSoftware):
		d.keysIn = devicekey.KindSoftware
	case string(devicekey.KindTPM):
		d.keysIn = devicekey.KindTPM
	default:
		return fmt.Errorf("unknown kind of device key %q", d.config.DeviceKey)
	}
	return nil
}

// withoutTPM are the states in which "auto" does without: there is none that
// could be used, and that will not change by itself. Of one that is busy, locked
// or broken the user hears instead: keys are not put in a worse place for that.
var withoutTPM = []string{devicekey.Absent, devicekey.PermissionDenied, devicekey.TooOld}

// tpmWords say in one sentence what a state of the TPM means.
var tpmWords = map[string]string{
	devicekey.Absent:           "this computer has no TPM that the agent can find",
	devicekey.PermissionDenied: "the agent may not use this computer's TPM",
	devicekey.Busy:             "the TPM is busy",
	devicekey.Lockout:          "the TPM takes no PIN after too many wrong ones; keys without a PIN go on",
	devicekey.Cleared:          "the TPM was cleared",
	devicekey.OtherDevice:      "the keys were made by another computer's TPM",
	devicekey.OwnerAuthSet:     "the TPM's owner hierarchy has a password, so no key can be made or used",
	devicekey.TooOld:           "the TPM is older than version 2.0",
	devicekey.SelfTestFailed:   "the TPM says that it is broken",
	devicekey.Unavailable:      "the TPM does not answer as it should",
}

// accountsOnTPM counts the accounts that sign in by keys in the TPM.
func accountsOnTPM(c *core) int {
	n := 0
	for _, a := range c.book.All() {
		if a.Usable() && slices.ContainsFunc(keysOf(a), func(r devicekey.Ref) bool { return r.Kind == devicekey.KindTPM }) {
			n++
		}
	}
	return n
}

// usesTPM says whether anything rests on the TPM: new keys, or accounts.
func (d *Daemon) usesTPM(c *core) bool { return d.keysIn == devicekey.KindTPM || accountsOnTPM(c) > 0 }

// tpmProblem is what is wrong with the TPM, if that matters to anybody.
func (d *Daemon) tpmProblem(ctx context.Context, c *core) (api.Problem, bool) {
	if !d.usesTPM(c) {
		// A TPM that is there and forbidden is said: it only takes a rule.
		if d.noTPM.State == devicekey.PermissionDenied {
			return api.Problem{Code: "tpm_" + d.noTPM.State, Message: tpmWords[d.noTPM.State] + ", so new keys are kept in software", Hint: d.noTPM.Hint}, true
		}
		return api.Problem{}, false
	}
	s := c.store.StateOf(ctx, devicekey.KindTPM)
	words, ok := tpmWords[s.State]
	if !ok {
		return api.Problem{}, false
	}
	switch n := accountsOnTPM(c); {
	case s.State == devicekey.Lockout && !s.Until.IsZero():
		words += fmt.Sprintf("; it forgets one at %s at the latest", s.Until.Local().Format("15:04"))
	case s.State == devicekey.Lockout:
	case n == 1:
		words += "; an account with its keys there cannot sign in meanwhile"
	case n > 1:
		words += fmt.Sprintf("; %d accounts with their keys there cannot sign in meanwhile", n)
	}
	hint := s.Hint
	if d.keysIn == devicekey.KindTPM && s.State != devicekey.Busy && s.State != devicekey.Lockout {
		hint += "; to have new keys in software, start the agent with --device-key software"
	}
	return api.Problem{Code: "tpm_" + s.State, Message: words, Hint: hint}, true
}

// keysOf lists the keys of an account's methods.
func keysOf(a *account.Account) []devicekey.Ref {
	var refs []devicekey.Ref
	for _, m := range a.Methods {
		if m.ProofOfPossession == (devicekey.Ref{}) && m.TOTP != nil {
			continue // has a seed, and no key
		}
		refs = append(refs, m.ProofOfPossession)
		for _, ref := range []*devicekey.Ref{m.UserVerification, m.UserVerificationBioOrPIN} {
			if ref != nil && ref.ID != "" {
				refs = append(refs, *ref)
			}
		}
	}
	return refs
}

// keyProblem is what is known to be wrong with an account's keys, without asking
// any device.
func keyProblem(ctx context.Context, c *core, a *account.Account) (api.Problem, bool) {
	name := accountView(a).Name
	again := "enrol again: countersign account add " + a.OrgURL + ", which takes its place; one-time codes go on working until then"
	lost := devicekey.Lost(c.book.KeyError(ctx, a))
	for _, ref := range keysOf(a) {
		_, err := c.store.Open(ctx, ref)
		var s *devicekey.StateError
		switch {
		case errors.Is(err, devicekey.ErrNotFound) && lost:
			return api.Problem{Code: "keys_missing", Message: "the keys of " + name + " are not on this computer any more", Hint: again}, true
		case errors.Is(err, devicekey.ErrNotFound):
			return api.Problem{Code: "keys_missing", Message: "the keys of " + name + " that take your verification are not on this computer any more", Hint: "countersign key verify " + a.ID + " makes new ones"}, true
		case errors.As(err, &s) && s.State.State == devicekey.Cleared:
			return api.Problem{Code: "keys_cleared", Message: "the TPM was cleared, and the keys of " + name + " with it", Hint: again}, true
		case errors.As(err, &s) && s.State.State == devicekey.OtherDevice:
			return api.Problem{Code: "keys_other_device", Message: "the keys of " + name + " were made by the TPM of another computer", Hint: again}, true
		}
	}
	return api.Problem{}, false
}

// deviceKeys says how the stores are doing.
func (x *examination) deviceKeys(ctx context.Context, c *core) {
	const name = "device keys"
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	s := c.store.State(ctx)
	switch {
	case s.State == devicekey.Ready && x.d.noTPM.State == devicekey.PermissionDenied:
		x.warn(name, "kept in software: "+tpmWords[x.d.noTPM.State], x.d.noTPM.Hint)
	case s.State == devicekey.Ready && s.Kind == devicekey.KindSoftware && x.d.noTPM.State != "":
		x.ok(name, "kept in software: "+tpmWords[x.d.noTPM.State])
	case s.State == devicekey.Ready && s.Kind == devicekey.KindTPM:
		x.ok(name, "kept in this computer's TPM")
	case s.State == devicekey.Ready:
		x.ok(name, string(s.Kind)+" key store ready")
	case s.Kind == devicekey.KindSoftware || tpmWords[s.State] == "":
		x.fail(name, string(s.Kind)+" key store: "+s.State, s.Hint)
	}
	if p, ok := x.d.tpmProblem(ctx, c); ok && (s.Kind == devicekey.KindTPM || x.d.usesTPM(c)) {
		if p.Code == "tpm_"+devicekey.Lockout {
			x.warn("TPM", p.Message, p.Hint)
		} else {
			x.fail("TPM", p.Message, p.Hint)
		}
	}
	for _, a := range usableAccounts(c) {
		if p, ok := keyProblem(ctx, c, a); ok {
			x.fail("keys of "+accountView(a).Name, p.Message, p.Hint)
		}
	}
}
