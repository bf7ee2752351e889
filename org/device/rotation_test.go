package device_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// After a rotation the new keys count and the old ones do not, wherever keys
// count.
func TestRotation(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a, renewed := devicetest.New(t), devicetest.New(t)
	renewed.PoP.JWK.KPR, renewed.UV.JWK.KPR = jose.ProtectionHardware, jose.ProtectionHardware
	e := h.verifying(a, h.alice)
	old, err := h.Admit(ctx, h.signed(a.PoP, e), e.ID) // e.g. waits for a push
	if err != nil {
		t.Fatal(err)
	}
	early := h.signed(a.PoP, e)
	keys := bring{noncePoP: &renewed.PoP, pushPoP: &renewed.PoP, noncePIN: &renewed.UV, client: &renewed.Client}
	p := patch(t, keys.body(t, agree(t, a.UV, h.agreement(e, keys))))
	after, err := h.Update(ctx, device.AsUser(h.alice.ID), e.ID, p)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := after.Method(okta.MethodSignedNonce)
	pop, _ := m.Key(okta.KeyProofOfPossession)
	uv, _ := m.Key(okta.KeyUserVerificationBioOrPIN)
	was, _ := e.Method(okta.MethodSignedNonce)
	if pop.Protection != jose.ProtectionHardware || uv.Protection != jose.ProtectionHardware || pop.Attested || m.ID != was.ID || after.ID != e.ID {
		t.Errorf("%+v", m)
	}
	// The old key is nobody.
	_, err = h.VerifyProof(ctx, a.PoP.Sign(t, okta.TypeEnrolmentUpdate, h.proofClaims(e)))
	h.wantCode("the old key", err, okta.CodeInvalidToken)
	_, err = h.Admit(ctx, early, e.ID)
	h.wantCode("a proof by the old key, from before", err, okta.CodeInvalidToken)
	storetest.Read(t, h.db, func(tx store.Tx) error {
		h.wantCode("who waits by the old key", device.Recheck(ctx, tx, old), okta.CodeInvalidToken)
		return nil
	})
	if _, err := h.RedeemAssertion(ctx, a.PoP.Sign(t, okta.TypeMaintenanceGrant, h.assertion(e, okta.MethodPush))); err == nil {
		t.Error("an assertion by the old key is taken")
	}
	if _, err := h.RedeemAssertion(ctx, renewed.PoP.Sign(t, okta.TypeMaintenanceGrant, h.assertion(e, okta.MethodPush))); err != nil {
		t.Error(err)
	}
	// An agent whose answer was lost asks with the new key, or sends it again.
	if _, err := h.Update(ctx, h.signed(renewed.PoP, e), e.ID, patch(t, `{}`)); err != nil {
		t.Error(err)
	}
	if again, err := h.Update(ctx, device.AsUser(h.alice.ID), e.ID, p); err != nil || again.ID != e.ID {
		t.Errorf("sent again: %v", err)
	}
	// Creating again finds the enrolment by its new key; the old one is free,
	// and known as nothing.
	req := h.request(renewed)
	req.Methods.SignedNonce.Keys.UserVerificationBioOrPIN = renewed.UV.Raw(t)
	if again, err := h.Create(ctx, device.ByUser(h.alice.ID), req); err != nil || again.ID != e.ID {
		t.Errorf("created again: %s, %v", again.ID, err)
	}
	if other := h.enrol(devicetest.Agent{Client: a.Client, PoP: a.PoP, UV: a.UV}, h.alice); other.ID == e.ID {
		t.Error("the old key stands for the enrolment")
	}
	// Further enrolments on the device are made with its new key.
	next := devicetest.New(t)
	on := func(key devicetest.Key) error {
		_, err := h.Create(ctx, device.ByUser(h.alice.ID), next.OnDevice(h.request(next), e.Device.ID, e.Device.ClientInstanceID, key.Sign(t, "JWT", h.attestation(a, e))))
		return err
	}
	h.wantCode("the device's old key", on(a.Client), okta.CodeInvalidToken)
	h.wantCode("the device's new key", on(renewed.Client), "")
}

// A sign-in with one factor enrols the first device of a person, and no other:
// it would make itself the second factor.
func TestC2OneFactorEnrolsTheFirstDeviceOnly(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	weak := device.ByUser(h.alice.ID).ForTheFirst(okta.NewError(okta.CodeForbidden, "weak"))
	var agents []devicetest.Agent
	for range 8 {
		agents = append(agents, devicetest.New(t))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []int
	for i, a := range agents {
		wg.Go(func() {
			_, err := h.Create(ctx, weak, h.request(a))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, i)
				return
			}
			h.wantCode("the others", err, okta.CodeForbidden)
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d devices", len(won))
	}
	// Whose answer was lost asks again, and has the same.
	e, err := h.Create(ctx, weak, h.request(agents[won[0]]))
	if err != nil {
		t.Fatal(err)
	}
	// One that cannot be used now opens no door either.
	storetest.Write(t, h.db, func(tx store.Tx) error {
		return device.SetStatus(ctx, tx, e.ID, device.StatusSuspended, h.clock())
	})
	_, err = h.Create(ctx, weak, h.request(devicetest.New(t)))
	h.wantCode("while the first is suspended", err, okta.CodeForbidden)
	storetest.Write(t, h.db, func(tx store.Tx) error {
		return device.SetStatus(ctx, tx, e.ID, device.StatusDeleted, h.clock())
	})
	if _, err := h.Create(ctx, weak, h.request(devicetest.New(t))); err != nil {
		t.Errorf("when there is none again: %v", err)
	}
}

// FuzzKeyChange: whatever stands in a body beside a good agreement, a key that
// signs silently changes to the one that was agreed to, or not at all.
func FuzzKeyChange(f *testing.F) {
	h := newHouse(f)
	a := devicetest.New(f)
	e := h.enrol(a, h.alice)
	fresh := devicetest.NewKey(f)
	keys := bring{noncePoP: &fresh}
	good := keys.body(f, agree(f, a.PoP, h.agreement(e, keys)))
	before := h.keys(e.ID)
	agreed := strings.Replace(before, noncePoP+"="+thumbprint(f, a.PoP), noncePoP+"="+thumbprint(f, fresh), 1)
	f.Add([]byte(strings.Replace(good, `"signed_nonce"`, `"push"`, 1)))
	f.Add([]byte(strings.Replace(good, `"keyChange":"`, `"keyChange":"e`, 1)))
	f.Add([]byte(strings.Replace(good, `{`, `{"device":{"clientInstanceKey":`+string(devicetest.NewKey(f).Raw(f))+`},`, 1)))
	f.Add([]byte(strings.Replace(good, `{`, `{"keyChange":null,`, 1)))
	f.Add([]byte(`{"keyChange":7}`))
	f.Add([]byte(`{"device":null,"keyChange":"a.b.c"}`))
	f.Add([]byte(good)) // last: it is used up
	f.Fuzz(func(t *testing.T, body []byte) {
		var p device.Patch
		if err := jose.DecodeStrict(body, &p, 16<<10); err != nil {
			return
		}
		_, err := h.Update(t.Context(), device.AsUser(h.alice.ID), e.ID, p)
		if c := code(err); err != nil && !strings.HasPrefix(string(c), "E0000") {
			t.Fatalf("not an error for clients: %v", err)
		}
		silent := func(keys string) (out []string) {
			for k := range strings.FieldsSeq(keys) {
				if !strings.Contains(k, "userVerification") {
					out = append(out, k)
				}
			}
			return out
		}
		now := fmt.Sprint(silent(keysOf(t, h.db, e.ID)))
		if now != fmt.Sprint(silent(before)) && now != fmt.Sprint(silent(agreed)) {
			t.Fatalf("%s: %s became %s", body, before, now)
		}
	})
}

func thumbprint(t testing.TB, k devicetest.Key) string {
	t.Helper()
	s, err := k.JWK.Thumbprint()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Nor a device beside a security key.
func TestC2KeyCountsAsADevice(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	if err := h.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO security_keys (id, user_id, credential_id, public_key, aaguid, format, attestation, transports, sign_count,
			backup_eligible, verified_at, suspect_at, created_at, last_used_at) VALUES ('fwf1', ?, 'a', 'b', '', 'none', 'none', '[]', 0, 0, 0, 0, 0, 0)`, h.alice.ID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	weak := device.ByUser(h.alice.ID).ForTheFirst(okta.NewError(okta.CodeForbidden, "weak"))
	_, err := h.Create(ctx, weak, h.request(devicetest.New(t)))
	h.wantCode("with the password", err, okta.CodeForbidden)
	_, err = h.Create(ctx, device.ByUser(h.alice.ID), h.request(devicetest.New(t)))
	h.wantCode("with the key too", err, "")
}
