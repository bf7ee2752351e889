package factor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// How often a user's devices may be rung in vain (B1): whoever has learnt a
// password must not be able to wear its owner down. A wrong number counts as
// three: two of them are a person who picks one to be left in peace.
const (
	maxPushes   = 5
	wrongNumber = 3
	pushWindow  = 10 * time.Minute
)

// maxTargets bounds how many devices one push goes to, and so how many tokens
// are signed for it. The newest enrolments count.
const maxTargets = 32

// ErrPushThrottled says that a push was not sent: too many were left
// unanswered, or denied, shortly before.
var ErrPushThrottled = errors.New("too many pushes")

// PushRequest says what a push is about.
type PushRequest struct {
	SigninID   string
	Org        directory.OrgInfo
	User       directory.User
	Enrolments []device.Enrolment // the ones to ask; those without an active push method are left out
	AppLabel   string
	PageOrigin string // "" over the back channel
	// UserVerification is how much the org wants the user verified. Mediation
	// is not asked for: a push without a person means nothing.
	UserVerification okta.Need
	AskNumber        bool
	TransactionType  string // LOGIN or CIBA
	BindingMessage   string // plain text
	// Context is shown to the person; what the fields above say is filled in.
	Context  okta.ChallengeContext
	Lifetime time.Duration
}

// NewPush makes a push and signs one token for each device. All have the same
// transaction and nonce, so that one answer ends it. It belongs outside of any
// transaction; Insert stores it.
func (f *Factors) NewPush(ctx context.Context, r PushRequest) (Challenge, error) {
	now := f.d.Now()
	c := Challenge{
		ID: ids.Transaction(), SigninID: r.SigninID, Method: okta.MethodPush,
		UserID: r.User.ID, Issuer: f.d.BaseURL, Nonce: nonce(), PageOrigin: r.PageOrigin,
		UserVerification: r.UserVerification, UserMediation: okta.NeedRequired, TransactionType: r.TransactionType,
		Status: Pending, CreatedAt: now, ExpiresAt: now.Add(r.Lifetime),
	}
	about := r.Context
	about.TransactionTime, about.TransactionType = okta.Timestamp(now), r.TransactionType
	about.BindingMessage = url.PathEscape(r.BindingMessage)
	if r.AskNumber {
		about.ChallengeTextItems, c.Number = numbers()
	}
	claims := okta.Challenge{
		Issuer: c.Issuer, Audience: AgentClientID, ID: c.ID,
		IssuedAt: okta.DateOf(now), ExpiresAt: okta.DateOf(c.ExpiresAt),
		Nonce: c.Nonce, TransactionID: c.ID, OrgID: r.Org.ID,
		VerificationURI:  f.d.BaseURL + okta.AppAuthenticatorsPath + "/challenge/" + c.ID + "/verify",
		Method:           c.Method,
		KeyTypes:         keyTypes(c.UserVerification),
		FactorType:       string(c.Method),
		UserID:           r.User.ID,
		LoginHint:        r.User.Login,
		UserVerification: c.UserVerification, UserMediation: c.UserMediation,
		Signals:         signals,
		AppInstanceName: r.AppLabel,
		Context:         &about,
	}
	if r.PageOrigin != "" {
		claims.RequestReferrer = r.PageOrigin + "/"
	}
	for _, e := range slices.Backward(r.Enrolments) {
		m, ok := e.Method(okta.MethodPush)
		pop, hasKey := m.Key(okta.KeyProofOfPossession)
		if !ok || !hasKey || m.Status != device.StatusActive || !e.Active() || len(c.Targets) == maxTargets {
			continue
		}
		claims.AuthenticatorEnrolmentID, claims.MethodEnrolmentID, claims.KeyID = e.ID, m.ID, pop.JWK.KeyID
		token, err := f.d.Signer.Sign(ctx, okta.TypePushBind, claims)
		if err != nil {
			return Challenge{}, fmt.Errorf("signing a push: %w", err)
		}
		c.Targets = append(c.Targets, Target{e.ID, token})
	}
	if len(c.Targets) == 0 {
		return Challenge{}, errors.New("making a push: no device to send it to")
	}
	return c, nil
}

// numbers makes three different numbers of two digits, of which one is the
// right one. Nothing about their order or size tells which.
func numbers() (items []string, correct string) {
	for len(items) < 3 {
		if n := strconv.Itoa(10 + random(90)); !slices.Contains(items, n) {
			items = append(items, n)
		}
	}
	return items, items[random(len(items))]
}

// random returns a number below n.
func random(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic(err) // the system's source never fails: the process ends instead
	}
	return int(i.Int64())
}

// MayPush returns ErrPushThrottled when a user's devices have been rung in vain
// too often. Insert asks again.
func (f *Factors) MayPush(ctx context.Context, userID string) error {
	return f.d.DB.Read(ctx, func(tx store.Tx) error { return mayPush(ctx, tx, userID, f.d.Now()) })
}

func mayPush(ctx context.Context, tx store.Tx, userID string, now time.Time) error {
	var n int
	if err := tx.QueryRowContext(ctx,
		`SELECT COALESCE(SUM(CASE WHEN result LIKE ? THEN ? ELSE 1 END), 0) FROM challenges
		 WHERE user_id = ? AND created_at > ? AND method = 'push' AND status <> 'APPROVED'`,
		`{"reason":"`+string(WrongNumber)+`"%`, wrongNumber, userID, store.Millis(now.Add(-pushWindow))).Scan(&n); err != nil {
		return fmt.Errorf("counting pushes: %w", err)
	}
	if n >= maxPushes {
		return ErrPushThrottled
	}
	return nil
}
