package factor

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

// skew is the tolerated difference between the org's clock and the agent's.
const skew = okta.DeviceBindLeeway

// maxAnswerLifetime bounds exp - nbf of an answer, and so how long its id is kept.
const maxAnswerLifetime = time.Hour

// Answer takes the answer to the challenge id. It returns whether the answer
// approved (true) or denied (false) what was asked; anything else is an
// *okta.Error for the agent.
//
// A push goes to several devices, and each may answer; whoever is first ends it.
//
// Nothing is believed before the signature has verified with a key that was
// stored for the enrolment, method and role which the answer names. A wrong
// answer whose signature does not verify leaves the challenge as it was: nobody
// without a key can end it. An authentic answer always ends it.
func (f *Factors) Answer(ctx context.Context, id string, req okta.AnswerRequest) (approved bool, err error) {
	typ, ok := tokenTypes[req.Method]
	if !ok {
		return false, invalid("the method does not fit the challenge")
	}
	token, err := jose.Parse(req.ChallengeResponse, jose.Answer)
	if err != nil || token.Header.Type != typ {
		return false, invalid("the challenge response is not a token of this kind")
	}
	var a okta.Answer
	if err := token.Claims(&a); err != nil {
		return false, invalid("the challenge response has malformed claims")
	}
	s, err := f.subject(ctx, id, a.Issuer)
	if err != nil {
		return false, err
	}
	if s.challenge.Method != req.Method {
		return false, invalid("the method does not fit the challenge")
	}
	now := f.d.Now()
	if err := s.open(now); err != nil {
		return false, err
	}
	key, err := s.key(&a, token.Header.KeyID)
	if err != nil {
		return false, err
	}
	if err := token.Verify(key.JWK); err != nil {
		return false, invalid("the signature does not verify")
	}
	// From here on the answer is what the holder of the key said.
	if err := s.belongs(&a, now); err != nil {
		return false, err
	}
	v := s.judge(&a, key)
	if err := f.record(ctx, s, &a, v, now); err != nil {
		return false, err
	}
	return v.status == Approved, nil
}

// tokenTypes says as what each method's challenges and answers are signed.
var tokenTypes = map[okta.Method]string{
	okta.MethodSignedNonce: okta.TypeDeviceBind,
	okta.MethodPush:        okta.TypePushBind,
}

func invalid(cause string) *okta.Error { return okta.NewError(okta.CodeValidation, cause) }

// subject is what the org knows about the challenge and about whoever claims
// to answer it.
type subject struct {
	challenge Challenge
	targets   []string // of a push: the enrolments that were asked
	enrolment device.Enrolment
	user      directory.User
}

func (f *Factors) subject(ctx context.Context, id, enrolmentID string) (s subject, err error) {
	err = f.d.DB.Read(ctx, func(tx store.Tx) error {
		if s.challenge, err = ByID(ctx, tx, id); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				return okta.NewError(okta.CodeNotFound, "there is no such challenge")
			}
			return err
		}
		if s.targets, err = targets(ctx, tx, `c.id = ?`, id); err != nil {
			return err
		}
		if s.enrolment, err = device.ByID(ctx, tx, enrolmentID); err == nil {
			s.user, err = directory.UserByID(ctx, tx, s.enrolment.UserID)
		}
		// Deleted enrolments are kept as such, so this one never was ours: no
		// reason to tell an agent that it is gone.
		if errors.Is(err, store.ErrNotFound) {
			return okta.NewError(okta.CodeNotFound, "there is no such enrolment")
		}
		return err
	})
	return s, err
}

// open refuses a challenge that takes no answer any more, or none from this
// enrolment.
func (s *subject) open(now time.Time) error {
	switch {
	case s.challenge.Method == okta.MethodPush && !slices.Contains(s.targets, s.enrolment.ID):
		return invalid("the challenge is not for this enrolment")
	case s.challenge.Status != Pending:
		return invalid("the challenge has been answered or withdrawn")
	case !now.Before(s.challenge.ExpiresAt):
		return invalid("the challenge has expired")
	}
	return nil
}

// key finds the stored key for the method, role and key id that the answer
// names. The role counts: a proof-of-possession key that claims to be a
// user-verification key is not found (C3).
func (s *subject) key(a *okta.Answer, kid string) (device.Key, error) {
	m, ok := s.enrolment.Method(s.challenge.Method)
	if !ok || m.ID == "" || m.ID != a.MethodEnrolmentID {
		return device.Key{}, invalid("the method enrolment does not fit")
	}
	k, ok := m.Key(a.KeyType)
	if !ok || kid == "" || k.JWK.KeyID != kid {
		return device.Key{}, invalid("no such key is enrolled for the method")
	}
	return k, nil
}

// belongs compares the authentic answer with the challenge it claims to answer.
func (s *subject) belongs(a *okta.Answer, now time.Time) error {
	c := &s.challenge
	equal := func(got, want string) bool {
		return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
	}
	nbf, exp := a.NotBefore.Time(), a.ExpiresAt.Time()
	switch {
	case !equal(a.TransactionID, c.ID):
		return invalid("tx is another challenge")
	case !equal(a.Nonce, c.Nonce):
		return invalid("nonce differs")
	case !equal(a.Audience, c.Issuer):
		return invalid("aud is another org")
	case !equal(a.Subject, s.enrolment.UserID):
		return invalid("sub is another user")
	case c.UserID != "" && !equal(a.Subject, c.UserID):
		return invalid("the challenge is for another user")
	case a.ID == "" || len(a.ID) > 128:
		return invalid("jti is missing or too long")
	case a.ExpiresAt == 0 || a.NotBefore == 0 || exp.Sub(nbf) > maxAnswerLifetime || exp.Before(nbf):
		return invalid("nbf or exp is missing or out of bounds")
	case now.Add(skew).Before(nbf):
		return invalid("the answer is not valid yet")
	case now.After(exp.Add(skew)):
		return invalid("the answer has expired")
	case cmp.Or(a.Context.TransactionType, okta.TransactionLogin) != c.TransactionType:
		return invalid("the transaction type does not fit")
	case a.Context.UserConsent == "":
		return invalid("userConsent is missing")
	case a.Context.Reported && a.Context.UserConsent != okta.ConsentDenied:
		return invalid("only a denial reports")
	}
	return nil
}

// verdict is what an authentic answer comes to. The zero value approves nothing.
type verdict struct {
	status  Status
	refusal *okta.Error // for the agent
	result  Result
}

// judge weighs an authentic answer that belongs to the challenge.
func (s *subject) judge(a *okta.Answer, key device.Key) verdict {
	v := verdict{status: Failed, result: Result{
		UserID: s.user.ID, EnrolmentID: s.enrolment.ID, DeviceID: s.enrolment.Device.ID,
		KeyID: key.JWK.KeyID, KeyType: key.Role, Protection: key.Protection, Attested: key.Attested,
		Consent: a.Context.UserConsent,
	}}
	fail := func(r Reason, e *okta.Error) verdict {
		v.result.Reason, v.refusal = r, e
		return v
	}
	// A deleted user is told before a deleted enrolment, the wider cause first.
	if e := s.user.Refusal(); e != nil {
		return fail(InvalidDevice, e)
	}
	if e := s.enrolment.Refusal(); e != nil {
		return fail(InvalidDevice, e)
	}
	if m, _ := s.enrolment.Method(s.challenge.Method); m.Status != device.StatusActive {
		return fail(InvalidDevice, okta.NewError(okta.CodeEnrolmentSuspended))
	}
	// A5: the agent signed the origin of the page that called it. Every signed
	// nonce travels over loopback, so a missing one is as wrong as another; a
	// push knows no page.
	if s.challenge.Method != okta.MethodPush && (a.Context.OriginHeader == "" || a.Context.OriginHeader != s.challenge.PageOrigin) {
		return fail(Phishing, okta.NewError(okta.CodeOriginMismatch))
	}
	switch consent := a.Context.UserConsent; consent {
	case okta.ConsentDenied, okta.ConsentUserAbandoned:
		v.status, v.result.Reported = Denied, a.Context.Reported
		return v
	default:
		mediation := s.challenge.UserMediation
		if s.challenge.Method == okta.MethodPush {
			mediation = okta.NeedRequired // whatever it says: no push is approved silently
		}
		if r := insufficient(s.challenge.UserVerification, mediation, key.Role, consent); r != "" {
			code := okta.CodeValidation
			if r == NoUserVerification {
				code = okta.CodeUVRequired
			}
			return fail(r, okta.NewError(code, "the challenge asked for more than this answer gives"))
		}
	}
	// B2: one try. Who does not see the page guesses right once in three times,
	// and gets no third guess for a while (mayPush).
	if n := s.challenge.Number; n != "" && subtle.ConstantTimeCompare([]byte(a.Context.SelectedChallengeItem), []byte(n)) != 1 {
		return fail(WrongNumber, invalid("the number that was picked is not the one on the page; the sign-in was rejected"))
	}
	v.status = Approved
	return v
}

// insufficient says what an answer lacks, or "". What the key role proves, the
// org knows from enrolment; the consent is the agent's word and has to fit it.
func insufficient(verification, mediation okta.Need, role okta.KeyType, consent okta.Consent) Reason {
	if role.VerifiesUser() {
		if consent != okta.ConsentApprovedUserVerification {
			return NoConsent
		}
		return "" // the verification was the interaction
	}
	if verification == okta.NeedRequired {
		return NoUserVerification
	}
	silent := mediation == okta.NeedNone || mediation == okta.NeedOptional
	preferred := verification == okta.NeedPreferred
	switch consent {
	case okta.ConsentApproved:
		return ""
	case okta.ConsentNone:
		// Where verification was preferred, clients that have no key for it differ
		// in what they say instead (7.3, no 6). None of it is taken for a person.
		if silent || preferred {
			return ""
		}
	case okta.ConsentUVTemporarilyUnavailable, okta.ConsentUVPermanentlyUnavailable:
		if preferred {
			return ""
		}
	case okta.ConsentCancelledUserVerification: // no approval where one is due
		if silent && preferred {
			return ""
		}
	}
	return NoConsent // every unknown consent, and user verification claimed for a key that does none
}

// record consumes the challenge. The check that it is still pending, the check
// that the answer's id is new, and the change are one transaction.
func (f *Factors) record(ctx context.Context, s subject, a *okta.Answer, v verdict, now time.Time) error {
	result, err := json.Marshal(v.result)
	if err != nil {
		return fmt.Errorf("recording an answer: %w", err)
	}
	changed := slices.Clone(s.targets)
	err = f.d.DB.Write(ctx, func(tx store.Tx) error {
		res, err := tx.ExecContext(ctx,
			`UPDATE challenges SET status = ?, result = ?, answered_at = ? WHERE id = ? AND status = 'PENDING' AND expires_at > ?`,
			string(v.status), string(result), store.Millis(now), s.challenge.ID, store.Millis(now))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, invalid("the challenge has been answered or withdrawn"))
		}
		res, err = tx.ExecContext(ctx,
			`INSERT INTO answer_ids (enrolment_id, jti, expires_at) VALUES (?, ?, ?) ON CONFLICT (enrolment_id, jti) DO NOTHING`,
			s.enrolment.ID, a.ID, store.Millis(a.ExpiresAt.Time().Add(2*skew)))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, invalid("jti has been seen before"))
		}
		switch {
		case v.result.Reason == WrongNumber:
			// Whoever picks at random does not get to try with the others that wait.
			more, err := end(ctx, tx, Withdrawn, `user_id = ? AND correct_number <> ''`, s.user.ID)
			changed = append(changed, more...)
			return err
		case v.status == Approved:
			return device.Touch(ctx, tx, s.enrolment.ID, now)
		case v.result.Reported:
			return f.d.Reported(ctx, tx, Report{Challenge: s.challenge, EnrolmentID: s.enrolment.ID, UserID: s.user.ID, At: now})
		}
		return nil
	})
	if refused := (*okta.Error)(nil); errors.As(err, &refused) {
		return refused
	}
	if err != nil {
		return fmt.Errorf("recording an answer: %w", err)
	}
	if len(changed) > 0 {
		slices.Sort(changed)
		f.d.Notify(slices.Compact(changed))
	}
	f.tell(ctx, s, a, v)
	if v.refusal != nil {
		return v.refusal
	}
	return nil
}

// tell logs what came of an answer.
func (f *Factors) tell(ctx context.Context, s subject, a *okta.Answer, v verdict) {
	log := f.d.Log.With("challenge", s.challenge.ID, "enrolment", s.enrolment.ID, "user_id", s.user.ID)
	switch {
	case v.result.Reason == Phishing:
		// Okta's system log knows this as "FastPass declined phishing attempt".
		log.WarnContext(ctx, "phishing attempt declined", "page_origin", s.challenge.PageOrigin, "answered_origin", a.Context.OriginHeader)
	case v.result.Reported:
		// Okta's system log knows this as "User report suspicious activity".
		log.WarnContext(ctx, "user reported suspicious activity", "method", string(s.challenge.Method))
	case v.status == Failed:
		log.InfoContext(ctx, "challenge answer refused", "reason", string(v.result.Reason))
	case v.status == Denied:
		log.InfoContext(ctx, "challenge denied by the user")
	default:
		log.InfoContext(ctx, "challenge approved", "key_type", string(v.result.KeyType))
	}
}
