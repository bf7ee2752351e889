package device

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// platforms that may enrol. LINUX is an extension.
var platforms = []string{"ANDROID", "IOS", "MACOS", "WINDOWS", "CHROMEOS", "LINUX"}

// offered are the methods with keys that this org enrols, with the strongest
// first: its proof-of-possession key makes create idempotent.
var offered = []okta.Method{okta.MethodSignedNonce, okta.MethodPush}

// Supported says what this org enrols, for the documents that tell apps.
func Supported() []okta.SupportedMethod {
	algorithms := []string{"ES256", "RS256"}
	return []okta.SupportedMethod{
		{Type: okta.MethodPush, Status: StatusActive, Settings: okta.MethodSettings{
			Algorithms: algorithms, KeyProtection: "ANY", TransactionTypes: []string{okta.TransactionLogin, okta.TransactionCIBA}}},
		// Extensions to the newer shape: its published list ends with push.
		{Type: okta.MethodSignedNonce, Status: StatusActive, Settings: okta.MethodSettings{
			Algorithms: algorithms, KeyProtection: "ANY"}},
		{Type: okta.MethodTOTP, Status: StatusActive, Settings: okta.MethodSettings{
			TimeInterval: TOTPPeriod, Encoding: "Base32", HMAC: "HMAC" + TOTPAlgorithm, PassCodeLength: TOTPDigits}},
	}
}

func invalid(format string, args ...any) *okta.Error {
	return okta.NewError(okta.CodeValidation, fmt.Sprintf(format, args...))
}

// wanted is a create request that was checked.
type wanted struct {
	authenticatorID string
	device          okta.Device
	clientInstance  *jose.JWK // nil on a known device
	methods         []Method
	pop             string // thumbprint of the key that makes create idempotent
}

// knownDevice says whether the request names a device the org has seen.
func (w wanted) knownDevice() bool { return w.clientInstance == nil }

// validate checks a create request against the published schema and our
// extensions to it, without looking anything up.
func validate(req okta.EnrolmentRequest) (wanted, error) {
	w := wanted{authenticatorID: req.AuthenticatorID, device: req.Device}
	if req.AuthenticatorID == "" {
		return wanted{}, invalid("authenticatorId: missing")
	}
	if err := validateDevice(req.Device); err != nil {
		return wanted{}, err
	}
	if req.Device.ID == "" && req.Device.ClientInstanceID == "" {
		if req.Device.ClientInstanceKey == nil {
			return wanted{}, invalid("device.clientInstanceKey: missing on a new device")
		}
		if _, err := validateKey("device.clientInstanceKey", *req.Device.ClientInstanceKey); err != nil {
			return wanted{}, err
		}
		key := publicPart(*req.Device.ClientInstanceKey)
		w.clientInstance = &key
	}
	requested := map[okta.Method]*okta.MethodRequest{okta.MethodPush: req.Methods.Push, okta.MethodSignedNonce: req.Methods.SignedNonce}
	for _, t := range offered {
		if r := requested[t]; r != nil {
			m, err := validateMethod(t, *r)
			if err != nil {
				return wanted{}, err
			}
			w.methods = append(w.methods, m)
		}
	}
	// A code alone is no enrolment of a device: nothing would tell it from
	// another, nor let it look after itself.
	if len(w.methods) == 0 {
		return wanted{}, invalid("methods: none given that has a key")
	}
	pop, _ := w.methods[0].Key(okta.KeyProofOfPossession)
	w.pop = pop.Thumbprint
	if totp := req.Methods.TOTP; totp != nil {
		if totp.Keys != nil || totp.PushToken != nil || totp.Capabilities != nil {
			return wanted{}, invalid("methods.totp: has neither keys nor a token nor capabilities")
		}
		w.methods = append(w.methods, Method{Type: okta.MethodTOTP, Status: StatusActive, TransactionTypes: []string{}})
	}
	if err := w.ownKeyApart(); err != nil {
		return wanted{}, err
	}
	return w, distinctKeys(w.methods)
}

// ownKeyApart refuses a new device's own key as one that verifies the user.
func (w wanted) ownKeyApart() error {
	if w.clientInstance == nil {
		return nil // known when the device is looked up
	}
	own, err := w.clientInstance.Thumbprint()
	if err != nil {
		return invalid("%s: %v", okta.PlaceClientInstance, err)
	}
	return w.apartFrom(own)
}

// apartFrom refuses the device's own key, which signs silently, as one that
// verifies the user (C3).
func (w wanted) apartFrom(own string) error {
	for _, m := range w.methods {
		for _, k := range m.Keys {
			if k.Role.VerifiesUser() && k.Thumbprint == own {
				return invalid("methods.%s.keys.%s: the same key as %s", m.Type, k.Role, okta.PlaceClientInstance)
			}
		}
	}
	return nil
}

func validateDevice(d okta.Device) error {
	if !slices.Contains(platforms, d.Platform) {
		return invalid("device.platform: want one of %v", platforms)
	}
	for _, f := range [...]struct {
		name, value string
		min, max    int
	}{
		{"id", d.ID, 0, 64}, {"clientInstanceId", d.ClientInstanceID, 0, 64},
		{"osVersion", d.OSVersion, 1, 127}, {"displayName", d.DisplayName, 1, 255},
		{"manufacturer", d.Manufacturer, 0, 127}, {"model", d.Model, 0, 127},
		{"serialNumber", d.SerialNumber, 0, 127}, {"udid", d.UDID, 0, 47},
		{"screenLockType", d.ScreenLockType, 0, 32}, {"diskEncryptionType", d.DiskEncryptionType, 0, 32},
		{"clientInstanceBundleId", d.BundleID, 1, 255}, {"clientInstanceVersion", d.Version, 1, 127},
		{"clientInstanceDeviceSdkVersion", d.SDKVersion, 1, 127}, {"authenticatorAppKey", d.AuthenticatorAppKey, 0, 255},
	} {
		if n := utf8.RuneCountInString(f.value); n < f.min || n > f.max {
			return invalid("device.%s: want %d to %d characters", f.name, f.min, f.max)
		}
		if !printable(f.value) {
			return invalid("device.%s: has characters that do not print", f.name)
		}
	}
	return nil
}

func validateMethod(t okta.Method, r okta.MethodRequest) (Method, error) {
	path := "methods." + string(t)
	m := Method{Type: t, Status: StatusActive, TransactionTypes: []string{okta.TransactionLogin}}
	if r.Keys == nil || r.Keys.ProofOfPossession == nil {
		return Method{}, invalid("%s.keys.proofOfPossession: missing", path)
	}
	if t == okta.MethodPush {
		if r.PushToken != nil {
			m.PushToken = *r.PushToken
		}
		if err := validatePushToken(m.PushToken); err != nil {
			return Method{}, err
		}
		// The published schema has the capabilities inside keys, its example
		// and the SDK beside them.
		for _, c := range []*okta.Capabilities{r.Capabilities, r.Keys.Capabilities} {
			if c == nil || c.TransactionTypes == nil {
				continue
			}
			var err error
			if m.TransactionTypes, err = validateTransactionTypes(c.TransactionTypes); err != nil {
				return Method{}, err
			}
			break
		}
	}
	pop, err := newKey(path, okta.KeyProofOfPossession, *r.Keys.ProofOfPossession)
	if err != nil {
		return Method{}, err
	}
	m.Keys = append(m.Keys, pop)
	for _, k := range [...]struct {
		role okta.KeyType
		raw  json.RawMessage
	}{{okta.KeyUserVerification, r.Keys.UserVerification}, {okta.KeyUserVerificationBioOrPIN, r.Keys.UserVerificationBioOrPIN}} {
		if len(k.raw) == 0 || string(k.raw) == "null" {
			continue
		}
		var jwk jose.JWK
		if err := json.Unmarshal(k.raw, &jwk); err != nil {
			return Method{}, invalid("%s.keys.%s: not a JWK", path, k.role)
		}
		key, err := newKey(path, k.role, jwk)
		if err != nil {
			return Method{}, err
		}
		m.Keys = append(m.Keys, key)
	}
	return m, nil
}

func validatePushToken(token string) error {
	if len(token) > 4096 || !printable(token) {
		return invalid("methods.push.pushToken: too long, or has characters that do not print")
	}
	return nil
}

// validateTransactionTypes puts LOGIN first, which every enrolment can.
func validateTransactionTypes(types []string) ([]string, error) {
	out := []string{okta.TransactionLogin}
	for _, t := range types {
		switch t {
		case okta.TransactionLogin:
		case okta.TransactionCIBA:
			if !slices.Contains(out, t) {
				out = append(out, t)
			}
		default:
			return nil, invalid("methods.push.capabilities.transactionTypes: %.32q is unknown", t)
		}
	}
	return out, nil
}

func newKey(path string, role okta.KeyType, jwk jose.JWK) (Key, error) {
	thumbprint, err := validateKey(path+".keys."+string(role), jwk)
	if err != nil {
		return Key{}, err
	}
	return Key{Role: role, JWK: publicPart(jwk), Protection: jwk.KPR, Thumbprint: thumbprint}, nil
}

// validateKey admits P-256 for ES256 and RSA from 2048 bits for RS256.
func validateKey(path string, jwk jose.JWK) (thumbprint string, err error) {
	pub, err := jwk.PublicKey()
	if err != nil {
		return "", invalid("%s: want a P-256 or RSA key of 2048 to 4096 bits", path)
	}
	var algorithm jose.Algorithm
	switch pub.(type) {
	case *ecdsa.PublicKey:
		algorithm = jose.ES256
	case *rsa.PublicKey:
		algorithm = jose.RS256
	}
	switch {
	case algorithm == "" || jwk.Algorithm != "" && jwk.Algorithm != string(algorithm):
		return "", invalid("%s: alg does not fit the key", path)
	case jwk.Use != "" && jwk.Use != "sig":
		return "", invalid("%s: use is not sig", path)
	case jwk.KeyID == "" || len(jwk.KeyID) > 128 || !printable(jwk.KeyID):
		return "", invalid("%s: kid is missing or too long", path)
	case jwk.KPR != jose.ProtectionHardware && jwk.KPR != jose.ProtectionSoftware:
		return "", invalid("%s: okta:kpr is neither HARDWARE nor SOFTWARE", path)
	}
	thumbprint, err = jwk.Thumbprint()
	if err != nil {
		return "", invalid("%s: %v", path, err)
	}
	return thumbprint, nil
}

// publicPart drops what has no business in the store.
func publicPart(k jose.JWK) jose.JWK {
	return jose.JWK{KeyType: k.KeyType, Curve: k.Curve, X: k.X, Y: k.Y, N: k.N, E: k.E, KeyID: k.KeyID, Algorithm: k.Algorithm, KPR: k.KPR}
}

// distinctKeys refuses an enrolment in which one key plays two roles (a silent
// key that also counts as user verification would verify nobody) or one key id
// means two keys.
func distinctKeys(methods []Method) error {
	roles, kids := map[string]okta.KeyType{}, map[string]string{}
	for _, m := range methods {
		for _, k := range m.Keys {
			if role, ok := roles[k.Thumbprint]; ok && role != k.Role {
				return invalid("methods.%s.keys.%s: the same key as %s", m.Type, k.Role, role)
			}
			if thumbprint, ok := kids[k.JWK.KeyID]; ok && thumbprint != k.Thumbprint {
				return invalid("methods.%s.keys.%s: kid is used twice", m.Type, k.Role)
			}
			roles[k.Thumbprint], kids[k.JWK.KeyID] = k.Role, k.Thumbprint
		}
	}
	return nil
}

// printable refuses control characters and broken UTF-8: these texts are shown
// to people and written to logs.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) {
			return false
		}
	}
	return true
}
