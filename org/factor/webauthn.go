package factor

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/go-webauthn/webauthn/metadata"
	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/google/uuid"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
)

// A security key signs two things at once: what the browser says (type of the
// request, challenge, origin of the page) and what the key saw (for which RP,
// whether somebody touched it, whether it verified them, how often it has
// signed). The engine keeps the state: which challenge was given to whom, which
// keys a person has. Here is what is compared (WebAuthn Level 2, 7.1 and 7.2);
// encodings, attestation statements and signatures are the library's.

// MethodWebAuthn is how challenges for security keys are stored.
const MethodWebAuthn okta.Method = "webauthn"

// The transaction types of challenges for security keys.
const (
	transactionVerify = okta.TransactionLogin
	transactionEnrol  = "ENROLL"
)

const (
	formatU2F = "fido-u2f"

	maxClientData    = 4 << 10
	maxAuthenticator = 4 << 10
	maxSignature     = 1 << 10
	maxAttestation   = 32 << 10
	maxPublicKey     = maxSignature + 64 // of RSA: what signs longer could never sign in, and takes long to say no
	maxTransports    = 8
)

// KeyReason says why the answer of a security key was not taken.
type KeyReason string

// The reasons.
const (
	KeyMalformed  KeyReason = "MALFORMED"
	KeyOver       KeyReason = "CHALLENGE_OVER" // answered, withdrawn or expired
	KeyMismatch   KeyReason = "MISMATCH"       // another request, challenge, RP or person
	KeyPhishing   KeyReason = "PHISHING"       // an authentic answer from another page
	KeyPresence   KeyReason = "PRESENCE"       // nobody touched it
	KeyUnverified KeyReason = "VERIFICATION"   // it had to verify the person and did not
	KeyUnknown    KeyReason = "UNKNOWN"        // no key of this person has signed this
	KeyCounter    KeyReason = "COUNTER"        // it has counted back: there may be a copy
	KeyUntrusted  KeyReason = "ATTESTATION"    // it does not prove what it is
	KeyModel      KeyReason = "MODEL"          // another model than the org takes
	KeyKnown      KeyReason = "KNOWN"          // the credential is enrolled already
	KeyTooMany    KeyReason = "TOO_MANY"
)

// KeyError is the refusal of an answer.
type KeyError struct {
	Reason KeyReason
	KeyID  string // of KeyCounter: whose count went back
	cause  error
}

func keyError(r KeyReason, cause error) *KeyError { return &KeyError{Reason: r, cause: cause} }

func (e *KeyError) Error() string {
	var p *protocol.Error
	if errors.As(e.cause, &p) && p.DevInfo != "" {
		return fmt.Sprintf("security key refused (%s): %v: %.300q", e.Reason, e.cause, p.DevInfo)
	}
	return fmt.Sprintf("security key refused (%s): %v", e.Reason, e.cause)
}

func (e *KeyError) Unwrap() error { return e.cause }

// RPID is the name under which keys are enrolled at the org: its host. There is
// none, and no security keys, where that is an address and no name.
func RPID(baseURL string) string {
	u, err := url.Parse(baseURL)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return ""
	}
	return host
}

// MayUseKeys says whether a browser lets a page of this origin use the org's
// keys: its host is the org's or lies below it, as it cannot below localhost, and
// the connection is secure or stays on this computer.
func MayUseKeys(origin, rpID string) bool {
	u, err := url.Parse(origin)
	if err != nil || rpID == "" {
		return false
	}
	host := u.Hostname()
	if host != rpID && (!strings.HasSuffix(host, "."+rpID) || !strings.Contains(rpID, ".")) {
		return false
	}
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	return u.Scheme == "https" || u.Scheme == "http" && local
}

// UserHandle is what a key stores as its person. It says nothing about them.
func UserHandle(userID string) string { return encodeBytes([]byte(userID)) }

// KeyNeed is what a key is asked to do, by the org's setting and by what the
// policy asks.
func KeyNeed(s directory.WebAuthnSettings, asked okta.Need) okta.Need {
	switch {
	case asked == okta.NeedRequired || s.UserVerification == directory.UVRequired:
		return okta.NeedRequired
	case s.UserVerification == directory.UVDiscouraged:
		return okta.NeedNone
	default:
		return okta.NeedPreferred
	}
}

// KeyRequest says what a challenge for a security key is about.
type KeyRequest struct {
	SigninID, UserID, PageOrigin string
	UserVerification             okta.Need
	Enrol                        bool
}

// NewKeyChallenge makes a challenge. Insert stores it.
func (f *Factors) NewKeyChallenge(r KeyRequest) Challenge {
	now := f.d.Now()
	b := make([]byte, 32)
	rand.Read(b) // never fails: the process ends instead
	c := Challenge{
		ID: ids.Transaction(), SigninID: r.SigninID, Method: MethodWebAuthn, UserID: r.UserID,
		Issuer: f.d.BaseURL, Nonce: encodeBytes(b), PageOrigin: r.PageOrigin,
		UserVerification: r.UserVerification, UserMediation: okta.NeedRequired, TransactionType: transactionVerify,
		Status: Pending, CreatedAt: now, ExpiresAt: now.Add(okta.ChallengeLifetime),
	}
	if r.Enrol {
		c.TransactionType = transactionEnrol
	}
	return c
}

// KeyAssertion is what a security key answered, each base64 or base64url.
type KeyAssertion struct{ ClientData, AuthenticatorData, Signature, UserHandle string }

// KeyAttestation is what a new security key answered. The members are base64 or
// base64url, or lists.
type KeyAttestation struct {
	ClientData, Attestation string
	Transports              []string
}

// KeyUse is an answer that was found right. The zero value proves nothing.
type KeyUse struct {
	Key       SecurityKey
	SignCount uint32
	Verified  bool // the key has verified the person
}

// Proof is what the answer proves.
func (u KeyUse) Proof() (policy.Proof, bool) {
	if u.Key.ID == "" {
		return policy.Proof{}, false
	}
	t := policy.PhishingResistant | policy.UserPresence
	if !u.Key.BackupEligible {
		t |= policy.DeviceBound
	}
	if u.Verified {
		t |= policy.UserVerification
	}
	return policy.Proof{Method: policy.WebAuthn, Traits: t}, true
}

// clientData is what the browser signed along.
type clientData struct {
	Type        string `json:"type"`
	Challenge   string `json:"challenge"`
	Origin      string `json:"origin"`
	CrossOrigin bool   `json:"crossOrigin"`
}

// open refuses a challenge that takes no answer of this kind any more.
func (f *Factors) keyChallengeOpen(c Challenge, kind string) error {
	switch {
	case c.Method != MethodWebAuthn || c.TransactionType != kind || c.Nonce == "" || c.UserID == "" || c.PageOrigin == "":
		return keyError(KeyOver, errors.New("there is no such challenge"))
	case c.Status != Pending:
		return keyError(KeyOver, errors.New("the challenge has been answered or withdrawn"))
	case !f.d.Now().Before(c.ExpiresAt):
		return keyError(KeyOver, errors.New("the challenge has expired"))
	}
	return nil
}

// readClientData reads what the browser said, strictly: what another parser
// would read differently is refused.
func readClientData(encoded string) (raw []byte, d clientData, err error) {
	if raw, err = decodeBytes(encoded, maxClientData); err != nil {
		return nil, d, keyError(KeyMalformed, fmt.Errorf("clientData: %w", err))
	}
	if err := jose.DecodeStrict(raw, &d, maxClientData); err != nil {
		return nil, d, keyError(KeyMalformed, fmt.Errorf("clientData: %w", err))
	}
	return raw, d, nil
}

// belongsTo compares what the browser said with the challenge, but for the
// origin, which only means something once the signature has verified.
func (d clientData) belongsTo(c Challenge, ceremony protocol.CeremonyType) error {
	switch {
	case d.Type != string(ceremony):
		return keyError(KeyMismatch, errors.New("type is another request"))
	case d.Challenge != c.Nonce:
		return keyError(KeyMismatch, errors.New("the challenge is another one"))
	case d.CrossOrigin:
		return keyError(KeyMismatch, errors.New("the page was shown inside another one"))
	}
	return nil
}

// VerifyKey checks what a security key answered to c, with the keys of the
// person whom c is for; the answer does not say which of them has signed.
func (f *Factors) VerifyKey(c Challenge, keys []SecurityKey, a KeyAssertion) (KeyUse, error) {
	if err := f.keyChallengeOpen(c, transactionVerify); err != nil {
		return KeyUse{}, err
	}
	rawClient, client, err := readClientData(a.ClientData)
	if err != nil {
		return KeyUse{}, err
	}
	if err := client.belongsTo(c, protocol.AssertCeremony); err != nil {
		return KeyUse{}, err
	}
	rawData, err := decodeBytes(a.AuthenticatorData, maxAuthenticator)
	if err != nil {
		return KeyUse{}, keyError(KeyMalformed, fmt.Errorf("authenticatorData: %w", err))
	}
	signature, err := decodeBytes(a.Signature, maxSignature)
	if err != nil {
		return KeyUse{}, keyError(KeyMalformed, fmt.Errorf("signatureData: %w", err))
	}
	if a.UserHandle != "" {
		handle, err := decodeBytes(a.UserHandle, 64)
		if err != nil {
			return KeyUse{}, keyError(KeyMalformed, fmt.Errorf("userHandle: %w", err))
		}
		if string(handle) != c.UserID {
			return KeyUse{}, keyError(KeyMismatch, errors.New("the key's credential is another person's"))
		}
	}
	var last error = errors.New("the person has no key")
	for _, k := range keys {
		if k.UserID != c.UserID {
			continue // never: they were read for this person
		}
		id, publicKey, err := k.bytes()
		if err != nil {
			return KeyUse{}, err
		}
		parsed, err := protocol.CredentialAssertionResponse{
			PublicKeyCredential: protocol.PublicKeyCredential{Credential: protocol.Credential{ID: k.CredentialID, Type: string(protocol.PublicKeyCredentialType)}, RawID: id},
			AssertionResponse: protocol.AuthenticatorAssertionResponse{
				AuthenticatorResponse: protocol.AuthenticatorResponse{ClientDataJSON: rawClient},
				AuthenticatorData:     rawData, Signature: signature,
			},
		}.Parse()
		if err != nil {
			return KeyUse{}, keyError(KeyMalformed, err)
		}
		// Signature, RP and what the browser said, with the origin that it said.
		if last = parsed.Verify(c.Nonce, RPID(f.d.BaseURL), "", []string{client.Origin}, nil, nil, protocol.TopOriginExplicitVerificationMode,
			false, false, false, publicKey, protocol.SignaturePolicy{}); last != nil {
			continue
		}
		return k.judge(c, client, parsed.Response.AuthenticatorData)
	}
	return KeyUse{}, keyError(KeyUnknown, last)
}

// judge weighs an answer whose signature has verified.
func (k SecurityKey) judge(c Challenge, client clientData, d protocol.AuthenticatorData) (KeyUse, error) {
	u := KeyUse{Key: k, SignCount: d.Counter, Verified: d.Flags.HasUserVerified()}
	if err := seen(c, client, d); err != nil {
		return KeyUse{}, err
	}
	switch {
	case d.Flags.HasAttestedCredentialData():
		return KeyUse{}, keyError(KeyMismatch, errors.New("the answer makes a credential"))
	case d.Flags.HasBackupEligible() != k.BackupEligible:
		return KeyUse{}, keyError(KeyMismatch, errors.New("the credential has become another kind"))
	case (d.Counter != 0 || k.SignCount != 0) && d.Counter <= k.SignCount:
		e := keyError(KeyCounter, fmt.Errorf("counted %d after %d", d.Counter, k.SignCount))
		e.KeyID = k.ID
		return KeyUse{}, e
	}
	return u, nil
}

// seen checks the page, and what the key says about the person.
func seen(c Challenge, client clientData, d protocol.AuthenticatorData) error {
	switch {
	case client.Origin != c.PageOrigin:
		return keyError(KeyPhishing, fmt.Errorf("answered on a page of %.200q", client.Origin))
	case !d.Flags.HasUserPresent():
		return keyError(KeyPresence, errors.New("nobody touched the key"))
	case c.UserVerification == okta.NeedRequired && !d.Flags.HasUserVerified():
		return keyError(KeyUnverified, errors.New("the key has not verified the person"))
	case d.Flags.HasBackupState() && !d.Flags.HasBackupEligible():
		return keyError(KeyMismatch, errors.New("a credential that cannot be copied says that it was"))
	}
	return nil
}

// algorithms are those that new credentials may have.
var algorithms = []protocol.CredentialParameter{
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
}

// KeyAlgorithms lists the algorithms of new credentials, the best first.
func KeyAlgorithms() []int {
	var list []int
	for _, a := range algorithms {
		list = append(list, int(a.Algorithm))
	}
	return list
}

// VerifyNewKey checks what a new security key answered to c. The key is not
// stored yet: AddKey does that.
func (f *Factors) VerifyNewKey(c Challenge, s directory.WebAuthnSettings, a KeyAttestation) (KeyUse, error) {
	if err := f.keyChallengeOpen(c, transactionEnrol); err != nil {
		return KeyUse{}, err
	}
	rawClient, client, err := readClientData(a.ClientData)
	if err != nil {
		return KeyUse{}, err
	}
	if err := client.belongsTo(c, protocol.CreateCeremony); err != nil {
		return KeyUse{}, err
	}
	object, err := decodeBytes(a.Attestation, maxAttestation)
	if err != nil {
		return KeyUse{}, keyError(KeyMalformed, fmt.Errorf("attestation: %w", err))
	}
	response := protocol.AuthenticatorAttestationResponse{
		AuthenticatorResponse: protocol.AuthenticatorResponse{ClientDataJSON: rawClient}, AttestationObject: object,
	}
	parsed, err := response.Parse()
	if err != nil {
		return KeyUse{}, keyError(KeyMalformed, err)
	}
	id := parsed.AttestationObject.AuthData.AttData.CredentialID
	if len(id) == 0 {
		return KeyUse{}, keyError(KeyMalformed, errors.New("attestation: the credential has no id"))
	}
	if len(parsed.AttestationObject.AuthData.AttData.CredentialPublicKey) > maxPublicKey {
		return KeyUse{}, keyError(KeyMalformed, errors.New("attestation: the public key is too large"))
	}
	encoded := encodeBytes(id)
	data := protocol.ParsedCredentialCreationData{
		ParsedPublicKeyCredential: protocol.ParsedPublicKeyCredential{ParsedCredential: protocol.ParsedCredential{ID: encoded, Type: string(protocol.PublicKeyCredentialType)}, RawID: id},
		Response:                  *parsed,
		Raw:                       protocol.CredentialCreationResponse{AttestationResponse: response},
	}
	// The statement is checked with the origin that the browser said; a statement
	// that does not verify is worth less than none.
	if _, err := data.Verify(c.Nonce, RPID(f.d.BaseURL), []string{client.Origin}, nil, nil, protocol.TopOriginExplicitVerificationMode,
		false, false, false, nil, algorithms, protocol.AttestationPolicy{}, protocol.SignaturePolicy{}); err != nil {
		return KeyUse{}, keyError(KeyUntrusted, err)
	}
	attested := data.Response.AttestationObject
	d := attested.AuthData
	if err := seen(c, client, d); err != nil {
		return KeyUse{}, err
	}
	if _, err := webauthncose.ParsePublicKey(d.AttData.CredentialPublicKey); err != nil {
		return KeyUse{}, keyError(KeyMalformed, err)
	}
	aaguid, err := uuid.FromBytes(d.AttData.AAGUID)
	if err != nil {
		return KeyUse{}, keyError(KeyMalformed, err)
	}
	k := SecurityKey{
		ID: newKeyID(), UserID: c.UserID, CredentialID: encoded, PublicKey: encodeBytes(d.AttData.CredentialPublicKey),
		AAGUID: aaguid.String(), Format: attested.Format, Attestation: attested.Type, Transports: transports(a.Transports),
		SignCount: d.Counter, BackupEligible: d.Flags.HasBackupEligible(),
	}
	if d.Flags.HasUserVerified() {
		k.VerifiedAt = f.d.Now()
	}
	// Which model it is, a key only proves by a certificate of its maker.
	if len(s.AAGUIDGroups) > 0 {
		switch {
		case !slices.Contains([]string{string(metadata.BasicFull), string(metadata.AttCA)}, k.Attestation):
			return KeyUse{}, keyError(KeyUntrusted, fmt.Errorf("the org takes certain models only, and this attestation (%s, %s) proves none", k.Format, k.Attestation))
		case !s.Allows(k.AAGUID):
			return KeyUse{}, keyError(KeyModel, fmt.Errorf("model %s is not among those that the org takes", k.AAGUID))
		}
	}
	return KeyUse{Key: k, SignCount: d.Counter, Verified: d.Flags.HasUserVerified()}, nil
}

// transports keeps the words that WebAuthn has for how a key is reached.
func transports(said []string) []string {
	known := []string{"usb", "nfc", "ble", "smart-card", "hybrid", "internal"}
	list := []string{}
	for _, t := range said[:min(len(said), maxTransports)] {
		if slices.Contains(known, t) && !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

func (k SecurityKey) bytes() (id, publicKey []byte, err error) {
	if id, err = base64.RawURLEncoding.DecodeString(k.CredentialID); err == nil {
		publicKey, err = base64.RawURLEncoding.DecodeString(k.PublicKey)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading security key %s: %w", k.ID, err)
	}
	return id, publicKey, nil
}

func encodeBytes(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decodeBytes reads base64 in either alphabet, padded or not.
func decodeBytes(s string, limit int) ([]byte, error) {
	if s == "" {
		return nil, errors.New("missing")
	}
	if len(s) > base64.StdEncoding.EncodedLen(limit) {
		return nil, errors.New("too long")
	}
	s = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "=")
	if strings.ContainsAny(s, "\r\n") { // the decoder would skip them
		return nil, errors.New("not base64")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || len(b) > limit {
		return nil, errors.New("not base64")
	}
	return b, nil
}
