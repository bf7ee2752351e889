package account

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// scopes are what a person's token must be good for (devices-notes 3). An org
// refuses what it does not know, so of the scopes that the older protocol has
// beside the one of the newer, only those are asked for that it names.
func scopes(d Dialect, meta client.Metadata) string {
	list := []string{"openid", "profile", okta.ScopeManage}
	if d == Legacy {
		for _, s := range [...]string{okta.ScopeAuthenticatorsRead, okta.ScopeAuthenticatorsManage, okta.ScopeAuthenticatorsManageSelf} {
			if slices.Contains(meta.Scopes, s) {
				list = append(list, s)
			}
		}
	}
	return strings.Join(list, " ")
}

// Prospect is an org at which a person is about to sign in, to enrol.
type Prospect struct {
	Org      *client.Org
	Metadata client.Metadata
	Proof    *client.ProofKey // what the token is bound to; nil for a bearer token
	Scopes   string
}

// OrgAddress reads what a person types for an org: https is assumed.
func OrgAddress(s string) string {
	s = strings.TrimSpace(s)
	if s != "" && !strings.Contains(s, "://") {
		return "https://" + s
	}
	return s
}

// Prospect asks an org whether this agent can be enrolled there, before anybody
// signs in for nothing.
func (b *Book) Prospect(ctx context.Context, orgURL string) (Prospect, error) {
	org, err := b.plainOrg(OrgAddress(orgURL))
	if err != nil {
		return Prospect{}, err
	}
	who, err := org.Organization(ctx)
	if err != nil {
		return Prospect{}, fmt.Errorf("ask %s who it is: %w", org.URL(), err)
	}
	p := Prospect{Org: org}
	config, dialect, err := discover(ctx, org, client.Authorization{})
	switch {
	case dialect == Legacy && needsToken(err):
		// What it offers is seen after the sign-in.
	case err != nil:
		return Prospect{}, fmt.Errorf("ask %s what it offers: %w", org.URL(), err)
	default:
		if config.OrgID != "" && config.OrgID != who.ID {
			return Prospect{}, ErrOtherOrg
		}
		if _, err := offered(config, b.inHardware(ctx)); err != nil {
			return Prospect{}, err
		}
	}
	if p.Metadata, err = org.Metadata(ctx); err != nil {
		return Prospect{}, fmt.Errorf("ask %s how to sign in: %w", org.URL(), err)
	}
	p.Scopes = scopes(dialect, p.Metadata)
	if p.Proof, err = b.Proof(org.URL(), p.Metadata); err != nil {
		return Prospect{}, err
	}
	return p, nil
}

// needsToken says whether an org will tell once it knows who asks.
func needsToken(err error) bool {
	var refusal *okta.Error
	return errors.As(err, &refusal) && (refusal.HTTPStatus == http.StatusUnauthorized || refusal.HTTPStatus == http.StatusForbidden)
}

// Person is who signed in, by the org's word, and what lets them enrol.
type Person struct {
	UserID        string
	Username      string // "" when the org does not say
	Authorization client.Authorization
	// Presence lets keys be made and used that demand the person's verification;
	// nil lets none.
	Presence Presence
}

// SameUser says whether a name that a person typed may mean this user: names
// differ in case, and the part behind the @ is often left out.
func SameUser(typed, username string) bool {
	if strings.EqualFold(typed, username) {
		return true
	}
	local, _, _ := strings.Cut(username, "@")
	return typed != "" && !strings.Contains(typed, "@") && strings.EqualFold(typed, local)
}

// EnrolSignedIn enrols the person who has signed in. Their token is in memory
// only: after an error that leaves open whether the org took the request, the
// same person's next sign-in finishes it, and the next start undoes it.
func (b *Book) EnrolSignedIn(ctx context.Context, p Prospect, who Person, name string) (*Account, error) {
	if who.UserID == "" || who.Authorization == (client.Authorization{}) {
		return nil, errors.New("enrol: nobody has signed in")
	}
	return b.enrol(ctx, p.Org, credential{auth: who.Authorization, user: who.UserID, username: who.Username, presence: who.Presence}, name)
}
