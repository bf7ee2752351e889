package localapitest

import (
	"context"
	"net/http"
	"slices"

	"countersign.dev/ipc/api"
)

// Keys lists what is held.
func (a *Agent) Keys(context.Context) (api.KeyList, error) {
	a.Lock()
	defer a.Unlock()
	return api.KeyList{Keys: append([]api.Key{}, a.KeysHeld...)}, a.Fail
}

// ChangeKeys checks the PIN, and waits as an enrolment does.
func (a *Agent) ChangeKeys(ctx context.Context, id string, c api.ChangeKeys) (api.Enrolment, error) {
	a.Lock()
	i, err := a.account(id)
	if err == nil && !slices.Contains(api.KeyActions, c.Action) {
		err = &api.Error{Status: http.StatusBadRequest, Code: "bad_action", Message: "there is no such change of keys"}
	}
	if err == nil && a.PIN != "" && c.Verification == "" {
		err = a.checkPIN(c.PIN)
	}
	if err != nil {
		a.Unlock()
		return api.Enrolment{}, err
	}
	c.PIN = slices.Clone(c.PIN) // the server clears its own
	a.KeyChanges = append(a.KeyChanges, c)
	acc := a.AccountsHeld[i]
	a.Unlock()
	return a.begin(api.BeginEnrolment{Org: acc.Org, Username: acc.User, Name: acc.Name}, id)
}

// Acknowledge forgets an account's notices.
func (a *Agent) Acknowledge(_ context.Context, id string) (api.Account, error) {
	a.Lock()
	defer a.Unlock()
	i, err := a.account(id)
	if err != nil {
		return api.Account{}, err
	}
	a.AccountsHeld[i].Notices = nil
	return a.AccountsHeld[i], nil
}
