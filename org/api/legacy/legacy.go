// Package legacy serves enrolment in its older shape, the one that Okta Verify
// speaks (devices protocol 2.8): /api/v1/authenticators and
// /idp/authenticators, with the methods in an array and PUT in place of PATCH.
//
// It is a second facade over org/device and has no rules of its own: what may
// be enrolled and changed, and by whom, is decided there and in package gate.
package legacy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/api/gate"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

const maxBody = 32 << 10

// full are the scopes that let a person do everything here, manage the others
// that change an enrolment, and read those that ask what can be enrolled.
var (
	full   = []string{okta.ScopeManage, okta.ScopeAuthenticatorsManageSelf}
	manage = append([]string{okta.ScopeMaintenanceManage}, full...)
	read   = append([]string{okta.ScopeAuthenticatorsRead, okta.ScopeAuthenticatorsManage}, full...)
)

// Deps are what the facade is made of; all but Bound and Notify are required.
type Deps struct {
	DB         *store.DB
	Registry   *device.Registry
	Tokens     gate.Tokens
	Bound      gate.BoundTokens // nil: none are taken
	AdminToken okta.Secret
	BaseURL    string
	// Notify is told of enrolments that changed; nil: nobody is.
	Notify func(enrolmentIDs []string)
	Now    func() time.Time
	Log    *slog.Logger
}

type server struct {
	Deps
	gate gate.Gate
}

// New makes the facade. It serves /api/v1/authenticators, /idp/authenticators
// and the enrolments below the latter.
func New(d Deps) http.Handler {
	s := &server{d, gate.Gate{Registry: d.Registry, Tokens: d.Tokens, Bound: d.Bound, BaseURL: d.BaseURL, Full: full, Now: d.Now, Log: d.Log}}
	mux := http.NewServeMux()
	mux.Handle(okta.LegacyAuthenticatorsPath, httpx.Methods{http.MethodGet: s.authenticators})
	mux.Handle(okta.LegacyEnrolmentsPath, httpx.Methods{http.MethodPost: s.create})
	mux.Handle(okta.LegacyEnrolmentsPath+"/{id}", httpx.Methods{http.MethodPut: s.replace, http.MethodDelete: s.remove})
	mux.HandleFunc("/", httpx.NotFound)
	return mux
}

// authenticators tells an app what it may enrol.
func (s *server) authenticators(w http.ResponseWriter, r *http.Request) {
	if err := s.mayRead(r); err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	q := r.URL.Query()
	key, clientID := q.Get("key"), q.Get("oauthClientId")
	if key == "" {
		key = okta.AuthenticatorKeyOktaVerify
	}
	if key == okta.AuthenticatorKeyCustomApp && clientID == "" {
		httpx.WriteError(w, okta.NewError(okta.CodeParameterMissing, "oauthClientId: missing"))
		return
	}
	list := []okta.LegacyAuthenticator{}
	err := s.DB.Read(r.Context(), func(tx store.Tx) error {
		if !Lists(key) {
			return nil
		}
		if clientID != "" {
			app, err := directory.AppByClientID(r.Context(), tx, clientID)
			if errors.Is(err, store.ErrNotFound) || err == nil && !slices.Contains(app.Scopes, okta.ScopeManage) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		info, err := directory.Org(r.Context(), tx)
		if err != nil {
			return err
		}
		origins, err := directory.TrustedOrigins(r.Context(), tx)
		if err != nil {
			return err
		}
		a := s.authenticator(info, key, clientID)
		a.LoopbackOrigins = origins // extension
		if q.Get("expand") == "methods" {
			a.Embedded.Methods = device.Supported()
		}
		list = append(list, a)
		return nil
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, list)
}

// Lists says whether a key is one of those that the listing knows.
func Lists(key string) bool {
	return key == okta.AuthenticatorKeyOktaVerify || key == okta.AuthenticatorKeyCustomApp
}

func (s *server) authenticator(info directory.OrgInfo, key, clientID string) okta.LegacyAuthenticator {
	a := okta.LegacyAuthenticator{
		ID: info.Authenticators.OktaVerify, Key: key, Type: "app", Status: device.StatusActive, Name: "Okta Verify",
		Settings: &okta.LegacySettings{ConfigSettings: okta.ConfigSettings{
			UserVerification: okta.NeedPreferred, UserVerificationMethods: []string{"PIN", "BIOMETRICS"}, OAuthClientID: clientID,
		}},
	}
	if key == okta.AuthenticatorKeyCustomApp {
		a.Name = "Countersign"
	}
	a.Links.Enrol = &okta.Link{Href: s.BaseURL + okta.LegacyEnrolmentsPath, Hints: &okta.LinkHints{Allow: []string{http.MethodPost}}}
	return a
}

// mayRead admits whoever is about to enrol, has enrolled, or runs the org.
func (s *server) mayRead(r *http.Request) error {
	scheme, credential := httpx.Authorization(r)
	switch scheme {
	case "bearer", "dpop":
		_, err := s.gate.AccessOf(r, read...)
		return err
	case "otdt":
		return s.Registry.CheckLink(r.Context(), credential)
	case "ssws":
		if httpx.SameSecret(credential, s.AdminToken) {
			return nil
		}
		proof, err := s.Registry.VerifyProof(r.Context(), credential.Reveal())
		if err != nil {
			return err
		}
		_, err = s.Registry.Admit(r.Context(), device.AsDevice(proof), proof.Enrolment.ID)
		return err
	default:
		return okta.NewError(okta.CodeInvalidToken)
	}
}

func (s *server) create(w http.ResponseWriter, r *http.Request) {
	by, err := s.gate.Authority(r)
	if err != nil {
		s.gate.TurnAway(w, r, err)
		return
	}
	req, ok := s.request(w, r)
	if !ok {
		return
	}
	wanted, err := creation(req)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	e, err := s.Registry.Create(r.Context(), by, wanted)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.Log.InfoContext(r.Context(), "device enrolled", "enrolment", e.ID, "user", e.UserID, "device", e.Device.ID, "shape", "legacy")
	s.answer(w, r, e, req.Key)
}

func (s *server) replace(w http.ResponseWriter, r *http.Request) {
	by, err := s.gate.Caller(r, r.PathValue("id"), manage...)
	if err != nil {
		s.gate.TurnAway(w, r, err)
		return
	}
	req, ok := s.request(w, r)
	if !ok {
		return
	}
	wanted, err := replacement(req)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	e, err := s.Registry.Replace(r.Context(), by, r.PathValue("id"), wanted)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.changed(r.Context(), "enrolment replaced", e.ID)
	s.answer(w, r, e, req.Key)
}

func (s *server) remove(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	by, err := s.gate.Caller(r, id, full...)
	if err == nil {
		err = s.Registry.Delete(r.Context(), by, id)
	}
	if err != nil {
		s.gate.TurnAway(w, r, err)
		return
	}
	s.changed(r.Context(), "enrolment deleted", id)
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) changed(ctx context.Context, what, id string) {
	if s.Notify != nil {
		s.Notify([]string{id})
	}
	s.Log.InfoContext(ctx, what, "enrolment", id, "shape", "legacy")
}

// request reads the body of create and replace.
func (s *server) request(w http.ResponseWriter, r *http.Request) (okta.LegacyEnrolmentRequest, bool) {
	var req okta.LegacyEnrolmentRequest
	err := httpx.ReadJSON(w, r, &req, maxBody)
	if err == nil && !Lists(req.Key) {
		err = invalid("key: want %s or %s", okta.AuthenticatorKeyOktaVerify, okta.AuthenticatorKeyCustomApp)
	}
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return req, false
	}
	return req, true
}

// answer writes the document of an enrolment.
func (s *server) answer(w http.ResponseWriter, r *http.Request, e device.Enrolment, key string) {
	var user directory.User
	err := s.DB.Read(r.Context(), func(tx store.Tx) (err error) {
		user, err = directory.UserByID(r.Context(), tx, e.UserID)
		return err
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, document(s.BaseURL, e, user, key))
}
