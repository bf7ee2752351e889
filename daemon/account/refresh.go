package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// RefreshOrigins asks the orgs anew which pages may talk to the agent, and
// tells them what pushes may be about where they have changed their mind. It
// returns the first error, after trying every account.
func (b *Book) RefreshOrigins(ctx context.Context) error {
	type key struct {
		url     string
		dialect Dialect
	}
	var first error
	done := map[key]okta.AuthenticatorConfiguration{}
	for _, a := range b.All() {
		if !a.Usable() {
			continue
		}
		k := key{a.OrgURL, a.Dialect}
		config, ok := done[k]
		if !ok {
			var err error
			if config, err = b.offersOf(ctx, a); err != nil {
				first = cmp.Or(first, fmt.Errorf("ask %s for its pages: %w", a.OrgURL, err))
				continue
			}
			done[k] = config
		}
		if origins := allowedOrigins(a.OrgURL, a.Alternate, config.LoopbackOrigins); !slices.Equal(origins, a.Origins) {
			if _, err := b.update(a.ID, func(a *Account) { a.Origins = origins }); err != nil {
				first = cmp.Or(first, err)
			}
		}
		if err := b.refreshPush(ctx, a, config); err != nil {
			first = cmp.Or(first, fmt.Errorf("tell %s what a push may be about: %w", a.OrgURL, err))
		}
	}
	return first
}

// offersOf asks the org of an account what it offers now.
func (b *Book) offersOf(ctx context.Context, a *Account) (okta.AuthenticatorConfiguration, error) {
	var none okta.AuthenticatorConfiguration
	org, err := b.Org(a.OrgURL)
	if err != nil {
		return none, err
	}
	speak, err := a.Dialect.protocol()
	if err != nil {
		return none, err
	}
	var auth client.Authorization
	if a.Dialect == Legacy { // which tells nobody unknown
		if auth, err = b.own(ctx, a); err != nil {
			return none, err
		}
	}
	config, err := speak.offers(ctx, org, auth)
	if err != nil {
		return none, err
	}
	if config.OrgID != "" && config.OrgID != a.OrgID {
		return none, ErrOtherOrg
	}
	return config, nil
}

// refreshPush tells the org what a push may be about, when that is not what it
// was told before: an org may begin or end to have CIBA.
func (b *Book) refreshPush(ctx context.Context, a *Account, config okta.AuthenticatorConfiguration) error {
	push, ok := a.Method(okta.MethodPush)
	if !ok || len(push.Transactions) == 0 { // enrolled, and told at that time
		return nil
	}
	i := slices.IndexFunc(config.SupportedMethods, func(m okta.SupportedMethod) bool { return m.Type == okta.MethodPush && m.Status == "ACTIVE" })
	if i < 0 {
		return nil
	}
	wanted := transactions(config.SupportedMethods[i].Settings)
	if slices.Equal(wanted, push.Transactions) {
		return nil
	}
	return b.UpdatePush(ctx, a, wanted)
}

// UpdatePush tells the org what pushes of an account may be about (2.5). A
// refusal is noted like any other.
func (b *Book) UpdatePush(ctx context.Context, a *Account, transactions []string) error {
	speak, err := a.Dialect.protocol()
	if err != nil {
		return err
	}
	org, err := b.Org(a.OrgURL)
	if err != nil {
		return err
	}
	request := okta.EnrolmentRequest{AuthenticatorID: a.AuthenticatorID, Device: b.opts.Device(ctx)}
	request.Device.ID, request.Device.ClientInstanceID = a.Device.ID, a.Device.ClientInstanceID
	request.Methods.Push = &okta.MethodRequest{Capabilities: &okta.Capabilities{TransactionTypes: transactions}}
	for renew := false; ; renew = true {
		auth, err := b.maintains(ctx, a, renew)
		if err != nil {
			return err
		}
		_, err = speak.update(ctx, org, auth, a, request)
		var refusal *okta.Error
		switch {
		case err == nil:
			b.Succeeded(a.ID)
			_, err = b.update(a.ID, func(a *Account) {
				for i := range a.Methods {
					if a.Methods[i].Type == okta.MethodPush {
						a.Methods[i].Transactions = transactions
					}
				}
			})
			return err
		case errors.As(err, &refusal) && refusal.Code == okta.CodeInvalidToken && !renew:
			continue // the token has ended before its time
		case refusal != nil:
			b.Refused(a.ID, refusal)
		}
		return err
	}
}

// maintains is what an account authorises itself with to look after itself. The
// older protocol takes a token signed by its own key, made for the occasion.
func (b *Book) maintains(ctx context.Context, a *Account, renew bool) (client.Authorization, error) {
	if a.Dialect == Legacy {
		return b.own(ctx, a)
	}
	return b.Maintenance(ctx, a, renew)
}
