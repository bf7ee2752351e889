package device_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

const orgURL = "http://localhost:8080"

// house is an org with two users.
type house struct {
	*device.Registry
	t          testing.TB
	db         *store.DB
	info       directory.OrgInfo
	alice, bob directory.User

	mu  sync.Mutex
	now time.Time // guarded by mu
}

func newHouse(t testing.TB) *house {
	h := &house{t: t, db: storetest.Open(t), now: time.Now().Truncate(time.Millisecond).UTC()}
	h.Registry = device.NewRegistry(h.db, orgURL, h.clock)
	ctx := t.Context()
	storetest.Write(t, h.db, func(tx store.Tx) (err error) {
		if h.info, err = directory.EnsureOrg(ctx, tx, h.now); err != nil {
			return err
		}
		if h.alice, err = directory.CreateUser(ctx, tx, directory.User{Login: "alice@example.com"}, h.now); err != nil {
			return err
		}
		h.bob, err = directory.CreateUser(ctx, tx, directory.User{Login: "bob@example.com"}, h.now)
		return err
	})
	return h
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func (h *house) request(a devicetest.Agent) okta.EnrolmentRequest {
	return a.Request(h.info.Authenticators.OktaVerify)
}

func (h *house) enrol(a devicetest.Agent, user directory.User) device.Enrolment {
	h.t.Helper()
	e, err := h.Create(h.t.Context(), device.ByUser(user.ID), h.request(a))
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

func (h *house) link(user directory.User) device.Link {
	h.t.Helper()
	var l device.Link
	storetest.Write(h.t, h.db, func(tx store.Tx) (err error) {
		l, err = device.IssueLink(h.t.Context(), tx, user.ID, h.clock())
		return err
	})
	return l
}

func (h *house) attestation(a devicetest.Agent, e device.Enrolment) devicetest.Claims {
	return devicetest.NewClaims(e.Device.ClientInstanceID, e.Device.ID, orgURL, h.clock())
}

// code is the okta code of an error, or "" for none.
func code(err error) okta.ErrorCode {
	var e *okta.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return okta.ErrorCode("not an okta error: " + err.Error())
	}
	return ""
}

func (h *house) wantCode(what string, err error, want okta.ErrorCode) {
	h.t.Helper()
	if got := code(err); got != want {
		h.t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

func TestCreate(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	req := h.request(a)
	req.Methods.SignedNonce.Keys.UserVerificationBioOrPIN = a.UV.Raw(t)
	req.Methods.SignedNonce.Keys.UserVerification = json.RawMessage("null")
	req.Methods.Push.Keys.Capabilities = &okta.Capabilities{TransactionTypes: []string{"CIBA"}}
	e, err := h.Create(t.Context(), device.ByUser(h.alice.ID), req)
	if err != nil {
		t.Fatal(err)
	}
	if e.UserID != h.alice.ID || !e.Active() || e.Device.Profile.DisplayName != "workshop" || e.Device.ClientInstanceKey.KeyID != a.Client.JWK.KeyID {
		t.Errorf("enrolment %+v", e)
	}
	nonce, ok := e.Method(okta.MethodSignedNonce)
	if !ok || len(nonce.Keys) != 2 {
		t.Fatalf("signed_nonce %+v", nonce)
	}
	uv, ok := nonce.Key(okta.KeyUserVerificationBioOrPIN)
	if !ok || uv.JWK != a.UV.JWK || uv.Attested || uv.Protection != jose.ProtectionSoftware {
		t.Errorf("user verification key %+v", uv)
	}
	push, _ := e.Method(okta.MethodPush)
	if got := strings.Join(push.TransactionTypes, " "); got != "LOGIN CIBA" {
		t.Errorf("transaction types %q", got)
	}
	if _, ok := e.Method(okta.MethodTOTP); ok {
		t.Error("a method that nobody asked for")
	}
	storetest.Read(t, h.db, func(tx store.Tx) error {
		list, err := device.OfUser(t.Context(), tx, h.alice.ID)
		if len(list) != 1 || list[0].ID != e.ID || len(list[0].Methods) != 2 {
			t.Errorf("of user: %+v", list)
		}
		return err
	})
}

func TestCreateIsIdempotent(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	first := h.enrol(a, h.alice)
	// The answer got lost, the agent asks again, as itself or a little changed.
	again := h.request(a)
	again.Device.DisplayName = "renamed meanwhile"
	second, err := h.Create(t.Context(), device.ByUser(h.alice.ID), again)
	if err != nil || second.ID != first.ID || second.Device.ID != first.Device.ID || second.Device.Profile.DisplayName != "workshop" {
		t.Fatalf("%+v, %v", second, err)
	}
	// A known device repeats itself with an attestation that was used up.
	b := devicetest.New(t)
	b.Client = a.Client
	req := b.OnDevice(h.request(b), first.Device.ID, first.Device.ClientInstanceID, b.Client.Sign(t, "JWT", h.attestation(b, first)))
	third, err := h.Create(t.Context(), device.ByUser(h.alice.ID), req)
	if err != nil || third.ID == first.ID || third.Device.ID != first.Device.ID {
		t.Fatalf("second enrolment on the device: %+v, %v", third, err)
	}
	fourth, err := h.Create(t.Context(), device.ByUser(h.alice.ID), req)
	if err != nil || fourth.ID != third.ID {
		t.Fatalf("repeated: %+v, %v", fourth, err)
	}
}

// E7: TOCTOU on one-time tokens. However many devices redeem one link at the
// same moment, one is enrolled.
func TestLinkServesOneDevice(t *testing.T) {
	h := newHouse(t)
	l := h.link(h.alice)
	const devices = 100
	agents := make([]devicetest.Agent, devices)
	for i := range agents {
		agents[i] = devicetest.New(t)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		won   []device.Enrolment
		start = make(chan struct{})
	)
	for _, a := range agents {
		wg.Go(func() {
			<-start
			e, err := h.Create(t.Context(), device.ByLink(l.Token), h.request(a))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, e)
			} else if code(err) != okta.CodeInvalidToken {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d devices enrolled with one link", len(won))
	}
	storetest.Read(t, h.db, func(tx store.Tx) error {
		list, err := device.OfUser(t.Context(), tx, h.alice.ID)
		if len(list) != 1 {
			t.Errorf("%d enrolments", len(list))
		}
		return err
	})
}

// An agent that died between redeeming and hearing the answer asks again, from
// several threads at that: the same enrolment, once.
func TestLinkSurvivesACrash(t *testing.T) {
	h := newHouse(t)
	l, a := h.link(h.alice), devicetest.New(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range 20 {
		wg.Go(func() {
			e, err := h.Create(t.Context(), device.ByLink(l.Token), h.request(a))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[e.ID] = true
		})
	}
	wg.Wait()
	if len(seen) != 1 {
		t.Fatalf("%d enrolments", len(seen))
	}
	h.pass(24 * time.Hour) // the link is long past, but it was used in time
	e, err := h.Create(t.Context(), device.ByLink(l.Token), h.request(a))
	if err != nil || !seen[e.ID] {
		t.Fatalf("a day later: %v", err)
	}
	_, err = h.Create(t.Context(), device.ByLink(l.Token), h.request(devicetest.New(t)))
	h.wantCode("another key", err, okta.CodeInvalidToken)
	if err := h.Delete(t.Context(), device.AsUser(h.alice.ID), e.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.Create(t.Context(), device.ByLink(l.Token), h.request(a))
	h.wantCode("after deletion", err, okta.CodeEnrolmentDeleted)
}

// E6: a stolen or guessed link.
func TestLinkRefused(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	for _, c := range []struct {
		name   string
		token  okta.Secret
		before func()
		want   okta.ErrorCode
	}{
		{"unknown", "nobody-issued-this", nil, okta.CodeInvalidToken},
		{"empty", "", nil, okta.CodeInvalidToken},
		{"expired", h.link(h.alice).Token, func() { h.pass(device.LinkLifetime) }, okta.CodeInvalidToken},
		{"suspended user", h.link(h.bob).Token, func() {
			storetest.Write(t, h.db, func(tx store.Tx) error {
				return directory.SetUserStatus(t.Context(), tx, h.bob.ID, directory.StatusSuspended, h.clock())
			})
		}, okta.CodeInvalidToken}, // expired by now as well; see below
	} {
		if c.before != nil {
			c.before()
		}
		_, err := h.Create(t.Context(), device.ByLink(c.token), h.request(a))
		h.wantCode(c.name, err, c.want)
	}
	_, err := h.Create(t.Context(), device.ByLink(h.link(h.bob).Token), h.request(a))
	h.wantCode("suspended user", err, okta.CodeUserSuspended)
	_, err = h.Create(t.Context(), device.Authority{}, h.request(a))
	h.wantCode("no authority", err, okta.CodeInvalidToken)
	_, err = h.Create(t.Context(), device.ByUser("00unobody"), h.request(a))
	h.wantCode("user who does not exist", err, okta.CodeUserDeleted)
}

// The request that is refused uses up nothing.
func TestRefusedRequestKeepsTheLink(t *testing.T) {
	h := newHouse(t)
	l, a := h.link(h.alice), devicetest.New(t)
	bad := h.request(a)
	bad.AuthenticatorID = "autother"
	_, err := h.Create(t.Context(), device.ByLink(l.Token), bad)
	h.wantCode("wrong authenticator", err, okta.CodeValidation)
	if _, err := h.Create(t.Context(), device.ByLink(l.Token), h.request(a)); err != nil {
		t.Fatal(err)
	}
}

func TestKnownDevice(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e := h.enrol(a, h.alice)
	good := h.attestation(a, e)
	other := devicetest.NewKey(t)
	lying := other
	lying.JWK.KeyID = a.Client.JWK.KeyID
	old := h.clock().Add(-time.Hour)
	for _, c := range []struct {
		name                 string
		token                string
		deviceID, instanceID string
	}{
		{"none", "", e.Device.ID, e.Device.ClientInstanceID},
		{"garbage", "a.b.c", e.Device.ID, e.Device.ClientInstanceID},
		{"another key", other.Sign(t, "JWT", good), e.Device.ID, e.Device.ClientInstanceID},
		{"another key under the same kid", lying.Sign(t, "JWT", good), e.Device.ID, e.Device.ClientInstanceID},
		{"wrong typ", a.Client.Sign(t, okta.TypeEnrolmentUpdate, good), e.Device.ID, e.Device.ClientInstanceID},
		{"wrong iss", a.Client.Sign(t, "JWT", good.With("iss", "cliother")), e.Device.ID, e.Device.ClientInstanceID},
		{"wrong sub", a.Client.Sign(t, "JWT", good.With("sub", "guoother")), e.Device.ID, e.Device.ClientInstanceID},
		{"wrong aud", a.Client.Sign(t, "JWT", good.With("aud", "https://other.example")), e.Device.ID, e.Device.ClientInstanceID},
		{"no aud", a.Client.Sign(t, "JWT", good.With("aud", nil)), e.Device.ID, e.Device.ClientInstanceID},
		{"no jti", a.Client.Sign(t, "JWT", good.With("jti", nil)), e.Device.ID, e.Device.ClientInstanceID},
		{"no exp", a.Client.Sign(t, "JWT", good.With("exp", nil)), e.Device.ID, e.Device.ClientInstanceID},
		{"lives long", a.Client.Sign(t, "JWT", good.With("exp", h.clock().Add(time.Hour).Unix())), e.Device.ID, e.Device.ClientInstanceID},
		{"expired", a.Client.Sign(t, "JWT", devicetest.NewClaims(e.Device.ClientInstanceID, e.Device.ID, orgURL, old)), e.Device.ID, e.Device.ClientInstanceID},
		{"from the future", a.Client.Sign(t, "JWT", devicetest.NewClaims(e.Device.ClientInstanceID, e.Device.ID, orgURL, h.clock().Add(time.Hour))), e.Device.ID, e.Device.ClientInstanceID},
		{"unknown device", a.Client.Sign(t, "JWT", good), "guounknown", e.Device.ClientInstanceID},
		{"other client instance", a.Client.Sign(t, "JWT", good), e.Device.ID, "cliother"},
		{"no device id", a.Client.Sign(t, "JWT", good), "", e.Device.ClientInstanceID},
	} {
		n := devicetest.New(t)
		_, err := h.Create(t.Context(), device.ByUser(h.bob.ID), n.OnDevice(h.request(n), c.deviceID, c.instanceID, c.token))
		h.wantCode(c.name, err, okta.CodeInvalidToken)
	}
	// A new key beside the ids does not take the device over.
	n := devicetest.New(t)
	req := n.OnDevice(h.request(n), e.Device.ID, e.Device.ClientInstanceID, "")
	req.Device.ClientInstanceKey = &n.Client.JWK
	_, err := h.Create(t.Context(), device.ByUser(h.bob.ID), req)
	h.wantCode("re-key without proof", err, okta.CodeInvalidToken)

	// One attestation, two enrolments at once: one of them.
	token := a.Client.Sign(t, "", good)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 20 {
		n := devicetest.New(t)
		wg.Go(func() {
			_, err := h.Create(t.Context(), device.ByUser(h.bob.ID), n.OnDevice(h.request(n), e.Device.ID, e.Device.ClientInstanceID, token))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else {
				h.wantCode("replayed attestation", err, okta.CodeInvalidToken)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d enrolments from one attestation", won)
	}

	for status, want := range map[string]okta.ErrorCode{
		device.StatusSuspended: okta.CodeDeviceSuspended, device.StatusDeactivated: okta.CodeDeviceSuspended,
	} {
		h.setDevice(e.Device.ID, status)
		n := devicetest.New(t)
		_, err := h.Create(t.Context(), device.ByUser(h.bob.ID), n.OnDevice(h.request(n), e.Device.ID, e.Device.ClientInstanceID, a.Client.Sign(t, "JWT", h.attestation(a, e))))
		h.wantCode(status, err, want)
	}
	h.setDevice(e.Device.ID, device.StatusDeleted)
	n = devicetest.New(t)
	_, err = h.Create(t.Context(), device.ByUser(h.bob.ID), n.OnDevice(h.request(n), e.Device.ID, e.Device.ClientInstanceID, a.Client.Sign(t, "JWT", h.attestation(a, e))))
	h.wantCode("deleted device", err, okta.CodeDeviceDeleted)
	_, err = h.Create(t.Context(), device.ByUser(h.bob.ID), n.OnDevice(h.request(n), e.Device.ID, e.Device.ClientInstanceID, other.Sign(t, "JWT", good)))
	h.wantCode("deleted device, by a stranger", err, okta.CodeInvalidToken)
}

func (h *house) setDevice(id, status string) {
	h.t.Helper()
	storetest.Write(h.t, h.db, func(tx store.Tx) error { return device.SetDeviceStatus(h.t.Context(), tx, id, status, h.clock()) })
}

func TestOneKeyOneEnrolment(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e := h.enrol(a, h.alice)
	_, err := h.Create(t.Context(), device.ByUser(h.bob.ID), h.request(a))
	h.wantCode("another user's key", err, okta.CodeValidation)
	b := devicetest.New(t)
	req := h.request(b)
	req.Methods.SignedNonce.Keys.UserVerification = a.PoP.Raw(t)
	_, err = h.Create(t.Context(), device.ByUser(h.bob.ID), req)
	h.wantCode("another user's key in another role", err, okta.CodeValidation)
	// A key is free again when nothing answers to it any more.
	if err := h.Delete(t.Context(), device.AsUser(h.alice.ID), e.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Create(t.Context(), device.ByUser(h.bob.ID), h.request(a)); err != nil {
		t.Error(err)
	}
}

func TestCreateValidation(t *testing.T) {
	h := newHouse(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name   string
		change func(a devicetest.Agent, r *okta.EnrolmentRequest)
	}{
		{"no authenticator", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.AuthenticatorID = "" }},
		{"password authenticator", func(_ devicetest.Agent, r *okta.EnrolmentRequest) {
			r.AuthenticatorID = h.info.Authenticators.Password
		}},
		{"platform", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Device.Platform = "TOASTER" }},
		{"no name", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Device.DisplayName = "" }},
		{"long name", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Device.DisplayName = long }},
		{"name that reorders text", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Device.DisplayName = "a\u202eb" }},
		{"name with a line break", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Device.DisplayName = "a\nb" }},
		{"no bundle", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Device.BundleID = "" }},
		{"no client instance key", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Device.ClientInstanceKey = nil }},
		{"no methods", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Methods = okta.MethodRequests{} }},
		{"codes alone", func(_ devicetest.Agent, r *okta.EnrolmentRequest) {
			r.Methods = okta.MethodRequests{TOTP: &okta.MethodRequest{}}
		}},
		{"codes with a key", func(_ devicetest.Agent, r *okta.EnrolmentRequest) {
			r.Methods.TOTP = &okta.MethodRequest{Keys: r.Methods.Push.Keys}
		}},
		{"codes with a push token", func(_ devicetest.Agent, r *okta.EnrolmentRequest) {
			r.Methods.TOTP = &okta.MethodRequest{PushToken: new(string)}
		}},
		{"codes with capabilities", func(_ devicetest.Agent, r *okta.EnrolmentRequest) {
			r.Methods.TOTP = &okta.MethodRequest{Capabilities: &okta.Capabilities{}}
		}},
		{"no keys", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Methods.Push.Keys = nil }},
		{"no proof of possession", func(_ devicetest.Agent, r *okta.EnrolmentRequest) { r.Methods.Push.Keys.ProofOfPossession = nil }},
		// C3: a silent key that counts as user verification.
		{"one key in two roles", func(a devicetest.Agent, r *okta.EnrolmentRequest) {
			r.Methods.Push.Keys.UserVerification = a.PoP.Raw(t)
		}},
		{"the device's key as one that verifies", func(a devicetest.Agent, r *okta.EnrolmentRequest) {
			r.Methods.Push.Keys.UserVerificationBioOrPIN = a.Client.Raw(t)
		}},
		{"one key in two roles of two methods", func(a devicetest.Agent, r *okta.EnrolmentRequest) {
			r.Methods.Push.Keys.UserVerificationBioOrPIN = a.UV.Raw(t)
			r.Methods.SignedNonce.Keys.UserVerification = a.UV.Raw(t)
		}},
		{"one kid for two keys", func(a devicetest.Agent, r *okta.EnrolmentRequest) {
			uv := a.UV
			uv.JWK.KeyID = a.PoP.JWK.KeyID
			r.Methods.Push.Keys.UserVerification = uv.Raw(t)
		}},
		{"not a JWK", func(_ devicetest.Agent, r *okta.EnrolmentRequest) {
			r.Methods.Push.Keys.UserVerification = json.RawMessage(`"x"`)
		}},
		{"no kid", change(func(k *jose.JWK) { k.KeyID = "" })},
		{"long kid", change(func(k *jose.JWK) { k.KeyID = long })},
		{"no okta:kpr", change(func(k *jose.JWK) { k.KPR = "" })},
		{"wrong alg", change(func(k *jose.JWK) { k.Algorithm = "RS256" })},
		{"alg none", change(func(k *jose.JWK) { k.Algorithm = "none" })},
		{"encryption key", change(func(k *jose.JWK) { k.Use = "enc" })},
		{"off the curve", change(func(k *jose.JWK) { k.Y = k.X })},
		{"another curve", change(func(k *jose.JWK) { k.Curve = "P-384" })},
		{"symmetric", change(func(k *jose.JWK) { *k = jose.JWK{KeyType: "oct", KeyID: "x", KPR: jose.ProtectionSoftware} })},
		{"weak RSA", change(func(k *jose.JWK) {
			n, _ := json.Marshal(weak.N.Bytes())
			*k = jose.JWK{KeyType: "RSA", N: strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(strings.Trim(string(n), `"`)), "="),
				E: "AQAB", KeyID: "x", KPR: jose.ProtectionSoftware}
		})},
		{"transaction type", func(_ devicetest.Agent, r *okta.EnrolmentRequest) {
			r.Methods.Push.Capabilities = &okta.Capabilities{TransactionTypes: []string{"WIRE"}}
		}},
		{"long push token", func(_ devicetest.Agent, r *okta.EnrolmentRequest) {
			s := strings.Repeat("a", 5000)
			r.Methods.Push.PushToken = &s
		}},
	} {
		a := devicetest.New(t)
		req := h.request(a)
		c.change(a, &req)
		_, err := h.Create(t.Context(), device.ByUser(h.alice.ID), req)
		h.wantCode(c.name, err, okta.CodeValidation)
	}
	storetest.Read(t, h.db, func(tx store.Tx) error {
		list, err := device.OfUser(t.Context(), tx, h.alice.ID)
		if len(list) != 0 {
			t.Errorf("%d enrolments came of refused requests", len(list))
		}
		return err
	})
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a := devicetest.New(t)
	a.PoP = devicetest.KeyOf(t, strong)
	h.enrol(a, h.alice)
}

// change makes a request bad by its proof-of-possession key.
func change(f func(*jose.JWK)) func(devicetest.Agent, *okta.EnrolmentRequest) {
	return func(a devicetest.Agent, r *okta.EnrolmentRequest) {
		k := a.PoP.JWK
		f(&k)
		r.Methods.SignedNonce.Keys.ProofOfPossession = &k
	}
}
