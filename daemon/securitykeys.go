package daemon

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"slices"
	"sync"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/fido"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
)

// securityKeys is securitykey.Keys, as far as the agent uses it. Nothing of it is
// asked before a person or program asks for it.
type securityKeys interface {
	List(ctx context.Context) ([]securitykey.Key, error)
	Lacks() string
	Info(ctx context.Context, id string) (securitykey.Key, error)
	Choose(ctx context.Context, id string, progress securitykey.Progress) (string, error)
	Holds(ctx context.Context, id, rpID string, credentials [][]byte) (bool, error)
	Proves(ctx context.Context, id string, want securitykey.Expected) (bool, error)
	Register(ctx context.Context, r securitykey.Registration) (securitykey.Registered, error)
	Assert(ctx context.Context, a securitykey.Assertion) (securitykey.Asserted, error)
	SetPIN(ctx context.Context, id string, pin, old devicekey.Secret) error
	Credentials(ctx context.Context, id string, pin devicekey.Secret) (securitykey.Stored, error)
	DeleteCredential(ctx context.Context, id string, pin devicekey.Secret, credentialID []byte) error
	Fingerprints(ctx context.Context, id string, pin devicekey.Secret) ([]securitykey.Fingerprint, error)
	EnrolFingerprint(ctx context.Context, id string, pin devicekey.Secret, name string, progress securitykey.Progress) (securitykey.Fingerprint, error)
	DropFingerprint(ctx context.Context, id string, pin devicekey.Secret, fingerprint string) error
	Reset(ctx context.Context, id string, progress securitykey.Progress) error
}

// newSecurityKeys makes the agent's view of them. Nothing is started.
func (d *Daemon) newSecurityKeys() securityKeys {
	if d.config.securityKeys != nil {
		return d.config.securityKeys
	}
	return securitykey.New(securitykey.Options{Helper: d.config.SecurityKeyHelper, Owner: os.Getuid(), Devices: d.config.SecurityKeyDevices, Log: d.log})
}

// watchKey gives what hears of a key that waits, and passes it on to the front
// ends; done tells them that it waits no more.
func (d *Daemon) watchKey() (progress securitykey.Progress, done func()) {
	var mu sync.Mutex // several keys may wait at once
	told := map[string]api.KeyEvent{}
	progress = func(e securitykey.Event) {
		view := api.KeyEvent{Key: e.Key.ID, Product: productOf(e.Key), State: e.State, Left: e.Left}
		mu.Lock()
		told[view.Key] = view
		mu.Unlock()
		d.hub.publish(api.Event{Type: "security_key", Key: &view})
	}
	return progress, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, view := range told {
			view.State, view.Left = "done", 0
			d.hub.publish(api.Event{Type: "security_key", Key: &view})
		}
		clear(told)
	}
}

// productOf is the name of a key as people see it, and type it.
func productOf(k securitykey.Key) string {
	return cmp.Or(prompt.Clean(k.Product, maxShown), prompt.Clean(k.Model, maxShown), "security key")
}

// words are what a key says, as people may see it (B9).
func words(said []string) []string {
	clean := []string{}
	for _, w := range said {
		clean = append(clean, prompt.Clean(w, maxShown))
	}
	return clean
}

func (f front) keyView(k securitykey.Key) api.SecurityKey {
	v := api.SecurityKey{
		ID: k.ID, Product: productOf(k), Manufacturer: prompt.Clean(k.Manufacturer, maxShown), AAGUID: prompt.Clean(k.AAGUID, maxShown), Model: k.Model,
		Firmware: prompt.Clean(k.Firmware, maxShown), Protocols: words(k.Protocols), Path: k.Path, Extensions: words(k.Extensions), Options: map[string]bool{},
		PINSet: k.PINSet(), TriesLeft: k.TriesLeft, Advisories: k.Advisories(), BySystem: k.BySystem(), PluggedInAt: k.PluggedInAt,
	}
	for name, on := range k.Options {
		v.Options[prompt.Clean(name, maxShown)] = on
	}
	if k.Problem != nil {
		v.Problem = keyError(k.Problem)
	}
	if c := f.d.core.Load(); c != nil && c.fido != nil {
		v.Verifies = c.fido.Proved() == k.ID && c.fido.State(context.Background()).State == "ready"
	}
	return v
}

// SecurityKeys lists the keys that are plugged in.
func (f front) SecurityKeys(ctx context.Context) (api.SecurityKeyList, error) {
	keys, err := f.d.keys.List(ctx)
	if err != nil {
		return api.SecurityKeyList{}, explain(err)
	}
	list := api.SecurityKeyList{Keys: []api.SecurityKey{}}
	for _, k := range keys {
		list.Keys = append(list.Keys, f.keyView(k))
	}
	return list, nil
}

// SecurityKey is all that one key says of itself.
func (f front) SecurityKey(ctx context.Context, id string) (api.SecurityKey, error) {
	k, err := f.d.keys.Info(ctx, id)
	if err != nil {
		return api.SecurityKey{}, explain(err)
	}
	v := f.keyView(k)
	if c := f.d.core.Load(); c != nil && c.fido != nil && !v.Verifies {
		v.Verifies = c.fido.State(ctx).State == "ready" && c.fido.Has(ctx, id)
	}
	return v, nil
}

// changeKey changes something on a key: the very one of that id, which is compared
// before and again by the operation itself. It is put on record, whatever comes of
// it.
func (f front) changeKey(ctx context.Context, id string, r audit.Record, do func(c *core, k securitykey.Key) (about string, err error)) error {
	c, err := f.open(ctx)
	if err != nil {
		return err
	}
	k, err := f.d.keys.Info(ctx, id)
	if err != nil {
		return explain(err)
	}
	if k.BySystem() {
		return explain(securitykey.ErrBySystem)
	}
	about, err := do(c, k)
	var refused *api.Error
	if errors.As(err, &refused) {
		return err // nothing was tried
	}
	r.Reason = productOf(k)
	if about != "" {
		r.Reason += ", " + about
	}
	if err != nil {
		r.Outcome = "failed"
		if errors.Is(err, securitykey.ErrPIN) {
			r.Outcome = "wrong"
		}
		r.Reason += ": " + prompt.Clean(err.Error(), 200)
		if !errors.Is(err, securitykey.ErrPINNeeded) && f.d.lately.mayRecord(f.d.now()) {
			_ = f.d.record(c, r)
		}
		return explain(err)
	}
	_ = f.d.record(c, r)
	return nil
}

// SetKeyPIN sets the PIN of a key, or changes it when the old one is given.
func (f front) SetKeyPIN(ctx context.Context, id string, in api.SetKeyPIN) (api.SecurityKey, error) {
	var view api.SecurityKey
	r := audit.Record{Event: "key_pin", Outcome: "set"}
	if len(in.OldPIN) > 0 {
		r.Outcome = "changed"
	}
	err := f.changeKey(ctx, id, r, func(_ *core, k securitykey.Key) (string, error) {
		switch {
		case k.U2FOnly():
			return "", keyError(securitykey.ErrUnsupported)
		case k.PINSet() && len(in.OldPIN) == 0:
			return "", &api.Error{Status: http.StatusConflict, Code: "key_pin_set", Message: "the security key has a PIN already", Hint: "countersign securitykey pin change"}
		case !k.PINSet() && len(in.OldPIN) > 0:
			return "", keyError(securitykey.ErrPINNotSet)
		}
		if err := f.d.keys.SetPIN(ctx, id, devicekey.Secret(in.PIN), devicekey.Secret(in.OldPIN)); err != nil {
			return "", err
		}
		if now, err := f.d.keys.Info(ctx, id); err == nil {
			k = now
		}
		view = f.keyView(k)
		view.PINSet = true
		return "", nil
	})
	return view, err
}

// credentialView is a credential as people see it.
func credentialView(c securitykey.Credential) api.KeyCredential {
	return api.KeyCredential{
		ID: base64.RawURLEncoding.EncodeToString(c.ID), RPID: prompt.Clean(c.RPID, 253), RP: prompt.Clean(c.RP, maxShown),
		User: prompt.Clean(c.User.Name, maxShown), Display: prompt.Clean(c.User.DisplayName, maxShown),
	}
}

func credentialList(s securitykey.Stored) api.KeyCredentialList {
	list := api.KeyCredentialList{Credentials: []api.KeyCredential{}, Left: s.Left}
	for _, c := range s.Credentials {
		list.Credentials = append(list.Credentials, credentialView(c))
	}
	return list
}

// KeyCredentials lists what is kept on a key.
func (f front) KeyCredentials(ctx context.Context, id string, in api.KeyPIN) (api.KeyCredentialList, error) {
	stored, err := f.d.keys.Credentials(ctx, id, devicekey.Secret(in.PIN))
	if err != nil {
		return api.KeyCredentialList{}, explain(err)
	}
	return credentialList(stored), nil
}

// DeleteKeyCredential deletes a credential whose RP ID the person has typed. What
// that is, the key says.
func (f front) DeleteKeyCredential(ctx context.Context, id string, in api.DeleteKeyCredential) (api.KeyCredentialList, error) {
	var list api.KeyCredentialList
	err := f.changeKey(ctx, id, audit.Record{Event: "key_credential", Outcome: "deleted"}, func(*core, securitykey.Key) (string, error) {
		stored, err := f.d.keys.Credentials(ctx, id, devicekey.Secret(in.PIN))
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(stored.Credentials, func(c securitykey.Credential) bool { return credentialView(c).ID == in.ID })
		if i < 0 {
			return "", &api.Error{Status: http.StatusNotFound, Code: "credential_unknown", Message: "there is no such credential on the security key", Hint: "countersign securitykey credential list"}
		}
		view := credentialView(stored.Credentials[i])
		about := view.User + " at " + view.RPID
		if in.Confirm == "" || in.Confirm != view.RPID {
			return "", notConfirmed("that is not what the credential is for; nothing was deleted", view.RPID)
		}
		if err := f.d.keys.DeleteCredential(ctx, id, devicekey.Secret(in.PIN), stored.Credentials[i].ID); err != nil {
			return about, err
		}
		stored.Credentials = slices.Delete(stored.Credentials, i, i+1)
		stored.Left++
		list = credentialList(stored)
		return about, nil
	})
	return list, err
}

// notConfirmed refuses what would destroy something that the person has not named.
func notConfirmed(message, want string) error {
	return &api.Error{Status: http.StatusConflict, Code: "not_confirmed", Message: message, Hint: "it is confirmed by typing: " + want}
}

func fingerprintList(prints []securitykey.Fingerprint) api.FingerprintList {
	list := api.FingerprintList{Fingerprints: []api.KeyFingerprint{}}
	for _, p := range prints {
		list.Fingerprints = append(list.Fingerprints, api.KeyFingerprint{ID: prompt.Clean(p.ID, maxShown), Name: prompt.Clean(p.Name, maxShown)})
	}
	return list
}

// KeyFingerprints lists the fingers that a key knows.
func (f front) KeyFingerprints(ctx context.Context, id string, in api.KeyPIN) (api.FingerprintList, error) {
	prints, err := f.d.keys.Fingerprints(ctx, id, devicekey.Secret(in.PIN))
	if err != nil {
		return api.FingerprintList{}, explain(err)
	}
	return fingerprintList(prints), nil
}

// ChangeFingerprint adds a finger, or drops one.
func (f front) ChangeFingerprint(ctx context.Context, id string, in api.ChangeFingerprint) (api.FingerprintList, error) {
	r := audit.Record{Event: "key_fingerprint", Outcome: "added"}
	if in.Drop != "" {
		r.Outcome = "removed"
	}
	var list api.FingerprintList
	err := f.changeKey(ctx, id, r, func(*core, securitykey.Key) (about string, err error) {
		pin := devicekey.Secret(in.PIN)
		if in.Drop != "" {
			about = prompt.Clean(in.Drop, maxShown)
			err = f.d.keys.DropFingerprint(ctx, id, pin, in.Drop)
		} else {
			progress, done := f.d.watchKey()
			about = prompt.Clean(in.Name, maxShown)
			_, err = f.d.keys.EnrolFingerprint(ctx, id, pin, about, progress)
			done()
		}
		if err != nil {
			return about, err
		}
		prints, err := f.d.keys.Fingerprints(ctx, id, pin)
		if err != nil {
			return about, err
		}
		list = fingerprintList(prints)
		return about, nil
	})
	return list, err
}

// ResetKey wipes a key whose name the person has typed.
func (f front) ResetKey(ctx context.Context, id string, in api.ResetKey) error {
	return f.changeKey(ctx, id, audit.Record{Event: "key_reset", Outcome: "done"}, func(c *core, k securitykey.Key) (string, error) {
		if name := productOf(k); in.Confirm != name {
			return "", notConfirmed("that is not the name of the security key; nothing was wiped", name)
		}
		verifies := c.fido.Has(ctx, id) // afterwards nobody can tell
		progress, done := f.d.watchKey()
		defer done()
		if err := f.d.keys.Reset(ctx, id, progress); err != nil {
			return "", err
		}
		if verifies {
			if err := c.fido.Forget(); err != nil {
				f.d.log.Warn("a security key that was wiped stays known", "error", err)
			}
		}
		return "", nil
	})
}

// VerifyByKey lets a key verify the person to the agent.
func (f front) VerifyByKey(caller context.Context, id string, in api.KeyPIN) (api.VerificationList, error) {
	return f.verifyByKey(caller, id, in.PIN)
}

// verifyByKey enrols a key, "" for the only one or the one that is touched, and
// has the person show that it works. Until that has gone well nothing rests on it.
// One that is enrolled already is not replaced: whoever could do that without it
// would be taken for the person.
func (f front) verifyByKey(caller context.Context, id string, pin api.PIN) (api.VerificationList, error) {
	none := api.VerificationList{}
	c, err := f.open(caller)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(f.d.ctx, 2*verifyWait)
	defer cancel()
	defer context.AfterFunc(caller, cancel)() // a person who has gone is not asked
	end, err := c.book.Hold(ctx)              // a key that is being made may depend on it
	if err != nil {
		return none, explain(err)
	}
	defer end()
	for _, s := range c.states(ctx) {
		switch on := s.State == "ready" || s.State == "lockout"; {
		case s.Method == string(verification.PIN) && s.State != "not_set":
			return none, explain(verification.ErrNoUse)
		case s.Method == string(verification.SecurityKey) && on:
			return none, &api.Error{Status: http.StatusConflict, Code: "verification_enabled", Message: "a security key verifies you already", Hint: "to take another one: countersign verification disable security_key"}
		}
	}
	r := audit.Record{Event: "verification_method", Outcome: "enabled", Reason: string(verification.SecurityKey)}
	// What is left of one whose credential is lost releases nothing; where keys of
	// accounts depend on it, it stays.
	if err := c.verification.Disable(ctx, verification.SecurityKey); err != nil {
		return none, f.changed(c, r, verification.SecurityKey, err)
	}
	undo, err := c.fido.Enrol(ctx, id, devicekey.Secret(pin))
	if err != nil {
		var needed *fido.PINNeededError
		if errors.As(err, &needed) { // nothing was tried
			e := keyError(err)
			e.Key = needed.Key
			return none, e
		}
		return none, f.changed(c, r, verification.SecurityKey, err)
	}
	if err := c.verification.EnableBy(ctx, verification.SecurityKey, devicekey.Secret(pin)); err != nil {
		if undone := undo(); undone != nil {
			f.d.log.Warn("a security key that was not enabled stays known", "error", undone)
		}
		return none, f.changed(c, r, verification.SecurityKey, err)
	}
	if err := f.changed(c, r, verification.SecurityKey, nil); err != nil {
		return none, err
	}
	return f.verificationList(ctx, c), nil
}
