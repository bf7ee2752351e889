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
	if m.ClientID == "" || m.UserID == "" || m.EnrolmentID == "" || m.DeviceID == "" {
		return Tokens{}, errors.New("issuing a maintenance token: it names no client, user, enrolment or device")
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
		p, err = s.prepare(ctx, tx, id, g, issue{key: m.Key})
		return err
	})
	if err != nil {
		return Tokens{}, fmt.Errorf("issuing a maintenance token: %w", err)
	}
	return s.issue(ctx, p, "")
}

// activeEnrolment refuses what a device got by its own key when the enrolment
// may not be used any more. Who holds the token may know why.
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
	return nil
}
