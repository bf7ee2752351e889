package push

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"countersign.dev/daemon/account"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// Org is what Update needs of an org.
type Org interface {
	AuthenticatorConfiguration(ctx context.Context) (okta.AuthenticatorConfiguration, error)
	UpdateEnrolment(ctx context.Context, auth client.Authorization, id string, patch any) (okta.Enrolment, error)
}

// Update tells the org, by one merge patch (2.5), what has changed of how an
// account is pushed to: the token that stands for this enrolment, which nothing
// on a desktop is reached by yet, and the kinds of transactions that the person
// can be shown. save keeps what the org has taken; when nothing differs neither
// is called.
func Update(ctx context.Context, org Org, a *account.Account, authorize func(ctx context.Context, renew bool) (client.Authorization, error), save func(token string, transactions []string) error) error {
	m, ok := a.Method(okta.MethodPush)
	if !ok {
		return nil
	}
	config, err := org.AuthenticatorConfiguration(ctx)
	if err != nil {
		return fmt.Errorf("ask what the org pushes: %w", err)
	}
	token, transactions := m.PushToken, pushed(config)
	var patch struct {
		Methods struct {
			Push struct {
				PushToken    string             `json:"pushToken,omitempty"`
				Capabilities *okta.Capabilities `json:"capabilities,omitempty"`
			} `json:"push"`
		} `json:"methods"`
	}
	if token == "" {
		token = rand.Text()
		patch.Methods.Push.PushToken = token
	}
	if transactions == nil {
		transactions = m.Transactions // the org does not push just now
	} else if !slices.Equal(transactions, m.Transactions) {
		patch.Methods.Push.Capabilities = &okta.Capabilities{TransactionTypes: transactions}
	}
	if patch.Methods.Push.PushToken == "" && patch.Methods.Push.Capabilities == nil {
		return nil
	}
	for renew := false; ; renew = true {
		auth, err := authorize(ctx, renew)
		if err != nil {
			return err
		}
		_, err = org.UpdateEnrolment(ctx, auth, a.EnrolmentID, patch)
		if unauthorised(err) && !renew {
			continue
		}
		if err != nil {
			return fmt.Errorf("update the enrolment: %w", err)
		}
		return save(token, transactions)
	}
}

// pushed lists what an org's pushes may be about that this build can show; nil
// when it offers no push.
func pushed(c okta.AuthenticatorConfiguration) []string {
	for _, m := range c.SupportedMethods {
		if m.Type != okta.MethodPush || m.Status != "ACTIVE" {
			continue
		}
		list := []string{okta.TransactionLogin}
		if slices.Contains(m.Settings.TransactionTypes, okta.TransactionCIBA) {
			list = append(list, okta.TransactionCIBA)
		}
		return list
	}
	return nil
}
