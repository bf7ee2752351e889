package localapitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"countersign.dev/ipc/api"
)

// verified refuses an approval by a wrong PIN, or without one where it takes
// one. The caller holds the lock.
func (a *Agent) verified(p api.Prompt, d api.Decision) error {
	need := p.UserVerification
	for _, c := range p.Choices {
		if c.Account == d.Account && c.UserVerification != "" {
			need = c.UserVerification
		}
	}
	switch {
	case d.Action != "approve", need != "required" && need != "preferred", p.Verified:
		return nil
	case len(d.PIN) == 0 && d.Verification == "" && need == "preferred":
		return nil
	case len(d.PIN) == 0 && d.Verification == "":
		return &api.Error{Status: http.StatusForbidden, Code: "verification_required", Message: "the sign-in needs your verification", Hint: "countersign prompt approve " + p.ID}
	case d.Verification == "security_key" && len(a.Plugged) > 0:
		return a.Plugged[0].check(d.PIN)
	case len(d.PIN) == 0:
		return nil
	}
	return a.checkPIN(d.PIN)
}

// checkPIN counts wrong ones. The caller holds the lock.
func (a *Agent) checkPIN(pin api.PIN) error {
	switch {
	case a.PIN == "":
		return &api.Error{Status: http.StatusConflict, Code: "verification_not_set_up", Message: "no PIN is set", Hint: "countersign pin set"}
	case len(pin) == 0:
		return &api.Error{Status: http.StatusForbidden, Code: "verification_required", Message: "this takes the PIN"}
	case a.Tries <= 0:
		return &api.Error{Status: http.StatusLocked, Code: "pin_locked", Message: "too many wrong PINs: the next try is possible at 14:03, in 2 minutes", Until: time.Now().Add(2 * time.Minute)}
	case pin.Reveal() != a.PIN:
		a.Tries--
		if a.Tries == 0 {
			return &api.Error{Status: http.StatusLocked, Code: "pin_locked", Message: "too many wrong PINs: the next try is possible at 14:03, in 2 minutes", Until: time.Now().Add(2 * time.Minute)}
		}
		return &api.Error{Status: http.StatusForbidden, Code: "wrong_pin", Message: fmt.Sprintf("the PIN is wrong; tries left: %d", a.Tries), TriesLeft: a.Tries}
	}
	return nil
}

// Verification is the PIN and the other methods.
func (a *Agent) Verification(context.Context) (api.VerificationList, error) {
	a.Lock()
	defer a.Unlock()
	return a.verification(), a.Fail
}

func (a *Agent) pinState() api.Verification {
	v := api.Verification{Method: "pin", State: "not_set", Hint: "countersign pin set"}
	switch {
	case a.PIN != "" && a.Tries > 0:
		v = api.Verification{Method: "pin", State: "ready", TriesLeft: a.Tries}
	case a.PIN != "":
		v = api.Verification{Method: "pin", State: "lockout", Until: time.Now().Add(2 * time.Minute)}
	}
	return v
}

func (a *Agent) verification() api.VerificationList {
	list := api.VerificationList{Verification: []api.Verification{a.pinState()}}
	for _, method := range []string{"fingerprint", "password", "security_key"} {
		v := api.Verification{Method: method, State: "absent"}
		if on, there := a.Methods[method]; there && on {
			v.State = "ready"
		} else if there {
			v.State, v.Hint = "not_set", "countersign verification enable "+method
		}
		list.Verification = append(list.Verification, v)
	}
	return list
}

// EnableVerification turns one of Methods on or off.
func (a *Agent) EnableVerification(_ context.Context, method string, e api.EnableVerification) (api.VerificationList, error) {
	a.Lock()
	defer a.Unlock()
	if _, there := a.Methods[method]; !there {
		return api.VerificationList{}, notFound("way to verify you")
	}
	if a.PIN != "" {
		if err := a.checkPIN(e.PIN); err != nil {
			return api.VerificationList{}, err
		}
	}
	if method == "security_key" && e.Enabled {
		k, err := a.plugged("") // the one that is touched
		if err == nil && len(a.Plugged) > 1 && len(e.KeyPIN) > 0 {
			err = &api.Error{Status: http.StatusConflict, Code: "key_needed", Message: "several security keys are plugged in, and a PIN is for one of them"}
		}
		if err == nil {
			err = k.check(e.KeyPIN)
		}
		var refused *api.Error
		if errors.As(err, &refused) && k != nil {
			refused.Key = k.ID
		}
		if err != nil {
			return api.VerificationList{}, err
		}
		a.touch(k)
	}
	a.Methods[method] = e.Enabled
	return a.verification(), a.Fail
}

// SetPIN sets or changes the PIN.
func (a *Agent) SetPIN(_ context.Context, s api.SetPIN) (api.PINSet, error) {
	a.Lock()
	defer a.Unlock()
	if a.Fail != nil {
		return api.PINSet{}, a.Fail
	}
	changed := a.PIN != ""
	if changed {
		if err := a.checkPIN(s.OldPIN); err != nil {
			return api.PINSet{}, err
		}
	}
	a.PIN, a.Tries = s.PIN.Reveal(), 3
	set := api.PINSet{Changed: changed, State: a.pinState(), Without: []api.AccountName{}}
	for _, acc := range a.AccountsHeld {
		if slices.Contains(a.Without, acc.ID) {
			set.Without = append(set.Without, api.AccountName{ID: acc.ID, Name: acc.Name, User: acc.User, Org: acc.Org})
		}
	}
	return set, nil
}

// ResetPIN forgets the PIN. The accounts of Without are those that have keys for
// it, until then.
func (a *Agent) ResetPIN(context.Context) (api.PINReset, error) {
	a.Lock()
	defer a.Unlock()
	if a.Fail != nil {
		return api.PINReset{}, a.Fail
	}
	a.PIN = ""
	r := api.PINReset{Accounts: []api.AccountName{}}
	for _, acc := range a.AccountsHeld {
		if len(acc.Verification) > 0 {
			r.Accounts = append(r.Accounts, api.AccountName{ID: acc.ID, Name: acc.Name, User: acc.User, Org: acc.Org})
		}
	}
	return r, nil
}

// RemovePIN removes the PIN.
func (a *Agent) RemovePIN(_ context.Context, r api.RemovePIN) (api.VerificationList, error) {
	a.Lock()
	defer a.Unlock()
	if a.Fail != nil {
		return api.VerificationList{}, a.Fail
	}
	if err := a.checkPIN(r.PIN); err != nil {
		return api.VerificationList{}, err
	}
	a.PIN = ""
	return a.verification(), nil
}
