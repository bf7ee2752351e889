package token

import (
	"context"
	"errors"
	"fmt"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/store"
)

// Maintenance is what a device gets that has proven to hold the key of an
// enrolment: the right to look after that enrolment, and no other.
type Maintenance struct {
	ClientID, UserID, EnrolmentID, DeviceID, KeyID string
	Scopes                                         []string
	Key                                            string // as in Redemption
}

// IssueMaintenance makes the tokens of a device: an access token alone. Nobody
// has signed in, so it says no time of it, and no API takes it where a person is
// needed. Whoever calls has proven the device.
func (s *Service) IssueMaintenance(ctx context.Context, m Maintenance) (Tokens, error) {
	if m.ClientID == "" || m.UserID == "" || m.EnrolmentID == "" || m.DeviceID == "" || m.KeyID == "" {
		return Tokens{}, errors.New("issuing a maintenance token: it names no client, user, enrolment, device or key")
	}
	for _, scope := range m.Scopes {
		if scope != okta.ScopeMaintenanceRead && scope != okta.ScopeMaintenanceManage {
			return Tokens{}, fmt.Errorf("issuing a maintenance token: %w", ScopeUnknown)
		}
	}
	if len(m.Scopes) == 0 {
		return Tokens{}, fmt.Errorf("issuing a maintenance token: %w", ScopeMissing)
	}
	g := Grant{
		ClientID: m.ClientID, UserID: m.UserID, AuthorizationServer: ServerOrg, Scopes: m.Scopes, AMR: []string{},
		EnrolmentID: m.EnrolmentID, DeviceID: m.DeviceID, KeyID: m.KeyID, ByDevice: true,
	}
	t, err := s.issueNow(ctx, g, issue{key: m.Key})
	if err != nil {
		return Tokens{}, fmt.Errorf("issuing a maintenance token: %w", err)
	}
	return t, nil
}

// IssueBackchannel makes the tokens of a sign-in that a user approved over the
// back channel: there was no browser, so there is no code to redeem. Whoever
// calls has consumed the approval, and authenticated the client.
func (s *Service) IssueBackchannel(ctx context.Context, g Grant, key string) (Tokens, error) {
	_, known := s.Issuer(g.AuthorizationServer)
	if !known || g.ClientID == "" || g.UserID == "" || g.AuthTime.IsZero() || !g.has("openid") || g.ByDevice {
		return Tokens{}, errors.New("issuing tokens of the back channel: the grant has a hole in it")
	}
	t, err := s.issueNow(ctx, g, issue{key: key, refresh: g.has("offline_access"), refreshUntil: s.now().Add(RefreshLifetime)})
	if err != nil {
		return Tokens{}, fmt.Errorf("issuing tokens of the back channel: %w", err)
	}
	return t, nil
}

// issueNow writes a grant that no code stands for, and issues its tokens.
func (s *Service) issueNow(ctx context.Context, g Grant, i issue) (Tokens, error) {
	var p pending
	err := s.db.Write(ctx, func(tx store.Tx) error {
		now := s.now()
		if err := prune(ctx, tx, now); err != nil {
			return err
		}
		id, err := insertGrant(ctx, tx, g, now)
		if err != nil {
			return err
		}
		p, err = s.prepare(ctx, tx, id, g, i)
		return err
	})
	if err != nil {
		return Tokens{}, err
	}
	return s.issue(ctx, p, "")
}

// activeEnrolment refuses what a device got by its own key when the enrolment
// may not be used any more, or has other keys. Who holds the token may know why.
func activeEnrolment(ctx context.Context, tx store.Tx, g Grant) error {
	if !g.ByDevice {
		return nil
	}
	e, err := device.ByID(ctx, tx, g.EnrolmentID)
	if errors.Is(err, store.ErrNotFound) {
		return TokenInvalid
	}
	if err != nil {
		return fmt.Errorf("loading the enrolment of a grant: %w", err)
	}
	if refusal := e.Refusal(); refusal != nil {
		return errors.Join(TokenInvalid, refusal)
	}
	// The device has other keys now: whoever had the old one has nothing.
	if k, ok := e.KeyByID(g.KeyID); !ok || k.Role != okta.KeyProofOfPossession {
		return TokenInvalid
	}
	return nil
}
