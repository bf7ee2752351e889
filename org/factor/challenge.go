// Package factor checks what people prove: a password, or a challenge that an
// authenticator signs.
//
// A signed-nonce challenge is a token the org signs, a browser carries to the
// agent on the same machine, and the agent answers with a key that was
// registered at enrolment. Four parties meet: the org, which believes only what
// it stored itself; the agent, which vouches for its user and for the origin of
// the page that called it; the browser, which is a mere carrier; and whoever
// relays, replays or forges. Answer holds every check that keeps the last one
// out (devices protocol 3.4), in one place.
//
// A challenge is answered once. It leaves PENDING in the same write transaction
// that finds it PENDING, so of any number of parallel answers one counts.
package factor

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// AgentClientID is the client id of the agent, the audience of every challenge.
const AgentClientID = "countersign-agent"

// Status is where a challenge stands. Only Approved proves anything.
type Status string

// The statuses of a challenge.
const (
	Pending   Status = "PENDING"
	Approved  Status = "APPROVED"
	Denied    Status = "DENIED"    // the person said no
	Failed    Status = "FAILED"    // answered, but not well enough; Result.Reason says why
	Withdrawn Status = "WITHDRAWN" // the sign-in went another way
)

// Reason says why an answer failed.
type Reason string

// The reasons.
const (
	NoUserVerification Reason = "USER_VERIFICATION" // asked for, and answered without
	NoConsent          Reason = "CONSENT"           // a person had to approve, and none did
	InvalidDevice      Reason = "DEVICE"            // device, enrolment or user may not be used
	Phishing           Reason = "PHISHING"          // the page was not the one that started the sign-in
)

// Challenge is a challenge as stored.
type Challenge struct {
	ID, SigninID     string
	Method           okta.Method
	UserID           string // "": the answer tells who it is
	Issuer, Nonce    string
	PageOrigin       string
	UserVerification okta.Need
	UserMediation    okta.Need
	Token            string // the signed challenge, for the browser to carry
	Status           Status
	Result           Result
	CreatedAt        time.Time
	ExpiresAt        time.Time
	AnsweredAt       time.Time
}

// Result is what an answer showed.
type Result struct {
	Reason      Reason          `json:"reason,omitempty"`
	UserID      string          `json:"userId,omitempty"`
	EnrolmentID string          `json:"enrolmentId,omitempty"`
	DeviceID    string          `json:"deviceId,omitempty"`
	KeyID       string          `json:"keyId,omitempty"`
	KeyType     okta.KeyType    `json:"keyType,omitempty"`
	Protection  jose.Protection `json:"protection,omitempty"`
	Attested    bool            `json:"attested,omitempty"`
	Consent     okta.Consent    `json:"consent,omitempty"`
}

// Proof is what an approved challenge proves. Only what the org checked becomes
// a trait: the origin, the key that signed, the consent it signed.
func (c Challenge) Proof() (policy.Proof, bool) {
	if c.Status != Approved {
		return policy.Proof{}, false
	}
	t := policy.DeviceBound | policy.PhishingResistant
	if c.Result.Protection == jose.ProtectionHardware && c.Result.Attested {
		t |= policy.Hardware
	}
	switch {
	case verifiesUser(c.Result.KeyType):
		t |= policy.UserVerification | policy.UserPresence
	case c.Result.Consent == okta.ConsentApproved:
		t |= policy.UserPresence
	}
	return policy.Proof{Method: policy.SignedNonce, Traits: t, At: c.AnsweredAt}, true
}

// Signer signs a token with the org's current key.
type Signer interface {
	Sign(ctx context.Context, typ string, claims any) (string, error)
}

// Request says what a challenge is about.
type Request struct {
	SigninID string
	Org      directory.OrgInfo
	User     directory.User // zero while unknown
	// Typed is set while User is only what somebody typed. The token then says
	// no more than that, whether there is such a user or not; the answer is
	// measured against User all the same.
	Typed            string
	AppLabel         string
	PageOrigin       string // of the page that started the sign-in
	UserVerification okta.Need
	UserMediation    okta.Need
}

// signals are what the org wants to know about the device.
var signals = []string{
	"id", "displayName", "platform", "manufacturer", "model", "osVersion", "serialNumber", "udid",
	"secureHardwarePresent", "screenLockType", "diskEncryptionType",
	"clientInstanceBundleId", "clientInstanceVersion", "clientInstanceDeviceSdkVersion",
}

// challengeClaims adds the lists that Okta sends even when they are empty.
type challengeClaims struct {
	okta.Challenge
	MDMAttestationIssuers []okta.MDMIssuer `json:"mdmAttestationIssuers"`
	CASubjectNames        []string         `json:"caSubjectNames"`
}

// NewSignedNonce makes and signs a challenge. It belongs outside of any
// transaction; Insert stores it.
func (f *Factors) NewSignedNonce(ctx context.Context, r Request) (Challenge, error) {
	now := f.now()
	c := Challenge{
		ID: ids.Transaction(), SigninID: r.SigninID, Method: okta.MethodSignedNonce,
		UserID: r.User.ID, Issuer: f.baseURL, Nonce: nonce(), PageOrigin: r.PageOrigin,
		UserVerification: r.UserVerification, UserMediation: r.UserMediation,
		Status: Pending, CreatedAt: now, ExpiresAt: now.Add(okta.ChallengeLifetime),
	}
	userID, hint := r.User.ID, r.User.Login
	if r.Typed != "" {
		userID, hint = "", r.Typed
	}
	keyTypes := []string{string(okta.KeyProofOfPossession)}
	if c.UserVerification == okta.NeedPreferred || c.UserVerification == okta.NeedRequired {
		keyTypes = []string{string(okta.KeyUserVerification), string(okta.KeyProofOfPossession)}
	}
	claims := challengeClaims{
		Challenge: okta.Challenge{
			Issuer: c.Issuer, Audience: AgentClientID, ID: c.ID,
			IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(now) + okta.NumericDate(okta.ChallengeLifetime/time.Second),
			Nonce: c.Nonce, TransactionID: c.ID, OrgID: r.Org.ID,
			VerificationURI:  f.baseURL + "/idp/authenticators/" + r.Org.Authenticators.OktaVerify + "/transactions/" + c.ID + "/verify",
			Method:           c.Method,
			UserID:           userID,
			LoginHint:        hint,
			KeyTypes:         keyTypes,
			FactorType:       string(c.Method),
			UserVerification: c.UserVerification,
			UserMediation:    c.UserMediation,
			Signals:          signals,
			AppInstanceName:  r.AppLabel,
			RequestReferrer:  r.PageOrigin + "/",
		},
		MDMAttestationIssuers: []okta.MDMIssuer{},
		CASubjectNames:        []string{},
	}
	var err error
	if c.Token, err = f.signer.Sign(ctx, okta.TypeDeviceBind, claims); err != nil {
		return Challenge{}, fmt.Errorf("signing a challenge: %w", err)
	}
	return c, nil
}

// nonce makes 32 characters.
func nonce() string {
	b := make([]byte, 24)
	rand.Read(b) // never fails: the process ends instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// Insert stores a new challenge and withdraws any other that its sign-in has
// pending: there is one at a time.
func Insert(ctx context.Context, tx store.Tx, c Challenge) error {
	if err := Withdraw(ctx, tx, c.SigninID); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO challenges (id, signin_id, method, user_id, issuer, nonce, page_origin, user_verification, user_mediation,
		   token, status, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.ID, c.SigninID, string(c.Method), c.UserID, c.Issuer, c.Nonce, c.PageOrigin, string(c.UserVerification), string(c.UserMediation),
		c.Token, string(Pending), store.Millis(c.CreatedAt), store.Millis(c.ExpiresAt)); err != nil {
		return fmt.Errorf("storing a challenge: %w", err)
	}
	return nil
}

// Withdraw ends what a sign-in has pending.
func Withdraw(ctx context.Context, tx store.Tx, signinID string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE challenges SET status = 'WITHDRAWN' WHERE signin_id = ? AND status = 'PENDING'`, signinID); err != nil {
		return fmt.Errorf("withdrawing challenges: %w", err)
	}
	return nil
}

// ByID finds a challenge.
func ByID(ctx context.Context, tx store.Tx, id string) (Challenge, error) {
	c := Challenge{ID: id}
	var result string
	var created, expires, answered int64
	err := tx.QueryRowContext(ctx,
		`SELECT signin_id, method, user_id, issuer, nonce, page_origin, user_verification, user_mediation, token, status, result,
		   created_at, expires_at, answered_at FROM challenges WHERE id = ?`, id).
		Scan(&c.SigninID, &c.Method, &c.UserID, &c.Issuer, &c.Nonce, &c.PageOrigin, &c.UserVerification, &c.UserMediation,
			&c.Token, &c.Status, &result, &created, &expires, &answered)
	if errors.Is(err, sql.ErrNoRows) {
		return Challenge{}, fmt.Errorf("looking up a challenge: %w", store.ErrNotFound)
	}
	if err != nil {
		return Challenge{}, fmt.Errorf("looking up a challenge: %w", err)
	}
	if result != "" {
		if err := json.Unmarshal([]byte(result), &c.Result); err != nil {
			return Challenge{}, fmt.Errorf("reading the result of challenge %s: %w", id, err)
		}
	}
	c.CreatedAt, c.ExpiresAt, c.AnsweredAt = store.Time(created), store.Time(expires), store.Time(answered)
	return c, nil
}

// PendingPush lists the push challenges that wait for an enrolment, oldest
// first.
func PendingPush(ctx context.Context, tx store.Tx, enrolmentID string, now time.Time) ([]okta.PendingChallenge, error) {
	rows, err := tx.QueryContext(ctx,
		`SELECT t.token FROM challenge_targets t JOIN challenges c ON c.id = t.challenge_id
		 WHERE t.enrolment_id = ? AND c.status = 'PENDING' AND c.method = 'push' AND c.expires_at > ?
		 ORDER BY c.created_at, c.id`, enrolmentID, store.Millis(now))
	if err != nil {
		return nil, fmt.Errorf("listing pending challenges: %w", err)
	}
	defer rows.Close()
	list := []okta.PendingChallenge{}
	for rows.Next() {
		p := okta.PendingChallenge{PayloadVersion: okta.PayloadVersion}
		if err := rows.Scan(&p.Challenge); err != nil {
			return nil, fmt.Errorf("listing pending challenges: %w", err)
		}
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing pending challenges: %w", err)
	}
	return list, nil
}

// Sweep removes what has expired and means nothing any more.
func Sweep(ctx context.Context, tx store.Tx, now time.Time) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM answer_ids WHERE expires_at <= ?`, store.Millis(now)); err != nil {
		return fmt.Errorf("removing old answer ids: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM password_attempts WHERE updated_at <= ?`, store.Millis(now.Add(-forget))); err != nil {
		return fmt.Errorf("removing old password attempts: %w", err)
	}
	return nil
}
