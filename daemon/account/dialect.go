package account

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// Dialect is the shape of the protocol that an org speaks. An account keeps
// the one it was enrolled by.
type Dialect string

// The dialects. An account of before there were two has none: it is Modern.
const (
	Modern Dialect = "modern" // MyAccount app-authenticators (2.1 to 2.6)
	Legacy Dialect = "legacy" // the older paths of Okta Verify (2.8)
)

// protocol is what an account does at its org, whatever the dialect.
type protocol interface {
	// offers asks what may be enrolled.
	offers(ctx context.Context, org *client.Org, auth client.Authorization) (okta.AuthenticatorConfiguration, error)
	create(ctx context.Context, org *client.Org, auth client.Authorization, endpoint string, r okta.EnrolmentRequest) (okta.Enrolment, error)
	update(ctx context.Context, org *client.Org, auth client.Authorization, a *Account, r okta.EnrolmentRequest) (okta.Enrolment, error)
	remove(ctx context.Context, org *client.Org, auth client.Authorization, id string) error
	// ask asks for nothing, authorised by a key: an error is what the org has
	// against it.
	ask(ctx context.Context, org *client.Org, auth client.Authorization, a *Account) error
}

// protocol returns how to speak it; an unknown dialect is spoken by nobody.
func (d Dialect) protocol() (protocol, error) {
	switch d {
	case "", Modern:
		return modern{}, nil
	case Legacy:
		return legacy{}, nil
	}
	return nil, fmt.Errorf("this version does not speak %q to an org", string(d))
}

type modern struct{}

func (modern) offers(ctx context.Context, org *client.Org, _ client.Authorization) (okta.AuthenticatorConfiguration, error) {
	return org.AuthenticatorConfiguration(ctx)
}

func (modern) create(ctx context.Context, org *client.Org, auth client.Authorization, endpoint string, r okta.EnrolmentRequest) (okta.Enrolment, error) {
	return org.Enrol(ctx, auth, endpoint, r)
}

// update names what changes alone: what a merge patch does not name stays.
func (modern) update(ctx context.Context, org *client.Org, auth client.Authorization, a *Account, r okta.EnrolmentRequest) (okta.Enrolment, error) {
	patch := map[string]any{"methods": r.Methods}
	if k := r.Device.ClientInstanceKey; k != nil {
		patch["device"] = map[string]any{"clientInstanceKey": k}
	}
	if r.KeyChange != "" {
		patch["keyChange"] = r.KeyChange
	}
	return org.UpdateEnrolment(ctx, auth, a.EnrolmentID, patch)
}

// ask patches nothing.
func (modern) ask(ctx context.Context, org *client.Org, auth client.Authorization, a *Account) error {
	_, err := org.UpdateEnrolment(ctx, auth, a.EnrolmentID, struct{}{})
	return err
}

func (modern) remove(ctx context.Context, org *client.Org, auth client.Authorization, id string) error {
	return org.DeleteEnrolment(ctx, auth, id)
}

type legacy struct{}

func (legacy) offers(ctx context.Context, org *client.Org, auth client.Authorization) (okta.AuthenticatorConfiguration, error) {
	return org.LegacyConfiguration(ctx, auth)
}

func (legacy) create(ctx context.Context, org *client.Org, auth client.Authorization, endpoint string, r okta.EnrolmentRequest) (okta.Enrolment, error) {
	return org.LegacyEnrol(ctx, auth, endpoint, r)
}

// update is a PUT of the whole: methods that are not named would be gone.
func (legacy) update(ctx context.Context, org *client.Org, auth client.Authorization, a *Account, r okta.EnrolmentRequest) (okta.Enrolment, error) {
	for _, m := range a.Methods {
		if place := request(&r.Methods, m.Type); *place == nil {
			*place = &okta.MethodRequest{}
		}
	}
	return org.LegacyReplace(ctx, auth, a.EnrolmentID, r)
}

// ask reads what may be enrolled, which this protocol tells nobody unknown.
func (legacy) ask(ctx context.Context, org *client.Org, auth client.Authorization, _ *Account) error {
	_, err := org.LegacyConfiguration(ctx, auth)
	return err
}

func (legacy) remove(ctx context.Context, org *client.Org, auth client.Authorization, id string) error {
	return org.LegacyDelete(ctx, auth, id)
}

// discover asks an org what may be enrolled, in the newer shape first. Only an
// org that has nothing to say there is asked in the older one.
func discover(ctx context.Context, org *client.Org, auth client.Authorization) (okta.AuthenticatorConfiguration, Dialect, error) {
	config, err := modern{}.offers(ctx, org, auth)
	if !absent(err) {
		return config, Modern, err
	}
	config, old := legacy{}.offers(ctx, org, auth)
	if absent(old) {
		return config, "", client.ErrNoAuthenticator
	}
	return config, Legacy, old
}

// absent says whether an error means that the org does not have what was asked
// for, rather than that it cannot say.
func absent(err error) bool {
	var refusal *okta.Error
	var odd *client.UnexpectedAnswer
	switch {
	case errors.As(err, &refusal):
		return refusal.HTTPStatus == http.StatusNotFound
	case errors.As(err, &odd):
		return odd.Status == http.StatusNotFound
	}
	return errors.Is(err, client.ErrNoAuthenticator)
}

// own authorises a request about an enrolment by one of its own keys (3.5).
func (b *Book) own(ctx context.Context, a *Account) (client.Authorization, error) {
	m, ok := a.signer()
	if !ok {
		return client.Authorization{}, fmt.Errorf("account %s has no key to sign with", a.ID)
	}
	token, err := b.sign(ctx, m.ProofOfPossession, okta.TypeEnrolmentUpdate, a.EnrolmentID, a.UserID, a.OrgURL)
	return client.SSWS(okta.Secret(token)), err
}
