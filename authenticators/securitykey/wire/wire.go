// Package wire is what the agent and countersign-sk say to each other: one
// request, any number of events and PINs, one result, as frames of JSON.
//
// A frame is its length in four bytes, big endian, and that many bytes of one
// JSON object. The helper is a process per operation and ends after its result.
// Either side refuses what is too long, unknown or of another version; a helper
// is believed no more than the key that it talks to.
package wire

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Version is that of this protocol. The two sides come in one package: another
// version is a damaged or foreign installation, and refused.
const Version = 1

// MaxFrame bounds a frame in bytes: a key may list hundreds of credentials.
const MaxFrame = 256 << 10

// Op is an operation. There are no others.
type Op string

// The operations.
const (
	List             Op = "list"              // all keys that are plugged in
	Inspect          Op = "info"              // what a key says of itself
	Select           Op = "select"            // wait for a touch: which of several keys is meant
	MakeCredential   Op = "make_credential"   // register, WebAuthn 6.3.2 or U2F
	GetAssertion     Op = "get_assertion"     // authenticate; hmac-secret by Salts
	Holds            Op = "holds"             // whether it has one of the credentials, without a touch
	SetPIN           Op = "set_pin"           // the first PIN
	ChangePIN        Op = "change_pin"        // by the old one
	Credentials      Op = "credentials"       // that are kept on the key
	DeleteCredential Op = "delete_credential" // one of them
	Fingerprints     Op = "fingerprints"      // those that are enrolled
	EnrolFingerprint Op = "enrol_fingerprint"
	DropFingerprint  Op = "drop_fingerprint"
	Reset            Op = "reset" // wipe the key
)

// Request is the first frame, from the agent.
type Request struct {
	Version int       `json:"version"`
	Op      Op        `json:"op"`
	Device  string    `json:"device,omitempty"` // path of the key; not of List
	Expect  *Identity `json:"expect,omitempty"` // the key that the person was shown; another one is refused
	// Timeout is how long the whole may take, in milliseconds. The agent ends the
	// helper a little later.
	Timeout int `json:"timeoutMillis"`
	// PINAtHand says that there is a PIN, should the key want one: how many tries are
	// left is of no use then, and not asked for.
	PINAtHand bool `json:"pinAtHand,omitempty"`

	RPID           string   `json:"rpId,omitempty"`
	RPName         string   `json:"rpName,omitempty"`
	ClientDataHash []byte   `json:"clientDataHash,omitempty"` // SHA-256, 32 bytes
	ClientData     []byte   `json:"clientData,omitempty"`     // what that is of: Windows does the hashing itself
	User           *User    `json:"user,omitempty"`
	Algorithms     []int    `json:"algorithms,omitempty"`    // COSE: -7 ES256, -8 EdDSA, -257 RS256; in order of preference
	CredentialIDs  [][]byte `json:"credentialIds,omitempty"` // to exclude, to allow, to delete
	Resident       bool     `json:"resident,omitempty"`
	// Verification is "required", "preferred" or "discouraged" (WebAuthn 5.8.6).
	Verification string   `json:"userVerification,omitempty"`
	HMACSecret   bool     `json:"hmacSecret,omitempty"` // make a credential that can do it
	Salts        [][]byte `json:"salts,omitempty"`      // one or two of 32 bytes: ask for hmac-secret
	Template     string   `json:"template,omitempty"`   // id of a fingerprint
	Name         string   `json:"name,omitempty"`       // of a fingerprint
}

// Patience is Timeout as a duration.
func (r *Request) Patience() time.Duration { return time.Duration(r.Timeout) * time.Millisecond }

// Windows is the path of the one key that is listed on Windows: it stands for
// whatever Windows reaches, which finds keys and talks to them itself.
const Windows = "windows:webauthn"

// User is the account that a credential is for.
type User struct {
	ID          []byte `json:"id"`
	Name        string `json:"name"`
	DisplayName string `json:"displayName,omitempty"`
}

// Identity tells keys apart as well as they allow it: two of one model on one
// port are not told apart before they are asked something.
type Identity struct {
	Path         string `json:"path"`
	VendorID     uint16 `json:"vendorId"`
	ProductID    uint16 `json:"productId"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Product      string `json:"product,omitempty"`
	AAGUID       string `json:"aaguid,omitempty"` // as hex with dashes; "" of U2F keys
	// Arrival is another one each time a key is plugged in, also into the same place.
	Arrival string `json:"arrival,omitempty"`
}

// PIN is a frame from the agent, after an event asked for it. It is bytes, so that
// it can be wiped; WritePIN writes it.
type PIN struct {
	PIN []byte `json:"pin"`
	Old []byte `json:"old,omitempty"` // of ChangePIN
}

// Events of the helper.
const (
	Touch   = "touch"      // the key waits for a touch now
	NeedPIN = "pin_needed" // TriesLeft says how many there are
	Sample  = "sample"     // a fingerprint was read; Left more are needed
)

// Reply is a frame from the helper: an event, or the end.
type Reply struct {
	Version   int     `json:"version"`
	Event     string  `json:"event,omitempty"`
	TriesLeft int     `json:"triesLeft,omitempty"`
	Left      int     `json:"left,omitempty"`
	Result    *Result `json:"result,omitempty"`
	Error     *Error  `json:"error,omitempty"`
}

// Result is how an operation ended well.
type Result struct {
	Keys         []Info        `json:"keys,omitempty"`        // List
	Info         *Info         `json:"info,omitempty"`        // Inspect
	Attestation  *Attestation  `json:"attestation,omitempty"` // MakeCredential
	Assertion    *Assertion    `json:"assertion,omitempty"`   // GetAssertion; Holds, if the key signs without a touch
	Found        bool          `json:"found,omitempty"`       // Holds
	Credentials  []Credential  `json:"credentials,omitempty"`
	Left         int           `json:"credentialsLeft,omitempty"` // room for more on the key
	Log          string        `json:"log,omitempty"`             // for the agent's: what the sandbox lacks here
	Fingerprints []Fingerprint `json:"fingerprints,omitempty"`
}

// Info is what a key says of itself.
type Info struct {
	Identity
	Firmware   string          `json:"firmware,omitempty"` // from the device's own version
	Versions   []string        `json:"versions,omitempty"` // "FIDO_2_0", "U2F_V2", …
	Extensions []string        `json:"extensions,omitempty"`
	Options    map[string]bool `json:"options,omitempty"` // "rk", "clientPin", "uv", …
	PINRetries int             `json:"pinRetries,omitempty"`
	Problem    *Error          `json:"problem,omitempty"` // why not more is known: no permission, in use
}

// Attestation is a new credential.
type Attestation struct {
	Format       string   `json:"format"`       // "packed", "fido-u2f", "none"
	AuthData     []byte   `json:"authData"`     // raw
	Signature    []byte   `json:"signature"`    // of the attestation
	Certificates [][]byte `json:"certificates"` // x5c; none with self attestation
	CredentialID []byte   `json:"credentialId"`
	Algorithm    int      `json:"algorithm"` // of the signature, COSE
	// Object is all of this but the ID in one, from Windows, which encodes it itself
	// (WebAuthn 6.5.4): the rest is missing then.
	Object []byte `json:"object,omitempty"`
}

// Assertion is a signature.
type Assertion struct {
	CredentialID []byte `json:"credentialId"`
	AuthData     []byte `json:"authData"` // raw
	Signature    []byte `json:"signature"`
	UserID       []byte `json:"userId,omitempty"`
	Secret       []byte `json:"secret,omitempty"` // hmac-secret, 32 or 64 bytes
}

// Credential is one that is kept on a key.
type Credential struct {
	ID   []byte `json:"id"`
	RPID string `json:"rpId"`
	RP   string `json:"rpName,omitempty"`
	User User   `json:"user"`
}

// Fingerprint is one that is enrolled.
type Fingerprint struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// Codes of errors.
const (
	NoKey        = "no_key"      // none is plugged in
	Removed      = "removed"     // pulled out under way
	OtherKey     = "other_key"   // not the one that the person was shown
	WrongPIN     = "wrong_pin"   // TriesLeft
	PINBlocked   = "pin_blocked" // no tries are left: only a reset helps
	PINPause     = "pin_pause"   // three wrong ones: plug it in again
	PINNotSet    = "pin_not_set" // one is needed
	PINRefused   = "pin_refused" // a new PIN that the key does not take
	NotAllowed   = "not_allowed" // the key says no, e.g. a reset too late after it was plugged in
	NoCredential = "no_credential"
	Excluded     = "excluded" // it has a credential of this account already
	Full         = "full"     // no room for another one
	TimedOut     = "timed_out"
	Cancelled    = "cancelled"
	Unsupported  = "unsupported"
	InUse        = "in_use"
	NoPermission = "no_permission"
	BadRequest   = "bad_request" // the two sides do not understand each other
	BadKey       = "bad_key"     // the key broke the protocol, or lied
	NotBuilt     = "not_built"   // built without security-key support
	BySystem     = "by_system"   // Windows does this in its settings, and lets no program do it
	OldSystem    = "old_system"  // Windows cannot talk to keys yet
	Failed       = "failed"      // anything else
)

// Error is how an operation ended badly.
type Error struct {
	Code      string `json:"code"`
	Message   string `json:"message,omitempty"` // for the log; never a PIN
	TriesLeft int    `json:"triesLeft,omitempty"`
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Code + ": " + e.Message
}

// Errors of frames.
var (
	ErrTooLong = errors.New("frame too long") // longer than MaxFrame; a PIN longer than MaxPIN
	errJSON    = errors.New("read a frame: not the JSON that was expected")
)

// Write writes one frame.
func Write(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > MaxFrame {
		return ErrTooLong
	}
	frame := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	_, err = w.Write(append(frame, body...))
	return err
}

// MaxPIN bounds a PIN in bytes (CTAP 2.1, 6.5.1).
const MaxPIN = 63

// WritePIN writes the frame of a PIN, and leaves no copy of it in memory: that is
// why it does not go by encoding/json, whose buffers are used again.
func WritePIN(w io.Writer, pin PIN) error {
	if len(pin.PIN) > MaxPIN || len(pin.Old) > MaxPIN {
		return ErrTooLong
	}
	frame := make([]byte, 4, 4+256) // never moved by append
	defer func() { clear(frame[:cap(frame)]) }()
	frame = append(frame, `{"pin":"`...)
	frame = base64.StdEncoding.AppendEncode(frame, pin.PIN)
	if len(pin.Old) > 0 {
		frame = append(frame, `","old":"`...)
		frame = base64.StdEncoding.AppendEncode(frame, pin.Old)
	}
	frame = append(frame, `"}`...)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	_, err := w.Write(frame)
	return err
}

// Read reads one frame into v. io.EOF is the end between two frames.
func Read(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return ErrTooLong
	}
	body := make([]byte, n)
	defer clear(body)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read a frame: %w", noEOF(err))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return errJSON // the error's own text may quote a PIN
	}
	return nil
}

// noEOF is err, but never the end between two frames.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
