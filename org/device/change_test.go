package device_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
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

func patch(t testing.TB, body string) device.Patch {
	t.Helper()
	var p device.Patch
	if err := jose.DecodeStrict([]byte(body), &p, 1<<16); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return p
}

// Absent leaves, null deletes, a value replaces.
func TestMergePatch(t *testing.T) {
	uv := devicetest.NewKey(t)
	for _, c := range []struct {
		name, body string
		want       string // push: token, transaction types, whose user verification key
	}{
		{"nothing", `{}`, "tok LOGIN,CIBA uv"},
		{"no methods", `{"methods":{}}`, "tok LOGIN,CIBA uv"},
		{"empty method", `{"methods":{"push":{}}}`, "tok LOGIN,CIBA uv"},
		{"token", `{"methods":{"push":{"pushToken":"new"}}}`, "new LOGIN,CIBA uv"},
		{"token null", `{"methods":{"push":{"pushToken":null}}}`, " LOGIN,CIBA uv"},
		{"key null", `{"methods":{"push":{"keys":{"userVerification":null}}}}`, "tok LOGIN,CIBA -"},
		{"the same key", `{"methods":{"push":{"keys":{"userVerification":` + string(uv.Raw(t)) + `}}}}`, "tok LOGIN,CIBA uv"},
		{"other key null", `{"methods":{"push":{"keys":{"userVerificationBioOrPin":null}}}}`, "tok LOGIN,CIBA uv"},
		{"no keys", `{"methods":{"push":{"keys":{}}}}`, "tok LOGIN,CIBA uv"},
		{"types", `{"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN"]}}}}`, "tok LOGIN uv"},
		{"types null", `{"methods":{"push":{"capabilities":{"transactionTypes":null}}}}`, "tok LOGIN uv"},
		{"capabilities null", `{"methods":{"push":{"capabilities":null}}}`, "tok LOGIN uv"},
		{"capabilities empty", `{"methods":{"push":{"capabilities":{}}}}`, "tok LOGIN,CIBA uv"},
		{"types under keys", `{"methods":{"push":{"keys":{"capabilities":{"transactionTypes":["LOGIN"]}}}}}`, "tok LOGIN uv"},
		{"types null under keys", `{"methods":{"push":{"keys":{"capabilities":{"transactionTypes":null}}}}}`, "tok LOGIN uv"},
		{"types in both places", `{"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN"]},"keys":{"capabilities":{"transactionTypes":["CIBA"]}}}}}`, "tok LOGIN uv"},
		{"all", `{"methods":{"push":{"pushToken":"n","keys":{"userVerification":null},"capabilities":{"transactionTypes":["CIBA"]}}}}`, "n LOGIN,CIBA -"},
		{"unknown member", `{"methods":{"push":{"colour":1}},"device":{}}`, "tok LOGIN,CIBA uv"},

		{"methods null", `{"methods":null}`, ""},
		{"method null", `{"methods":{"push":null}}`, ""},
		{"unknown method", `{"methods":{"totp":{}}}`, ""},
		{"keys null", `{"methods":{"push":{"keys":null}}}`, ""},
		{"proof of possession null", `{"methods":{"push":{"keys":{"proofOfPossession":null}}}}`, ""},
		{"device key null", `{"device":{"clientInstanceKey":null}}`, ""},
		{"device key bad", `{"device":{"clientInstanceKey":{}}}`, ""},
		{"bad key", `{"methods":{"push":{"keys":{"userVerification":{}}}}}`, ""},
		{"bad type", `{"methods":{"push":{"capabilities":{"transactionTypes":["WIRE"]}}}}`, ""},
		{"bad type under keys", `{"methods":{"push":{"keys":{"capabilities":{"transactionTypes":["WIRE"]}}}}}`, ""},
		{"types of signed_nonce", `{"methods":{"signed_nonce":{"keys":{"capabilities":{"transactionTypes":["CIBA"]}}}}}`, ""},
		{"token of signed_nonce", `{"methods":{"signed_nonce":{"pushToken":"x"}}}`, ""},
		{"half good", `{"methods":{"push":{"pushToken":"half","keys":{"proofOfPossession":null}}}}`, ""},
	} {
		h := newHouse(t)
		a := devicetest.New(t)
		a.UV = uv
		req := h.request(a)
		token := "tok"
		req.Methods.Push.PushToken = &token
		req.Methods.Push.Keys.UserVerification = uv.Raw(t)
		req.Methods.Push.Capabilities = &okta.Capabilities{TransactionTypes: []string{"LOGIN", "CIBA"}}
		e, err := h.Create(t.Context(), device.ByUser(h.alice.ID), req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, patch(t, c.body))
		want := c.want
		if want == "" {
			h.wantCode(c.name, err, okta.CodeValidation)
			want = "tok LOGIN,CIBA uv" // a refused patch changes nothing
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		storetest.Read(t, h.db, func(tx store.Tx) (err error) {
			e, err = device.ByID(t.Context(), tx, e.ID)
			return err
		})
		m, _ := e.Method(okta.MethodPush)
		whose := "-"
		if k, ok := m.Key(okta.KeyUserVerification); ok {
			whose = map[string]string{uv.JWK.KeyID: "uv"}[k.JWK.KeyID]
		}
		if got := fmt.Sprintf("%s %s %s", m.PushToken, strings.Join(m.TransactionTypes, ","), whose); got != want {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
	}
}

// C3: the silent key must not come back in as the verifying one.
func TestPatchKeepsRolesApart(t *testing.T) {
	h := newHouse(t)
	a, b := devicetest.New(t), devicetest.New(t)
	e := h.enrol(a, h.alice)
	h.enrol(b, h.bob)
	for name, key := range map[string]devicetest.Key{"own silent key": a.PoP, "another user's key": b.PoP} {
		for _, method := range []string{"push", "signed_nonce"} {
			p := patch(t, `{"methods":{"`+method+`":{"keys":{"userVerification":`+string(key.Raw(t))+`}}}}`)
			_, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, p)
			h.wantCode(name, err, okta.CodeValidation)
		}
	}
}

func TestOthersEnrolmentIsNotFound(t *testing.T) {
	h := newHouse(t)
	e := h.enrol(devicetest.New(t), h.alice)
	for name, by := range map[string]device.Caller{"another user": device.AsUser(h.bob.ID), "nobody": {}, "empty user": device.AsUser("")} {
		h.wantCode(name, h.Delete(t.Context(), by, e.ID), okta.CodeNotFound)
		_, err := h.Update(t.Context(), by, e.ID, device.Patch{})
		h.wantCode(name, err, okta.CodeNotFound)
		_, err = h.Admit(t.Context(), by, e.ID)
		h.wantCode(name, err, okta.CodeNotFound)
	}
	h.wantCode("unknown id", h.Delete(t.Context(), device.AsUser(h.alice.ID), "pfdunknown"), okta.CodeNotFound)
}

// 2.7: each status has its code, and DELETE is final.
func TestStatusCodes(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	e := h.enrol(devicetest.New(t), h.alice)
	user := func(status string) func(store.Tx) error {
		return func(tx store.Tx) error { return directory.SetUserStatus(ctx, tx, h.alice.ID, status, h.clock()) }
	}
	dev := func(status string) func(store.Tx) error {
		return func(tx store.Tx) error { return device.SetDeviceStatus(ctx, tx, e.Device.ID, status, h.clock()) }
	}
	enr := func(status string) func(store.Tx) error {
		return func(tx store.Tx) error { return device.SetStatus(ctx, tx, e.ID, status, h.clock()) }
	}
	for _, c := range []struct {
		name string
		set  func(store.Tx) error
		want okta.ErrorCode
		http int
		undo func(store.Tx) error
	}{
		{"user suspended", user(directory.StatusSuspended), okta.CodeUserSuspended, 423, user(directory.StatusActive)},
		{"user deleted", user(directory.StatusDeprovisioned), okta.CodeUserDeleted, 410, user(directory.StatusActive)},
		{"device suspended", dev(device.StatusSuspended), okta.CodeDeviceSuspended, 403, dev(device.StatusActive)},
		{"device deactivated", dev(device.StatusDeactivated), okta.CodeDeviceSuspended, 403, dev(device.StatusActive)},
		{"enrolment suspended", enr(device.StatusSuspended), okta.CodeEnrolmentSuspended, 423, enr(device.StatusActive)},
		{"enrolment deleted", enr(device.StatusDeleted), okta.CodeEnrolmentDeleted, 410, nil},
		{"device deleted", dev(device.StatusDeleted), okta.CodeDeviceDeleted, 410, nil},
	} {
		storetest.Write(t, h.db, c.set)
		_, err := h.Admit(ctx, device.AsUser(h.alice.ID), e.ID)
		h.wantCode(c.name, err, c.want)
		if refusal, ok := err.(*okta.Error); !ok || refusal.HTTPStatus != c.http {
			t.Errorf("%s: status of %v, want %d", c.name, err, c.http)
		}
		if c.undo != nil {
			storetest.Write(t, h.db, c.undo)
		}
	}
	if err := h.db.Write(ctx, enr(device.StatusActive)); err == nil {
		t.Error("a deleted enrolment came back")
	}
	if err := h.db.Write(ctx, dev("HAPPY")); err == nil {
		t.Error("an unknown status was stored")
	}
}

// proofs by the enrolment's own key.
func (h *house) proofClaims(e device.Enrolment) devicetest.Claims {
	return devicetest.NewClaims(e.ID, e.UserID, orgURL, h.clock())
}

func TestProof(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e := h.enrol(a, h.alice)
	good := h.proofClaims(e)
	stranger := devicetest.NewKey(t)
	lying := stranger
	lying.JWK.KeyID = a.PoP.JWK.KeyID
	for _, c := range []struct {
		name, typ string
		key       devicetest.Key
		claims    devicetest.Claims
	}{
		{"another key", okta.TypeEnrolmentUpdate, stranger, good},
		{"another key under the same kid", okta.TypeEnrolmentUpdate, lying, good},
		{"the device's key", okta.TypeEnrolmentUpdate, a.Client, good},
		{"typ of an answer", okta.TypeDeviceBind, a.PoP, good},
		{"no typ", "", a.PoP, good},
		{"iss unknown", okta.TypeEnrolmentUpdate, a.PoP, good.With("iss", "pfdunknown")},
		{"iss missing", okta.TypeEnrolmentUpdate, a.PoP, good.With("iss", nil)},
		{"sub of another user", okta.TypeEnrolmentUpdate, a.PoP, good.With("sub", h.bob.ID)},
		{"sub missing", okta.TypeEnrolmentUpdate, a.PoP, good.With("sub", nil)},
		{"aud of another org", okta.TypeEnrolmentUpdate, a.PoP, good.With("aud", "https://other.example")},
		{"aud with a slash", okta.TypeEnrolmentUpdate, a.PoP, good.With("aud", orgURL+"/")},
		{"aud missing", okta.TypeEnrolmentUpdate, a.PoP, good.With("aud", nil)},
		{"kid differs", okta.TypeEnrolmentUpdate, a.PoP, good.With("kid", "other")},
		{"jti missing", okta.TypeEnrolmentUpdate, a.PoP, good.With("jti", nil)},
		{"jti long", okta.TypeEnrolmentUpdate, a.PoP, good.With("jti", strings.Repeat("x", 200))},
		{"exp missing", okta.TypeEnrolmentUpdate, a.PoP, good.With("exp", nil)},
		{"iat missing", okta.TypeEnrolmentUpdate, a.PoP, good.With("iat", nil)},
		{"exp far", okta.TypeEnrolmentUpdate, a.PoP, good.With("exp", h.clock().Add(6*time.Minute).Unix())},
		{"expired", okta.TypeEnrolmentUpdate, a.PoP, devicetest.NewClaims(e.ID, e.UserID, orgURL, h.clock().Add(-7*time.Minute))},
		{"not yet", okta.TypeEnrolmentUpdate, a.PoP, good.With("nbf", h.clock().Add(2*time.Minute).Unix())},
		{"from the future", okta.TypeEnrolmentUpdate, a.PoP, devicetest.NewClaims(e.ID, e.UserID, orgURL, h.clock().Add(2*time.Minute))},
	} {
		_, err := h.VerifyProof(t.Context(), c.key.Sign(t, c.typ, c.claims))
		h.wantCode(c.name, err, okta.CodeInvalidToken)
	}
	for _, bad := range []string{"", "x", "a.b.c", strings.Repeat("a", 1<<15)} {
		_, err := h.VerifyProof(t.Context(), bad)
		h.wantCode("malformed", err, okta.CodeInvalidToken)
	}
	p, err := h.VerifyProof(t.Context(), a.PoP.Sign(t, okta.TypeEnrolmentUpdate, good.With("kid", a.PoP.JWK.KeyID)))
	if err != nil || p.UserVerified() || p.Enrolment.ID != e.ID {
		t.Fatalf("a good proof: %+v, %v", p, err)
	}
	if (device.Proof{}).UserVerified() {
		t.Error("the zero proof is user verified")
	}
	_, err = h.Admit(t.Context(), device.AsDevice(device.Proof{}), e.ID)
	h.wantCode("the zero proof", err, okta.CodeNotFound)
}

// A proof is good once, also when it arrives many times at once.
func TestProofOnce(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e := h.enrol(a, h.alice)
	token := a.PoP.Sign(t, okta.TypeEnrolmentUpdate, h.proofClaims(e))
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 50 {
		wg.Go(func() {
			p, err := h.VerifyProof(t.Context(), token)
			if err == nil {
				_, err = h.Update(t.Context(), device.AsDevice(p), e.ID, device.Patch{})
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else {
				h.wantCode("replay", err, okta.CodeInvalidToken)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("one proof worked %d times", won)
	}
	b := devicetest.New(t)
	other := h.enrol(b, h.alice)
	p, err := h.VerifyProof(t.Context(), b.PoP.Sign(t, okta.TypeEnrolmentUpdate, h.proofClaims(other)))
	if err != nil {
		t.Fatal(err)
	}
	h.wantCode("for another enrolment of the same user", h.Delete(t.Context(), device.AsDevice(p), e.ID), okta.CodeNotFound)
}

// C2: malware that can use the silent key must not get a verifying one.
func TestSilentKeyCannotChangeKeys(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	req := h.request(a)
	req.Methods.SignedNonce.Keys.UserVerification = a.UV.Raw(t)
	e, err := h.Create(t.Context(), device.ByUser(h.alice.ID), req)
	if err != nil {
		t.Fatal(err)
	}
	fresh := devicetest.NewKey(t)
	replace := patch(t, `{"methods":{"signed_nonce":{"keys":{"userVerification":`+string(fresh.Raw(t))+`}}}}`)
	remove := patch(t, `{"methods":{"signed_nonce":{"keys":{"userVerification":null}}}}`)
	as := func(k devicetest.Key) device.Caller {
		p, err := h.VerifyProof(t.Context(), k.Sign(t, okta.TypeEnrolmentUpdate, h.proofClaims(e)))
		if err != nil {
			t.Fatal(err)
		}
		return device.AsDevice(p)
	}
	for name, p := range map[string]device.Patch{"replace": replace, "remove": remove} {
		_, err := h.Update(t.Context(), as(a.PoP), e.ID, p)
		h.wantCode(name, err, okta.CodeUVRequired)
	}
	stale := as(a.UV) // verified before the key was replaced
	if _, err := h.Update(t.Context(), as(a.UV), e.ID, replace); err != nil {
		t.Fatal(err)
	}
	_, err = h.Update(t.Context(), stale, e.ID, remove)
	h.wantCode("by the key that was replaced", err, okta.CodeInvalidToken)
	if _, err := h.Update(t.Context(), as(fresh), e.ID, remove); err != nil {
		t.Error(err)
	}
}

// The agent of a deleted enrolment learns so, by its own key.
func TestGoneIsProven(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e := h.enrol(a, h.alice)
	if err := h.Delete(t.Context(), device.AsUser(h.alice.ID), e.ID); err != nil {
		t.Fatal(err)
	}
	p, err := h.VerifyProof(t.Context(), a.PoP.Sign(t, okta.TypeEnrolmentUpdate, h.proofClaims(e)))
	if err != nil {
		t.Fatal(err)
	}
	err = h.Delete(t.Context(), device.AsDevice(p), e.ID)
	h.wantCode("deleted twice", err, okta.CodeEnrolmentDeleted)
	if refusal, ok := err.(*okta.Error); !ok || !refusal.Gone() {
		t.Error("the error does not prove that the enrolment is gone")
	}
}

// E8: authorization skipped in some order of steps. Random walks against a
// model that knows only: who enrolled, what was deleted or suspended.
func TestModel(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	type model struct {
		agent   devicetest.Agent
		e       device.Enrolment
		status  string
		enroled bool
	}
	users := []directory.User{h.alice, h.bob}
	var all []*model
	for range 4 {
		all = append(all, &model{agent: devicetest.New(t)})
	}
	for range 300 {
		i := rnd.IntN(len(all))
		m, user := all[i], users[i%2]
		switch rnd.IntN(5) {
		case 0: // create, by the owner
			e, err := h.Create(ctx, device.ByUser(user.ID), h.request(m.agent))
			switch {
			case m.status == device.StatusSuspended:
				h.wantCode("create while suspended", err, okta.CodeEnrolmentSuspended)
			case err != nil:
				t.Fatal(err)
			case m.status == device.StatusActive && e.ID != m.e.ID:
				t.Fatal("a second enrolment for one key")
			default:
				m.e, m.status, m.enroled = e, device.StatusActive, true
			}
		case 1: // create with that key, by the other user
			_, err := h.Create(ctx, device.ByUser(users[(i+1)%2].ID), h.request(m.agent))
			if m.status == device.StatusActive || m.status == device.StatusSuspended {
				h.wantCode("another's key", err, okta.CodeValidation)
			} else if err == nil { // free keys may be taken; give it back
				storetest.Read(t, h.db, func(tx store.Tx) error {
					list, err := device.OfUser(ctx, tx, users[(i+1)%2].ID)
					for _, e := range list {
						if k, ok := e.KeyByID(m.agent.PoP.JWK.KeyID); ok && k.Role != "" {
							defer func() { _ = h.Delete(ctx, device.AsUser(users[(i+1)%2].ID), e.ID) }()
						}
					}
					return err
				})
			}
		case 2: // delete, by its own key
			if !m.enroled {
				continue
			}
			p, err := h.VerifyProof(ctx, m.agent.PoP.Sign(t, okta.TypeEnrolmentUpdate, h.proofClaims(m.e)))
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]okta.ErrorCode{device.StatusSuspended: okta.CodeEnrolmentSuspended, device.StatusDeleted: okta.CodeEnrolmentDeleted}[m.status]
			h.wantCode("delete while "+m.status, h.Delete(ctx, device.AsDevice(p), m.e.ID), want)
			if want == "" {
				m.status = device.StatusDeleted
			}
		case 3: // the administrator suspends or reactivates
			if !m.enroled || m.status == device.StatusDeleted {
				continue
			}
			m.status = map[string]string{device.StatusActive: device.StatusSuspended, device.StatusSuspended: device.StatusActive}[m.status]
			storetest.Write(t, h.db, func(tx store.Tx) error { return device.SetStatus(ctx, tx, m.e.ID, m.status, h.clock()) })
		case 4: // somebody else tries everything
			if m.enroled {
				h.wantCode("another's enrolment", h.Delete(ctx, device.AsUser(users[(i+1)%2].ID), m.e.ID), okta.CodeNotFound)
			}
		}
		if m.enroled {
			storetest.Read(t, h.db, func(tx store.Tx) error {
				e, err := device.ByID(ctx, tx, m.e.ID)
				if e.Status != m.status || e.Active() != (m.status == device.StatusActive) || e.UserID != user.ID {
					t.Fatalf("%+v, model says %s", e, m.status)
				}
				return err
			})
		}
	}
}

// FuzzCreate throws bodies at the decoder and the rules behind it. What is
// accepted must be an enrolment that can be verified: usable keys, each in one
// role, and never another user's.
func FuzzCreate(f *testing.F) {
	h := newHouse(f)
	a := devicetest.New(f)
	req := h.request(a)
	req.Methods.Push.Keys.UserVerification = a.UV.Raw(f)
	good, err := json.Marshal(req)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(strings.Replace(string(good), `"push"`, `"totp"`, 1)))
	f.Add([]byte(strings.Replace(string(good), `"platform"`, `"id":"guo1","platform"`, 1)))
	f.Add([]byte(strings.Replace(string(good), `"userVerification":{`, `"userVerification":null,"userVerificationBioOrPin":{`, 1)))
	f.Add([]byte(`{"authenticatorId":"x","authenticatorId":"y"}`))
	f.Add([]byte(`{"methods":{"push":{"keys":{"proofOfPossession":{}}}}}`))
	f.Add([]byte(strings.Repeat(`{"device":`, 40)))
	f.Fuzz(func(t *testing.T, body []byte) {
		var req okta.EnrolmentRequest
		if err := jose.DecodeStrict(body, &req, 32<<10); err != nil {
			return
		}
		e, err := h.Create(t.Context(), device.ByUser(h.alice.ID), req)
		if err != nil {
			if c := code(err); !strings.HasPrefix(string(c), "E0000") {
				t.Fatalf("not an error for clients: %v", err)
			}
			return
		}
		if e.UserID != h.alice.ID || !e.Active() || len(e.Methods) == 0 || e.Device.ID == "" {
			t.Fatalf("accepted %+v", e)
		}
		roles := map[string]okta.KeyType{}
		for _, m := range e.Methods {
			if _, ok := m.Key(okta.KeyProofOfPossession); !ok {
				t.Fatalf("method %s has no proof of possession", m.Type)
			}
			for _, k := range m.Keys {
				if _, err := k.JWK.PublicKey(); err != nil || k.JWK.KeyID == "" {
					t.Fatalf("accepted key %+v: %v", k.JWK, err)
				}
				if role, ok := roles[k.Thumbprint]; ok && role != k.Role {
					t.Fatalf("one key as %s and %s", role, k.Role)
				}
				roles[k.Thumbprint] = k.Role
			}
		}
	})
}

// FuzzPatch: whatever is accepted leaves the proof of possession alone.
func FuzzPatch(f *testing.F) {
	h := newHouse(f)
	a := devicetest.New(f)
	e := h.enrol(a, h.alice)
	f.Add([]byte(`{"methods":{"push":{"pushToken":"x","keys":{"userVerification":null}}}}`))
	f.Add([]byte(`{"methods":{"push":{"keys":{"proofOfPossession":` + string(a.UV.Raw(f)) + `}}}}`))
	f.Add([]byte(`{"methods":{"signed_nonce":{"keys":{"userVerification":` + string(a.UV.Raw(f)) + `}}}}`))
	f.Add([]byte(`{"methods":{"push":null}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var p device.Patch
		if err := jose.DecodeStrict(body, &p, 16<<10); err != nil {
			return
		}
		after, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, p)
		if err != nil {
			if c := code(err); !strings.HasPrefix(string(c), "E0000") {
				t.Fatalf("not an error for clients: %v", err)
			}
			return
		}
		for _, m := range e.Methods {
			was, _ := m.Key(okta.KeyProofOfPossession)
			now, ok := after.Method(m.Type)
			k, has := now.Key(okta.KeyProofOfPossession)
			if !ok || !has || k.JWK != was.JWK {
				t.Fatalf("%s changed the proof of possession of %s", body, m.Type)
			}
		}
	})
}
