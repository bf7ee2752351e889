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

// Updates are the parts of an Update.
type Updates struct {
	// Offers asks the org what it has; nil when the account knows that it has
	// not changed, as right after an enrolment.
	Offers    func(ctx context.Context) (okta.AuthenticatorConfiguration, error)
	Authorize func(ctx context.Context, renew bool) (client.Authorization, error)
	Patch     func(ctx context.Context, auth client.Authorization, patch any) error
	Save      func(token string, transactions []string) error // what the org has taken
}

// Update tells the org, by one merge patch (2.5), what has changed of how an
// account is pushed to: the token that stands for this enrolment, which nothing
// on a desktop is reached by yet, and the kinds of transactions that the person
// can be shown. When nothing differs, nothing is sent.
func Update(ctx context.Context, a *account.Account, u Updates) error {
	m, ok := a.Method(okta.MethodPush)
	if !ok {
		return nil
	}
	token, transactions := m.PushToken, m.Transactions
	if u.Offers != nil {
		config, err := u.Offers(ctx)
		if err != nil {
			return fmt.Errorf("ask what the org pushes: %w", err)
		}
		if list := pushed(config); list != nil {
			transactions = list
		}
	}
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
	if !slices.Equal(transactions, m.Transactions) {
		patch.Methods.Push.Capabilities = &okta.Capabilities{TransactionTypes: transactions}
	}
	if patch.Methods.Push.PushToken == "" && patch.Methods.Push.Capabilities == nil {
		return nil
	}
	for renew := false; ; renew = true {
		auth, err := u.Authorize(ctx, renew)
		if err != nil {
			return err
		}
		err = u.Patch(ctx, auth, patch)
		if unauthorised(err) && !renew {
			continue
		}
		if err != nil {
			return fmt.Errorf("update the enrolment: %w", err)
		}
		return u.Save(token, transactions)
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
