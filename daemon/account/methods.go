package account

import (
	"context"
	"slices"
	"strings"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/totp"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
)

// methodOrder is the order in which methods are enrolled and listed.
var methodOrder = [...]okta.Method{okta.MethodPush, okta.MethodSignedNonce, okta.MethodTOTP}

// keyProtectionHardware is what an org says that takes no other keys.
const keyProtectionHardware = "HARDWARE"

// offered lists the methods that the org offers and this build can do. Without
// one that has a key there is nothing to sign with, and so no enrolment: a code
// alone proves no device. inHardware says where new keys are made.
func offered(c okta.AuthenticatorConfiguration, inHardware bool) ([]okta.SupportedMethod, error) {
	var list []okta.SupportedMethod
	keyed, hardware := false, false
	for _, name := range methodOrder {
		for _, m := range c.SupportedMethods {
			if m.Type != name || m.Status != "ACTIVE" {
				continue
			}
			if name == okta.MethodTOTP {
				if _, ok := codeParameters(m.Settings); ok {
					list = append(list, m)
				}
				break
			}
			if len(m.Settings.Algorithms) > 0 && !slices.Contains(m.Settings.Algorithms, string(jose.ES256)) {
				break
			}
			if m.Settings.KeyProtection == keyProtectionHardware && !inHardware {
				hardware = true
				break
			}
			list, keyed = append(list, m), true
			break
		}
	}
	switch {
	case keyed:
		return list, nil
	case hardware:
		return nil, ErrHardwareRequired
	}
	return nil, ErrMethodNotOffered
}

// codeParameters reads how an org makes its codes; the seed comes later. What
// it does not say is what every org does.
func codeParameters(s okta.MethodSettings) (totp.Parameters, bool) {
	p := totp.Parameters{Algorithm: totp.SHA1, Digits: 6, Period: 30}
	switch strings.ToUpper(s.HMAC) {
	case "", "HMACSHA1":
	case "HMACSHA256":
		p.Algorithm = totp.SHA256
	case "HMACSHA512":
		p.Algorithm = totp.SHA512
	default:
		return p, false
	}
	if s.Encoding != "" && !strings.EqualFold(s.Encoding, "Base32") {
		return p, false
	}
	if s.PassCodeLength != 0 {
		p.Digits = s.PassCodeLength
	}
	if s.TimeInterval != 0 {
		p.Period = s.TimeInterval
	}
	trial := p
	trial.Seed = "AAAAAAAAAAAAAAAAAAAAAAAAAA"
	return p, trial.Check() == nil
}

// transactions are what a push method is ready to show: sign-ins always, and
// requests by other channels (CIBA) where the org has them.
func transactions(s okta.MethodSettings) []string {
	list := []string{okta.TransactionLogin}
	if slices.Contains(s.TransactionTypes, okta.TransactionCIBA) {
		list = append(list, okta.TransactionCIBA)
	}
	return list
}

// request returns the place of a method in a request.
func request(r *okta.MethodRequests, m okta.Method) **okta.MethodRequest {
	switch m {
	case okta.MethodPush:
		return &r.Push
	case okta.MethodSignedNonce:
		return &r.SignedNonce
	}
	return &r.TOTP
}

// makeMethods makes what each method needs, each key written down before the
// next, and returns what the org is told of them. Keys that demand verification
// are made for the roles that the person was verified for.
func (b *Book) makeMethods(ctx context.Context, a *Account, list []okta.SupportedMethod, by verified) (*Account, okta.MethodRequests, error) {
	var requests okta.MethodRequests
	for _, m := range list {
		method, told := Method{Type: m.Type}, &okta.MethodRequest{}
		protected := ""
		if m.Type == okta.MethodTOTP {
			p, _ := codeParameters(m.Settings)
			method.TOTP = &p
		} else {
			k, jwk, err := b.newKey(ctx, "", devicekey.Spec{Role: okta.KeyProofOfPossession})
			if err != nil {
				return a, requests, err
			}
			method.ProofOfPossession, protected = k.Ref(), protection(k.Protection())
			told.Keys = &okta.MethodKeys{ProofOfPossession: &jwk}
		}
		if m.Type == okta.MethodPush {
			method.Transactions = transactions(m.Settings)
			none := "" // the agent is not reached by a push service: it asks
			told.PushToken, told.Capabilities = &none, &okta.Capabilities{TransactionTypes: method.Transactions}
		}
		changed, err := b.update(a.ID, func(a *Account) {
			a.Methods = append(a.Methods, method)
			if protected != "" {
				a.Protection = protected
			}
		})
		if err != nil {
			return a, requests, err
		}
		a = changed
		*request(&requests, m.Type) = told
		b.step("method " + string(m.Type))
		if !method.keyed() {
			continue
		}
		if m.Settings.KeyProtection == keyProtectionHardware && protected != protection(jose.ProtectionHardware) {
			return a, requests, ErrHardwareRequired
		}
		for _, role := range verifyingRoles {
			auth, ok := by.authorise(role)
			if !ok {
				continue
			}
			k, jwk, err := b.newKey(ctx, "", devicekey.Spec{Role: role, UserVerification: true, Authorisation: auth})
			if err != nil {
				return a, requests, err
			}
			if a, err = b.update(a.ID, func(a *Account) { a.Methods[len(a.Methods)-1].setKey(role, k.Ref()) }); err != nil {
				return nil, requests, err
			}
			if err := tell(told.Keys, role, jwk); err != nil {
				return a, requests, err
			}
			b.step("method " + string(m.Type) + " " + string(role))
		}
	}
	return a, requests, nil
}

// enrolled compares what was asked for with what the org made of it: the
// methods that exist now, and the keys of those that do not. An org may leave
// methods out, as long as one is left that has a key.
func enrolled(a *Account, e okta.Enrolment) (kept []Method, unused []devicekey.Ref, err error) {
	keyed := false
	for _, m := range a.Methods {
		got, ok := e.Methods[m.Type]
		if m.ID = got.ID; !ok || !okIDs(m.ID) || !m.complete(got) {
			unused = append(unused, m.refs()...)
			continue
		}
		if l, ok := got.Links["pending"]; ok && m.Type == okta.MethodPush && a.OwnsURL(l.Href) && len(l.Href) <= maxURL {
			m.PendingURL = a.atHome(l.Href)
		}
		kept, keyed = append(kept, m), keyed || m.keyed()
	}
	if !keyed {
		return nil, nil, &client.UnexpectedAnswer{Host: a.OrgURL, Status: 200, Kind: client.KindIncomplete, Detail: "enrolment without a method that has a key"}
	}
	return kept, unused, nil
}

const maxURL = 2048 // bytes of a link that is kept

// complete adds what only the org's answer has; false means that the method
// cannot be used.
func (m *Method) complete(got okta.EnrolledMethod) bool {
	if m.TOTP == nil {
		return m.keyed()
	}
	p := *m.TOTP // shared with the account of before
	p.Seed = totp.Seed(strings.ToUpper(strings.TrimRight(got.SharedSecret.Reveal(), "=")))
	m.TOTP = &p
	return p.Check() == nil
}

// keyed says whether the method has a key to sign with.
func (m Method) keyed() bool { return m.ProofOfPossession.ID != "" }

// signer is the method whose key speaks for the whole enrolment: the first
// enrolled one that has a key, push before signed_nonce.
func (a *Account) signer() (Method, bool) {
	for _, name := range methodOrder {
		if m, ok := a.Method(name); ok && m.keyed() {
			return m, true
		}
	}
	return Method{}, false
}
