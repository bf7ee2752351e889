// Package gate says who asks about the enrolment of a device, for the APIs
// that serve it: somebody with an access token, with the token of an enrolment
// link ("OTDT"), or with one signed by an enrolment's own key ("SSWS").
package gate

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
)

// freshLogin is how recent a sign-in must be to enrol or delete a device, or
// to change verification keys.
const freshLogin = 5 * time.Minute

// Access is what a verified access token says.
type Access struct {
	UserID   string
	Scopes   []string
	AuthTime time.Time
	// Strong says that the sign-in proved factors of two classes.
	Strong bool
	// EnrolmentID is the one enrolment that the token is good for; "" for a
	// token of a person, which is good for all of theirs.
	EnrolmentID string
}

// Tokens verifies access tokens.
type Tokens interface {
	VerifyAccessToken(ctx context.Context, token okta.Secret) (Access, error)
}

// Gate admits callers. All members but Bound are required.
type Gate struct {
	Registry *device.Registry
	Tokens   Tokens
	Bound    BoundTokens // nil: none are taken
	BaseURL  string      // the org's own address, for which proofs are made
	Full     []string    // any of these scopes lets a person do everything
	Now      func() time.Time
	Log      *slog.Logger
}

// Authority says who lets a device be enrolled.
func (g Gate) Authority(r *http.Request) (device.Authority, error) {
	scheme, credential := httpx.Authorization(r)
	switch scheme {
	case "otdt":
		return device.ByLink(credential), nil
	case "bearer", "dpop":
		access, err := g.AccessOf(r, g.Full...)
		if err != nil {
			return device.Authority{}, err
		}
		if err := g.fresh(access); err != nil { // it brings keys of its own
			return device.Authority{}, err
		}
		by := device.ByUser(access.UserID)
		if !access.Strong {
			by = by.ForTheFirst(errWeak())
		}
		return by, nil
	default:
		return device.Authority{}, okta.NewError(okta.CodeInvalidToken)
	}
}

// access verifies an access token that must carry one of the scopes.
func (g Gate) access(ctx context.Context, t Ticket, scopes []string) (Access, error) {
	if t.token == "" {
		return Access{}, okta.NewError(okta.CodeInvalidToken)
	}
	access, err := g.verify(ctx, t)
	if err != nil {
		var refusal *okta.Error
		if errors.As(err, &refusal) {
			return Access{}, refusal
		}
		if ctx.Err() != nil {
			return Access{}, err
		}
		g.Log.DebugContext(ctx, "access token refused", "error", err)
		return Access{}, okta.NewError(okta.CodeInvalidToken)
	}
	if access.UserID == "" {
		return Access{}, okta.NewError(okta.CodeInvalidToken)
	}
	if !access.has(scopes) {
		return Access{}, okta.NewError(okta.CodeForbidden, "the access token lacks the scope")
	}
	return access, nil
}

func (a Access) has(scopes []string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(a.Scopes, s) })
}

// Caller says who asks about an existing enrolment, by one of the scopes or by
// its own key. That a token signed by an enrolment key is taken is documented
// for the MyAccount API nowhere, but is what the SDK can send; for the pending
// list it is an extension.
func (g Gate) Caller(r *http.Request, id string, scopes ...string) (device.Caller, error) {
	scheme, credential := httpx.Authorization(r)
	switch scheme {
	case "ssws":
		proof, err := g.Registry.VerifyProof(r.Context(), credential.Reveal())
		if err != nil {
			return device.Caller{}, err
		}
		return device.AsDevice(proof), nil
	case "bearer", "dpop":
		access, err := g.AccessOf(r, scopes...)
		if err != nil {
			return device.Caller{}, err
		}
		if access.EnrolmentID != "" && access.EnrolmentID != id {
			return device.Caller{}, okta.NewError(okta.CodeNotFound) // as if it did not exist
		}
		by := device.AsUser(access.UserID)
		if err := g.mayChangeKeys(access); err != nil {
			by = by.KeepingKeys(err)
		}
		return by, nil
	default:
		return device.Caller{}, okta.NewError(okta.CodeInvalidToken)
	}
}

// mayChangeKeys demands a person who signed in just now, with two factors: one
// whom an enrolment belongs to has two.
func (g Gate) mayChangeKeys(a Access) error {
	if err := g.fresh(a); err != nil {
		return err
	}
	if !a.Strong {
		return errWeak()
	}
	return nil
}

// fresh demands the full scope and a person who signed in just now: whoever
// finds a token lying about must not become the one who verifies.
func (g Gate) fresh(a Access) error {
	if !a.has(g.Full) {
		return okta.NewError(okta.CodeForbidden, "changing keys takes the scope "+g.Full[0])
	}
	if age := g.Now().Sub(a.AuthTime); a.AuthTime.IsZero() || age > freshLogin {
		return okta.NewError(okta.CodeForbidden, "changing keys takes a recent sign-in")
	}
	return nil
}

func errWeak() error {
	return okta.NewError(okta.CodeForbidden, "changing keys takes a sign-in with two factors")
}
