package challenge

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/authenticators/verification/verificationtest"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

const rightPIN = "314159"

// uvWorld is a world in which the person can be verified: by a PIN, by a
// finger, and by a security key that is not set up.
type uvWorld struct {
	*world
	keys    *verificationtest.Keys
	rooms   *verificationtest.Rooms
	service *verification.Service
	finger  *verificationtest.Method
	shift   time.Duration // of the service's clock

	mu     sync.Mutex
	signed []string // ids of the keys that were asked to sign
}

// newUVWorld has one account, acc1, with a silent key and a key of each role,
// for both methods.
func newUVWorld(t *testing.T, org *oktatest.Org, roles ...okta.KeyType) *uvWorld {
	t.Helper()
	w := &uvWorld{finger: &verificationtest.Method{Name: verification.Fingerprint, Answer: verificationtest.Yes}}
	o := verificationtest.Options(w.finger)
	o.Now = func() time.Time { return time.Now().Add(w.shift) }
	w.keys, w.rooms = o.Keys.(*verificationtest.Keys), o.Rooms.(*verificationtest.Rooms)
	var err error
	if w.service, err = verification.Open(o); err != nil {
		t.Fatal(err)
	}
	if err := w.service.SetPIN(t.Context(), devicekey.Secret(rightPIN), nil); err != nil {
		t.Fatal(err)
	}
	if err := w.service.Enable(t.Context(), verification.Fingerprint); err != nil {
		t.Fatal(err)
	}
	w.world = newWorld(t, org, w.account(t, org, "acc1", roles...))
	w.wire()
	return w
}

// wire puts the service and the keys into the pipeline.
func (w *uvWorld) wire() {
	w.Pipeline.Keys, w.Pipeline.Verification = w.keys, w.service
	w.signed = nil
	w.fails(nil)
}

// account makes an account and its keys.
func (w *uvWorld) account(t *testing.T, org *oktatest.Org, id string, roles ...okta.KeyType) *account.Account {
	t.Helper()
	a := pushAccount(org, id, okta.TransactionLogin, okta.TransactionCIBA)
	for i := range a.Methods {
		m := &a.Methods[i]
		m.ProofOfPossession = w.key(t, devicekey.Spec{Role: okta.KeyProofOfPossession})
		for _, role := range roles {
			method := verification.PIN
			if role == okta.KeyUserVerification {
				method = verification.Fingerprint
			}
			v := w.verified(t, "make a key", method)
			auth, ok := v.Authorise(role)
			if !ok {
				t.Fatalf("no secret for %s", role)
			}
			ref := w.key(t, devicekey.Spec{Role: role, UserVerification: true, Authorisation: auth})
			if role == okta.KeyUserVerification {
				m.UserVerification = &ref
			} else {
				m.UserVerificationBioOrPIN = &ref
			}
		}
	}
	return a
}

func (w *uvWorld) key(t *testing.T, spec devicekey.Spec) devicekey.Ref {
	t.Helper()
	k, _, err := w.keys.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return k.Ref()
}

// verified is a genuine verification for that purpose.
func (w *uvWorld) verified(t *testing.T, purpose string, method verification.Method) verification.Verified {
	t.Helper()
	v, err := w.service.Verify(t.Context(), verification.Request{Purpose: purpose, Method: method, PIN: devicekey.Secret(rightPIN)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// approvesVerified is the person who approves and shows that it is them.
func (w *uvWorld) approvesVerified(t *testing.T, method verification.Method) {
	w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
		return prompt.Answer{Prompt: "p1", Verdict: prompt.Approved, Account: p.Account, Verification: w.verified(t, "p1", method)}, nil
	}
}

// fails makes uses of keys fail as fail says, after counting signatures.
func (w *uvWorld) fails(fail func(operation, id string) error) {
	w.keys.Fail = func(operation, id string) error {
		if fail != nil {
			if err := fail(operation, id); err != nil {
				return err
			}
		}
		if operation == "sign" {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.signed = append(w.signed, id)
		}
		return nil
	}
}

// verifying are the refs of acc1 for a method that demand verification.
func (w *uvWorld) verifying(t *testing.T, method okta.Method) map[string]okta.KeyType {
	t.Helper()
	a, err := w.book.Get("acc1")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := a.Method(method)
	list := map[string]okta.KeyType{}
	for _, role := range uvRoles {
		if ref, ok := uvKey(m, role); ok {
			list[ref.ID] = role
		}
	}
	return list
}

// answer decodes what the org got last, verified with the key that it names,
// and says what role that key has for acc1.
func (w *uvWorld) answer(t *testing.T, method okta.Method) (okta.Answer, okta.KeyType) {
	t.Helper()
	all := w.org.Answers()
	if len(all) == 0 {
		t.Fatal("the org got no answer")
	}
	token, err := jose.Parse(all[len(all)-1].ChallengeResponse, jose.Answer)
	if err != nil {
		t.Fatal(err)
	}
	w.keys.Fail = nil
	key, err := w.keys.Open(t.Context(), devicekey.Ref{Kind: devicekey.KindSoftware, ID: token.Header.KeyID})
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jose.NewJWK(key.Ref().ID, key.Public(), key.Protection())
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Verify(jwk); err != nil {
		t.Fatal(err)
	}
	var a okta.Answer
	if err := token.Claims(&a); err != nil {
		t.Fatal(err)
	}
	role, ok := w.verifying(t, method)[token.Header.KeyID]
	if !ok {
		role = okta.KeyProofOfPossession
	}
	return a, role
}

// send brings a challenge by the method's transport.
func (w *uvWorld) send(t *testing.T, method okta.Method, mod func(*okta.Challenge)) Result {
	t.Helper()
	if method == okta.MethodPush {
		return w.pushed(t, w.org.PushChallenge("pfd-acc1", mod))
	}
	return w.receive(t, w.org.Challenge(mod))
}

// storeSays is how a key store refuses for a reason that has a name.
func storeSays(state string) error {
	return &devicekey.StateError{State: devicekey.State{Kind: devicekey.KindTPM, State: state}, Err: errors.New("as the test wants it")}
}
