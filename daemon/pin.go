package daemon

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
)

// SetPIN sets the PIN, or changes it when the old one is given.
func (f front) SetPIN(ctx context.Context, in api.SetPIN) (api.PINSet, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.PINSet{}, err
	}
	// Not the caller's context: one that is killed must not stop half-way. The
	// person may have to be verified by other means first.
	ctx, cancel := context.WithTimeout(f.d.ctx, verifyWait+changeWait)
	defer cancel()
	// Keys that were made meanwhile would demand what is changed here.
	end, err := c.book.Hold(ctx)
	if err != nil {
		return api.PINSet{}, explain(err)
	}
	defer end()
	refs := c.book.Demanding(ctx, okta.KeyUserVerificationBioOrPIN)
	change := len(in.OldPIN) > 0
	r := audit.Record{Event: "pin", Outcome: "set"}
	if change {
		r.Outcome = "changed"
		err = c.verification.ChangePIN(ctx, devicekey.Secret(in.OldPIN), devicekey.Secret(in.PIN), refs)
	} else if len(in.KeyPIN) > 0 {
		err = c.verification.SetPINBy(ctx, devicekey.Secret(in.PIN), devicekey.Secret(in.KeyPIN), refs)
	} else {
		err = c.verification.SetPIN(ctx, devicekey.Secret(in.PIN), refs)
	}
	if err = f.changed(c, r, verification.PIN, err); err != nil {
		return api.PINSet{}, err
	}
	set := api.PINSet{Changed: change, Without: f.withoutPINKeys(ctx, c)}
	for _, s := range c.states(ctx) {
		if s.Method == string(verification.PIN) {
			set.State = s
		}
	}
	return set, nil
}

// withoutPINKeys lists the accounts that the PIN does nothing for yet.
func (f front) withoutPINKeys(ctx context.Context, c *core) []api.AccountName {
	list := []api.AccountName{}
	for _, a := range usableAccounts(c) {
		lost := slices.Contains(c.book.LostRoles(ctx, a), okta.KeyUserVerificationBioOrPIN)
		for _, m := range a.Methods {
			if m.ProofOfPossession.ID != "" && (m.UserVerificationBioOrPIN == nil || lost) {
				list = append(list, accountName(a))
				break
			}
		}
	}
	return list
}

func accountName(a *account.Account) api.AccountName {
	v := accountView(a)
	return api.AccountName{ID: v.ID, Name: v.Name, User: v.User, Org: v.Org}
}

// ResetPIN forgets a PIN that nobody knows any more. Whoever may ask for anything
// may ask for that: it lets nobody sign anything, and what it takes away comes
// back by a sign-in at the org alone.
func (f front) ResetPIN(ctx context.Context) (api.PINReset, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.PINReset{}, err
	}
	ctx, cancel := context.WithTimeout(f.d.ctx, changeWait)
	defer cancel()
	end, err := c.book.Hold(ctx) // a key that is being made may depend on it
	if err != nil {
		return api.PINReset{}, explain(err)
	}
	defer end()
	reset := api.PINReset{Accounts: []api.AccountName{}}
	err = c.verification.ForgetPIN(ctx, func(ctx context.Context) error {
		list, err := c.book.Forget(ctx, okta.KeyUserVerificationBioOrPIN)
		for _, a := range list {
			reset.Accounts = append(reset.Accounts, accountName(a))
		}
		return err
	})
	if err = f.changed(c, audit.Record{Event: "pin", Outcome: "reset"}, verification.PIN, err); err != nil {
		return api.PINReset{}, err
	}
	return reset, nil
}

// RemovePIN removes the PIN.
func (f front) RemovePIN(ctx context.Context, in api.RemovePIN) (api.VerificationList, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.VerificationList{}, err
	}
	ctx, cancel := context.WithTimeout(f.d.ctx, changeWait)
	defer cancel()
	end, err := c.book.Hold(ctx) // a key that is being made may depend on it
	if err != nil {
		return api.VerificationList{}, explain(err)
	}
	defer end()
	err = c.verification.RemovePIN(ctx, devicekey.Secret(in.PIN))
	if err = f.changed(c, audit.Record{Event: "pin", Outcome: "removed"}, verification.PIN, err); err != nil {
		return api.VerificationList{}, err
	}
	return f.verificationList(ctx, c), nil
}

// EnableVerification turns a method besides the PIN on or off. While there is a
// PIN, it takes the PIN.
func (f front) EnableVerification(caller context.Context, name string, in api.EnableVerification) (api.VerificationList, error) {
	method := verification.Method(name)
	known := []verification.Method{verification.Fingerprint, verification.Password, verification.SecurityKey}
	if !slices.Contains(known, method) {
		return api.VerificationList{}, &api.Error{Status: http.StatusNotFound, Code: "method_unknown", Message: "there is no such way to verify you", Hint: "countersign verification list"}
	}
	if method == verification.SecurityKey && in.Enabled {
		return f.verifyByKey(caller, "", in.KeyPIN)
	}
	c, err := f.open(caller)
	if err != nil {
		return api.VerificationList{}, err
	}
	ctx, cancel := context.WithTimeout(f.d.ctx, 2*verifyWait)
	defer cancel()
	defer context.AfterFunc(caller, cancel)() // a person who has gone is not asked
	r := audit.Record{Event: "verification_method", Outcome: "enabled", Reason: name}
	do, reason := c.verification.Enable, "Allow another way to verify yourself"
	if len(in.KeyPIN) > 0 {
		do = func(ctx context.Context, m verification.Method) error {
			return c.verification.EnableBy(ctx, m, devicekey.Secret(in.KeyPIN))
		}
	}
	if !in.Enabled {
		r.Outcome, do, reason = "disabled", c.verification.Disable, "Allow a way to verify yourself no longer"
	}
	if c.pinIsSet(ctx) {
		if len(in.PIN) == 0 {
			return api.VerificationList{}, &api.Error{Status: http.StatusForbidden, Code: "verification_required", Message: "this takes the PIN"}
		}
		verified, err := f.d.verifyBy(ctx, c, f.d.lately.epoch(), audit.Record{},
			verification.Request{Purpose: "switch " + name, Reason: reason, Method: verification.PIN, PIN: devicekey.Secret(in.PIN), Fresh: true})
		if err != nil {
			return api.VerificationList{}, explain(err)
		}
		verified.Wipe()
	}
	end, err := c.book.Hold(ctx) // a key that is being made may depend on it
	if err != nil {
		return api.VerificationList{}, explain(err)
	}
	defer end()
	if err = f.changed(c, r, method, do(ctx, method)); err != nil {
		return api.VerificationList{}, err
	}
	if method == verification.SecurityKey { // what is left of it releases nothing any more
		if err := c.fido.Forget(); err != nil {
			f.d.log.Warn("a security key that was disabled stays known", "error", err)
		}
	}
	return f.verificationList(ctx, c), nil
}

// changed records what came of a change, and tells the front ends.
func (f front) changed(c *core, r audit.Record, method verification.Method, err error) error {
	f.d.lately.note("", time.Time{})
	defer f.d.hub.publish(api.Event{Type: "status"})
	var try *verification.TryError
	switch {
	case errors.As(err, &try):
		f.d.recordUnverified(c, audit.Record{}, try.Method, err)
		return f.d.unverified(try.Method, err)
	case errors.Is(err, verification.ErrPIN), errors.Is(err, securitykey.ErrPINNeeded):
		return explain(err) // nothing was tried
	case err != nil:
		r.Outcome, r.Reason = "failed", err.Error()
		_ = f.d.record(c, r)
		return explain(err)
	}
	_ = f.d.record(c, r)
	return nil
}
