package push

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// What differs is told by merge patch, and nothing else; what the org has not
// taken is not remembered as told.
func TestUpdate(t *testing.T) {
	login, both := []string{"LOGIN"}, []string{"LOGIN", "CIBA"}
	for name, row := range map[string]struct {
		token    string
		known    []string
		offers   []string // the org's transaction types; nil: not asked
		status   string
		patch    string // "" for none; TOKEN stands for the new one
		patchErr []error
		saved    []string
		renewed  int
	}{
		"nothing new":          {token: "t", known: login, offers: login},
		"nothing new, unsaid":  {token: "t", known: login, offers: []string{}},
		"not asked":            {token: "t", known: login},
		"no token yet":         {known: login, offers: login, patch: `{"methods":{"push":{"pushToken":"TOKEN"}}}`, saved: login},
		"CIBA is new":          {token: "t", known: login, offers: both, patch: `{"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN","CIBA"]}}}}`, saved: both},
		"CIBA is gone":         {token: "t", known: both, offers: login, patch: `{"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN"]}}}}`, saved: login},
		"unknown kinds":        {token: "t", known: login, offers: []string{"CIBA", "TRANSFER", "LOGIN"}, patch: `{"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN","CIBA"]}}}}`, saved: both},
		"both":                 {known: login, offers: both, patch: `{"methods":{"push":{"pushToken":"TOKEN","capabilities":{"transactionTypes":["LOGIN","CIBA"]}}}}`, saved: both},
		"push is switched off": {token: "t", known: both, offers: login, status: "INACTIVE"},
		"stale token": {token: "t", known: login, offers: both, patch: `{"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN","CIBA"]}}}}`, saved: both,
			patchErr: []error{okta.NewError(okta.CodeInvalidToken)}, renewed: 1},
		"refused": {token: "t", known: login, offers: both, patch: `{"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN","CIBA"]}}}}`,
			patchErr: []error{okta.NewError(okta.CodeForbidden)}},
		"refused twice": {token: "t", known: login, offers: both, patch: `{"methods":{"push":{"capabilities":{"transactionTypes":["LOGIN","CIBA"]}}}}`,
			patchErr: []error{okta.NewError(okta.CodeInvalidToken), okta.NewError(okta.CodeInvalidToken)}, renewed: 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := pushAccount("acc1")
			a.Methods[0].PushToken, a.Methods[0].Transactions = row.token, row.known
			var sent, token string
			var saved []string
			renewed, fail := 0, row.patchErr
			u := Updates{
				Authorize: func(_ context.Context, renew bool) (client.Authorization, error) {
					if renew {
						renewed++
					}
					return client.Authorization{}, nil
				},
				Patch: func(_ context.Context, _ client.Authorization, patch any) error {
					b, err := json.Marshal(patch)
					if sent = string(b); len(fail) > 0 {
						err, fail = fail[0], fail[1:]
					}
					return err
				},
				Save: func(t string, transactions []string) error { token, saved = t, transactions; return nil },
			}
			if row.offers != nil {
				status := row.status
				if status == "" {
					status = "ACTIVE"
				}
				u.Offers = func(context.Context) (okta.AuthenticatorConfiguration, error) {
					return okta.AuthenticatorConfiguration{SupportedMethods: []okta.SupportedMethod{
						{Type: okta.MethodSignedNonce, Status: "ACTIVE"},
						{Type: okta.MethodPush, Status: status, Settings: okta.MethodSettings{TransactionTypes: row.offers}},
					}}, nil
				}
			}
			err := Update(t.Context(), a, u)
			if wantErr := row.patch != "" && row.saved == nil; (err != nil) != wantErr {
				t.Fatal(err)
			}
			if row.saved != nil && row.token == "" {
				if len(token) < 20 {
					t.Fatalf("token %q", token)
				}
				sent = strings.Replace(sent, token, "TOKEN", 1)
			}
			if sent != row.patch || !slices.Equal(saved, row.saved) || renewed != row.renewed {
				t.Fatalf("sent %s, saved %v, renewed %d", sent, saved, renewed)
			}
		})
	}
	a := pushAccount("acc1")
	if err := Update(t.Context(), a, Updates{Offers: func(context.Context) (okta.AuthenticatorConfiguration, error) {
		return okta.AuthenticatorConfiguration{}, errors.New("down")
	}}); err == nil {
		t.Fatal("an org that does not answer")
	}
	a.Methods = nil
	if err := Update(t.Context(), a, Updates{}); err != nil {
		t.Fatal(err)
	}
}
