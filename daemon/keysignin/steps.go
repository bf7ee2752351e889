package keysignin

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"countersign.dev/authenticators/securitykey"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta/client"
)

// The forms that are known here.
const (
	formIdentify    = "identify"
	formChallenge   = "challenge-authenticator"
	formEnrol       = "enroll-authenticator"
	formSelect      = "select-authenticator-authenticate"
	formSelectEnrol = "select-authenticator-enroll"
	formSkip        = "skip"
)

// maxSkips bounds how often an offer of the org is passed.
const maxSkips = 3

// wrongPassword are the names of the sentence that says so.
var wrongPassword = []string{"incorrectPassword", "api.authn.error.PASSCODE_INVALID", "errors.E0000004"}

// refusal is what a step says against the last one, or against going on.
func (s *signIn) refusal(step *client.Step) error {
	for _, m := range step.Messages {
		if m.Error {
			return s.refused(m)
		}
	}
	if len(step.Forms) == 0 && len(step.Messages) > 0 {
		return s.refused(step.Messages[0])
	}
	return nil
}

func (s *signIn) refused(m client.Message) error {
	e := &RefusedError{Text: prompt.Clean(m.Text, maxShown), Code: prompt.Clean(m.Key, 64)}
	e.Password = s.last == password && slices.Contains(wrongPassword, e.Code)
	e.Key = s.last == signature
	return e
}

// next takes the one way on that is known; it says which there was when none is.
func (s *signIn) next(ctx context.Context, step *client.Step) (*client.Step, error) {
	s.last = other
	if f := step.Form(formIdentify); f != nil {
		return s.identify(ctx, f)
	}
	selection := step.Form(formSelect)
	if f := step.Form(formChallenge); f != nil {
		switch {
		case f.Key == client.KeyWebAuthn:
			return s.assert(ctx, f)
		case f.Key == client.KeyPassword && (s.o.Password != nil || !offers(selection, client.KeyWebAuthn) || s.used):
			return s.answerPassword(ctx, f)
		}
	}
	if f := step.Form(formEnrol); f != nil && f.Key == client.KeyWebAuthn {
		if s.used {
			return s.skip(ctx, step, f) // a second one is not asked for
		}
		return s.enrol(ctx, f)
	}
	if selection != nil {
		return s.choose(ctx, selection)
	}
	if f := step.Form(formSelectEnrol); f != nil {
		switch {
		case s.used, !offers(f, client.KeyWebAuthn):
			return s.skip(ctx, step, f)
		case !s.o.Enrol:
			return nil, ErrEnrolmentNeeded
		}
		return s.chooseKind(ctx, f, client.KeyWebAuthn)
	}
	return s.skip(ctx, step, nil)
}

func offers(f *client.Form, key string) bool {
	if f == nil {
		return false
	}
	_, ok := f.Choose(key)
	return ok
}

// unknown names the step that cannot be taken.
func unknown(f *client.Form) error {
	about := f.Label
	if about == "" && len(f.Choices) > 0 {
		var labels []string
		for _, c := range f.Choices[:min(len(f.Choices), 8)] {
			labels = append(labels, c.Label)
		}
		about = strings.Join(labels, ", ")
	}
	return &StepError{Step: prompt.Clean(f.Name, 64), About: prompt.Clean(about, maxShown)}
}

// send sends a form, each kind as often as it may come.
func (s *signIn) send(ctx context.Context, f *client.Form, kind string, most int, values map[string]any) (*client.Step, error) {
	if kind = f.Name + " " + kind; s.sent[kind] >= most {
		return nil, unknown(f)
	}
	s.sent[kind]++
	step, err := s.o.Org.Proceed(ctx, f, values)
	if errors.Is(err, client.ErrForm) {
		s.o.Log.Info("form of a sign-in not sent", "org", s.o.Org.URL(), "error", err)
		return nil, unknown(f)
	}
	return step, err
}

func (s *signIn) identify(ctx context.Context, f *client.Form) (*client.Step, error) {
	values := map[string]any{"identifier": s.o.Username}
	if f.Has("credentials", "passcode") {
		if s.o.Password == nil {
			return nil, ErrPasswordNeeded
		}
		values["credentials"] = s.passcode()
		s.last, s.password = password, true
	}
	return s.send(ctx, f, "", 1, values)
}

func (s *signIn) passcode() map[string]string {
	return map[string]string{"passcode": string(s.o.Password)}
}

func (s *signIn) answerPassword(ctx context.Context, f *client.Form) (*client.Step, error) {
	if s.o.Password == nil {
		return nil, ErrPasswordNeeded
	}
	if s.password || !f.Has("credentials", "passcode") {
		return nil, unknown(f)
	}
	s.last, s.password = password, true
	return s.send(ctx, f, "password", 1, map[string]any{"credentials": s.passcode()})
}

// choose chooses how to verify: the key, and the password where that is asked
// for besides.
func (s *signIn) choose(ctx context.Context, f *client.Form) (*client.Step, error) {
	switch {
	case !s.signed && offers(f, client.KeyWebAuthn):
		return s.chooseKind(ctx, f, client.KeyWebAuthn)
	case !s.password && offers(f, client.KeyPassword):
		if s.o.Password == nil {
			return nil, ErrPasswordNeeded
		}
		return s.chooseKind(ctx, f, client.KeyPassword)
	}
	return nil, unknown(f)
}

func (s *signIn) chooseKind(ctx context.Context, f *client.Form, key string) (*client.Step, error) {
	value, _ := f.Choose(key)
	return s.send(ctx, f, key, 1, value)
}

// skip goes past what the org offers and does not ask for; else it names f.
func (s *signIn) skip(ctx context.Context, step *client.Step, f *client.Form) (*client.Step, error) {
	skip := step.Form(formSkip)
	switch {
	case skip != nil:
		return s.send(ctx, skip, "", maxSkips, nil)
	case f != nil:
		return nil, unknown(f)
	case len(step.Forms) > 0:
		return nil, unknown(step.Forms[0])
	}
	return nil, &StepError{Step: "nothing"}
}

// key says which key is meant: the one that was named, the only one, or of several
// the one that fits tells by itself. Where that does not say, the one that is
// touched first; but a PIN goes to the key that it belongs to and to no other, so
// that the person has to name it then.
func (s *signIn) key(ctx context.Context, fits func(securitykey.Key) (bool, error)) (securitykey.Key, error) {
	keys, err := s.o.Keys.List(ctx)
	if err != nil {
		return securitykey.Key{}, err
	}
	if len(keys) == 0 {
		return securitykey.Key{}, securitykey.ErrNoKey
	}
	id := s.o.Key
	if id == "" {
		usable := slices.DeleteFunc(slices.Clone(keys), func(k securitykey.Key) bool { return k.Problem != nil })
		if len(usable) > 1 && fits != nil {
			one, err := fitting(usable, fits)
			if err != nil || one.ID != "" {
				return one, err
			}
		}
		if len(usable) > 1 && len(s.o.PIN) > 0 {
			return securitykey.Key{}, ErrWhichKey
		}
		if id, err = s.o.Keys.Choose(ctx, "", s.o.Progress); err != nil {
			return securitykey.Key{}, err
		}
	}
	for _, k := range keys {
		if k.ID == id {
			return k, nil
		}
	}
	return securitykey.Key{}, securitykey.ErrOtherKey
}

// fitting finds the only key that fits; none when several do, or when some do not
// say. That none of them fits is an error.
func fitting(keys []securitykey.Key, fits func(securitykey.Key) (bool, error)) (one securitykey.Key, err error) {
	var found []securitykey.Key
	silent := false
	for _, k := range keys {
		fit, err := fits(k)
		silent = silent || err != nil
		if fit && err == nil {
			found = append(found, k)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && !silent:
		return securitykey.Key{}, ErrNoneEnrolled
	}
	return securitykey.Key{}, nil
}

// assert has the key sign the org's challenge, for the origin that was reached.
func (s *signIn) assert(ctx context.Context, f *client.Form) (*client.Step, error) {
	if s.signed {
		return nil, unknown(f)
	}
	c, err := f.Challenge(s.o.Org.Host())
	if err != nil {
		return nil, err
	}
	if err := securitykey.CheckOrigin(s.o.Org.URL(), c.RPID); err != nil {
		return nil, err
	}
	key, err := s.key(ctx, func(k securitykey.Key) (bool, error) { return s.o.Keys.Holds(ctx, k.ID, c.RPID, c.Allow) })
	if err != nil {
		return nil, err
	}
	signed, err := s.o.Keys.Assert(ctx, securitykey.Assertion{
		Key: key.ID, PIN: s.o.PIN, Progress: s.o.Progress, Origin: s.o.Org.URL(), RPID: c.RPID, Challenge: c.Challenge,
		Allow: c.Allow, Verification: securitykey.UserVerification(c.Verification),
	})
	if err != nil {
		return nil, &KeyError{Key: key, Err: err}
	}
	credentials := map[string]string{
		"clientData": encode(signed.ClientDataJSON), "authenticatorData": encode(signed.AuthData), "signatureData": encode(signed.Signature),
	}
	if len(signed.UserID) > 0 && f.Has("credentials", "userHandle") {
		credentials["userHandle"] = encode(signed.UserID)
	}
	s.used, s.signed, s.last, s.result.Key = true, true, signature, signed.Key
	return s.send(ctx, f, "key", 1, map[string]any{"credentials": credentials})
}

// enrol has a key make a credential for the person.
func (s *signIn) enrol(ctx context.Context, f *client.Form) (*client.Step, error) {
	if !s.o.Enrol {
		return nil, ErrEnrolmentNeeded
	}
	c, err := f.Creation(s.o.Org.Host())
	if err != nil {
		return nil, err
	}
	if c.Platform {
		return nil, ErrBuiltIn
	}
	if err := securitykey.CheckOrigin(s.o.Org.URL(), c.RPID); err != nil {
		return nil, err
	}
	key, err := s.key(ctx, nil)
	if err != nil {
		return nil, err
	}
	r := securitykey.Registration{
		Key: key.ID, PIN: s.o.PIN, Progress: s.o.Progress, Origin: s.o.Org.URL(), RPID: c.RPID, RPName: c.RPName, Challenge: c.Challenge,
		User:       securitykey.User{ID: c.UserID, Name: c.UserName, DisplayName: c.UserDisplayName},
		Algorithms: c.Algorithms, Exclude: c.Exclude, Resident: c.Resident == "required" || c.Resident == "preferred" && s.keeps(key), Verification: securitykey.UserVerification(c.Verification),
	}
	made, err := s.o.Keys.Register(ctx, r)
	if errors.Is(err, securitykey.ErrFull) && c.Resident == "preferred" {
		r.Resident = false
		made, err = s.o.Keys.Register(ctx, r)
	}
	if err != nil {
		return nil, &KeyError{Key: key, Err: err}
	}
	credentials := map[string]string{"clientData": encode(made.ClientDataJSON), "attestation": encode(made.AttestationObject)}
	for name, value := range map[string]string{"transports": `["usb"]`, "clientExtensions": "{}"} { // documents in a text
		if f.Has("credentials", name) {
			credentials[name] = value
		}
	}
	s.used, s.made, s.last = true, true, signature
	s.result.Key = made.Key
	return s.send(ctx, f, "key", 1, map[string]any{"credentials": credentials})
}

// keeps says whether a key can keep a credential here: whoever keeps one is
// verified.
func (s *signIn) keeps(k securitykey.Key) bool {
	return k.Options["rk"] && (k.Options["uv"] || k.PINSet() && len(s.o.PIN) > 0)
}

// encode is how the API has bytes.
func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
