package oidc

import (
	"fmt"
	"net/http"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/token"
)

// metadata is the discovery document (spec 16). It names what is served and
// nothing that is not.
type metadata struct {
	Issuer                       string   `json:"issuer"`
	AuthorizationEndpoint        string   `json:"authorization_endpoint"`
	TokenEndpoint                string   `json:"token_endpoint"`
	UserinfoEndpoint             string   `json:"userinfo_endpoint"`
	JWKSURI                      string   `json:"jwks_uri"`
	ResponseTypes                []string `json:"response_types_supported"`
	ResponseModes                []string `json:"response_modes_supported"`
	GrantTypes                   []string `json:"grant_types_supported"`
	SubjectTypes                 []string `json:"subject_types_supported"`
	IDTokenAlgorithms            []string `json:"id_token_signing_alg_values_supported"`
	Scopes                       []string `json:"scopes_supported"`
	TokenAuthMethods             []string `json:"token_endpoint_auth_methods_supported"`
	Claims                       []string `json:"claims_supported"`
	ACRValues                    []string `json:"acr_values_supported"`
	ChallengeMethods             []string `json:"code_challenge_methods_supported"`
	RevocationEndpoint           string   `json:"revocation_endpoint"`
	RevocationAuthMethods        []string `json:"revocation_endpoint_auth_methods_supported"`
	ProofAlgorithms              []string `json:"dpop_signing_alg_values_supported"`
	AuthAlgorithms               []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	BackchannelEndpoint          string   `json:"backchannel_authentication_endpoint"`
	BackchannelModes             []string `json:"backchannel_token_delivery_modes_supported"`
	BackchannelUserCode          bool     `json:"backchannel_user_code_parameter_supported"`
	RequestParameterSupported    bool     `json:"request_parameter_supported"`
	RequestURIParameterSupported bool     `json:"request_uri_parameter_supported"`
}

func (s *server) discovery(as string) http.HandlerFunc {
	issuer, _ := s.Tokens.Issuer(as)
	base := issuer + "/v1"
	scopes := []string{"openid", "profile", "email", "offline_access"}
	methods := []string{string(directory.AuthNone), string(directory.AuthBasic), string(directory.AuthPost), string(directory.AuthPrivateKey)}
	var algorithms []string
	for _, a := range jose.ClientAssertion.Algorithms {
		algorithms = append(algorithms, string(a))
	}
	grants := []string{"authorization_code", "interaction_code", "refresh_token", okta.GrantCIBA}
	if as == token.ServerOrg {
		base = issuer + "/oauth2/v1"
		grants = append(grants, okta.GrantJWTBearer)
	}
	doc := metadata{
		Issuer:                issuer,
		AuthorizationEndpoint: base + "/authorize",
		TokenEndpoint:         base + "/token",
		UserinfoEndpoint:      base + "/userinfo",
		JWKSURI:               base + "/keys",
		ResponseTypes:         []string{"code"},
		ResponseModes:         []string{"query", "fragment", "form_post"},
		GrantTypes:            grants,
		SubjectTypes:          []string{"public"},
		IDTokenAlgorithms:     []string{string(jose.RS256)},
		Scopes:                scopes,
		TokenAuthMethods:      methods,
		Claims: []string{"ver", "jti", "iss", "sub", "aud", "iat", "exp", "auth_time", "amr", "acr", "idp", "nonce", "at_hash",
			"name", "preferred_username", "given_name", "family_name", "locale", "updated_at", "email", "email_verified"},
		ACRValues:             knownACR,
		ChallengeMethods:      []string{"S256"},
		RevocationEndpoint:    base + "/revoke",
		RevocationAuthMethods: methods,
		ProofAlgorithms:       jose.ProofAlgorithms(),
		AuthAlgorithms:        algorithms,
		BackchannelEndpoint:   base + "/bc/authorize",
		BackchannelModes:      []string{"poll"},
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600, must-revalidate")
		writeJSON(w, http.StatusOK, doc)
	}
}

// keys answers /keys. Both servers sign with the same ring.
func (s *server) keys(w http.ResponseWriter, r *http.Request) {
	keys, maxAge := s.Keys.Public(r.Context())
	// Whole seconds, rounded down: a client that waits longer than this may
	// miss a change.
	w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d, must-revalidate", max(0, int64(maxAge/time.Second))))
	writeJSON(w, http.StatusOK, struct {
		Keys []jose.JWK `json:"keys"`
	}{keys})
}
