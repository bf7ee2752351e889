package localapitest

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"countersign.dev/ipc/api"
)

// PluggedKey is a security key. Its ID is that by which it is known.
type PluggedKey struct {
	api.SecurityKey
	PIN          string // "" while none is set
	Tries        int    // wrong ones that are left
	Credentials  []api.KeyCredential
	Fingerprints []api.KeyFingerprint
	Swapped      bool // another one is plugged in by now
}

// check compares a PIN of the key, and counts wrong ones.
func (k *PluggedKey) check(pin api.PIN) error {
	switch {
	case k.Swapped:
		return &api.Error{Status: http.StatusConflict, Code: "other_key", Message: "another security key is plugged in now than the one that you were shown; nothing was done", Hint: "countersign securitykey list"}
	case k.PIN == "":
		return &api.Error{Status: http.StatusConflict, Code: "key_pin_not_set", Message: "the security key has no PIN, and this takes one", Hint: "countersign securitykey pin set"}
	case len(pin) == 0:
		return &api.Error{Status: http.StatusForbidden, Code: "key_pin_needed", Message: "this takes the PIN of the security key", TriesLeft: k.Tries}
	case k.Tries <= 0:
		return &api.Error{Status: http.StatusLocked, Code: "key_pin_blocked", Message: "the PIN of the security key is blocked after too many wrong ones", Hint: "only a reset helps, which deletes all that is on it: countersign securitykey reset"}
	case pin.Reveal() != k.PIN:
		k.Tries--
		return &api.Error{Status: http.StatusForbidden, Code: "wrong_key_pin", Message: fmt.Sprintf("the PIN of the security key is wrong, %d tries left", k.Tries), TriesLeft: k.Tries}
	}
	return nil
}

// plugged finds a key; "" is the only one. The caller holds the lock.
func (a *Agent) plugged(id string) (*PluggedKey, error) {
	if a.Fail != nil {
		return nil, a.Fail
	}
	if len(a.Plugged) == 0 {
		return nil, &api.Error{Status: http.StatusConflict, Code: "no_key", Message: "no security key is plugged in", Hint: "plug it in, and try again"}
	}
	for _, k := range a.Plugged {
		if k.ID == id || id == "" {
			return k, nil
		}
	}
	return nil, (&PluggedKey{Swapped: true}).check(nil)
}

// touch has the key wait, as front ends hear it. The caller holds the lock.
func (a *Agent) touch(k *PluggedKey) {
	tell := func(state string) {
		a.tell(api.Event{Type: "security_key", Key: &api.KeyEvent{Key: k.ID, Product: k.Product, State: state}})
	}
	tell("touch")
	if a.Touches != nil {
		a.Unlock()
		<-a.Touches
		a.Lock()
	}
	tell("done")
}

// SecurityKeys lists them.
func (a *Agent) SecurityKeys(context.Context) (api.SecurityKeyList, error) {
	a.Lock()
	defer a.Unlock()
	list := api.SecurityKeyList{Keys: []api.SecurityKey{}}
	for _, k := range a.Plugged {
		list.Keys = append(list.Keys, k.SecurityKey)
	}
	return list, a.Fail
}

// SecurityKey is one.
func (a *Agent) SecurityKey(_ context.Context, id string) (api.SecurityKey, error) {
	a.Lock()
	defer a.Unlock()
	k, err := a.plugged(id)
	if err != nil {
		return api.SecurityKey{}, err
	}
	k.PINSet, k.TriesLeft = k.PIN != "", k.Tries
	return k.SecurityKey, nil
}

// SetKeyPIN sets or changes.
func (a *Agent) SetKeyPIN(_ context.Context, id string, s api.SetKeyPIN) (api.SecurityKey, error) {
	a.Lock()
	defer a.Unlock()
	k, err := a.plugged(id)
	switch {
	case err != nil:
	case k.PIN != "" && len(s.OldPIN) == 0:
		err = &api.Error{Status: http.StatusConflict, Code: "key_pin_set", Message: "the security key has a PIN already", Hint: "countersign securitykey pin change"}
	case len(s.OldPIN) > 0:
		err = k.check(s.OldPIN)
	}
	if err != nil {
		return api.SecurityKey{}, err
	}
	k.PIN, k.Tries = s.PIN.Reveal(), 8
	k.PINSet, k.TriesLeft = true, 8
	return k.SecurityKey, nil
}

// KeyCredentials lists what is kept.
func (a *Agent) KeyCredentials(_ context.Context, id string, p api.KeyPIN) (api.KeyCredentialList, error) {
	a.Lock()
	defer a.Unlock()
	k, err := a.plugged(id)
	if err == nil {
		err = k.check(p.PIN)
	}
	if err != nil {
		return api.KeyCredentialList{}, err
	}
	return api.KeyCredentialList{Credentials: append([]api.KeyCredential{}, k.Credentials...), Left: 25 - len(k.Credentials)}, nil
}

// DeleteKeyCredential deletes one.
func (a *Agent) DeleteKeyCredential(_ context.Context, id string, d api.DeleteKeyCredential) (api.KeyCredentialList, error) {
	a.Lock()
	defer a.Unlock()
	k, err := a.plugged(id)
	if err == nil {
		err = k.check(d.PIN)
	}
	if err != nil {
		return api.KeyCredentialList{}, err
	}
	i := slices.IndexFunc(k.Credentials, func(c api.KeyCredential) bool { return c.ID == d.ID })
	switch {
	case i < 0:
		return api.KeyCredentialList{}, notFound("credential")
	case k.Credentials[i].RPID != d.Confirm:
		return api.KeyCredentialList{}, &api.Error{Status: http.StatusConflict, Code: "not_confirmed", Message: "that is not what the credential is for; nothing was deleted"}
	}
	k.Credentials = slices.Delete(k.Credentials, i, i+1)
	return api.KeyCredentialList{Credentials: append([]api.KeyCredential{}, k.Credentials...), Left: 25 - len(k.Credentials)}, nil
}

// KeyFingerprints lists them.
func (a *Agent) KeyFingerprints(_ context.Context, id string, p api.KeyPIN) (api.FingerprintList, error) {
	a.Lock()
	defer a.Unlock()
	k, err := a.plugged(id)
	if err == nil {
		err = k.check(p.PIN)
	}
	if err != nil {
		return api.FingerprintList{}, err
	}
	return api.FingerprintList{Fingerprints: append([]api.KeyFingerprint{}, k.Fingerprints...)}, nil
}

// ChangeFingerprint adds or drops.
func (a *Agent) ChangeFingerprint(_ context.Context, id string, c api.ChangeFingerprint) (api.FingerprintList, error) {
	a.Lock()
	defer a.Unlock()
	k, err := a.plugged(id)
	if err == nil {
		err = k.check(c.PIN)
	}
	if err != nil {
		return api.FingerprintList{}, err
	}
	if c.Drop != "" {
		i := slices.IndexFunc(k.Fingerprints, func(f api.KeyFingerprint) bool { return f.ID == c.Drop })
		if i < 0 {
			return api.FingerprintList{}, notFound("fingerprint")
		}
		k.Fingerprints = slices.Delete(k.Fingerprints, i, i+1)
	} else {
		for left := 2; left >= 0; left-- {
			a.tell(api.Event{Type: "security_key", Key: &api.KeyEvent{Key: k.ID, Product: k.Product, State: "sample", Left: left}})
		}
		k.Fingerprints = append(k.Fingerprints, api.KeyFingerprint{ID: fmt.Sprintf("f%d", len(k.Fingerprints)+1), Name: c.Name})
	}
	return api.FingerprintList{Fingerprints: append([]api.KeyFingerprint{}, k.Fingerprints...)}, nil
}

// ResetKey wipes.
func (a *Agent) ResetKey(_ context.Context, id string, r api.ResetKey) error {
	a.Lock()
	defer a.Unlock()
	k, err := a.plugged(id)
	switch {
	case err != nil:
		return err
	case k.Swapped:
		return k.check(nil)
	case r.Confirm != k.Product:
		return &api.Error{Status: http.StatusConflict, Code: "not_confirmed", Message: "that is not the name of the key; nothing was wiped"}
	}
	a.touch(k)
	k.PIN, k.Tries, k.Credentials, k.Fingerprints = "", 8, nil, nil
	return nil
}

// VerifyByKey turns the method on.
func (a *Agent) VerifyByKey(_ context.Context, id string, p api.KeyPIN) (api.VerificationList, error) {
	a.Lock()
	defer a.Unlock()
	k, err := a.plugged(id)
	if err == nil {
		err = k.check(p.PIN)
	}
	if err != nil {
		return api.VerificationList{}, err
	}
	a.touch(k)
	if a.Methods == nil {
		a.Methods = map[string]bool{}
	}
	a.Methods["security_key"] = true
	return a.verification(), nil
}
