// Package admin serves what the org's administrator asks, with the admin token
// as "Authorization: SSWS …": enrolment links, the rotation of the org's keys,
// and the settings of the authenticators.
package admin

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

// Keys are the org's signing keys.
type Keys interface {
	Rotate(ctx context.Context) error
	Public(ctx context.Context) ([]jose.JWK, time.Duration)
}

// Deps are what the facade is made of; all but Notify are required.
type Deps struct {
	DB       *store.DB
	Registry *device.Registry
	Keys     Keys
	Token    okta.Secret // the admin token; an empty one admits nobody
	BaseURL  string
	// Notify is told of enrolments that may be used no more, or again; nil:
	// nobody is.
	Notify func(enrolmentIDs []string)
	Now    func() time.Time
	Log    *slog.Logger
}

// Link is the answer to a request for an enrolment link (extension).
type Link struct {
	URL       string `json:"url"`
	ExpiresAt string `json:"expiresAt"`
}

type server struct{ Deps }

// New makes the facade. It serves paths below /api/v1/.
func New(d Deps) http.Handler {
	s := &server{d}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/users/{login}/enrolment-links", s.admin(httpx.Methods{http.MethodPost: s.issueLink}))
	mux.Handle("/api/v1/authorizationServers/{id}/credentials/lifecycle/keyRotate", s.admin(httpx.Methods{http.MethodPost: s.rotate}))
	mux.Handle("/api/v1/authenticators", s.admin(httpx.Methods{http.MethodGet: s.listAuthenticators}))
	mux.Handle("/api/v1/authenticators/{id}", s.admin(httpx.Methods{http.MethodGet: s.getAuthenticator, http.MethodPut: s.putAuthenticator}))
	mux.Handle("/api/v1/authenticators/{id}/methods", s.admin(httpx.Methods{http.MethodGet: s.getMethods}))
	mux.Handle("/api/v1/authenticators/{id}/methods/{method}", s.admin(httpx.Methods{http.MethodGet: s.getMethods, http.MethodPut: s.putMethod}))
	mux.Handle("/api/v1/authenticators/{id}/lifecycle/{transition}", s.admin(httpx.Methods{http.MethodPost: s.changeAuthenticator}))
	mux.Handle("/api/v1/users/{login}/factors", s.admin(httpx.Methods{http.MethodGet: s.userFactors}))
	mux.Handle("/api/v1/users/{login}/factors/{id}", s.admin(httpx.Methods{http.MethodGet: s.getFactor, http.MethodDelete: s.deleteFactor}))
	mux.Handle("/api/v1/devices/{id}", s.admin(httpx.Methods{http.MethodGet: s.getDevice, http.MethodDelete: s.deleteDevice}))
	mux.Handle("/api/v1/devices/{id}/lifecycle/{transition}", s.admin(httpx.Methods{http.MethodPost: s.changeDevice}))
	mux.Handle("/api/v1/users/{login}", s.admin(httpx.Methods{http.MethodGet: s.getUser}))
	mux.Handle("/api/v1/users/{login}/devices", s.admin(httpx.Methods{http.MethodGet: s.userDevices}))
	mux.Handle("/api/v1/users/{login}/lifecycle/{transition}", s.admin(httpx.Methods{http.MethodPost: s.changeUser}))
	mux.HandleFunc("/", httpx.NotFound)
	return mux
}

// admin lets only the holder of the admin token pass.
func (s *server) admin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token := httpx.Authorization(r)
		if scheme != "ssws" || !httpx.SameSecret(token, s.Token) {
			httpx.WriteError(w, okta.NewError(okta.CodeInvalidToken))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// issueLink makes an enrolment link for a user, named by login or id.
func (s *server) issueLink(w http.ResponseWriter, r *http.Request) {
	ctx, now := r.Context(), s.Now()
	var out Link
	var userID string
	err := s.DB.Write(ctx, func(tx store.Tx) error {
		user, err := findUser(ctx, tx, r.PathValue("login"))
		if err != nil {
			return err
		}
		if refusal := user.Refusal(); refusal != nil {
			return refusal
		}
		info, err := directory.Org(ctx, tx)
		if err != nil {
			return err
		}
		link, err := device.IssueLink(ctx, tx, user.ID, now)
		if err != nil {
			return err
		}
		userID = user.ID
		out = Link{
			URL: okta.EnrolmentLink{Login: user.Login, Token: link.Token, AuthenticatorID: info.Authenticators.OktaVerify,
				OrgURL: s.BaseURL, Issuer: "Countersign"}.URL(),
			ExpiresAt: okta.Timestamp(link.ExpiresAt),
		}
		return nil
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.Log.InfoContext(ctx, "enrolment link issued", "user", userID)
	httpx.WriteJSON(w, http.StatusOK, out)
}

// rotate lets the next key sign. The org's own authorization server cannot be
// rotated by hand; since both servers share their keys, "default" stands for
// both.
func (s *server) rotate(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("id") != "default" {
		httpx.WriteError(w, okta.NewError(okta.CodeNotFound, "there is no such authorization server"))
		return
	}
	if err := s.Keys.Rotate(r.Context()); err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.Log.InfoContext(r.Context(), "signing keys rotated")
	keys, _ := s.Keys.Public(r.Context())
	httpx.WriteJSON(w, http.StatusOK, keys)
}
