package factor

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
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
		{okta.NeedPreferred, okta.NeedRequired, pop, append(fallbacks[1:], okta.ConsentNone, okta.ConsentApproved)},
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

// The org's half of the conformance table of the devices protocol (4.4): what
// was asked, by which way, which key signed and what it says of the person,
// against whether the org takes it for an approval. B3, C3.
func TestConformance(t *testing.T) {
	const (
		pop = okta.KeyProofOfPossession
		uv  = okta.KeyUserVerification
		pin = okta.KeyUserVerificationBioOrPIN
	)
	verifications := []okta.Need{okta.NeedNone, okta.NeedDiscouraged, okta.NeedPreferred, okta.NeedRequired, "", "SOMETIMES"}
	mediations := []okta.Need{okta.NeedNone, okta.NeedOptional, okta.NeedRequired, "", "SOMETIMES"}
	consents := []okta.Consent{okta.ConsentNone, okta.ConsentApproved, okta.ConsentApprovedUserVerification, okta.ConsentDenied,
		okta.ConsentCancelledUserVerification, okta.ConsentUVTemporarilyUnavailable, okta.ConsentUVPermanentlyUnavailable,
		okta.ConsentUserAbandoned, "OTHER", "approved_consent_prompt"}
	type row struct {
		method        okta.Method
		verifications []okta.Need
		mediations    []okta.Need
		roles         []okta.KeyType
		approve       []okta.Consent
	}
	silent, asked := mediations[:2], mediations[2:]
	unavailable := []okta.Consent{okta.ConsentCancelledUserVerification, okta.ConsentUVTemporarilyUnavailable, okta.ConsentUVPermanentlyUnavailable}
	lax := []okta.Need{okta.NeedNone, okta.NeedDiscouraged, "", "SOMETIMES"}
	preferred, required := []okta.Need{okta.NeedPreferred}, []okta.Need{okta.NeedRequired}
	rows := []row{
		{okta.MethodSignedNonce, lax, silent, []okta.KeyType{pop}, []okta.Consent{okta.ConsentNone, okta.ConsentApproved}},
		{okta.MethodSignedNonce, lax, asked, []okta.KeyType{pop}, []okta.Consent{okta.ConsentApproved}},
		{okta.MethodSignedNonce, preferred, silent, []okta.KeyType{pop}, append(unavailable, okta.ConsentNone, okta.ConsentApproved)},
		{okta.MethodSignedNonce, preferred, asked, []okta.KeyType{pop}, append(unavailable[1:], okta.ConsentNone, okta.ConsentApproved)},
		{okta.MethodSignedNonce, required, mediations, []okta.KeyType{pop}, nil},
		{okta.MethodSignedNonce, verifications, mediations, []okta.KeyType{uv, pin}, []okta.Consent{okta.ConsentApprovedUserVerification}},
		// A push is never approved silently; what stands in for a verification that
		// was preferred is taken, and for no person.
		{okta.MethodPush, lax, mediations, []okta.KeyType{pop}, []okta.Consent{okta.ConsentApproved}},
		{okta.MethodPush, preferred, mediations, []okta.KeyType{pop}, append(unavailable[1:], okta.ConsentNone, okta.ConsentApproved)},
		{okta.MethodPush, required, mediations, []okta.KeyType{pop}, nil},
		{okta.MethodPush, verifications, mediations, []okta.KeyType{uv, pin}, []okta.Consent{okta.ConsentApprovedUserVerification}},
	}
	cases := 0
	for _, r := range rows {
		for _, verification := range r.verifications {
			for _, mediation := range r.mediations {
				for _, role := range r.roles {
					for _, consent := range consents {
						cases++
						v, p, ok := judged(r.method, verification, mediation, role, consent)
						want := Failed
						switch {
						case consent == okta.ConsentDenied || consent == okta.ConsentUserAbandoned:
							want = Denied
						case slices.Contains(r.approve, consent):
							want = Approved
						}
						if v.status != want || (v.refusal != nil) != (want == Failed) {
							t.Errorf("%s, verification %q, mediation %q, %s says %q: %s, want %s", r.method, verification, mediation, role, consent, v.status, want)
						}
						if ok != (want == Approved) || ok && (p.Traits&policy.UserVerification != 0) != (role != pop) ||
							ok && (p.Traits&policy.UserPresence != 0) != (role != pop || consent == okta.ConsentApproved) ||
							ok && (p.Traits&policy.PhishingResistant != 0) != (r.method == okta.MethodSignedNonce) {
							t.Errorf("%s, %s says %q: proves %+v", r.method, role, consent, p)
						}
					}
				}
			}
		}
	}
	if want := 2 * len(verifications) * len(mediations) * 3 * len(consents); cases != want {
		t.Errorf("%d cases of %d", cases, want)
	}
}

// judged is what the org makes of an authentic answer, and what that proves.
func judged(method okta.Method, verification, mediation okta.Need, role okta.KeyType, consent okta.Consent) (verdict, policy.Proof, bool) {
	const page = "https://org.example"
	s := subject{
		challenge: Challenge{Method: method, PageOrigin: page, UserVerification: verification, UserMediation: mediation},
		enrolment: device.Enrolment{ID: "pfd", Status: device.StatusActive, Device: device.Device{Status: device.StatusActive},
			Methods: []device.Method{{Type: method, Status: device.StatusActive}}},
		user: directory.User{ID: "00u", Status: directory.StatusActive},
	}
	a := okta.Answer{Context: okta.AnswerContext{UserConsent: consent, OriginHeader: page}}
	v := s.judge(&a, device.Key{Role: role})
	c := s.challenge
	c.Status, c.Result = v.status, v.result
	p, ok := c.Proof()
	return v, p, ok
}

// The two-sided table of user verification, the org's side: each answer that an
// honest agent may give comes to what the table says. C3.
func TestC3UVTable(t *testing.T) {
	rows := oktatest.UVTable()
	if want := 2 * 6 * 5 * 6; len(rows) != want {
		t.Fatalf("%d rows of %d", len(rows), want)
	}
	for _, r := range rows {
		for _, a := range r.Answers {
			roles := []okta.KeyType{okta.KeyProofOfPossession}
			if a.Verifying {
				roles = []okta.KeyType{okta.KeyUserVerification, okta.KeyUserVerificationBioOrPIN}
			}
			for _, role := range roles {
				v, p, ok := judged(r.Method, r.Need, r.Mediation, role, a.Consent)
				got := oktatest.UVTaken
				switch {
				case v.status == Denied:
					got = oktatest.UVDenied
				case v.status != Approved || !ok:
					got = oktatest.UVRefused
				case p.Traits&policy.UserVerification != 0:
					got = oktatest.UVVerified
				case p.Traits&policy.UserPresence != 0:
					got = oktatest.UVApproved
				}
				if got != a.Verdict {
					t.Errorf("%s, verification %q, mediation %q, %s: %s says %s: %q, want %q", r.Method, r.Need, r.Mediation, r.Situation, role, a.Consent, got, a.Verdict)
				}
				if refused := r.Need == okta.NeedRequired && !a.Verifying && got == oktatest.UVRefused; refused && v.result.Reason != NoUserVerification {
					t.Errorf("%s says %s: refused for %s", role, a.Consent, v.result.Reason)
				}
				// An agent that flips the flags of the same answer gains nothing.
				if !a.Verifying {
					v, _, ok := judged(r.Method, r.Need, r.Mediation, role, okta.ConsentApprovedUserVerification)
					if ok || v.status != Failed {
						t.Errorf("%s, verification %q: a silent key that claims verification: %s", r.Method, r.Need, v.status)
					}
				}
			}
		}
	}
}

// B2: three numbers, all different, of two digits. Who does not see the page
// picks the right one once in three times: neither its place among them nor its
// size tells which it is.
func TestNumbers(t *testing.T) {
	place, rank := [3]int{}, [3]int{}
	for range 3000 {
		items, correct := numbers()
		sorted := slices.Sorted(slices.Values(items))
		if len(items) != 3 || len(slices.Compact(slices.Clone(sorted))) != 3 || !slices.Contains(items, correct) ||
			sorted[0] < "10" || sorted[2] > "99" || len(items[0])+len(items[1])+len(items[2]) != 6 {
			t.Fatalf("%v, %s", items, correct)
		}
		place[slices.Index(items, correct)]++
		rank[slices.Index(sorted, correct)]++
	}
	for i := range 3 { // 1000 expected, with a deviation of 26
		if min(place[i], rank[i]) < 840 || max(place[i], rank[i]) > 1160 {
			t.Errorf("place %v, rank %v", place, rank)
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

// C5: a security key proves that it verified somebody, or that it cannot be
// copied, only when it says so. No answer proves nothing.
func TestC5ProofOfASecurityKey(t *testing.T) {
	if p, ok := (KeyUse{Verified: true}).Proof(); ok || p.Method != 0 {
		t.Errorf("no answer proves %+v", p)
	}
	const always = policy.PhishingResistant | policy.UserPresence
	for want, u := range map[policy.Traits]KeyUse{
		always | policy.DeviceBound:                           {Key: SecurityKey{ID: "fwf1"}},
		always | policy.DeviceBound | policy.UserVerification: {Key: SecurityKey{ID: "fwf1"}, Verified: true},
		always:                           {Key: SecurityKey{ID: "fwf1", BackupEligible: true, VerifiedAt: time.Unix(1, 0)}},
		always | policy.UserVerification: {Key: SecurityKey{ID: "fwf1", BackupEligible: true}, Verified: true},
	} {
		if p, ok := u.Proof(); !ok || p.Method != policy.WebAuthn || p.Traits != want {
			t.Errorf("%+v proves %+v, want %v", u, p, want)
		}
	}
}

// Keys are offered where a browser would ask them, and nowhere else.
func TestPagesThatMayUseKeys(t *testing.T) {
	for base, rp := range map[string]string{
		"https://ID.example.com:8443": "id.example.com", "http://localhost:8080": "localhost", "https://127.0.0.1": "", "http://[::1]:8080": "", "x://": "",
	} {
		if got := RPID(base); got != rp {
			t.Errorf("%s: RP ID %q, want %q", base, got, rp)
		}
	}
	for rp, pages := range map[string]map[string]bool{
		"id.example.com": {
			"https://id.example.com": true, "https://id.example.com:8443": true, "https://app.id.example.com": true,
			"http://id.example.com": false, "https://example.com": false, "https://evilid.example.com": false, "https://id.example.com.evil.example": false,
			"https://id.example.com@evil.example": false, "null": false, "": false,
		},
		"localhost": {
			"http://localhost": true, "http://localhost:3000": true, "https://localhost": true,
			"http://app.localhost:3000": false, "https://notlocalhost": false, // localhost is no domain that has others
		},
		"": {"https://127.0.0.1": false, "https://id.example.com": false},
	} {
		for page, want := range pages {
			if got := MayUseKeys(page, rp); got != want {
				t.Errorf("a page of %s and keys of %s: %v", page, rp, got)
			}
		}
	}
}
