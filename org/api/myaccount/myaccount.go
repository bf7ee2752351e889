// Package myaccount serves what an authenticator app asks of the org: who it
// is, what can be enrolled, and the enrolments of the signed-in user (the
// MyAccount app-authenticators API).
//
// The package translates between HTTP and org/device; it holds no rules of its
// own except who may call what: an access token's scopes, an enrolment link's
// token ("OTDT"), or a token signed by one of the enrolment's own keys ("SSWS").
package myaccount

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/api/gate"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/park"
	"countersign.dev/org/store"
)

// The scopes of an access token that count here.
const (
	ScopeManage            = okta.ScopeManage
	ScopeMaintenanceManage = okta.ScopeMaintenanceManage
	ScopeMaintenanceRead   = okta.ScopeMaintenanceRead
)

const (
	maxCreateBody = 32 << 10
	maxPatchBody  = 16 << 10
)

// Access is what a verified access token says, and Tokens who verifies it.
type (
	Access = gate.Access
	Tokens = gate.Tokens
)

// Pending lists the push challenges that wait for an enrolment.
type Pending func(ctx context.Context, tx store.Tx, enrolmentID string, now time.Time) ([]okta.PendingChallenge, error)

// Deps are what the facade is made of; all but Bound and Lot are required.
type Deps struct {
	DB       *store.DB
	Registry *device.Registry
	Tokens   Tokens
	Bound    gate.BoundTokens // nil: none are taken
	Pending  Pending
	Lot      *park.Lot // where callers wait for a push; nil: nobody waits
	BaseURL  string
	Now      func() time.Time
	Log      *slog.Logger
}

type server struct {
	Deps
	gate  gate.Gate
	polls polls
}

// New makes the facade. It serves /.well-known/okta-organization,
// /.well-known/app-authenticator-configuration and the paths from
// /idp/myaccount/app-authenticators on, except the verification of challenges.
func New(d Deps) http.Handler {
	s := &server{Deps: d, gate: gate.Gate{Registry: d.Registry, Tokens: d.Tokens, Bound: d.Bound, BaseURL: d.BaseURL, Full: []string{ScopeManage}, Now: d.Now, Log: d.Log}}
	mux := http.NewServeMux()
	mux.Handle(okta.OrganizationPath, httpx.Methods{http.MethodGet: s.organization})
	mux.Handle(okta.AuthenticatorConfigurationPath, httpx.Methods{http.MethodGet: s.configuration})
	mux.Handle(okta.AppAuthenticatorsPath, s.versioned(httpx.Methods{http.MethodPost: s.create}))
	mux.Handle(okta.AppAuthenticatorsPath+"/{id}", s.versioned(httpx.Methods{http.MethodPatch: s.update, http.MethodDelete: s.remove}))
	mux.Handle(okta.AppAuthenticatorsPath+"/{id}/push/notifications", s.versioned(httpx.Methods{http.MethodGet: s.pending}))
	mux.Handle(okta.AppAuthenticatorsPath+"/{id}"+okta.NoticesPath, s.versioned(httpx.Methods{http.MethodGet: s.notices}))
	mux.HandleFunc("/", httpx.NotFound)
	return mux
}

// versioned refuses callers that accept only versions we do not serve.
func (s *server) versioned(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !httpx.Acceptable(r) {
			httpx.WriteError(w, okta.NewError(okta.CodeNotAcceptable))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// mediaType names the version of an answer.
const mediaType = "application/json;okta-version=" + httpx.APIVersion

func (s *server) organization(w http.ResponseWriter, r *http.Request) {
	info, err := s.org(r.Context())
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	doc := okta.Organization{ID: info.ID, Pipeline: "idx"}
	doc.Links.Organization = &okta.Link{Href: s.BaseURL}
	httpx.WriteJSON(w, http.StatusOK, doc)
}

func (s *server) org(ctx context.Context) (info directory.OrgInfo, err error) {
	err = s.DB.Read(ctx, func(tx store.Tx) error {
		info, err = directory.Org(ctx, tx)
		return err
	})
	return info, err
}

// configuration tells an app what it may enrol. An app that is no
// authenticator gets an empty list, like one that nobody knows.
func (s *server) configuration(w http.ResponseWriter, r *http.Request) {
	clientID := r.URL.Query().Get("oauthClientId")
	if clientID == "" {
		httpx.WriteError(w, okta.NewError(okta.CodeParameterMissing, "oauthClientId: missing"))
		return
	}
	list := []okta.AuthenticatorConfiguration{}
	err := s.DB.Read(r.Context(), func(tx store.Tx) error {
		app, err := directory.AppByClientID(r.Context(), tx, clientID)
		if errors.Is(err, store.ErrNotFound) || err == nil && !slices.Contains(app.Scopes, ScopeManage) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := directory.Org(r.Context(), tx)
		if err != nil {
			return err
		}
		origins, err := directory.TrustedOrigins(r.Context(), tx)
		if err != nil {
			return err
		}
		list = append(list, s.configurationFor(app, info, origins))
		return nil
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, list)
}

func (s *server) configurationFor(app directory.App, info directory.OrgInfo, origins []string) okta.AuthenticatorConfiguration {
	return okta.AuthenticatorConfiguration{
		AuthenticatorID: info.Authenticators.OktaVerify,
		OrgID:           info.ID,
		// The published document knows this one key; to the sign-in pages the
		// same authenticator is okta_verify.
		Key:         okta.AuthenticatorKeyCustomApp,
		Type:        "app",
		Name:        app.Label,
		CreatedDate: okta.Timestamp(info.CreatedAt),
		LastUpdated: okta.Timestamp(info.CreatedAt),
		Settings: okta.ConfigSettings{
			UserVerification:        okta.NeedPreferred,
			UserVerificationMethods: []string{"PIN", "BIOMETRICS"},
			OAuthClientID:           app.ClientID,
		},
		SupportedMethods: device.Supported(),
		EnrolEndpoint:    s.BaseURL + okta.AppAuthenticatorsPath,
		LoopbackOrigins:  origins, // extension
	}
}

func (s *server) create(w http.ResponseWriter, r *http.Request) {
	by, err := s.gate.Authority(r)
	if err != nil {
		s.gate.TurnAway(w, r, err)
		return
	}
	var req okta.EnrolmentRequest
	if err := httpx.ReadJSON(w, r, &req, maxCreateBody); err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	e, err := s.Registry.Create(r.Context(), by, req)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.Log.InfoContext(r.Context(), "device enrolled", "enrolment", e.ID, "user", e.UserID, "device", e.Device.ID)
	s.answer(w, r, e)
}

func (s *server) update(w http.ResponseWriter, r *http.Request) {
	by, err := s.gate.Caller(r, r.PathValue("id"), ScopeMaintenanceManage, ScopeManage)
	if err != nil {
		s.gate.TurnAway(w, r, err)
		return
	}
	var patch device.Patch
	if err := httpx.ReadJSON(w, r, &patch, maxPatchBody); err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	e, err := s.Registry.Update(r.Context(), by, r.PathValue("id"), patch)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.wake(e.ID)
	s.Log.InfoContext(r.Context(), "enrolment updated", "enrolment", e.ID, "user", e.UserID, "keys_changed", patch.ChangesKeys())
	s.answer(w, r, e)
}

func (s *server) remove(w http.ResponseWriter, r *http.Request) {
	by, err := s.gate.Caller(r, r.PathValue("id"), ScopeManage)
	if err != nil {
		s.gate.TurnAway(w, r, err)
		return
	}
	if err := s.Registry.Delete(r.Context(), by, r.PathValue("id")); err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.wake(r.PathValue("id"))
	s.Log.InfoContext(r.Context(), "enrolment deleted", "enrolment", r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

// answer writes the document of an enrolment.
func (s *server) answer(w http.ResponseWriter, r *http.Request, e device.Enrolment) {
	var user directory.User
	err := s.DB.Read(r.Context(), func(tx store.Tx) (err error) {
		user, err = directory.UserByID(r.Context(), tx, e.UserID)
		return err
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSONAs(w, http.StatusOK, mediaType, document(s.BaseURL, e, user))
}

// document is an enrolment as the wire shows it (devices protocol 2.4).
func document(base string, e device.Enrolment, user directory.User) okta.Enrolment {
	self := strings.TrimSuffix(base, "/") + okta.AppAuthenticatorsPath + "/" + e.ID
	profile := e.Device.Profile
	doc := okta.Enrolment{
		ID:              e.ID,
		AuthenticatorID: e.AuthenticatorID,
		CreatedDate:     okta.Timestamp(e.CreatedAt),
		LastUpdated:     okta.Timestamp(e.UpdatedAt),
		User:            okta.EnrolmentUser{ID: user.ID, Username: user.Login},
		Device: okta.EnrolmentDevice{
			ID: e.Device.ID, Status: e.Device.Status, ClientInstanceID: e.Device.ClientInstanceID,
			CreatedDate: okta.Timestamp(e.Device.CreatedAt), LastUpdated: okta.Timestamp(e.Device.UpdatedAt),
			Profile: &profile,
		},
		Methods: map[okta.Method]okta.EnrolledMethod{},
		Links:   map[string]okta.Link{"self": {Href: self, Hints: &okta.LinkHints{Allow: []string{"PATCH", "DELETE"}}}},
	}
	for _, m := range e.Methods {
		em := okta.EnrolledMethod{ID: m.ID, CreatedDate: okta.Timestamp(m.CreatedAt), LastUpdated: okta.Timestamp(m.UpdatedAt)}
		if m.Type == okta.MethodPush {
			em.Links = map[string]okta.Link{"pending": {Href: self + "/push/notifications", Hints: &okta.LinkHints{Allow: []string{"GET"}}}}
		}
		em.SharedSecret = m.SharedSecret // of totp, when it was just enrolled
		doc.Methods[m.Type] = em
	}
	return doc
}
