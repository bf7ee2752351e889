package helper

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"countersign.dev/authenticators/securitykey/wire"
)

// The structures of webauthn.h (github.com/microsoft/webauthn) that are used here,
// in the oldest version that does, and what is written to them and read from them.
// None of this is of Windows alone, so that all of it is tested everywhere.

type (
	winRP struct { // WEBAUTHN_RP_ENTITY_INFORMATION
		version        uint32
		id, name, icon *uint16
	}
	winUser struct { // WEBAUTHN_USER_ENTITY_INFORMATION
		version                 uint32
		idLen                   uint32
		id                      *byte
		name, icon, displayName *uint16
	}
	winClientData struct { // WEBAUTHN_CLIENT_DATA
		version uint32
		jsonLen uint32
		json    *byte
		hash    *uint16
	}
	winParameter struct { // WEBAUTHN_COSE_CREDENTIAL_PARAMETER
		version   uint32
		kind      *uint16
		algorithm int32
	}
	winParameters struct { // WEBAUTHN_COSE_CREDENTIAL_PARAMETERS
		n     uint32
		first *winParameter
	}
	winCredential struct { // WEBAUTHN_CREDENTIAL
		version uint32
		idLen   uint32
		id      *byte
		kind    *uint16
	}
	winCredentialEx struct { // WEBAUTHN_CREDENTIAL_EX
		winCredential
		transports uint32
	}
	winCredentialList struct { // WEBAUTHN_CREDENTIAL_LIST
		n     uint32
		first **winCredentialEx
	}
	winExtension struct { // WEBAUTHN_EXTENSION
		id   *uint16
		size uint32
		data *int32
	}
	winExtensions struct { // WEBAUTHN_EXTENSIONS
		n     uint32
		first *winExtension
	}
	winSalt struct { // WEBAUTHN_HMAC_SECRET_SALT
		firstLen  uint32
		first     *byte
		secondLen uint32
		second    *byte
	}
	winSalts struct { // WEBAUTHN_HMAC_SECRET_SALT_VALUES
		all      *winSalt
		eachLen  uint32
		eachSalt uintptr
	}
	winGUID        [4]uint32 // GUID
	winMakeOptions struct {  // WEBAUTHN_AUTHENTICATOR_MAKE_CREDENTIAL_OPTIONS, version 3
		version      uint32
		milliseconds uint32
		oldExclude   struct {
			n     uint32
			first *winCredential
		}
		extensions   winExtensions
		attachment   uint32
		resident     int32
		verification uint32
		attestation  uint32
		flags        uint32
		cancellation *winGUID
		exclude      *winCredentialList
	}
	winGetOptions struct { // WEBAUTHN_AUTHENTICATOR_GET_ASSERTION_OPTIONS, version 6
		version      uint32
		milliseconds uint32
		oldAllow     struct {
			n     uint32
			first *winCredential
		}
		extensions     winExtensions
		attachment     uint32
		verification   uint32
		flags          uint32
		u2fAppID       *uint16
		u2fAppIDUsed   *int32
		cancellation   *winGUID
		allow          *winCredentialList // of version 4, the last that is always there
		largeOperation uint32
		largeLen       uint32
		large          *byte
		salts          *winSalts
		private        int32
	}
	winAttestation struct { // WEBAUTHN_CREDENTIAL_ATTESTATION, version 1
		version      uint32
		format       *uint16
		authDataLen  uint32
		authData     *byte
		statementLen uint32
		statement    *byte
		decodedAs    uint32
		decoded      uintptr
		objectLen    uint32
		object       *byte
		idLen        uint32
		id           *byte
	}
	winAssertion struct { // WEBAUTHN_ASSERTION, version 3
		version      uint32
		authDataLen  uint32
		authData     *byte
		signatureLen uint32
		signature    *byte
		credential   winCredential
		userIDLen    uint32
		userID       *byte
		extensions   winExtensions
		largeLen     uint32
		large        *byte
		largeStatus  uint32
		secret       *winSalt
	}
)

// Values of webauthn.h.
const (
	winSaltsSince    = 4 // version of the interface that takes salts
	winCrossPlatform = 2 // WEBAUTHN_AUTHENTICATOR_ATTACHMENT_CROSS_PLATFORM
	winDirect        = 3 // WEBAUTHN_ATTESTATION_CONVEYANCE_PREFERENCE_DIRECT: as the key gives it
	winRawSalts      = 0x00100000
)

// winVerification are the values of WEBAUTHN_USER_VERIFICATION_REQUIREMENT.
var winVerification = map[string]uint32{"required": 1, "preferred": 2, "discouraged": 3, "": 3}

// hresult is an error of Windows.
type hresult uint32

func (h hresult) Error() string { return "an error of Windows" }

// hresults are what errors mean. They are those that webauthn.h names for
// WebAuthNGetErrorName; what is not here is Windows' own failure.
var hresults = map[hresult]string{
	0x8009000f: wire.Excluded,     // NTE_EXISTS
	0x80070032: wire.Unsupported,  // ERROR_NOT_SUPPORTED
	0x80090029: wire.Unsupported,  // NTE_NOT_SUPPORTED
	0x80090027: wire.Unsupported,  // NTE_INVALID_PARAMETER: no algorithm in common
	0x80090023: wire.Full,         // NTE_TOKEN_KEYSET_STORAGE_FULL
	0x80090035: wire.NoKey,        // NTE_DEVICE_NOT_FOUND
	0x80090011: wire.NoCredential, // NTE_NOT_FOUND
	0x800704c7: wire.Cancelled,    // ERROR_CANCELLED
	0x80090036: wire.Cancelled,    // NTE_USER_CANCELLED
	0x800705b4: wire.TimedOut,     // ERROR_TIMEOUT
}

// explain is the error in terms of the protocol, with Windows' name for it.
func (h hresult) explain(name string) *wire.Error {
	return fail(or(hresults[h], wire.Failed), "%s (HRESULT 0x%08x)", name, uint32(h))
}

// wide is a text as Windows takes it.
func wide(s string) *uint16 {
	return unsafe.SliceData(append(utf16.Encode([]rune(s)), 0))
}

// isText says whether texts survive wide whole.
func isText(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) || strings.ContainsRune(s, 0) })
}

// winCreation is what a credential is made of.
type winCreation struct {
	rp         winRP
	user       winUser
	parameters winParameters
	client     winClientData
	options    winMakeOptions
}

func newCreation(r *wire.Request, cancellation *winGUID) (*winCreation, error) {
	verification, known := winVerification[r.Verification]
	if !known || len(r.ClientData) == 0 || r.RPID == "" || r.User == nil || len(r.User.ID) == 0 || len(r.User.ID) > 64 || r.User.Name == "" ||
		len(r.Algorithms) == 0 || !isText(r.RPID, r.RPName, r.User.Name, r.User.DisplayName) {
		return nil, fail(wire.BadRequest, "not enough for a credential")
	}
	exclude, err := winList(r.CredentialIDs)
	if err != nil {
		return nil, err
	}
	kind := wide("public-key")
	parameters := make([]winParameter, len(r.Algorithms))
	for i, a := range r.Algorithms {
		parameters[i] = winParameter{1, kind, int32(a)}
	}
	c := &winCreation{
		rp:         winRP{version: 1, id: wide(r.RPID), name: wide(or(r.RPName, r.RPID))},
		user:       winUser{version: 1, idLen: uint32(len(r.User.ID)), id: &r.User.ID[0], name: wide(r.User.Name), displayName: wide(or(r.User.DisplayName, r.User.Name))},
		parameters: winParameters{uint32(len(parameters)), &parameters[0]},
		client:     newClientData(r),
		options: winMakeOptions{
			version: 3, milliseconds: uint32(r.Timeout), attachment: winCrossPlatform, verification: verification,
			attestation: winDirect, cancellation: cancellation, exclude: exclude,
		},
	}
	if r.Resident {
		c.options.resident = 1
	}
	if r.HMACSecret {
		yes := int32(1)
		c.options.extensions = winExtensions{1, &winExtension{wide("hmac-secret"), 4, &yes}}
	}
	return c, nil
}

// winRequest is what an assertion is asked for by.
type winRequest struct {
	rpID    *uint16
	client  winClientData
	options winGetOptions
}

func newRequest(r *wire.Request, cancellation *winGUID, version uint32) (*winRequest, error) {
	verification, known := winVerification[r.Verification]
	if !known || len(r.ClientData) == 0 || r.RPID == "" || !isText(r.RPID) {
		return nil, fail(wire.BadRequest, "not enough for an assertion")
	}
	if len(r.Salts) > 2 || slices.ContainsFunc(r.Salts, func(s []byte) bool { return len(s) != 32 }) {
		return nil, fail(wire.BadRequest, "salts that are none")
	}
	allow, err := winList(r.CredentialIDs)
	if err != nil {
		return nil, err
	}
	q := &winRequest{wide(r.RPID), newClientData(r), winGetOptions{
		version: 4, milliseconds: uint32(r.Timeout), attachment: winCrossPlatform, verification: verification, cancellation: cancellation, allow: allow,
	}}
	if len(r.Salts) > 0 {
		if version < winSaltsSince {
			return nil, fail(wire.Unsupported, "version %d of the interface takes no salts", version)
		}
		salt := &winSalt{firstLen: 32, first: &r.Salts[0][0]}
		if len(r.Salts) == 2 {
			salt.secondLen, salt.second = 32, &r.Salts[1][0]
		}
		q.options.version, q.options.flags, q.options.salts = 6, winRawSalts, &winSalts{all: salt}
	}
	return q, nil
}

func newClientData(r *wire.Request) winClientData {
	return winClientData{1, uint32(len(r.ClientData)), &r.ClientData[0], wide("SHA-256")}
}

// winList is a list of credentials; nil is none.
func winList(ids [][]byte) (*winCredentialList, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	kind := wide("public-key")
	list := make([]*winCredentialEx, len(ids))
	for i, id := range ids {
		if len(id) == 0 {
			return nil, fail(wire.BadRequest, "an empty credential ID")
		}
		list[i] = &winCredentialEx{winCredential: winCredential{1, uint32(len(id)), &id[0], kind}} // by whatever transport
	}
	return &winCredentialList{uint32(len(list)), &list[0]}, nil
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// errForeign says that Windows answered what it must not.
var errForeign = errors.New("malformed answer of Windows")

// copied is a copy of what Windows answered.
func copied(p *byte, n, most uint32) ([]byte, error) {
	if n > most || n > 0 && p == nil {
		return nil, errForeign
	}
	return slices.Clone(unsafe.Slice(p, n)), nil
}

// bytesOf copies several of them, until one is wrong.
type bytesOf struct{ err error }

func (b *bytesOf) copy(p *byte, n, most uint32) (out []byte) {
	if b.err == nil {
		out, b.err = copied(p, n, most)
	}
	return out
}

// Bounds of what Windows answers.
const (
	winMaxObject = 64 << 10
	winMaxID     = 1023
)

func (a *winAttestation) read() (*wire.Result, error) {
	var b bytesOf
	made := &wire.Attestation{Object: b.copy(a.object, a.objectLen, winMaxObject), CredentialID: b.copy(a.id, a.idLen, winMaxID)}
	if a.version == 0 || b.err != nil || len(made.Object) == 0 {
		return nil, errForeign
	}
	return &wire.Result{Attestation: made}, nil
}

func (a *winAssertion) read() (*wire.Result, error) {
	var b bytesOf
	got := &wire.Assertion{
		CredentialID: b.copy(a.credential.id, a.credential.idLen, winMaxID), AuthData: b.copy(a.authData, a.authDataLen, winMaxObject),
		Signature: b.copy(a.signature, a.signatureLen, winMaxObject), UserID: b.copy(a.userID, a.userIDLen, winMaxID),
	}
	if a.version >= 3 && a.secret != nil {
		got.Secret = append(b.copy(a.secret.first, a.secret.firstLen, 32), b.copy(a.secret.second, a.secret.secondLen, 32)...)
	}
	if b.err != nil {
		return nil, errForeign
	}
	return &wire.Result{Assertion: got}, nil
}
