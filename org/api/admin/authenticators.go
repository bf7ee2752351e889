package admin

import (
	"context"
	"errors"
	"net/http"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

// maxBody bounds the bodies of this API.
const maxBody = 16 << 10

// authenticator is an authenticator of the org, in the shape of Okta's
// Authenticators API as far as there is something to set.
type authenticator struct {
	ID          string               `json:"id"`
	Key         string               `json:"key"`
	Type        string               `json:"type"`
	Name        string               `json:"name"`
	Status      string               `json:"status"`
	Settings    *settings            `json:"settings,omitempty"`
	Created     string               `json:"created"`
	LastUpdated string               `json:"lastUpdated"`
	Links       map[string]okta.Link `json:"_links"`
}

type settings struct {
	ChannelBinding *channelBinding `json:"channelBinding,omitempty"`
}

// channelBinding says how what the page shows is tied to what the person
// approves on the device: by a number, or not at all.
type channelBinding struct {
	Style    string                    `json:"style"`
	Required directory.NumberChallenge `json:"required"`
}

const numberChallenge = "NUMBER_CHALLENGE"

func (s *server) authenticators(o directory.OrgInfo) []authenticator {
	list := []authenticator{
		{ID: o.Authenticators.Password, Key: "okta_password", Type: "password", Name: "Password"},
		{ID: o.Authenticators.OktaVerify, Key: okta.AuthenticatorKeyOktaVerify, Type: "app", Name: "Okta Verify",
			Settings: &settings{&channelBinding{numberChallenge, o.NumberChallenge}}},
	}
	for i := range list {
		a := &list[i]
		a.Status, a.Created, a.LastUpdated = "ACTIVE", okta.Timestamp(o.CreatedAt), okta.Timestamp(o.CreatedAt)
		a.Links = map[string]okta.Link{"self": {Href: s.BaseURL + "/api/v1/authenticators/" + a.ID, Hints: &okta.LinkHints{Allow: []string{"GET", "PUT"}}}}
	}
	return list
}

func (s *server) org(ctx context.Context) (o directory.OrgInfo, err error) {
	err = s.DB.Read(ctx, func(tx store.Tx) error {
		o, err = directory.Org(ctx, tx)
		return err
	})
	return o, err
}

// listAuthenticators lists all, or those with the key that is asked for.
func (s *server) listAuthenticators(w http.ResponseWriter, r *http.Request) {
	key, list := r.URL.Query().Get("key"), []authenticator{}
	err := s.DB.Read(r.Context(), func(tx store.Tx) error {
		o, err := directory.Org(r.Context(), tx)
		if err != nil {
			return err
		}
		all := s.authenticators(o)
		keys, err := directory.OrgWebAuthn(r.Context(), tx)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if keys.ID != "" {
			all = append(all, s.security(keys))
		}
		for _, a := range all {
			if key == "" || key == a.Key {
				list = append(list, a)
			}
		}
		return nil
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, list)
}

func (s *server) getAuthenticator(w http.ResponseWriter, r *http.Request) {
	a, err := s.authenticator(r)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, a)
}

func (s *server) authenticator(r *http.Request) (authenticator, error) {
	var keys directory.WebAuthn
	err := s.DB.Read(r.Context(), func(tx store.Tx) (err error) {
		keys, err = s.webAuthn(r.Context(), tx, r.PathValue("id"))
		return err
	})
	if err == nil {
		return s.security(keys), nil
	}
	if refused := (*okta.Error)(nil); !errors.As(err, &refused) {
		return authenticator{}, err
	}
	o, err := s.org(r.Context())
	if err != nil {
		return authenticator{}, err
	}
	for _, a := range s.authenticators(o) {
		if a.ID == r.PathValue("id") {
			return a, nil
		}
	}
	return authenticator{}, okta.NewError(okta.CodeNotFound, "there is no such authenticator")
}

// putAuthenticator changes when pushes ask for the number, which is all there
// is to set here; security keys have their settings at their method. Other
// members are left alone: a client sends back what it has read.
func (s *server) putAuthenticator(w http.ResponseWriter, r *http.Request) {
	a, err := s.authenticator(r)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	var in struct {
		Key      string    `json:"key"`
		Settings *settings `json:"settings"`
	}
	if err := httpx.ReadJSON(w, r, &in, maxBody); err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	if in.Key != "" && in.Key != a.Key {
		httpx.WriteError(w, okta.NewError(okta.CodeValidation, "key: cannot be changed"))
		return
	}
	if in.Settings != nil && in.Settings.ChannelBinding != nil {
		if err := s.bind(r.Context(), a, *in.Settings.ChannelBinding); err != nil {
			httpx.Fail(w, r, s.Log, err)
			return
		}
	}
	s.getAuthenticator(w, r)
}

func (s *server) bind(ctx context.Context, a authenticator, b channelBinding) error {
	if a.Settings == nil {
		return okta.NewError(okta.CodeValidation, "settings.channelBinding: not of this authenticator")
	}
	if b.Style != numberChallenge {
		return okta.NewError(okta.CodeValidation, "settings.channelBinding.style: want "+numberChallenge)
	}
	err := s.DB.Write(ctx, func(tx store.Tx) error { return directory.SetNumberChallenge(ctx, tx, b.Required) })
	if errors.Is(err, directory.ErrNumberChallenge) {
		return okta.NewError(okta.CodeValidation, "settings.channelBinding.required: "+directory.ErrNumberChallenge.Error())
	}
	if err != nil {
		return err
	}
	s.Log.InfoContext(ctx, "number challenge changed", "required", string(b.Required))
	return nil
}
