package factor

import (
	"path/filepath"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// C3: what each consent is worth, by what was asked and which key signed.
func TestInsufficient(t *testing.T) {
	const (
		pop = okta.KeyProofOfPossession
		uv  = okta.KeyUserVerification
		pin = okta.KeyUserVerificationBioOrPIN
	)
	consents := []okta.Consent{"", okta.ConsentNone, okta.ConsentApproved, okta.ConsentApprovedUserVerification, okta.ConsentDenied,
		okta.ConsentCancelledUserVerification, okta.ConsentUVTemporarilyUnavailable, okta.ConsentUVPermanentlyUnavailable, okta.ConsentUserAbandoned, "OTHER"}
	fallbacks := []okta.Consent{okta.ConsentCancelledUserVerification, okta.ConsentUVTemporarilyUnavailable, okta.ConsentUVPermanentlyUnavailable}
	for _, c := range []struct {
		verification, mediation okta.Need
		role                    okta.KeyType
		good                    []okta.Consent
	}{
		{okta.NeedNone, okta.NeedNone, pop, []okta.Consent{okta.ConsentNone, okta.ConsentApproved}},
		{okta.NeedNone, okta.NeedOptional, pop, []okta.Consent{okta.ConsentNone, okta.ConsentApproved}},
		{okta.NeedNone, okta.NeedRequired, pop, []okta.Consent{okta.ConsentApproved}},
		{okta.NeedPreferred, okta.NeedNone, pop, append(fallbacks, okta.ConsentNone, okta.ConsentApproved)},
		{okta.NeedPreferred, okta.NeedRequired, pop, []okta.Consent{okta.ConsentApproved}},
		{okta.NeedRequired, okta.NeedNone, pop, nil},
		{"", "", pop, []okta.Consent{okta.ConsentApproved}}, // a challenge that says nothing asks for a person
		{okta.NeedRequired, okta.NeedRequired, uv, []okta.Consent{okta.ConsentApprovedUserVerification}},
		{okta.NeedNone, okta.NeedNone, uv, []okta.Consent{okta.ConsentApprovedUserVerification}},
		{okta.NeedRequired, okta.NeedNone, pin, []okta.Consent{okta.ConsentApprovedUserVerification}},
		{okta.NeedRequired, okta.NeedNone, "other", nil},
	} {
		for _, consent := range consents {
			want := false
			for _, g := range c.good {
				want = want || g == consent
			}
			if got := insufficient(c.verification, c.mediation, c.role, consent) == ""; got != want {
				t.Errorf("verification %s, mediation %s, %s says %s: %v", c.verification, c.mediation, c.role, consent, got)
			}
		}
	}
}

func TestProof(t *testing.T) {
	for _, c := range []struct {
		in   Challenge
		want policy.Traits
		ok   bool
	}{
		{Challenge{}, 0, false},
		{Challenge{Status: Pending}, 0, false},
		{Challenge{Status: Denied}, 0, false},
		{Challenge{Status: Failed}, 0, false},
		{Challenge{Method: okta.MethodSignedNonce, Status: Withdrawn}, 0, false},
		{Challenge{Method: okta.MethodSignedNonce, Status: Expired}, 0, false},
		{Challenge{Status: Approved}, 0, false}, // of no method
		{Challenge{Method: okta.MethodTOTP, Status: Approved}, 0, false},
		{Challenge{Method: okta.MethodSignedNonce, Status: Approved}, policy.DeviceBound | policy.PhishingResistant, true},
		{Challenge{Method: okta.MethodSignedNonce, Status: Approved, Result: Result{Consent: okta.ConsentApproved}}, policy.DeviceBound | policy.PhishingResistant | policy.UserPresence, true},
		{Challenge{Method: okta.MethodSignedNonce, Status: Approved, Result: Result{KeyType: okta.KeyUserVerification}}, policy.DeviceBound | policy.PhishingResistant | policy.UserPresence | policy.UserVerification, true},
		// A claim of hardware is a claim until it is attested.
		{Challenge{Method: okta.MethodSignedNonce, Status: Approved, Result: Result{Protection: jose.ProtectionHardware}}, policy.DeviceBound | policy.PhishingResistant, true},
		{Challenge{Method: okta.MethodSignedNonce, Status: Approved, Result: Result{Protection: jose.ProtectionHardware, Attested: true}}, policy.DeviceBound | policy.PhishingResistant | policy.Hardware, true},
		// A push is bound to no page.
		{Challenge{Method: okta.MethodPush, Status: Approved, Result: Result{Consent: okta.ConsentApproved}}, policy.DeviceBound | policy.UserPresence, true},
		{Challenge{Method: okta.MethodPush, Status: Approved, Result: Result{KeyType: okta.KeyUserVerificationBioOrPIN}}, policy.DeviceBound | policy.UserPresence | policy.UserVerification, true},
		{Challenge{Method: okta.MethodPush, Status: Approved, Result: Result{Protection: jose.ProtectionHardware, Attested: true, Consent: okta.ConsentApproved}}, policy.DeviceBound | policy.UserPresence | policy.Hardware, true},
	} {
		want := map[okta.Method]policy.Methods{okta.MethodSignedNonce: policy.SignedNonce, okta.MethodPush: policy.Push}[c.in.Method]
		p, ok := c.in.Proof()
		if ok != c.ok || p.Traits != c.want || (ok && p.Method != want) {
			t.Errorf("%+v: %+v %v", c.in, p, ok)
		}
	}
}

func TestPendingPush(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "state", "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	now := time.Now()
	err = db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO signin_transactions (id, intent, state, version, created_at, expires_at) VALUES ('tx', '{}', '{}', 1, 0, 0)`); err != nil {
			return err
		}
		for _, r := range []struct {
			id, method, enrolment, status string
			expires                       time.Duration
		}{
			{"a", "push", "mine", "PENDING", time.Minute}, {"b", "push", "mine", "APPROVED", time.Minute}, {"c", "push", "mine", "PENDING", -time.Minute},
			{"d", "push", "other", "PENDING", time.Minute}, {"e", "signed_nonce", "mine", "PENDING", time.Minute},
		} {
			if _, err := tx.ExecContext(ctx, `INSERT INTO challenges (id, signin_id, method, issuer, nonce, page_origin,
				user_verification, user_mediation, token, status, created_at, expires_at) VALUES (?, 'tx', ?, '', '', '', '', '', '', ?, 0, ?)`,
				r.id, r.method, r.status, store.Millis(now.Add(r.expires))); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO challenge_targets (challenge_id, enrolment_id, token) VALUES (?, ?, ?)`,
				r.id, r.enrolment, "token-"+r.id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Read(ctx, func(tx store.Tx) error {
		list, err := PendingPush(ctx, tx, "mine", now)
		if err != nil || len(list) != 1 || list[0].Challenge != "token-a" || list[0].PayloadVersion != okta.PayloadVersion {
			t.Errorf("%+v %v", list, err)
		}
		none, err := PendingPush(ctx, tx, "nobody", now)
		if err != nil || none == nil || len(none) != 0 {
			t.Errorf("%+v %v: want an empty list", none, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
