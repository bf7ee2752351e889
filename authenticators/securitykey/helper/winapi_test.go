package helper

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"
	"unsafe"

	"countersign.dev/authenticators/securitykey/wire"
)

// The numbers are what a C compiler (x86_64-w64-mingw32-gcc) says of Microsoft's
// webauthn.h with version 8 of the interface. Later versions only append.
func TestWindowsStructuresAreThoseOfTheHeader(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // Windows of 32 bits is not built for
	}
	at := func(offsets ...uintptr) string { return fmt.Sprint(offsets) }
	var (
		rp    winRP
		user  winUser
		data  winClientData
		param winParameter
		all   winParameters
		cred  winCredential
		ex    winCredentialEx
		list  winCredentialList
		ext   winExtension
		exts  winExtensions
		salt  winSalt
		salts winSalts
		mk    winMakeOptions
		get   winGetOptions
		att   winAttestation
		ass   winAssertion
	)
	for name, c := range map[string]struct{ got, want string }{
		"RP_ENTITY_INFORMATION":   {at(unsafe.Sizeof(rp), unsafe.Offsetof(rp.id), unsafe.Offsetof(rp.name), unsafe.Offsetof(rp.icon)), "[32 8 16 24]"},
		"USER_ENTITY_INFORMATION": {at(unsafe.Sizeof(user), unsafe.Offsetof(user.idLen), unsafe.Offsetof(user.id), unsafe.Offsetof(user.name), unsafe.Offsetof(user.icon), unsafe.Offsetof(user.displayName)), "[40 4 8 16 24 32]"},
		"CLIENT_DATA":             {at(unsafe.Sizeof(data), unsafe.Offsetof(data.jsonLen), unsafe.Offsetof(data.json), unsafe.Offsetof(data.hash)), "[24 4 8 16]"},
		"COSE_PARAMETER":          {at(unsafe.Sizeof(param), unsafe.Offsetof(param.kind), unsafe.Offsetof(param.algorithm)), "[24 8 16]"},
		"COSE_PARAMETERS":         {at(unsafe.Sizeof(all), unsafe.Offsetof(all.first)), "[16 8]"},
		"CREDENTIAL":              {at(unsafe.Sizeof(cred), unsafe.Offsetof(cred.idLen), unsafe.Offsetof(cred.id), unsafe.Offsetof(cred.kind)), "[24 4 8 16]"},
		"CREDENTIAL_EX":           {at(unsafe.Sizeof(ex), unsafe.Offsetof(ex.transports)), "[32 24]"},
		"CREDENTIAL_LIST":         {at(unsafe.Sizeof(list), unsafe.Offsetof(list.first)), "[16 8]"},
		"EXTENSION":               {at(unsafe.Sizeof(ext), unsafe.Offsetof(ext.size), unsafe.Offsetof(ext.data)), "[24 8 16]"},
		"EXTENSIONS":              {at(unsafe.Sizeof(exts), unsafe.Offsetof(exts.first)), "[16 8]"},
		"HMAC_SECRET_SALT":        {at(unsafe.Sizeof(salt), unsafe.Offsetof(salt.first), unsafe.Offsetof(salt.secondLen), unsafe.Offsetof(salt.second)), "[32 8 16 24]"},
		"HMAC_SECRET_SALT_VALUES": {at(unsafe.Sizeof(salts), unsafe.Offsetof(salts.eachLen), unsafe.Offsetof(salts.eachSalt)), "[24 8 16]"},
		"GUID":                    {at(unsafe.Sizeof(winGUID{})), "[16]"},
		"MAKE_CREDENTIAL_OPTIONS": {at(unsafe.Offsetof(mk.milliseconds), unsafe.Offsetof(mk.oldExclude), unsafe.Offsetof(mk.extensions), unsafe.Offsetof(mk.attachment),
			unsafe.Offsetof(mk.resident), unsafe.Offsetof(mk.verification), unsafe.Offsetof(mk.attestation), unsafe.Offsetof(mk.flags),
			unsafe.Offsetof(mk.cancellation), unsafe.Offsetof(mk.exclude), unsafe.Sizeof(mk)), "[4 8 24 40 44 48 52 56 64 72 80]"},
		"GET_ASSERTION_OPTIONS": {at(unsafe.Offsetof(get.milliseconds), unsafe.Offsetof(get.oldAllow), unsafe.Offsetof(get.extensions), unsafe.Offsetof(get.attachment),
			unsafe.Offsetof(get.verification), unsafe.Offsetof(get.flags), unsafe.Offsetof(get.u2fAppID), unsafe.Offsetof(get.u2fAppIDUsed),
			unsafe.Offsetof(get.cancellation), unsafe.Offsetof(get.allow), unsafe.Offsetof(get.largeOperation), unsafe.Offsetof(get.largeLen),
			unsafe.Offsetof(get.large), unsafe.Offsetof(get.salts), unsafe.Offsetof(get.private), unsafe.Sizeof(get)), "[4 8 24 40 44 48 56 64 72 80 88 92 96 104 112 120]"},
		"CREDENTIAL_ATTESTATION": {at(unsafe.Offsetof(att.format), unsafe.Offsetof(att.authDataLen), unsafe.Offsetof(att.authData), unsafe.Offsetof(att.statementLen),
			unsafe.Offsetof(att.statement), unsafe.Offsetof(att.decodedAs), unsafe.Offsetof(att.decoded), unsafe.Offsetof(att.objectLen),
			unsafe.Offsetof(att.object), unsafe.Offsetof(att.idLen), unsafe.Offsetof(att.id), unsafe.Sizeof(att)), "[8 16 24 32 40 48 56 64 72 80 88 96]"},
		"ASSERTION": {at(unsafe.Offsetof(ass.authDataLen), unsafe.Offsetof(ass.authData), unsafe.Offsetof(ass.signatureLen), unsafe.Offsetof(ass.signature),
			unsafe.Offsetof(ass.credential), unsafe.Offsetof(ass.userIDLen), unsafe.Offsetof(ass.userID), unsafe.Offsetof(ass.extensions),
			unsafe.Offsetof(ass.largeLen), unsafe.Offsetof(ass.large), unsafe.Offsetof(ass.largeStatus), unsafe.Offsetof(ass.secret), unsafe.Sizeof(ass)),
			"[4 8 16 24 32 56 64 72 88 96 104 112 120]"},
	} {
		if c.got != c.want {
			t.Errorf("WEBAUTHN_%s: %s, want %s", name, c.got, c.want)
		}
	}
}

// narrow reads a text of Windows.
func narrow(p *uint16) string {
	var units []uint16
	for ; *p != 0; p = (*uint16)(unsafe.Add(unsafe.Pointer(p), 2)) {
		units = append(units, *p)
	}
	return string(utf16.Decode(units))
}

func good() *wire.Request {
	return &wire.Request{
		Timeout: 45_000, RPID: "example.com", ClientData: []byte("{}"), User: &wire.User{ID: []byte{1, 2}, Name: "bob \U0001f511"},
		Algorithms: []int{-7, -257}, CredentialIDs: [][]byte{{3}, {4, 5}}, Verification: "required",
	}
}

func codeOf(err error) string {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestWindowsCreation(t *testing.T) {
	id := &winGUID{7}
	r := good()
	r.Resident, r.HMACSecret = true, true
	c, err := newCreation(r, id)
	if err != nil {
		t.Fatal(err)
	}
	if narrow(c.rp.id) != "example.com" || narrow(c.rp.name) != "example.com" || narrow(c.user.name) != r.User.Name || narrow(c.user.displayName) != r.User.Name {
		t.Error("names are missing or others")
	}
	o := c.options
	if o.version != 3 || o.milliseconds != 45_000 || o.attachment != 2 || o.resident != 1 || o.verification != 1 || o.attestation != 3 || o.cancellation != id {
		t.Errorf("%+v", o)
	}
	if p := unsafe.Slice(c.parameters.first, c.parameters.n); len(p) != 2 || p[0].algorithm != -7 || p[1].algorithm != -257 || narrow(p[1].kind) != "public-key" {
		t.Errorf("%+v", p)
	}
	if l := unsafe.Slice(o.exclude.first, o.exclude.n); len(l) != 2 || !bytes.Equal(unsafe.Slice(l[1].id, l[1].idLen), []byte{4, 5}) {
		t.Errorf("%+v", l)
	}
	if e := o.extensions; e.n != 1 || narrow(e.first.id) != "hmac-secret" || e.first.size != 4 || *e.first.data != 1 {
		t.Errorf("%+v", e)
	}
	r.CredentialIDs, r.HMACSecret, r.Verification = nil, false, ""
	if c, err := newCreation(r, nil); err != nil || c.options.exclude != nil || c.options.extensions.n != 0 || c.options.verification != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	for name, spoil := range map[string]func(*wire.Request){
		"no client data":     func(r *wire.Request) { r.ClientData = nil },
		"no RP ID":           func(r *wire.Request) { r.RPID = "" },
		"no user":            func(r *wire.Request) { r.User = nil },
		"a long user ID":     func(r *wire.Request) { r.User.ID = make([]byte, 65) },
		"no algorithm":       func(r *wire.Request) { r.Algorithms = nil },
		"verification":       func(r *wire.Request) { r.Verification = "never" },
		"a cut RP ID":        func(r *wire.Request) { r.RPID = "example.com\x00.example.org" },
		"a name that is odd": func(r *wire.Request) { r.RPName = "\xff" },
		"an empty ID":        func(r *wire.Request) { r.CredentialIDs = [][]byte{{}} },
	} {
		r := good()
		spoil(r)
		if _, err := newCreation(r, nil); codeOf(err) != wire.BadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWindowsRequest(t *testing.T) {
	r := good()
	q, err := newRequest(r, nil, 1)
	if o := q.options; err != nil || o.version != 4 || o.flags != 0 || o.salts != nil || o.allow.n != 2 || o.verification != 1 || narrow(q.rpID) != "example.com" {
		t.Errorf("%+v, %v", o, err)
	}
	if q.client.version != 1 || string(unsafe.Slice(q.client.json, q.client.jsonLen)) != "{}" || narrow(q.client.hash) != "SHA-256" {
		t.Errorf("%+v", q.client)
	}
	r.Salts = [][]byte{bytes.Repeat([]byte{1}, 32)}
	if _, err := newRequest(r, nil, 3); codeOf(err) != wire.Unsupported {
		t.Error(err)
	}
	q, err = newRequest(r, nil, 4)
	if o := q.options; err != nil || o.version != 6 || o.flags != 0x00100000 || o.salts.all.firstLen != 32 || o.salts.all.second != nil {
		t.Errorf("%+v, %v", o, err)
	}
	for name, spoil := range map[string]func(*wire.Request){
		"a short salt":   func(r *wire.Request) { r.Salts = [][]byte{{1}} },
		"three salts":    func(r *wire.Request) { r.Salts = make([][]byte, 3) },
		"no client data": func(r *wire.Request) { r.ClientData = nil },
		"a cut RP ID":    func(r *wire.Request) { r.RPID = "\x00" },
		"no RP ID":       func(r *wire.Request) { r.RPID = "" },
		"verification":   func(r *wire.Request) { r.Verification = "never" },
	} {
		r := good()
		spoil(r)
		if _, err := newRequest(r, nil, 8); codeOf(err) != wire.BadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What Windows answers is copied, within bounds.
func TestWindowsAnswers(t *testing.T) {
	b := []byte{1, 2, 3, 4}
	made, err := (&winAttestation{version: 1, objectLen: 4, object: &b[0], idLen: 2, id: &b[2]}).read()
	if err != nil || !bytes.Equal(made.Attestation.Object, b) || !bytes.Equal(made.Attestation.CredentialID, b[2:]) {
		t.Fatalf("%+v, %v", made, err)
	}
	secret := bytes.Repeat([]byte{9}, 32)
	salt := &winSalt{firstLen: 32, first: &secret[0]}
	full := winAssertion{version: 3, authDataLen: 4, authData: &b[0], signatureLen: 1, signature: &b[1], credential: winCredential{idLen: 1, id: &b[2]}, userIDLen: 1, userID: &b[3], secret: salt}
	got, err := full.read()
	if err != nil || got.Assertion.Secret == nil || !bytes.Equal(got.Assertion.CredentialID, b[2:3]) || !bytes.Equal(got.Assertion.UserID, b[3:]) {
		t.Fatalf("%+v, %v", got, err)
	}
	b[0], secret[0] = 0, 0
	if made.Attestation.Object[0] != 1 || got.Assertion.AuthData[0] != 1 || got.Assertion.Secret[0] != 9 {
		t.Error("not copied")
	}
	full.version = 2 // whose structure ends before the secret
	if got, err = full.read(); err != nil || got.Assertion.Secret != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for name, a := range map[string]*winAttestation{
		"no object":  {version: 1},
		"no version": {objectLen: 4, object: &b[0]},
		"nowhere":    {version: 1, objectLen: 4},
		"too long":   {version: 1, objectLen: 1 << 31, object: &b[0]},
		"a long ID":  {version: 1, objectLen: 4, object: &b[0], idLen: 1024, id: &b[0]},
		"no ID":      {version: 1, objectLen: 4, object: &b[0], idLen: 4},
	} {
		if _, err := a.read(); !errors.Is(err, errForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, spoil := range map[string]func(*winAssertion){
		"nowhere":       func(a *winAssertion) { a.authData = nil },
		"a long ID":     func(a *winAssertion) { a.credential.idLen = 1024 },
		"a long secret": func(a *winAssertion) { a.version, a.secret = 3, &winSalt{firstLen: 33, first: &secret[0]} },
	} {
		a := full
		spoil(&a)
		if _, err := a.read(); !errors.Is(err, errForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The errors are those that webauthn.h names for WebAuthNGetErrorName.
func TestWindowsErrors(t *testing.T) {
	for h, want := range map[hresult]string{
		0x8009000f: wire.Excluded, 0x80070032: wire.Unsupported, 0x80090029: wire.Unsupported, 0x80090027: wire.Unsupported, 0x80090023: wire.Full,
		0x80090035: wire.NoKey, 0x80090011: wire.NoCredential, 0x800704c7: wire.Cancelled, 0x80090036: wire.Cancelled, 0x800705b4: wire.TimedOut,
		0x80004001: wire.Failed, 0x80070005: wire.Failed, 0xffffffff: wire.Failed,
	} {
		if e := h.explain("Name"); e.Code != want || !strings.Contains(e.Message, fmt.Sprintf("Name (HRESULT 0x%08x)", uint32(h))) {
			t.Errorf("%08x: %v", uint32(h), e)
		}
	}
}

func TestWindowsTexts(t *testing.T) {
	for _, s := range []string{"", "a", "é\u2028\U0001f511"} {
		if got := narrow(wide(s)); got != s || !isText(s) {
			t.Errorf("%q came out as %q", s, got)
		}
	}
	if isText("a", "b\x00") || isText("\xed\xa0\x80") || !isText(strings.Repeat("x", 1000)) {
		t.Error("what is a text")
	}
}
