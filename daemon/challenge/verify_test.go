package challenge

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// situations are the ways in which a situation of the table comes about at this
// agent, by name.
var situations = map[oktatest.UVSituation]map[string]func(*testing.T, *uvWorld, okta.Method){
	oktatest.UVVerifies: {"": func(*testing.T, *uvWorld, okta.Method) {}},
	oktatest.UVCancels: {"": func(_ *testing.T, w *uvWorld, _ okta.Method) {
		approve := w.asker.answer
		w.asker.answer = func(ctx context.Context, p prompt.Prompt) (prompt.Answer, error) {
			if p.UserVerification == prompt.VerificationNone {
				return approve(ctx, p)
			}
			return prompt.Answer{Prompt: "p1", Verdict: prompt.Unverified, Account: p.Account}, nil
		}
	}},
	oktatest.UVDenies: {"": func(_ *testing.T, w *uvWorld, _ okta.Method) { w.asker.answer = decided(prompt.Denied) }},
	oktatest.UVTemporarily: {
		"store busy":           uvStore("open", storeSays(devicekey.Busy)),
		"store locked out":     uvStore("sign", storeSays(devicekey.Lockout)),
		"store busy signing":   uvStore("sign", storeSays(devicekey.Busy)),
		"another secret":       uvStore("sign", devicekey.ErrUnauthorised),
		"nothing is ready":     func(_ *testing.T, w *uvWorld, _ okta.Method) { w.Pipeline.Verification = nobodyReady{} },
		"no service":           func(_ *testing.T, w *uvWorld, _ okta.Method) { w.Pipeline.Verification = nil },
		"locked by wrong ones": lockedOut,
	},
	oktatest.UVPermanently: {
		"cleared":      uvStore("open", storeSays(devicekey.Cleared)),
		"other device": uvStore("open", storeSays(devicekey.OtherDevice)),
		"gone":         uvStore("open", devicekey.ErrNotFound),
		"gone by then": uvStore("sign", devicekey.ErrNotFound),
	},
	oktatest.UVNotEnrolled: {"": func(*testing.T, *uvWorld, okta.Method) {}},
}

type nobodyReady struct{}

func (nobodyReady) Ready(context.Context, okta.KeyType) []verification.Method { return nil }
func (nobodyReady) States(context.Context) []verification.State               { return nil }

// uvStore lets the uses of acc1's verification keys fail.
func uvStore(operation string, with error) func(*testing.T, *uvWorld, okta.Method) {
	return func(t *testing.T, w *uvWorld, method okta.Method) {
		demanding := w.verifying(t, method)
		w.fails(func(op, id string) error {
			if _, ok := demanding[id]; ok && op == operation {
				return with
			}
			return nil
		})
	}
}

// lockedOut is somebody who has guessed before.
func lockedOut(t *testing.T, w *uvWorld, _ okta.Method) {
	w.finger.Answer = nil
	for _, method := range []verification.Method{verification.PIN, verification.Fingerprint} {
		for i := 0; ; i++ {
			_, err := w.service.Verify(t.Context(), verification.Request{Purpose: "guess", Method: method, PIN: devicekey.Secret("271828")})
			if err == nil || i > 20 {
				t.Fatalf("%s: guessed, or never locked: %v", method, err)
			}
			if len(w.service.Ready(t.Context(), okta.KeyUserVerificationBioOrPIN)) == 0 && method == verification.PIN ||
				len(w.service.Ready(t.Context(), okta.KeyUserVerification)) == 0 && method == verification.Fingerprint {
				break
			}
		}
	}
}

// TestConformance44UserVerification is the agent's half of the two-sided table:
// each row, for an account with a key that the PIN unlocks and for one with a
// key that the finger unlocks, is answered by one of the row's answers, signed
// by the very key that it names. C3: what the table does not call an approval
// never ends as one.
func TestConformance44UserVerification(t *testing.T) {
	org := oktatest.NewOrg(t)
	ran := 0
	for _, row := range oktatest.UVTable() {
		asks := row.Need == okta.NeedRequired || row.Need == okta.NeedPreferred
		for i, how := range slices.Sorted(maps.Keys(situations[row.Situation])) {
			set := situations[row.Situation][how]
			if i > 0 && !asks {
				continue // how it came about cannot matter
			}
			for role, method := range map[okta.KeyType]verification.Method{
				okta.KeyUserVerificationBioOrPIN: verification.PIN,
				okta.KeyUserVerification:         verification.Fingerprint,
			} {
				ran++
				t.Run(fmt.Sprintf("%s/UV=%s/UM=%s/%s%s/%s", row.Method, row.Need, row.Mediation, row.Situation, how, method), func(t *testing.T) {
					roles := []okta.KeyType{role}
					if row.Situation == oktatest.UVNotEnrolled {
						roles = nil
					}
					w := newUVWorld(t, org, roles...)
					w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
						a := prompt.Answer{Prompt: "p1", Verdict: prompt.Approved, Account: p.Account}
						if p.UserVerification != prompt.VerificationNone {
							a.Verification = w.verified(t, "p1", method)
						}
						return a, nil
					}
					set(t, w, row.Method)
					got := w.send(t, row.Method, func(c *okta.Challenge) { c.UserVerification, c.UserMediation = row.Need, row.Mediation })
					a, by := w.answer(t, row.Method)
					i := slices.IndexFunc(row.Answers, func(want oktatest.UVAnswer) bool {
						return want.Consent == a.Context.UserConsent && want.Verifying == (by != okta.KeyProofOfPossession)
					})
					if i < 0 {
						t.Fatalf("%s says %q, which is none of %+v", by, a.Context.UserConsent, row.Answers)
					}
					if a.KeyType != by || by != okta.KeyProofOfPossession && by != role {
						t.Fatalf("says %s, signed by %s", a.KeyType, by)
					}
					want := map[verification.Method]string{verification.PIN: "pin", verification.Fingerprint: "fpt"}[method]
					if by == okta.KeyProofOfPossession && len(a.AMR) != 0 || by != okta.KeyProofOfPossession && !slices.Equal(a.AMR, []string{want}) {
						t.Errorf("amr %q", a.AMR)
					}
					outcome := Approved
					switch a.Context.UserConsent {
					case okta.ConsentDenied:
						outcome = Denied
					case okta.ConsentCancelledUserVerification, okta.ConsentUVTemporarilyUnavailable, okta.ConsentUVPermanentlyUnavailable:
						outcome = Reported
					}
					if got.Outcome != outcome || (outcome == Reported) != (got.Reason != "") {
						t.Errorf("%+v, want %s", got, outcome)
					}
					if asked := w.asker.asked.Load(); row.Method == okta.MethodPush && row.Need != okta.NeedRequired && asked != 1 {
						t.Error("a push that nobody was asked about")
					}
				})
			}
		}
	}
	if ran < 2*len(oktatest.UVTable()) {
		t.Fatalf("%d rows ran only", ran)
	}
}

// What the prompt says of verification, and what a finger says that a PIN does
// not: an account with both keys signs by the biometric one after a finger, and
// by the other after a PIN.
func TestOfferedVerification(t *testing.T) {
	org := oktatest.NewOrg(t)
	both := []okta.KeyType{okta.KeyUserVerification, okta.KeyUserVerificationBioOrPIN}
	for _, row := range []struct {
		need   okta.Need
		roles  []okta.KeyType
		method verification.Method
		offers []string
		says   string
		by     okta.KeyType
	}{
		{okta.NeedRequired, both, verification.PIN, []string{"pin", "fingerprint"}, "required", okta.KeyUserVerificationBioOrPIN},
		{okta.NeedRequired, both, verification.Fingerprint, []string{"pin", "fingerprint"}, "required", okta.KeyUserVerification},
		{okta.NeedPreferred, both[1:], verification.PIN, []string{"pin"}, "preferred", okta.KeyUserVerificationBioOrPIN},
		{okta.NeedRequired, both[:1], verification.Fingerprint, []string{"fingerprint"}, "required", okta.KeyUserVerification},
	} {
		w := newUVWorld(t, org, row.roles...)
		w.approvesVerified(t, row.method)
		got := w.send(t, okta.MethodSignedNonce, func(c *okta.Challenge) { c.UserVerification, c.UserMediation = row.need, "" })
		p := w.asker.last
		if got.Outcome != Approved || p.UserVerification != row.says || !slices.Equal(p.Methods, row.offers) || !p.LockedUntil.IsZero() {
			t.Fatalf("%+v: %+v, prompt %+v", row, got, p)
		}
		if (p.TriesLeft > 0) != slices.Contains(row.offers, "pin") {
			t.Errorf("%d tries left", p.TriesLeft)
		}
		if a, by := w.answer(t, okta.MethodSignedNonce); by != row.by || a.KeyType != row.by {
			t.Errorf("%+v: signed by %s", row, by)
		}
		if r := w.records[len(w.records)-1]; r.KeyType != string(row.by) || r.Outcome != "approved" || r.Reason != "" {
			t.Errorf("on record: %+v", r)
		}
	}
	// One key is lost, the other does: asked for what is left of it.
	w := newUVWorld(t, org, both...)
	w.approvesVerified(t, verification.Fingerprint)
	for id, role := range w.verifying(t, okta.MethodPush) {
		if role == okta.KeyUserVerificationBioOrPIN {
			_ = w.keys.Delete(t.Context(), devicekey.Ref{Kind: devicekey.KindSoftware, ID: id})
		}
	}
	if got := w.send(t, okta.MethodPush, func(c *okta.Challenge) { c.UserVerification = okta.NeedRequired }); got.Outcome != Approved ||
		!slices.Equal(w.asker.last.Methods, []string{"fingerprint"}) {
		t.Fatalf("%+v, %+v", got, w.asker.last)
	}
}

// The verification of the account that was chosen counts, and an account that
// has nothing to verify with says so when it is chosen.
func TestVerificationOfSeveralAccounts(t *testing.T) {
	org := oktatest.NewOrg(t)
	for _, row := range []struct {
		choose  string
		verify  bool
		outcome Outcome
		consent okta.Consent
		by      string
	}{
		{"acc1", true, Approved, okta.ConsentApprovedUserVerification, "pfd-acc1"},
		{"acc1", false, Failed, "", ""},
		{"plain", false, Reported, okta.ConsentUVPermanentlyUnavailable, "pfd-plain"},
		{"plain", true, Reported, okta.ConsentUVPermanentlyUnavailable, "pfd-plain"},
	} {
		w := newUVWorld(t, org)
		a, b := w.account(t, org, "acc1", okta.KeyUserVerificationBioOrPIN), w.account(t, org, "plain")
		b.UserID, b.Username = "00uBob", "bob@example.com"
		w.world = newWorld(t, org, a, b)
		w.wire()
		w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
			want := []prompt.Choice{{Account: "acc1", User: oktatest.Login, UserVerification: "required"}, {Account: "plain", User: "bob@example.com", UserVerification: "none"}}
			if p.UserVerification != "required" || !slices.Equal(p.Choices, want) {
				t.Errorf("prompt %+v", p)
			}
			answer := prompt.Answer{Prompt: "p1", Verdict: prompt.Approved, Account: row.choose}
			if row.verify {
				answer.Verification = w.verified(t, "p1", verification.PIN)
			}
			return answer, nil
		}
		before := len(org.Answers())
		got := w.receive(t, org.Challenge(func(c *okta.Challenge) { c.UserVerification, c.UserMediation = okta.NeedRequired, okta.NeedNone }))
		if got.Outcome != row.outcome {
			t.Fatalf("%+v: %+v", row, got)
		}
		if row.consent == "" {
			if len(org.Answers()) != before || len(w.signed) != 0 {
				t.Errorf("%+v: answered", row)
			}
			continue
		}
		if a, _ := w.answer(t, okta.MethodSignedNonce); a.Context.UserConsent != row.consent || a.Issuer != row.by {
			t.Errorf("%+v: %+v", row, a)
		}
	}
}

// forged is a verification that somebody else says is one.
type forged struct{}

func (forged) For(string) bool { return true }

// C3: the agent never says that a person was verified without proof: not by a
// verification for another prompt, of another kind, of nobody, too old, by a
// method that may not release the key, or whose secret is gone.
func TestC3NoVerificationWithoutProof(t *testing.T) {
	org := oktatest.NewOrg(t)
	for name, row := range map[string]struct {
		role   okta.KeyType
		make   func(*testing.T, *uvWorld) prompt.Verification
		report bool // an honest report instead of a failure
	}{
		"none":       {make: func(*testing.T, *uvWorld) prompt.Verification { return nil }},
		"zero value": {make: func(*testing.T, *uvWorld) prompt.Verification { return verification.Verified{} }},
		"somebody's": {make: func(*testing.T, *uvWorld) prompt.Verification { return forged{} }},
		"a pointer": {make: func(t *testing.T, w *uvWorld) prompt.Verification {
			v := w.verified(t, "p1", verification.PIN)
			return &v
		}},
		"other prompt":  {make: func(t *testing.T, w *uvWorld) prompt.Verification { return w.verified(t, "p2", verification.PIN) }},
		"other case":    {make: func(t *testing.T, w *uvWorld) prompt.Verification { return w.verified(t, "P1", verification.PIN) }},
		"empty purpose": {make: func(t *testing.T, w *uvWorld) prompt.Verification { return w.verified(t, " ", verification.PIN) }},
		"too old": {make: func(t *testing.T, w *uvWorld) prompt.Verification {
			v := w.verified(t, "p1", verification.PIN)
			w.shift = 3 * time.Minute
			return v
		}},
		"from the future": {make: func(t *testing.T, w *uvWorld) prompt.Verification {
			w.shift = time.Hour
			v := w.verified(t, "p1", verification.PIN)
			w.shift = 0
			return v
		}},
		"wiped": {report: true, make: func(t *testing.T, w *uvWorld) prompt.Verification {
			v := w.verified(t, "p1", verification.PIN)
			v.Wipe()
			return v
		}},
		"a PIN for a biometric key": {report: true, role: okta.KeyUserVerification, make: func(t *testing.T, w *uvWorld) prompt.Verification {
			return w.verified(t, "p1", verification.PIN)
		}},
		"a finger for a PIN's key": {report: true, make: func(t *testing.T, w *uvWorld) prompt.Verification {
			return w.verified(t, "p1", verification.Fingerprint)
		}},
	} {
		for _, method := range []okta.Method{okta.MethodSignedNonce, okta.MethodPush} {
			t.Run(name+"/"+string(method), func(t *testing.T) {
				if row.role == "" {
					row.role = okta.KeyUserVerificationBioOrPIN
				}
				w := newUVWorld(t, org, row.role)
				w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
					return prompt.Answer{Prompt: "p1", Verdict: prompt.Approved, Account: p.Account, Verification: row.make(t, w)}, nil
				}
				before := len(org.Answers())
				got := w.send(t, method, func(c *okta.Challenge) { c.UserVerification = okta.NeedRequired })
				if !row.report {
					if got.Outcome != Failed || len(org.Answers()) != before || len(w.verifying(t, method)) != 1 {
						t.Fatalf("%+v, %d answers", got, len(org.Answers())-before)
					}
					return
				}
				a, by := w.answer(t, method)
				if got.Outcome != Reported || by != okta.KeyProofOfPossession || a.Context.UserConsent != okta.ConsentUVTemporarilyUnavailable ||
					a.KeyType != okta.KeyProofOfPossession || len(a.AMR) != 0 {
					t.Fatalf("%+v, %s says %+v", got, by, a)
				}
			})
		}
	}
}

// C3: a verification that ends between the approval and the signature approves
// nothing by the silent key.
func TestC3VerificationEndsBeforeTheSignature(t *testing.T) {
	org := oktatest.NewOrg(t)
	for need, want := range map[okta.Need]okta.Consent{
		okta.NeedRequired: okta.ConsentUVTemporarilyUnavailable, okta.NeedPreferred: okta.ConsentApproved,
	} {
		w := newUVWorld(t, org, okta.KeyUserVerificationBioOrPIN)
		w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
			v := w.verified(t, "p1", verification.PIN)
			now := w.Pipeline.Now
			w.Pipeline.Now = func() time.Time { // asked next when the answer is made
				w.shift = 3 * time.Minute
				return now()
			}
			return prompt.Answer{Prompt: "p1", Verdict: prompt.Approved, Account: p.Account, Verification: v}, nil
		}
		got := w.send(t, okta.MethodSignedNonce, func(c *okta.Challenge) { c.UserVerification, c.UserMediation = need, okta.NeedRequired })
		a, by := w.answer(t, okta.MethodSignedNonce)
		if a.Context.UserConsent != want || by != okta.KeyProofOfPossession || (got.Outcome == Approved) != (need == okta.NeedPreferred) {
			t.Errorf("%s: %+v, %s says %+v", need, got, by, a.Context)
		}
	}
}

// A verification is used up by its prompt: nothing of the secret is left, however
// that ends.
func TestVerificationIsWiped(t *testing.T) {
	org := oktatest.NewOrg(t)
	for name, spoil := range map[string]func(*uvWorld, *prompt.Answer){
		"approved":        func(*uvWorld, *prompt.Answer) {},
		"denied":          func(_ *uvWorld, a *prompt.Answer) { a.Verdict = prompt.Denied },
		"unanswered":      func(_ *uvWorld, a *prompt.Answer) { a.Verdict = prompt.Unanswered },
		"another account": func(_ *uvWorld, a *prompt.Answer) { a.Account = "acc9" },
		"no disk":         func(w *uvWorld, _ *prompt.Answer) { w.paper.full = errDisk },
		"no record":       func(w *uvWorld, _ *prompt.Answer) { w.unrecorded = errDisk },
		"expired":         func(w *uvWorld, _ *prompt.Answer) { w.clock = time.Hour },
	} {
		w := newUVWorld(t, org, okta.KeyUserVerificationBioOrPIN)
		var auth devicekey.Authorisation
		w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
			v := w.verified(t, "p1", verification.PIN)
			auth, _ = v.Authorise(okta.KeyUserVerificationBioOrPIN)
			a := prompt.Answer{Prompt: "p1", Verdict: prompt.Approved, Account: p.Account, Verification: v}
			spoil(w, &a)
			return a, nil
		}
		got := w.send(t, okta.MethodSignedNonce, func(c *okta.Challenge) { c.UserVerification = okta.NeedRequired })
		if (got.Outcome == Approved) != (name == "approved") {
			t.Errorf("%s: %+v", name, got)
		}
		if len(auth.Secret) != len(rightPIN) || strings.Trim(string(auth.Secret), "\x00") != "" {
			t.Errorf("%s: the secret is left: %d bytes", name, len(auth.Secret))
		}
	}
}

// C4: whatever the key store does, at whichever step, with a REQUIRED challenge
// of either kind: never an approval by another key than the one that the PIN
// unlocks, and what the org gets says no more than is true.
func TestC4KeyStoreFaultsWhileVerifying(t *testing.T) {
	org := oktatest.NewOrg(t)
	faults := []error{
		devicekey.ErrNotFound, devicekey.ErrLocked, devicekey.ErrUnavailable, devicekey.ErrUnauthorised, devicekey.ErrTooManyTries,
		context.DeadlineExceeded, fmt.Errorf("garbage"),
	}
	for _, state := range []string{
		devicekey.Absent, devicekey.PermissionDenied, devicekey.Busy, devicekey.Lockout, devicekey.Cleared, devicekey.OtherDevice,
		devicekey.OwnerAuthSet, devicekey.TooOld, devicekey.SelfTestFailed, devicekey.Unavailable,
	} {
		faults = append(faults, storeSays(state))
	}
	for _, method := range []okta.Method{okta.MethodSignedNonce, okta.MethodPush} {
		for _, fault := range faults {
			for step, more := 1, true; more; step++ { // each use of a key, until there are none left to spoil
				for _, lasting := range []bool{false, true} {
					w := newUVWorld(t, org, okta.KeyUserVerificationBioOrPIN)
					steps := 0
					w.asker.answer = func(_ context.Context, p prompt.Prompt) (prompt.Answer, error) {
						keep := w.keys.Fail
						w.keys.Fail = nil // the service has a test of its own
						defer func() { w.keys.Fail = keep }()
						return prompt.Answer{Prompt: "p1", Verdict: prompt.Approved, Account: p.Account, Verification: w.verified(t, "p1", verification.PIN)}, nil
					}
					w.fails(func(string, string) error {
						if steps++; steps == step || lasting && steps > step {
							return fault
						}
						return nil
					})
					before := len(org.Answers())
					got := w.send(t, method, func(c *okta.Challenge) { c.UserVerification = okta.NeedRequired })
					spoiled := steps >= step
					more = more && spoiled
					if len(org.Answers()) == before {
						if got.Outcome.Delivered() || !spoiled {
							t.Fatalf("step %d, %v: %+v, and the org got nothing", step, fault, got)
						}
						continue
					}
					a, by := w.answer(t, method)
					verified := by != okta.KeyProofOfPossession
					if verified != (a.Context.UserConsent == okta.ConsentApprovedUserVerification) || a.Context.UserConsent == okta.ConsentApproved ||
						a.KeyType != by || (got.Outcome == Approved) != verified || !spoiled && !verified {
						t.Fatalf("step %d, %v: %+v, %s says %+v", step, fault, got, by, a.Context)
					}
				}
				if step > 20 {
					t.Fatal("no end of steps")
				}
			}
		}
	}
}

// An org that requires verification refuses the report that there was none, and
// so has heard it: that ends as reported, and the page learns the rest from the
// org. The same word about an approval is a refusal, and others about a report
// are.
func TestRefusedReportIsHeard(t *testing.T) {
	for _, row := range []struct {
		name  string
		needs bool // verification, which there is nothing for
		code  okta.ErrorCode
		want  Outcome
	}{
		{"report", true, okta.CodeUVRequired, Reported},
		{"report, in other words", true, okta.CodeBioOrPINRequired, Reported},
		{"approval", false, okta.CodeUVRequired, OrgRefused},
		{"report to an org that minds something else", true, okta.CodeValidation, OrgRefused},
	} {
		t.Run(row.name, func(t *testing.T) {
			org := oktatest.NewOrg(t)
			w := newWorld(t, org)
			org.ReplyToAnswers(http.StatusBadRequest, `{"errorCode":"`+string(row.code)+`","errorSummary":"no","errorCauses":[]}`)
			token := org.Challenge(func(c *okta.Challenge) {
				if row.needs {
					c.UserVerification = okta.NeedRequired
				}
			})
			if got := w.receive(t, token); got.Outcome != row.want {
				t.Errorf("%+v", got)
			}
		})
	}
}
