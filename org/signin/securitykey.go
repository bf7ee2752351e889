package signin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// PromptEnrol is the value of the parameter prompt by which a client asks that
// the person may enrol an authenticator in this sign-in.
const PromptEnrol = "enroll_authenticator"

// KeyView is what a page asks a security key, or a new one.
type KeyView struct {
	Challenge        string // base64url
	RPID             string
	UserVerification okta.Need
	// Of a new key only.
	UserHandle, UserName, DisplayName string
	Attachment, Resident              string // as directory.WebAuthnSettings has them
	Algorithms                        []int
	// Keys are the person's: one of them is to answer, or none of them to be
	// enrolled again.
	Keys []KeyOfUser
}

// KeyOfUser is a security key of the person, as far as a page must know it.
type KeyOfUser struct {
	ID, CredentialID, Name string
	Transports             []string
}

// usableKeys lists the person's keys that can be asked here. As of devices:
// nobody learns anything about them by typing a name, and over the back channel
// there is no page that could ask.
func (t *transaction) usableKeys() []factor.SecurityKey {
	if t.org.Authenticators.WebAuthn == "" || t.intent.Mode == backchannel || len(t.state.Proofs) == 0 || !t.mayUseKeys() {
		return nil
	}
	return t.keys
}

// mayUseKeys says whether the browser lets this page use the org's keys.
func (t *transaction) mayUseKeys() bool { return factor.MayUseKeys(t.pageOrigin(), t.rpID) }

// setUps lists what may be enrolled.
func (t *transaction) setUps() []Choice {
	return []Choice{{AuthenticatorID: t.org.Authenticators.WebAuthn, Key: KeyWebAuthn, EnrolmentID: t.org.Authenticators.WebAuthn,
		Methods: []string{string(factor.MethodWebAuthn)}}}
}

// mayEnrol says whether the person may enrol a security key now, and what the
// policy would ask of it. It takes the password, given in this sign-in, and a
// possession factor as well if they have any, usable or not: a password alone
// enrols the first factor and no other (C2).
func (e *Engine) mayEnrol(t *transaction) (verification okta.Need, ok bool) {
	if t.org.Authenticators.WebAuthn == "" || t.intent.Mode == backchannel || t.state.FromSession || !t.mayFinish() || !t.mayUseKeys() ||
		!t.state.proven(policy.Password) {
		return "", false
	}
	f := e.facts(t)
	proven := slices.ContainsFunc(f.Proofs, func(p policy.Proof) bool { return p.Method&^policy.Password != 0 })
	if f.Enrolled && !proven {
		return "", false
	}
	f.Candidates = append(f.Candidates, policy.Candidate{Method: policy.WebAuthn,
		Traits: policy.DeviceBound | policy.PhishingResistant | policy.UserPresence | policy.UserVerification})
	d := policy.Evaluate(t.set, &f)
	return d.KeyVerification, d.Outcome == policy.Satisfied || d.Methods.Has(policy.WebAuthn)
}

// offersSetUp says whether a sign-in that could end offers to enrol a key
// before it does: when its client asked for that, once.
func (e *Engine) offersSetUp(t *transaction) bool {
	if t.intent.Prompt != PromptEnrol || t.state.SetUp || len(t.keys) >= factor.MaxKeys {
		return false
	}
	_, ok := e.mayEnrol(t)
	return ok
}

// askKey goes to the step that asks the person's security keys.
func (e *Engine) askKey(ctx context.Context, t *transaction, d policy.Decision) error {
	return e.newKeyChallenge(ctx, t, StepKey, d.KeyVerification)
}

func (e *Engine) newKeyChallenge(ctx context.Context, t *transaction, step Step, asked okta.Need) error {
	w, err := e.webAuthn(ctx)
	if err != nil {
		return err
	}
	t.challenge = e.factors.NewKeyChallenge(factor.KeyRequest{
		SigninID: t.id, UserID: t.user.ID, PageOrigin: t.pageOrigin(),
		UserVerification: factor.KeyNeed(w.Settings, asked), Enrol: step == StepEnrol,
	})
	t.newKeys = w.Settings
	t.state.Step, t.state.ChallengeID, t.unsaved = step, t.challenge.ID, true
	return nil
}

func (e *Engine) webAuthn(ctx context.Context) (w directory.WebAuthn, err error) {
	err = e.d.DB.Read(ctx, func(tx store.Tx) error {
		w, err = directory.OrgWebAuthn(ctx, tx)
		return err
	})
	return w, err
}

// trusts says whether a page's origin is the org's or one that it trusts, now.
func (e *Engine) trusts(ctx context.Context, origin string) (bool, error) {
	if origin == e.d.BaseURL {
		return true, nil
	}
	var trusted []string
	err := e.d.DB.Read(ctx, func(tx store.Tx) (err error) {
		trusted, err = directory.TrustedOrigins(ctx, tx)
		return err
	})
	return directory.OriginTrusted(trusted, origin), err
}

// pollKey asks anew when the question to a key has grown old: the page may have
// been left open, or loaded again.
func (e *Engine) pollKey(ctx context.Context, t *transaction) (outcome, error) {
	if t.challenge.Status == factor.Pending && e.d.Now().Before(t.challenge.ExpiresAt) {
		return outcome{}, nil
	}
	return outcome{changed: true, message: &keyOver}, e.askKeyAgain(ctx, t)
}

// askKeyAgain makes a new challenge for the step, if it still makes sense.
func (e *Engine) askKeyAgain(ctx context.Context, t *transaction) error {
	if t.state.Step == StepEnrol {
		asked, ok := e.mayEnrol(t)
		if !ok {
			return e.proceed(ctx, t)
		}
		return e.newKeyChallenge(ctx, t, StepEnrol, asked)
	}
	d := e.decide(t)
	if d.Outcome != policy.Incomplete || !d.Methods.Has(policy.WebAuthn) {
		return e.proceed(ctx, t)
	}
	return e.askKey(ctx, t, d)
}

// SetUp chooses what to enrol, of what View.SetUp offers.
func (e *Engine) SetUp(ctx context.Context, handle okta.Secret, authenticatorID string) (View, error) {
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		if t.state.Step != StepSetUp && t.state.Step != StepEnrol {
			return outcome{}, nil
		}
		if authenticatorID == "" || authenticatorID != t.org.Authenticators.WebAuthn {
			return outcome{}, fmt.Errorf("choosing what to enrol: %w", ErrRequest)
		}
		asked, ok := e.mayEnrol(t)
		if !ok {
			return outcome{changed: true}, e.proceed(ctx, t)
		}
		return outcome{changed: true}, e.newKeyChallenge(ctx, t, StepEnrol, asked)
	})
}

// Skip leaves for later what may be enrolled, where the sign-in does without.
func (e *Engine) Skip(ctx context.Context, handle okta.Secret) (View, error) {
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		switch {
		case t.state.Step != StepSetUp && t.state.Step != StepEnrol:
			return outcome{}, nil
		case e.decide(t).Outcome != policy.Satisfied:
			return outcome{}, fmt.Errorf("leaving the enrolment for later: %w", ErrRequest)
		}
		t.state.SetUp = true
		return outcome{changed: true}, e.proceed(ctx, t)
	})
}

// EnrolKey takes the answer of a new security key. That it was made for this
// very sign-in also proves that the person has it.
func (e *Engine) EnrolKey(ctx context.Context, handle okta.Secret, a factor.KeyAttestation) (View, error) {
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		switch t.state.Step {
		case StepEnrol:
		case StepDone:
			return outcome{}, ErrSessionExpired
		default:
			return outcome{}, nil
		}
		if _, ok := e.mayEnrol(t); !ok {
			return outcome{changed: true}, e.proceed(ctx, t)
		}
		w, err := e.webAuthn(ctx)
		if err != nil {
			return outcome{}, err
		}
		use, err := e.factors.VerifyNewKey(t.challenge, w.Settings, a)
		if err == nil {
			err = e.mustTrust(ctx, t)
		}
		if err == nil {
			err = e.mustBeNew(ctx, use.Key)
		}
		if err != nil {
			return e.refuseKey(ctx, t, err)
		}
		c, before := t.challenge, *t
		before.state.Proofs = slices.Clone(t.state.Proofs)
		// Beside a key that has met the rule the new one proves nothing more, and must
		// not take the place of what that one has proven: it may be the weaker.
		met := t.state.proven(policy.WebAuthn) && e.decide(t).Outcome == policy.Satisfied
		t.keys = append(slices.Clip(t.keys), use.Key)
		t.state.SetUp = true
		var told []string // of the person's devices
		return outcome{changed: true, also: func(tx store.Tx) error {
			// Another sign-in may have been faster, or what was shown is gone.
			if err := e.resnap(ctx, tx, &before); err != nil {
				return err
			}
			if _, ok := e.mayEnrol(&before); !ok {
				return errStale
			}
			if err := factor.AddKey(ctx, tx, c, use.Key, e.d.Now()); err != nil {
				return err
			}
			var err error
			told, err = device.AnnounceSecurityKey(ctx, tx, use.Key.UserID, use.Key.ID, use.Key.Name(), e.d.Now())
			return err
		}, done: func() {
			e.d.Notify(told)
			e.d.Log.InfoContext(ctx, "security key enrolled", "user_id", use.Key.UserID, "security_key", use.Key.ID, "model", use.Key.AAGUID, "attestation", use.Key.Attestation)
		}}, e.enrolled(ctx, t, use, met)
	})
}

// mustBeNew refuses a credential that somebody has enrolled. AddKey looks again.
func (e *Engine) mustBeNew(ctx context.Context, k factor.SecurityKey) error {
	return e.d.DB.Read(ctx, func(tx store.Tx) error { return factor.NewKey(ctx, tx, k) })
}

// Key takes the answer of a security key.
func (e *Engine) Key(ctx context.Context, handle okta.Secret, a factor.KeyAssertion) (View, error) {
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		switch t.state.Step {
		case StepKey:
		case StepDone:
			return outcome{}, ErrSessionExpired
		default:
			return outcome{}, nil
		}
		use, err := e.factors.VerifyKey(t.challenge, t.usableKeys(), a)
		if err == nil {
			err = e.mustTrust(ctx, t)
		}
		if err != nil {
			return e.refuseKey(ctx, t, err)
		}
		c := t.challenge
		return outcome{changed: true, also: func(tx store.Tx) error { return factor.UseKey(ctx, tx, c, use, e.d.Now()) }}, e.proven(ctx, t, use)
	})
}

// mustTrust refuses an answer from a page that the org does not trust any more.
func (e *Engine) mustTrust(ctx context.Context, t *transaction) error {
	ok, err := e.trusts(ctx, t.challenge.PageOrigin)
	if err == nil && !ok {
		err = &factor.KeyError{Reason: factor.KeyPhishing}
	}
	return err
}

// enrolled goes on once a key is enrolled, with what it has proven thereby.
func (e *Engine) enrolled(ctx context.Context, t *transaction, use factor.KeyUse, met bool) error {
	if met {
		t.state.ChallengeID = ""
		return e.proceed(ctx, t)
	}
	return e.proven(ctx, t, use)
}

// proven adds what a security key has proven, and goes on.
func (e *Engine) proven(ctx context.Context, t *transaction, use factor.KeyUse) error {
	p, ok := use.Proof()
	if !ok {
		t.fail(accessDenied.Key)
		return nil
	}
	p.At = e.d.Now()
	t.prove(p, use.Key.ID)
	if !t.state.proven(policy.SignedNonce | policy.Push) { // a device's key says more
		t.state.EnrolmentID, t.state.DeviceID, t.state.KeyID, t.state.Protection = use.Key.ID, "", "", ""
	}
	t.state.ChallengeID = ""
	return e.proceed(ctx, t)
}

// refuseKey says why an answer was not taken, and asks again with a new
// challenge: each takes one answer. Whoever relays the sign-in ends it.
func (e *Engine) refuseKey(ctx context.Context, t *transaction, err error) (outcome, error) {
	var refused *factor.KeyError
	if !errors.As(err, &refused) {
		return outcome{}, err
	}
	log := e.d.Log.With("user_id", t.user.ID, "client_id", t.intent.ClientID, "reason", string(refused.Reason))
	o := outcome{changed: true, message: keyMessage(refused.Reason)}
	switch refused.Reason {
	case factor.KeyPhishing:
		log.WarnContext(ctx, "phishing attempt declined", "page_origin", t.challenge.PageOrigin, "error", err)
		t.fail(phishing.Key)
		return o, nil
	case factor.KeyCounter:
		log.WarnContext(ctx, "security key counted backwards: there may be a copy of it", "security_key", refused.KeyID, "error", err)
		o.also = func(tx store.Tx) error { return factor.SuspectKey(ctx, tx, refused.KeyID, e.d.Now()) }
	default:
		log.InfoContext(ctx, "security key refused", "error", err)
	}
	return o, e.askKeyAgain(ctx, t)
}

// keyMessage is the message of an answer that was not taken.
func keyMessage(r factor.KeyReason) *Message {
	switch r {
	case factor.KeyOver:
		return &keyOver
	case factor.KeyUnverified:
		return &keyUnverified
	case factor.KeyCounter:
		return &keyCounter
	case factor.KeyUntrusted:
		return &keyUntrusted
	case factor.KeyModel:
		return &keyModel
	case factor.KeyKnown:
		return &keyKnown
	case factor.KeyTooMany:
		return &keyTooMany
	case factor.KeyPhishing:
		return nil // the failed sign-in says it
	default:
		return &keyRefused
	}
}

func keyOfUser(k factor.SecurityKey) KeyOfUser {
	return KeyOfUser{ID: k.ID, CredentialID: k.CredentialID, Name: k.Name(), Transports: k.Transports}
}

// keyView says what the page asks a security key.
func (e *Engine) keyView(t *transaction) *KeyView {
	k := &KeyView{Challenge: t.challenge.Nonce, RPID: t.rpID, UserVerification: t.challenge.UserVerification}
	for _, key := range t.keys {
		k.Keys = append(k.Keys, keyOfUser(key))
	}
	if t.state.Step == StepEnrol {
		k.UserHandle, k.UserName, k.DisplayName = factor.UserHandle(t.user.ID), t.user.Login, t.user.Name()
		k.Attachment, k.Resident, k.Algorithms = t.newKeys.Attachment, t.newKeys.ResidentKeyRequirement, factor.KeyAlgorithms()
	}
	return k
}
