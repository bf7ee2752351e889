// Package keysignin signs a person in at an org with a security key and without
// a browser: the org's own sign-in API (IDX) is spoken here, and the agent is to
// the key what a browser would be.
//
// So the agent must hold what a browser holds. The key is told the origin that
// the agent itself reached, never one that the org names, and the RP ID must
// belong to it: what a key signs for another place is of no use at the org that
// it looks like (A5). The org says what comes next, but only the steps known
// here are taken, each a few times at most, in bounded time, and what the person
// typed goes to the org's own origin alone (E12). Nothing is tried twice: what
// is missing, or was wrong, ends the sign-in by its name, and the person begins
// again.
//
// Nothing is kept. The tokens that come of it prove who signed in, and are then
// revoked.
package keysignin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/daemon/idtoken"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

const (
	// Lifetime is how long a sign-in may take, with all touches.
	Lifetime = 4 * time.Minute

	maxSteps   = 16
	revokeWait = 5 * time.Second
	maxShown   = 200 // characters of what the org says
)

// promptEnrol asks an org that the person may enrol an authenticator on the way.
const promptEnrol = "enroll_authenticator"

// Scopes are asked for: who it is, and no more.
const Scopes = "openid profile"

// Keys are the security keys of this computer, as securitykey.Keys has them.
type Keys interface {
	List(ctx context.Context) ([]securitykey.Key, error)
	Choose(ctx context.Context, id string, progress securitykey.Progress) (string, error)
	Holds(ctx context.Context, id, rpID string, credentials [][]byte) (bool, error)
	Register(ctx context.Context, r securitykey.Registration) (securitykey.Registered, error)
	Assert(ctx context.Context, a securitykey.Assertion) (securitykey.Asserted, error)
}

// Options of a sign-in.
type Options struct {
	Org         *client.Org
	Metadata    client.Metadata
	ClientID    string
	RedirectURI string           // registered for the client; nothing is ever sent there
	Proof       *client.ProofKey // what the tokens are bound to; nil for bearer tokens

	Username string
	Password devicekey.Secret // nil: the org must not ask for it
	Key      string           // id; "": the only one, the only one that is enrolled, or the one that is touched first
	PIN      devicekey.Secret // of the key; nil: it must not want it
	Enrol    bool             // the key may be enrolled

	Keys     Keys
	Progress securitykey.Progress // hears when the key is to be touched; may be nil
	Now      func() time.Time
	Log      *slog.Logger

	lifetime time.Duration // tests: instead of Lifetime
}

// Result is how a sign-in ended well.
type Result struct {
	UserID   string
	Username string // as the org says it; "" when it does not
	Methods  []string
	At       time.Time
	Enrolled bool            // the key was enrolled on the way
	Key      securitykey.Key // that was used
}

// What a person has to add, or to choose, before a sign-in can go on.
var (
	ErrPasswordNeeded  = errors.New("the org asks for the password")
	ErrEnrolmentNeeded = errors.New("no security key of yours is enrolled at the org, and it asks for one")
	// ErrNotAsked is one of them, too: who has no key there may be let in without.
	ErrNotAsked = errors.New("the org lets you in without a security key: perhaps none of yours is enrolled there")
	ErrWhichKey = errors.New("several security keys are plugged in, and a PIN is for one of them")
)

// How it ends when it cannot go on.
var (
	ErrInsecure     = errors.New("security keys sign in over https only, to a host with a name, or to localhost")
	ErrNoneEnrolled = errors.New("none of the security keys that are plugged in is enrolled for you at the org")
	ErrNoKeyWanted  = errors.New("the org let you in without a security key")
	ErrBuiltIn      = errors.New("the org takes none but keys that are built into a computer")
	ErrTooManySteps = errors.New("the org never comes to an end")
	ErrTimedOut     = errors.New("the sign-in took too long")
	ErrCancelled    = errors.New("the sign-in was cancelled")
)

// RefusedError is the org's refusal, in its own words, cleaned.
type RefusedError struct {
	Text     string
	Code     string // the name of the sentence, e.g. "incorrectPassword"
	Password bool   // it was the password
	Key      bool   // it was what the key signed
}

func (e *RefusedError) Error() string {
	if e.Text == "" {
		return "the org refused the sign-in"
	}
	return "the org refused the sign-in: " + e.Text
}

// StepError says that the org wants something that is not known here, or that
// was done already.
type StepError struct {
	Step  string // as the org names it, cleaned
	About string // what it is about, in the org's words, cleaned; may be ""
}

func (e *StepError) Error() string {
	s := fmt.Sprintf("the org asks for %q", e.Step)
	if e.About != "" {
		s += " (" + e.About + ")"
	}
	return s + ", which this command cannot do"
}

// KeyError is an error of a key, with the key.
type KeyError struct {
	Key securitykey.Key
	Err error
}

func (e *KeyError) Error() string { return e.Err.Error() }

// Unwrap returns what the key's trouble is.
func (e *KeyError) Unwrap() error { return e.Err }

// signIn is one that is under way.
type signIn struct {
	o        Options
	verifier string
	nonce    string

	sent     map[string]int // forms, by name and kind
	last     last           // what was sent last
	password bool           // it was sent
	used     bool           // a key has signed, or was enrolled
	signed   bool           // a key has signed
	made     bool           // a key was sent to be enrolled
	result   Result
}

// last is what was sent, as far as the refusals of it differ.
type last int

const (
	other last = iota
	password
	signature
)

// Run signs in. Besides the errors of this package it fails with those of
// securitykey, of the client, and with idtoken.ErrInvalid. The result of a failure
// says whether a key was enrolled, and which, and no more.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := securitykey.CheckOrigin(o.Org.URL(), o.Org.Host()); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrInsecure, err)
	}
	if o.lifetime == 0 {
		o.lifetime = Lifetime
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, o.lifetime)
	defer cancel()
	s := &signIn{o: o, verifier: secret(), nonce: secret(), sent: map[string]int{}}
	err := s.run(ctx)
	if err == nil {
		return s.result, nil
	}
	var left Result
	if s.result.Enrolled {
		left.Enrolled, left.Key = true, s.result.Key
	}
	switch {
	case caller.Err() != nil:
		return left, ErrCancelled
	case ctx.Err() != nil:
		return left, ErrTimedOut
	}
	return left, err
}

func (s *signIn) run(ctx context.Context) error {
	digest := sha256.Sum256([]byte(s.verifier))
	form := url.Values{
		"client_id": {s.o.ClientID}, "redirect_uri": {s.o.RedirectURI}, "scope": {Scopes}, "state": {secret()}, "nonce": {s.nonce},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(digest[:])}, "code_challenge_method": {"S256"},
	}
	if s.o.Enrol {
		form.Set("prompt", promptEnrol)
	}
	handle, err := s.o.Org.Interact(ctx, form)
	var refused *okta.TokenError
	if errors.As(err, &refused) && refused.Code == "invalid_request" && form.Has("prompt") {
		// An org that does not know how to be asked may ask for a key by itself.
		form.Del("prompt")
		handle, err = s.o.Org.Interact(ctx, form)
	}
	if err != nil {
		return fmt.Errorf("begin the sign-in: %w", err)
	}
	step, err := s.o.Org.Introspect(ctx, handle)
	for range maxSteps {
		if err != nil {
			return err
		}
		if step.Code == "" {
			if err := s.refusal(step); err != nil {
				return err
			}
		}
		s.result.Enrolled = s.made // the org goes on
		if step.Code != "" {
			return s.redeem(ctx, step.Code)
		}
		step, err = s.next(ctx, step)
	}
	return ErrTooManySteps
}

// redeem turns the code into tokens, checks whose they are, and revokes them.
func (s *signIn) redeem(ctx context.Context, code okta.Secret) error {
	t, _, err := s.o.Org.BoundToken(ctx, url.Values{
		"grant_type": {"interaction_code"}, "client_id": {s.o.ClientID}, "redirect_uri": {s.o.RedirectURI},
		"interaction_code": {code.Reveal()}, "code_verifier": {s.verifier},
	}, s.o.Proof)
	if err != nil {
		return fmt.Errorf("redeem the code: %w", err)
	}
	defer s.revoke(ctx, t.AccessToken)
	who, err := idtoken.Check(ctx, t.IDToken, idtoken.Expected{Org: s.o.Org, ClientID: s.o.ClientID, Nonce: s.nonce, Now: s.o.Now()})
	if err != nil {
		return err
	}
	switch {
	case !s.used && !s.o.Enrol:
		return ErrNotAsked
	case !s.used:
		return ErrNoKeyWanted
	}
	s.result.UserID, s.result.Username, s.result.Methods, s.result.At = who.UserID, who.Username, who.Methods, s.o.Now().UTC()
	return nil
}

func (s *signIn) revoke(ctx context.Context, token okta.Secret) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeWait)
	defer cancel()
	if err := s.o.Org.Revoke(ctx, s.o.Metadata.RevocationEndpoint, token); err != nil {
		s.o.Log.Info("token of a sign-in not revoked", "org", s.o.Org.URL(), "error", err)
	}
}

// secret makes 256 random bits in letters that need no escaping.
func secret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
