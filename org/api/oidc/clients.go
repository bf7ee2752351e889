package oidc

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/store"
	"countersign.dev/org/token"
)

// assertionType is the one kind of client assertion there is (RFC 7523).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// credentials are by what a request claims to be a client's. The zero value is
// a request that names none.
type credentials struct {
	method    directory.AuthMethod
	clientID  string
	secret    okta.Secret
	assertion string
}

// clientForm reads a form-encoded request and finds its client. A client proves
// itself by the method that it is registered with: a public one by none, and
// one that sends credentials is mistaken about who it is.
func (s *server) clientForm(w http.ResponseWriter, r *http.Request) (url.Values, directory.App, error) {
	if !s.trusted(r) {
		return nil, directory.App{}, token.UntrustedOrigin
	}
	v, err := form(w, r)
	if err != nil {
		return nil, directory.App{}, err
	}
	c, err := credentialsOf(r, v)
	if err != nil {
		return nil, directory.App{}, err
	}
	app, err := s.client(r.Context(), c.clientID)
	if err != nil {
		return nil, directory.App{}, err
	}
	if err := s.authenticate(r, app, c); err != nil {
		return nil, directory.App{}, err
	}
	return v, app, nil
}

// credentialsOf reads what the request says of its client, without believing it.
func credentialsOf(r *http.Request, v url.Values) (credentials, error) {
	if q := r.URL.Query(); q.Has("client_secret") || q.Has("client_assertion") {
		return credentials{}, token.CredentialsInAddress
	}
	c := credentials{method: directory.AuthNone, clientID: v.Get("client_id")}
	methods := 0
	if len(r.Header.Values("Authorization")) > 0 {
		methods++
		id, secret, ok := basic(r)
		if !ok {
			return credentials{}, token.ClientMethod
		}
		if c.clientID != "" && c.clientID != id {
			return credentials{}, fmt.Errorf("%w: the body names another client", token.ClientProof)
		}
		c.method, c.clientID, c.secret = directory.AuthBasic, id, okta.Secret(secret)
	}
	if v.Has("client_secret") {
		methods++
		c.method, c.secret = directory.AuthPost, okta.Secret(v.Get("client_secret"))
	}
	if v.Has("client_assertion") || v.Has("client_assertion_type") {
		methods++
		c.method, c.assertion = directory.AuthPrivateKey, v.Get("client_assertion")
		id, err := asserted(c.assertion, v.Get("client_assertion_type"))
		if err != nil {
			return credentials{}, err
		}
		if c.clientID != "" && c.clientID != id {
			return credentials{}, fmt.Errorf("%w: the body names another client", token.ClientProof)
		}
		c.clientID = id
	}
	if methods > 1 {
		return credentials{}, token.ClientMethods
	}
	return c, nil
}

// basic reads the one Authorization header. Id and secret are form-encoded in
// it (RFC 6749, 2.3.1).
func basic(r *http.Request) (id, secret string, ok bool) {
	id, secret, ok = r.BasicAuth()
	if !ok || len(r.Header.Values("Authorization")) != 1 {
		return "", "", false
	}
	id, errID := url.QueryUnescape(id)
	secret, errSecret := url.QueryUnescape(secret)
	return id, secret, errID == nil && errSecret == nil
}

// asserted returns the client that an assertion speaks of, unverified.
func asserted(assertion, kind string) (string, error) {
	if kind != assertionType {
		return "", fmt.Errorf("%w: client_assertion_type %.80q", token.ClientProof, kind)
	}
	t, err := jose.Parse(assertion, jose.ClientAssertion)
	if err != nil {
		return "", fmt.Errorf("%w: %w", token.ClientProof, err)
	}
	var c token.ClientClaims
	if err := t.Claims(&c); err != nil {
		return "", fmt.Errorf("%w: %w", token.ClientProof, err)
	}
	return c.Subject, nil
}

// authenticate believes a client, or says why not.
func (s *server) authenticate(r *http.Request, app directory.App, c credentials) error {
	registered := app.AuthMethod
	if registered == "" {
		registered = directory.AuthNone
	}
	if c.method != registered {
		return fmt.Errorf("%w: %s in place of %s", token.ClientMethod, c.method, registered)
	}
	switch registered {
	case directory.AuthNone:
		return nil
	case directory.AuthBasic, directory.AuthPost:
		ok, err := s.knowsSecret(r.Context(), app.ClientID, c.secret)
		if err == nil && !ok {
			err = token.ClientProof
		}
		return err
	case directory.AuthPrivateKey:
		return s.Tokens.VerifyClientAssertion(r.Context(), c.assertion, app, s.BaseURL+r.URL.EscapedPath())
	}
	return token.ClientMethod
}

func (s *server) knowsSecret(ctx context.Context, clientID string, secret okta.Secret) (ok bool, err error) {
	err = s.DB.Read(ctx, func(tx store.Tx) error {
		ok, err = directory.CheckClientSecret(ctx, tx, clientID, secret)
		return err
	})
	return ok, err
}
