package okta

import (
	"fmt"
	"time"
)

// ErrorCode is an Okta error code (2.7).
type ErrorCode string

// The codes an authenticator meets, with the HTTP status they travel with.
const (
	CodeValidation           ErrorCode = "E0000001" // 400
	CodeAuthentication       ErrorCode = "E0000004" // 401
	CodeSession              ErrorCode = "E0000005" // 403
	CodeForbidden            ErrorCode = "E0000006" // 403
	CodeNotFound             ErrorCode = "E0000007" // 404 resource
	CodePathNotFound         ErrorCode = "E0000008" // 404 path
	CodeInternal             ErrorCode = "E0000009" // 500
	CodeInvalidToken         ErrorCode = "E0000011" // 401
	CodeFeatureDisabled      ErrorCode = "E0000015" // 401
	CodeMethodNotAllowed     ErrorCode = "E0000022" // 405
	CodeParameterMissing     ErrorCode = "E0000028" // 400
	CodeNotAllowed           ErrorCode = "E0000038" // 403
	CodeTooManyRequests      ErrorCode = "E0000047" // 429
	CodeWrongState           ErrorCode = "E0000079" // 403
	CodeUnsupportedMediaType ErrorCode = "E0000021" // 415
	CodeNotAcceptable        ErrorCode = "E0000149" // 406
	CodeDeviceSuspended      ErrorCode = "E0000152" // 403
	CodeDeviceDeleted        ErrorCode = "E0000153" // 410
	CodeEnrolmentDeleted     ErrorCode = "E0000154" // 410
	CodeUserSuspended        ErrorCode = "E0000155" // 423
	CodeUserDeleted          ErrorCode = "E0000156" // 410
	CodeUVRequired           ErrorCode = "E0000158" // 400
	CodeFIPSRequired         ErrorCode = "E0000159" // 400
	CodeEnrolmentSuspended   ErrorCode = "E0000180" // 423
	CodeOriginMismatch       ErrorCode = "E0000212" // 403
	CodeNoCIBAEnrolment      ErrorCode = "E0000214" // 400
	CodeBioOrPINRequired     ErrorCode = "E0000229" // 400
	CodeRegistrationPending  ErrorCode = "E0000265" // 409
)

var errorTable = map[ErrorCode]struct {
	status  int
	summary string
}{
	CodeValidation:           {400, "Api validation failed"},
	CodeAuthentication:       {401, "Authentication failed"},
	CodeSession:              {403, "Invalid session"},
	CodeForbidden:            {403, "You do not have permission to perform the requested action"},
	CodeNotFound:             {404, "Not found: Resource not found"},
	CodePathNotFound:         {404, "The requested path was not found"},
	CodeInternal:             {500, "Internal Server Error"},
	CodeInvalidToken:         {401, "Invalid token provided"},
	CodeFeatureDisabled:      {401, "You do not have access to this feature"},
	CodeMethodNotAllowed:     {405, "The endpoint does not support the provided HTTP method"},
	CodeParameterMissing:     {400, "The request is missing a required parameter"},
	CodeNotAllowed:           {403, "This operation is not allowed in the user's current status"},
	CodeTooManyRequests:      {429, "API call exceeded rate limit due to too many requests"},
	CodeWrongState:           {403, "This operation is not allowed in the current authentication state"},
	CodeUnsupportedMediaType: {415, "The request content type is not supported"},
	CodeNotAcceptable:        {406, "The Accept header is missing or names no supported version"},
	CodeDeviceSuspended:      {403, "The device status does not allow this operation"},
	CodeDeviceDeleted:        {410, "The device no longer exists"},
	CodeEnrolmentDeleted:     {410, "The enrolment is no longer active"},
	CodeUserSuspended:        {423, "The user is not active"},
	CodeUserDeleted:          {410, "The user no longer exists"},
	CodeUVRequired:           {400, "User verification is required"},
	CodeEnrolmentSuspended:   {423, "The enrolment is suspended"},
	CodeFIPSRequired:         {400, "A FIPS compliant authenticator is required"},
	CodeOriginMismatch:       {403, "Origin validation failed"},
	CodeNoCIBAEnrolment:      {400, "The user has no enrolment that takes CIBA requests"},
	CodeBioOrPINRequired:     {400, "A key that biometrics or a PIN protects is required"},
	CodeRegistrationPending:  {409, "A registration of this device is in progress"},
}

// Error is the error object of the Okta APIs. Every member is optional on the
// wire, since challenge verification may answer another shape.
type Error struct {
	Code    ErrorCode    `json:"errorCode,omitempty"`
	Summary string       `json:"errorSummary,omitempty"`
	Link    string       `json:"errorLink,omitempty"`
	ID      string       `json:"errorId,omitempty"`
	Causes  []ErrorCause `json:"errorCauses"`
	// HTTPStatus is the status the error travelled with.
	HTTPStatus int `json:"-"`
	// RetryAt is when a rate limit ends, as far as the org said so.
	RetryAt time.Time `json:"-"`
}

// ErrorCause is one detail of an Error.
type ErrorCause struct {
	Summary string `json:"errorSummary"`
}

// NewError makes the error object for code with its usual status and summary.
// An unknown code becomes an internal error.
func NewError(code ErrorCode, causes ...string) *Error {
	row, ok := errorTable[code]
	if !ok {
		code, row = CodeInternal, errorTable[CodeInternal]
	}
	e := &Error{Code: code, Summary: row.summary, Link: string(code), HTTPStatus: row.status, Causes: []ErrorCause{}}
	for _, c := range causes {
		e.Causes = append(e.Causes, ErrorCause{Summary: c})
	}
	return e
}

// Error is as short as texts are that people read: the org chose the words.
func (e *Error) Error() string {
	s := fmt.Sprintf("%d %.32s %.300s", e.HTTPStatus, e.Code, e.Summary)
	if len(e.Causes) > 0 {
		s += fmt.Sprintf(": %.300s", e.Causes[0].Summary)
	}
	return s
}

// Is matches another *Error by code, so that errors.Is(err, okta.NewError(c))
// asks for a code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Gone says whether the error proves that the enrolment no longer exists: one
// of the specific codes *and* status 410. A 404 or a proxy's page never does,
// so that it cannot erase keys.
func (e *Error) Gone() bool {
	if e.HTTPStatus != 410 {
		return false
	}
	switch e.Code {
	case CodeDeviceDeleted, CodeEnrolmentDeleted, CodeUserDeleted:
		return true
	}
	return false
}

// Suspended says whether the org keeps the enrolment but will not use it now.
func (e *Error) Suspended() bool {
	switch e.Code {
	case CodeDeviceSuspended, CodeUserSuspended, CodeEnrolmentSuspended:
		return true
	}
	return false
}

// TokenError is the error object of the OAuth endpoints (RFC 6749, 5.2).
type TokenError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	HTTPStatus  int    `json:"-"`
	// RetryAt is when a rate limit ends, as far as the server said so.
	RetryAt time.Time `json:"-"`
	// Nonce is what the server wants in the next proof of a key ("use_dpop_nonce").
	Nonce string `json:"-"`
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("%d %.64s: %.300s", e.HTTPStatus, e.Code, e.Description)
}
