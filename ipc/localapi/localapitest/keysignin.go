package localapitest

import (
	"context"
	"net/http"

	"countersign.dev/ipc/api"
)

// KeyOrg is an org that takes security keys.
type KeyOrg struct {
	User, Password string
	Enrolled       string // id of the key; "" while there is none
}

// SignInWithKey does as the org and the keys are told. It keeps what it was
// asked, without the secrets.
func (a *Agent) SignInWithKey(_ context.Context, in api.KeySignIn) (api.KeySignedIn, error) {
	a.Lock()
	defer a.Unlock()
	asked := in
	asked.Password, asked.PIN = nil, nil
	a.KeySignIns = append(a.KeySignIns, asked)
	org := a.KeyOrgs[in.Org]
	refused := func(code, message string) (api.KeySignedIn, error) {
		return api.KeySignedIn{}, &api.Error{Status: http.StatusForbidden, Code: code, Message: message}
	}
	switch {
	case a.Fail != nil:
		return api.KeySignedIn{}, a.Fail
	case org == nil || org.User != in.Username:
		return refused("sign_in_refused", "the org refused the sign-in: There is no such user.")
	case org.Password != "" && len(in.Password) == 0:
		return refused("password_needed", "the org asks for the password")
	case org.Password != "" && in.Password.Reveal() != org.Password:
		return refused("wrong_password", "the org refused the sign-in: Password is incorrect")
	case org.Enrolled == "" && !in.Enrol:
		return refused("enrolment_needed", "no security key of yours is enrolled at the org, and it asks for one")
	case len(a.Plugged) > 1 && in.Key == "":
		return refused("key_needed", "several security keys are plugged in, and a PIN is for one of them")
	}
	k, err := a.plugged(in.Key)
	if err == nil && k.PIN != "" {
		err = k.check(in.PIN)
	}
	if err != nil {
		if refusal, ok := err.(*api.Error); ok && k != nil {
			refusal.Key, refusal.Product = k.ID, k.Product
		}
		return api.KeySignedIn{}, err
	}
	a.touch(k)
	out := api.KeySignedIn{Org: in.Org, User: in.Username, UserID: "00u2", AMR: []string{"pwd", "hwk", "mfa"}, Key: k.Product, Enrolled: org.Enrolled == ""}
	org.Enrolled = k.ID
	return out, nil
}
