package admin

import (
	"context"
	"errors"
	"net/http"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/store"
)

// methodObject is the method of the authenticator for security keys, which is
// where its settings are.
type methodObject struct {
	Type     string                     `json:"type"`
	Status   string                     `json:"status"`
	Settings directory.WebAuthnSettings `json:"settings"`
	Links    map[string]okta.Link       `json:"_links"`
}

// webAuthn returns the authenticator for security keys if the request names it,
// by its id or by its key (extension).
func (s *server) webAuthn(ctx context.Context, tx store.Tx, id string) (directory.WebAuthn, error) {
	a, err := directory.OrgWebAuthn(ctx, tx)
	if errors.Is(err, store.ErrNotFound) || err == nil && a.ID != id && id != directory.KeyWebAuthn {
		return a, okta.NewError(okta.CodeNotFound, "there is no such authenticator")
	}
	return a, err
}

// security makes the object of the authenticator for security keys.
func (s *server) security(a directory.WebAuthn) authenticator {
	self := s.BaseURL + "/api/v1/authenticators/" + a.ID
	o := authenticator{
		ID: a.ID, Key: directory.KeyWebAuthn, Type: "security_key", Name: "Security Key or Biometric", Status: a.Status,
		Created: okta.Timestamp(a.CreatedAt), LastUpdated: okta.Timestamp(a.UpdatedAt),
		Links: map[string]okta.Link{
			"self":    {Href: self, Hints: &okta.LinkHints{Allow: []string{http.MethodGet, http.MethodPut}}},
			"methods": {Href: self + "/methods", Hints: &okta.LinkHints{Allow: []string{http.MethodGet}}},
		},
	}
	next := "activate"
	if a.Active() {
		next = "deactivate"
	}
	o.Links[next] = okta.Link{Href: self + "/lifecycle/" + next, Hints: &okta.LinkHints{Allow: []string{http.MethodPost}}}
	return o
}

func (s *server) method(a directory.WebAuthn) methodObject {
	return methodObject{Type: string(factor.MethodWebAuthn), Status: a.Status, Settings: a.Settings, Links: map[string]okta.Link{
		"self": {Href: s.BaseURL + "/api/v1/authenticators/" + a.ID + "/methods/" + string(factor.MethodWebAuthn), Hints: &okta.LinkHints{Allow: []string{http.MethodGet, http.MethodPut}}},
	}}
}

func (s *server) getMethods(w http.ResponseWriter, r *http.Request) {
	var a directory.WebAuthn
	err := s.DB.Read(r.Context(), func(tx store.Tx) (err error) {
		a, err = s.webAuthn(r.Context(), tx, r.PathValue("id"))
		return err
	})
	switch {
	case err != nil:
		httpx.Fail(w, r, s.Log, err)
	case r.PathValue("method") == "":
		httpx.WriteJSON(w, http.StatusOK, []methodObject{s.method(a)})
	case r.PathValue("method") == string(factor.MethodWebAuthn):
		httpx.WriteJSON(w, http.StatusOK, s.method(a))
	default:
		httpx.NotFound(w, r)
	}
}

// putMethod changes which security keys are taken.
func (s *server) putMethod(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("method") != string(factor.MethodWebAuthn) {
		httpx.NotFound(w, r)
		return
	}
	var in struct {
		Settings *directory.WebAuthnSettings `json:"settings"`
	}
	if err := httpx.ReadJSON(w, r, &in, maxMethodBody); err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	err := s.DB.Write(r.Context(), func(tx store.Tx) error {
		if _, err := s.webAuthn(r.Context(), tx, r.PathValue("id")); err != nil || in.Settings == nil {
			return err
		}
		return directory.SetWebAuthn(r.Context(), tx, *in.Settings, s.Now())
	})
	if errors.Is(err, directory.ErrWebAuthnSettings) {
		err = okta.NewError(okta.CodeValidation, err.Error())
	}
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.Log.InfoContext(r.Context(), "settings of security keys changed")
	s.getMethods(w, r)
}

// maxMethodBody bounds settings, which may list many models.
const maxMethodBody = 64 << 10

// changeAuthenticator switches security keys on or off; the others are always on.
func (s *server) changeAuthenticator(w http.ResponseWriter, r *http.Request) {
	status, ok := map[string]string{"activate": directory.AuthenticatorActive, "deactivate": directory.AuthenticatorInactive}[r.PathValue("transition")]
	if !ok {
		httpx.NotFound(w, r)
		return
	}
	var a directory.WebAuthn
	err := s.DB.Write(r.Context(), func(tx store.Tx) (err error) {
		if _, err = s.webAuthn(r.Context(), tx, r.PathValue("id")); err != nil {
			return err
		}
		if err = directory.SetWebAuthnStatus(r.Context(), tx, status, s.Now()); err != nil {
			return err
		}
		a, err = directory.OrgWebAuthn(r.Context(), tx)
		return err
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.Log.InfoContext(r.Context(), "security keys switched", "status", status)
	httpx.WriteJSON(w, http.StatusOK, s.security(a))
}
