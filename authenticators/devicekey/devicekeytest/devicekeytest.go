// Package devicekeytest checks that a key store keeps the promises of package
// devicekey. Every back end's tests run it.
package devicekeytest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// Harness makes stores of one back end for Run.
type Harness struct {
	Kind       devicekey.Kind
	Protection jose.Protection
	// Open returns a store over state that lasts for the test: a second store
	// finds what the first one kept, as after a restart.
	Open func(t *testing.T) devicekey.Store
	// Wrong is told how many wrong secrets a part has tried, for a back end that
	// counts them; nil for others. No part tries more than two.
	Wrong func(t *testing.T, tries int)
}

var (
	upperUUID = regexp.MustCompile(`^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$`)
	digest    = sha256.Sum256([]byte("devicekeytest"))
	silent    = devicekey.Spec{Role: okta.KeyProofOfPossession}
)

// Run runs the suite. Each part gets a harness with fresh state.
func Run(t *testing.T, fresh func(t *testing.T) Harness) {
	for name, part := range map[string]func(*testing.T, Harness){
		"CreateOpenSign":   createOpenSign,
		"Delete":           deleteKey,
		"Refusals":         refusals,
		"UserVerification": userVerification,
		"SecretsAreApart":  secretsAreApart,
		"Reauthorise":      reauthorise,
		"Concurrent":       concurrent,
	} {
		t.Run(name, func(t *testing.T) { part(t, fresh(t)) })
	}
}

func create(t *testing.T, s devicekey.Store) devicekey.Key {
	t.Helper()
	k, _, err := s.Create(t.Context(), silent)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustSign(t *testing.T, k devicekey.Key, by devicekey.Key) {
	t.Helper()
	sig, err := by.Sign(t.Context(), digest[:], devicekey.Authorisation{})
	if err != nil {
		t.Fatal(err)
	}
	public, ok := k.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		t.Fatalf("public key is a %T", k.Public())
	}
	if !ecdsa.VerifyASN1(public, digest[:], sig) {
		t.Error("signature does not verify")
	}
}

// createOpenSign: what Create returned is found by its Ref, by this store and
// after a restart, and signs with the same key.
func createOpenSign(t *testing.T, h Harness) {
	s := h.Open(t)
	if state := s.State(t.Context()); state.Kind != h.Kind || state.State != "ready" || state.Hint != "" {
		t.Errorf("state %+v", state)
	}
	first, second := create(t, s), create(t, s)
	if first.Ref() == second.Ref() {
		t.Error("two keys share a Ref")
	}
	for _, k := range []devicekey.Key{first, second} {
		if ref := k.Ref(); ref.Kind != h.Kind || !upperUUID.MatchString(ref.ID) {
			t.Errorf("ref %+v", ref)
		}
		if k.Protection() != h.Protection {
			t.Errorf("protection %s", k.Protection())
		}
		mustSign(t, k, k)
		for _, store := range []devicekey.Store{s, h.Open(t)} {
			var ref devicekey.Ref // as read from the account's record
			text, err := json.Marshal(k.Ref())
			if err == nil {
				err = json.Unmarshal(text, &ref)
			}
			if err != nil {
				t.Fatal(err)
			}
			again, err := store.Open(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			mustSign(t, k, again)
		}
		if out := fmt.Sprintf("%v %+v %#v", k, k, k); bytes.Contains([]byte(out), []byte("PrivateKey")) {
			t.Errorf("key prints its inside: %s", out)
		}
	}
}

// deleteKey: gone for good, for handles that are still around too; a second
// time is no error, and nobody else's key is hurt.
func deleteKey(t *testing.T, h Harness) {
	s := h.Open(t)
	kept, gone := create(t, s), create(t, s)
	for range 2 {
		if err := s.Delete(t.Context(), gone.Ref()); err != nil {
			t.Fatal(err)
		}
	}
	for _, store := range []devicekey.Store{s, h.Open(t)} {
		if _, err := store.Open(t.Context(), gone.Ref()); !errors.Is(err, devicekey.ErrNotFound) {
			t.Errorf("open deleted key: %v", err)
		}
	}
	if _, err := gone.Sign(t.Context(), digest[:], devicekey.Authorisation{}); !errors.Is(err, devicekey.ErrNotFound) {
		t.Errorf("sign with deleted key: %v", err)
	}
	mustSign(t, kept, kept)
}

func refusals(t *testing.T, h Harness) {
	s := h.Open(t)
	k := create(t, s)
	if _, err := s.Open(t.Context(), devicekey.Ref{Kind: h.Kind, ID: "00000000-0000-4000-8000-000000000000"}); !errors.Is(err, devicekey.ErrNotFound) {
		t.Errorf("unknown key: %v", err)
	}
	foreign := devicekey.Ref{Kind: "elsewhere", ID: k.Ref().ID}
	if _, err := s.Open(t.Context(), foreign); err == nil {
		t.Error("opened a key of another back end")
	}
	if err := s.Delete(t.Context(), foreign); err == nil {
		t.Error("deleted a key of another back end")
	}
	for _, bad := range [][]byte{nil, digest[:31], append(digest[:], 0)} {
		if _, err := k.Sign(t.Context(), bad, devicekey.Authorisation{}); err == nil {
			t.Errorf("signed %d bytes as a digest", len(bad))
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Sign(ended, digest[:], devicekey.Authorisation{}); !errors.Is(err, context.Canceled) {
		t.Errorf("sign after cancel: %v", err)
	}
	if _, _, err := s.Create(ended, silent); !errors.Is(err, context.Canceled) {
		t.Errorf("create after cancel: %v", err)
	}
}

var (
	sesame = devicekey.Authorisation{Secret: devicekey.Secret("sesame")}
	poppy  = devicekey.Authorisation{Secret: devicekey.Secret("poppy\x00seed")} // bytes of any value
)

// guarded makes a key that demands a secret.
func guarded(t *testing.T, s devicekey.Store, auth devicekey.Authorisation) devicekey.Key {
	t.Helper()
	k, _, err := s.Create(t.Context(), devicekey.Spec{Role: okta.KeyUserVerificationBioOrPIN, UserVerification: true, Authorisation: auth})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustRefuse(t *testing.T, k devicekey.Key, auth devicekey.Authorisation) {
	t.Helper()
	if sig, err := k.Sign(t.Context(), digest[:], auth); !errors.Is(err, devicekey.ErrUnauthorised) || sig != nil {
		t.Errorf("signed %d bytes: %v", len(sig), err)
	}
}

func mustAccept(t *testing.T, k devicekey.Key, auth devicekey.Authorisation) {
	t.Helper()
	sig, err := k.Sign(t.Context(), digest[:], auth)
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Error("signature does not verify")
	}
}

// reopened is the key as a restarted agent finds it.
func reopened(t *testing.T, h Harness, k devicekey.Key) devicekey.Key {
	t.Helper()
	again, err := h.Open(t).Open(t.Context(), k.Ref())
	if err != nil {
		t.Fatal(err)
	}
	if !k.Public().(*ecdsa.PublicKey).Equal(again.Public()) {
		t.Error("another public key")
	}
	return again
}

// userVerification: a key that demands verification never signs without it, nor
// after a restart.
func userVerification(t *testing.T, h Harness) {
	s := h.Open(t)
	for name, spec := range map[string]devicekey.Spec{
		"no secret":         {Role: okta.KeyUserVerification, UserVerification: true},
		"silent and secret": {Role: okta.KeyProofOfPossession, Authorisation: sesame},
	} {
		if k, _, err := s.Create(t.Context(), spec); err == nil || k != nil {
			t.Errorf("%s: made a key", name)
		}
	}
	k := guarded(t, s, sesame)
	for _, key := range []devicekey.Key{k, reopened(t, h, k)} {
		mustRefuse(t, key, devicekey.Authorisation{})
		mustAccept(t, key, sesame)
	}
	mustRefuse(t, k, poppy)
	mustAccept(t, k, sesame)
	mustAccept(t, reopened(t, h, k), sesame)
	if h.Wrong != nil {
		h.Wrong(t, 1)
	}
}

// secretsAreApart: what opens one key opens no other, and a silent key is hurt
// by none of it.
func secretsAreApart(t *testing.T, h Harness) {
	s := h.Open(t)
	quiet, first, second := create(t, s), guarded(t, s, sesame), guarded(t, s, poppy)
	mustRefuse(t, second, sesame)
	for range 2 { // in turns
		mustAccept(t, first, sesame)
		mustSign(t, quiet, quiet)
		mustAccept(t, second, poppy)
	}
	if h.Wrong != nil {
		h.Wrong(t, 1)
	}
}

// reauthorise: what keys demand is changed for all of them or for none, and
// nothing else about them changes.
func reauthorise(t *testing.T, h Harness) {
	s := h.Open(t)
	first, second, quiet := guarded(t, s, sesame), guarded(t, s, sesame), create(t, s)
	refs := []devicekey.Ref{first.Ref(), second.Ref()}
	missing := devicekey.Ref{Kind: h.Kind, ID: "00000000-0000-4000-8000-000000000000"}
	for name, try := range map[string]struct {
		refs     []devicekey.Ref
		from, to devicekey.Authorisation
		want     error // nil: any
	}{
		"from nothing":     {refs, devicekey.Authorisation{}, poppy, devicekey.ErrUnauthorised},
		"to nothing":       {refs, sesame, devicekey.Authorisation{}, nil},
		"one is not there": {append([]devicekey.Ref{missing}, refs...), sesame, poppy, devicekey.ErrNotFound},
		"one is silent":    {append(refs[:2:2], quiet.Ref()), sesame, poppy, nil},
		"another kind":     {[]devicekey.Ref{refs[0], {Kind: "elsewhere", ID: refs[1].ID}}, sesame, poppy, nil},
		"from another":     {refs, poppy, sesame, devicekey.ErrUnauthorised}, // counted
	} {
		if err := s.Reauthorise(t.Context(), try.refs, try.from, try.to); err == nil || try.want != nil && !errors.Is(err, try.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Reauthorise(t.Context(), nil, devicekey.Authorisation{}, poppy); err != nil {
		t.Errorf("no keys: %v", err)
	}
	for _, k := range []devicekey.Key{first, second, reopened(t, h, first), reopened(t, h, second)} {
		mustAccept(t, k, sesame)
	}
	if err := s.Reauthorise(t.Context(), append(refs, refs[0]), sesame, poppy); err != nil {
		t.Fatal(err)
	}
	// The handles from before are of the same keys.
	for _, k := range []devicekey.Key{first, second, reopened(t, h, first), reopened(t, h, second)} {
		mustAccept(t, k, poppy)
	}
	mustRefuse(t, second, sesame)
	mustSign(t, quiet, quiet)
	if h.Wrong != nil {
		h.Wrong(t, 2)
	}
}

func concurrent(t *testing.T, h Harness) {
	s := h.Open(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			k, _, err := s.Create(t.Context(), silent)
			if err != nil {
				t.Error(err)
				return
			}
			for range 10 {
				if _, err := k.Sign(t.Context(), digest[:], devicekey.Authorisation{}); err != nil {
					t.Error(err)
				}
			}
			if err := s.Delete(t.Context(), k.Ref()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
