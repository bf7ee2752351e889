package token

import (
	"errors"

	"countersign.dev/okta"
)

// Reason says why an OAuth request was refused. It is an error: wrap it with
// what was being tried, and let OAuthError make the wire's error object of it.
//
// Statuses belong to the reason and not to the OAuth error code: the same
// "access_denied" travels with 400 or 403, as Okta's catalogue has it.
type Reason int

// The reasons. The zero value is none of them and counts as a server error.
const (
	_ Reason = iota

	// The client and where the answer goes.
	NoClient
	UnknownClient
	ClientMethod
	ClientMethods
	ClientProof
	CredentialsInAddress
	GrantNotAllowed
	RedirectMissing
	RedirectNotRegistered
	UntrustedOrigin

	// The shape of the request.
	NotForm
	Malformed
	DuplicateParameter
	ParameterTooLong
	ResponseTypeMissing
	ResponseTypeUnsupported
	ResponseModeUnsupported
	StateMissing
	StateInvalid
	NonceInvalid
	ChallengeMissing
	ChallengeInvalid
	ChallengeMethod
	PromptInvalid
	MaxAgeInvalid
	RequestObject
	ScopeMissing
	ScopeUnknown
	OpenIDMissing
	GrantTypeMissing
	GrantTypeUnsupported
	CodeMissing
	VerifierMissing
	RefreshMissing
	TokenMissing
	AssertionMissing
	ProofMissing
	HintInvalid
	BindingMessage
	ExpiryInvalid
	RequestIDMissing

	// The decision.
	LoginRequired
	UserNotAssigned
	UserNotActive
	UserUnknown
	UserThrottled
	ConfidentialOnly
	BackchannelNotAllowed
	BackchannelDenied
	AccessDenied
	Unmet

	// Codes and tokens.
	CodeInvalid
	RedirectMismatch
	PKCEFailed
	RefreshInvalid
	RefreshReused
	ScopeWidened
	BearerMissing
	TokenInvalid
	AssertionInvalid
	AssertionIssuer
	ProofInvalid
	NonceNeeded
	RequestIDInvalid
	RequestPending
	RequestExpired
	SlowDown
	ScopeInsufficient
)

type row struct {
	status int
	code   string
	text   string
}

// reasons is the one table of OAuth refusals (spec okta-oidc 14).
var reasons = map[Reason]row{
	NoClient:              {401, "invalid_client", "No client credentials found."},
	UnknownClient:         {401, "invalid_client", "The client is not known here."},
	ClientMethod:          {401, "invalid_client", "The client does not prove itself by the method that it is registered with."},
	ClientMethods:         {401, "invalid_request", "A request may carry the credentials of one client authentication method."},
	ClientProof:           {401, "invalid_client", "The client's secret or assertion is not valid."},
	CredentialsInAddress:  {400, "invalid_request", "Client credentials do not belong in the address."},
	GrantNotAllowed:       {400, "unauthorized_client", "The client may not use this grant type."},
	RedirectMissing:       {400, "invalid_request", "The parameter redirect_uri is missing."},
	RedirectNotRegistered: {400, "invalid_request", "The redirect_uri is not one that the app registered."},
	UntrustedOrigin:       {400, "access_denied", "Browser requests are answered only from the organisation's trusted origins."},

	NotForm:                 {400, "invalid_request", "The request must be form-encoded (application/x-www-form-urlencoded)."},
	Malformed:               {400, "invalid_request", "The request could not be read."},
	DuplicateParameter:      {400, "invalid_request", "A parameter was given more than once."},
	ParameterTooLong:        {400, "invalid_request", "A parameter is too long."},
	ResponseTypeMissing:     {400, "invalid_request", "The parameter response_type is missing."},
	ResponseTypeUnsupported: {400, "unsupported_response_type", "The response type is not supported. Use code."},
	ResponseModeUnsupported: {400, "unsupported_response_mode", "The response mode is not supported. Use query, fragment or form_post."},
	StateMissing:            {400, "invalid_request", "The parameter state is missing."},
	StateInvalid:            {400, "invalid_request", "The parameter state may hold letters, digits, comma, full stop, underscore and hyphen."},
	NonceInvalid:            {400, "invalid_request", "The parameter nonce holds characters that it may not."},
	ChallengeMissing:        {400, "invalid_request", "PKCE code challenge is required for this client."},
	ChallengeInvalid:        {400, "invalid_request", "The PKCE code challenge is not the base64url form of a SHA-256 hash."},
	ChallengeMethod:         {400, "invalid_request", "The PKCE code challenge method must be S256."},
	PromptInvalid:           {400, "invalid_request", "The parameter prompt is not valid. Use none or login."},
	MaxAgeInvalid:           {400, "invalid_request", "The parameter max_age must be a number of seconds from 0 to 2147483647."},
	RequestObject:           {400, "invalid_request", "The parameters request and request_uri are not supported."},
	ScopeMissing:            {400, "invalid_scope", "The parameter scope is missing."},
	ScopeUnknown:            {400, "invalid_scope", "A requested scope is not known, or not allowed for this client."},
	OpenIDMissing:           {400, "invalid_scope", "The scopes profile and email need the scope openid."},
	GrantTypeMissing:        {400, "invalid_request", "The parameter grant_type is missing."},
	GrantTypeUnsupported:    {400, "unsupported_grant_type", "The grant type is not supported."},
	CodeMissing:             {400, "invalid_request", "The code is missing."},
	VerifierMissing:         {400, "invalid_request", "The parameter code_verifier is missing."},
	RefreshMissing:          {400, "invalid_request", "The parameter refresh_token is missing."},
	TokenMissing:            {400, "invalid_request", "The parameter token is missing."},
	AssertionMissing:        {400, "invalid_request", "The parameter assertion is missing."},
	HintInvalid:             {400, "invalid_request", "The request needs one valid login_hint or id_token_hint, and not both."},
	BindingMessage:          {400, "invalid_binding_message", "The binding_message is too long or holds characters that cannot be shown."},
	ExpiryInvalid:           {400, "invalid_request", "The parameter request_expiry must be a number of seconds from 1 to 300."},
	RequestIDMissing:        {400, "invalid_request", "The parameter auth_req_id is missing."},
	ProofMissing:            {400, "invalid_request", "The token is bound to a key: the request needs one DPoP proof of it."},

	LoginRequired:         {400, "login_required", "The user is not signed in, or must sign in again."},
	UserNotAssigned:       {400, "access_denied", "The user is not assigned to the app."},
	UserUnknown:           {400, "invalid_request", "The user is not known, or may not use this client."},
	UserThrottled:         {429, "invalid_grant", "The user was asked too often. Try again later."},
	ConfidentialOnly:      {400, "access_denied", "Only web apps that prove who they are may ask over the back channel."},
	BackchannelNotAllowed: {401, "invalid_client", "The client may not use the CIBA grant type."},
	BackchannelDenied:     {400, "access_denied", "The user, or the organisation's rules, denied the request."},
	UserNotActive:         {403, "access_denied", "The user is not active."},
	AccessDenied:          {403, "access_denied", "The organisation's rules do not allow this sign-in."},
	Unmet:                 {400, "unmet_authentication_requirements", "The sign-in cannot meet the requested assurance."},

	CodeInvalid:       {400, "invalid_grant", "The code is invalid, expired or already used."},
	RedirectMismatch:  {400, "invalid_grant", "The redirect_uri differs from the one of the authorization request."},
	PKCEFailed:        {400, "invalid_grant", "PKCE verification failed."},
	RefreshInvalid:    {400, "invalid_grant", "The refresh token is invalid or expired."},
	RefreshReused:     {400, "invalid_grant", "The refresh token was used before. Everything issued by this sign-in has been revoked."},
	ScopeWidened:      {400, "invalid_scope", "A refresh cannot ask for more than was granted."},
	BearerMissing:     {401, "invalid_token", "The request carries no access token."},
	TokenInvalid:      {401, "invalid_token", "The access token is invalid, expired or revoked."},
	AssertionInvalid:  {400, "invalid_grant", "The assertion is invalid, expired, already used or not for this organisation."},
	AssertionIssuer:   {401, "invalid_token", "The issuer of the assertion is not known."},
	ProofInvalid:      {400, "invalid_dpop_proof", "The DPoP proof is invalid, expired, already used or for another request."},
	RequestIDInvalid:  {400, "invalid_grant", "The auth_req_id is not one of this client's, or was used."},
	RequestPending:    {400, "authorization_pending", "The user has not answered yet."},
	RequestExpired:    {400, "expired_token", "The request has expired."},
	SlowDown:          {400, "slow_down", "Too many questions: wait five seconds longer between two."},
	NonceNeeded:       {400, "use_dpop_nonce", "The authorization server requires a nonce in the DPoP proof."},
	ScopeInsufficient: {403, "insufficient_scope", "The access token does not have the required scope."},
}

var serverError = row{500, "server_error", "The server could not complete the request."}

func (r Reason) row() row {
	if known, ok := reasons[r]; ok {
		return known
	}
	return serverError
}

func (r Reason) Error() string { return r.row().code + ": " + r.row().text }

// OAuthError makes the wire's error object of err: the row of the Reason it
// wraps, or a server error that says nothing of the cause.
func OAuthError(err error) *okta.TokenError {
	var r Reason
	errors.As(err, &r)
	known := r.row()
	return &okta.TokenError{Code: known.code, Description: known.text, HTTPStatus: known.status}
}
