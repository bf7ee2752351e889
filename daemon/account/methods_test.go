package account

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/totp"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// names lists the methods of an account that can be used.
func names(a *Account) string {
	var list []string
	for _, m := range a.Methods {
		list = append(list, string(m.Type))
	}
	return strings.Join(list, " ")
}

func TestEnrolsWhatTheOrgOffers(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
	if err != nil || names(a) != "push signed_nonce totp" {
		t.Fatalf("%s, %v", names(a), err)
	}
	sent := org.posts[0].Methods
	if sent.Push.PushToken == nil || *sent.Push.PushToken != "" || !slices.Equal(sent.Push.Capabilities.TransactionTypes, []string{"LOGIN", "CIBA"}) {
		t.Errorf("push: %+v", sent.Push)
	}
	if sent.Push.Keys.ProofOfPossession.KeyID == sent.SignedNonce.Keys.ProofOfPossession.KeyID || sent.TOTP.Keys != nil {
		t.Error("methods share a key, or codes have one")
	}
	push, _ := a.Method(okta.MethodPush)
	if push.PendingURL != org.URL+okta.AppAuthenticatorsPath+"/"+a.EnrolmentID+"/push/notifications" || push.ID == "" {
		t.Errorf("%+v", push)
	}
	codes, _ := a.Method(okta.MethodTOTP)
	want := totp.Parameters{Seed: theSeed, Algorithm: totp.SHA1, Digits: 6, Period: 30}
	if codes.TOTP == nil || *codes.TOTP != want {
		t.Errorf("%+v", codes)
	}
	if s := fmt.Sprintf("%+v %#v %v", *a, *codes.TOTP, codes); strings.Contains(s, theSeed) {
		t.Errorf("the seed prints: %s", s)
	}
	m.settled(t, org)

	// It survives a restart.
	m.vault.Close()
	again := boot(t, m.vault.Dir())
	kept, err := again.Get(a.ID)
	if err != nil || names(kept) != names(a) || *kept.Methods[2].TOTP != want || kept.Methods[0].PendingURL != push.PendingURL {
		t.Fatalf("%+v, %v", kept, err)
	}
}

// What an org offers, and what it makes of the request, is its own choice.
func TestSomeMethods(t *testing.T) {
	drop := func(gone ...okta.Method) func(*okta.Enrolment) {
		return func(e *okta.Enrolment) {
			for _, m := range gone {
				delete(e.Methods, m)
			}
		}
	}
	offer := func(list ...okta.SupportedMethod) func(*okta.AuthenticatorConfiguration) {
		return func(c *okta.AuthenticatorConfiguration) { c.SupportedMethods = list }
	}
	active := func(m okta.Method, s okta.MethodSettings) okta.SupportedMethod {
		return okta.SupportedMethod{Type: m, Status: "ACTIVE", Settings: s}
	}
	seed := func(s okta.SharedSecret) func(*okta.Enrolment) {
		return func(e *okta.Enrolment) { e.Methods[okta.MethodTOTP] = okta.EnrolledMethod{ID: "opt", SharedSecret: s} }
	}
	plain := okta.MethodSettings{}
	for _, row := range []struct {
		name   string
		config func(*okta.AuthenticatorConfiguration)
		makes  func(*okta.Enrolment)
		want   string // "" for a refusal
		err    any
	}{
		{"a plain org: push only", offer(active(okta.MethodPush, plain)), nil, "push", nil},
		{"signed_nonce only", offer(active(okta.MethodSignedNonce, plain)), nil, "signed_nonce", nil},
		{"codes only", offer(active(okta.MethodTOTP, plain)), nil, "", ErrMethodNotOffered},
		{"unknown ones", offer(active("smell", plain), active(okta.MethodPush, plain)), nil, "push", nil},
		{"nothing", offer(), nil, "", ErrMethodNotOffered},
		{"twice", offer(active(okta.MethodPush, plain), active(okta.MethodPush, plain)), nil, "push", nil},
		{"one of them in hardware", offer(active(okta.MethodPush, okta.MethodSettings{KeyProtection: "HARDWARE"}), active(okta.MethodSignedNonce, plain)), nil, "signed_nonce", nil},
		{"one of them inactive", offer(okta.SupportedMethod{Type: okta.MethodPush, Status: "INACTIVE"}, active(okta.MethodSignedNonce, plain)), nil, "signed_nonce", nil},
		{"codes by another hash", offer(active(okta.MethodPush, plain), active(okta.MethodTOTP, okta.MethodSettings{HMAC: "HMACMD5"})), nil, "push", nil},
		{"codes in another encoding", offer(active(okta.MethodPush, plain), active(okta.MethodTOTP, okta.MethodSettings{Encoding: "Hex"})), nil, "push", nil},
		{"codes of three digits", offer(active(okta.MethodPush, plain), active(okta.MethodTOTP, okta.MethodSettings{PassCodeLength: 3})), nil, "push", nil},
		{"push left out", nil, drop(okta.MethodPush), "signed_nonce totp", nil},
		{"signed_nonce left out", nil, drop(okta.MethodSignedNonce), "push totp", nil},
		{"all that has keys left out", nil, drop(okta.MethodPush, okta.MethodSignedNonce), "", new(*client.UnexpectedAnswer)},
		{"no seed", nil, seed(""), "push signed_nonce", nil},
		{"a seed of three bytes", nil, seed("JBSWY"), "push signed_nonce", nil},
		{"a seed that is none", nil, seed("not base32!"), "push signed_nonce", nil},
		{"a padded seed in small letters", nil, seed("jbswy3dpehpk3pxpjbswy3dpehpk3pxp======"), "push signed_nonce totp", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
			org.config, org.makes = row.config, row.makes
			a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
			if row.want == "" {
				if target, ok := row.err.(error); ok && !errors.Is(err, target) || !ok && !errors.As(err, row.err) {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil || names(a) != row.want {
				t.Fatalf("%q, %v", names(a), err)
			}
			m.settled(t, org) // also: no key is left of a method that there is not
			if err := m.Remove(t.Context(), a.ID, false); err != nil || m.storedKeys(t) != 0 {
				t.Fatalf("%v, %d keys left", err, m.storedKeys(t))
			}
		})
	}
}

func TestCodeParameters(t *testing.T) {
	for _, row := range []struct {
		in   okta.MethodSettings
		want totp.Parameters // without a seed; zero for refused
	}{
		{okta.MethodSettings{}, totp.Parameters{Algorithm: totp.SHA1, Digits: 6, Period: 30}},
		{okta.MethodSettings{HMAC: "HMACSHA256", PassCodeLength: 8, TimeInterval: 60, Encoding: "base32"}, totp.Parameters{Algorithm: totp.SHA256, Digits: 8, Period: 60}},
		{okta.MethodSettings{HMAC: "hmacsha512"}, totp.Parameters{Algorithm: totp.SHA512, Digits: 6, Period: 30}},
		{okta.MethodSettings{TimeInterval: -1}, totp.Parameters{}},
		{okta.MethodSettings{TimeInterval: 1 << 30}, totp.Parameters{}},
		{okta.MethodSettings{PassCodeLength: 100}, totp.Parameters{}},
	} {
		got, ok := codeParameters(row.in)
		if ok != (row.want != totp.Parameters{}) || ok && got != row.want {
			t.Errorf("%+v: %+v, %v", row.in, got, ok)
		}
	}
}

// A book of before there were other methods than signed_nonce reads as it is.
func TestOlderBook(t *testing.T) {
	dir := t.TempDir() + "/state"
	m := boot(t, dir)
	old := map[string]any{"version": 1, "accounts": []any{map[string]any{
		"id": "abc", "name": "Work", "state": "active", "createdAt": time.Now(), "orgId": "00o", "orgUrl": "https://org.example.com",
		"clientId": ClientID, "authenticatorId": "aut", "enrolmentId": "pfd", "userId": "00u", "protection": "software",
		"device":  map[string]any{"id": "guo", "clientInstanceId": "cli", "key": map[string]any{"kind": "software", "id": "D"}},
		"methods": []any{map[string]any{"type": "signed_nonce", "id": "opf", "proofOfPossession": map[string]any{"kind": "software", "id": "K"}}},
	}}}
	if err := m.vault.Save(room, old); err != nil {
		t.Fatal(err)
	}
	b, err := Open(Options{Vault: m.vault, Keys: m.keys})
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Get("abc")
	if err != nil || names(a) != "signed_nonce" {
		t.Fatalf("%+v, %v", a, err)
	}
	if s, ok := a.signer(); !ok || s.ProofOfPossession != (devicekey.Ref{Kind: "software", ID: "K"}) {
		t.Fatalf("%+v", s)
	}
}
