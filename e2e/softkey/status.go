package softkey

import "fmt"

// Status is the first byte of an answer to a CTAP2 command (CTAP 2.1, 8.2).
type Status byte

// The statuses that this key gives.
const (
	OK                     Status = 0x00
	InvalidCommand         Status = 0x01
	InvalidParameter       Status = 0x02
	InvalidLength          Status = 0x03
	UnexpectedType         Status = 0x11
	InvalidCBOR            Status = 0x12
	MissingParameter       Status = 0x14
	FingerprintsFull       Status = 0x17
	CredentialExcluded     Status = 0x19
	UnsupportedAlgorithm   Status = 0x26
	OperationDenied        Status = 0x27
	KeyStoreFull           Status = 0x28
	UnsupportedOption      Status = 0x2b
	InvalidOption          Status = 0x2c
	KeepAliveCancel        Status = 0x2d
	NoCredentials          Status = 0x2e
	UserActionTimeout      Status = 0x2f
	NotAllowed             Status = 0x30
	PINInvalid             Status = 0x31
	PINBlocked             Status = 0x32
	PINAuthInvalid         Status = 0x33
	PINAuthBlocked         Status = 0x34
	PINNotSet              Status = 0x35
	PINRequired            Status = 0x36
	PINPolicyViolation     Status = 0x37
	RequestTooLarge        Status = 0x39
	UVBlocked              Status = 0x3c
	InvalidSubcommand      Status = 0x3e
	UVInvalid              Status = 0x3f
	UnauthorizedPermission Status = 0x40
	OtherError             Status = 0x7f
)

// Error makes a status an error, so that it travels as one inside the key.
func (s Status) Error() string { return fmt.Sprintf("CTAP2 status %#02x", byte(s)) }

// Errors of the HID layer (CTAP 2.1, 11.2.9.1.6).
const (
	hidInvalidCommand  = 0x01
	hidInvalidLength   = 0x03
	hidInvalidSequence = 0x04
	hidTimeout         = 0x05
	hidBusy            = 0x06
	hidInvalidChannel  = 0x0b
)

// Commands of CTAP2.
const (
	cmdMakeCredential    = 0x01
	cmdGetAssertion      = 0x02
	cmdGetInfo           = 0x04
	cmdClientPIN         = 0x06
	cmdReset             = 0x07
	cmdGetNextAssertion  = 0x08
	cmdBio               = 0x09
	cmdCredentials       = 0x0a
	cmdSelection         = 0x0b
	cmdConfig            = 0x0d
	cmdBioPreview        = 0x40
	cmdCredentialsBefore = 0x41
)

// Commands of the HID layer.
const (
	hidPing      = 0x01
	hidMessage   = 0x03
	hidLock      = 0x04
	hidInit      = 0x06
	hidWink      = 0x08
	hidCBOR      = 0x10
	hidCancel    = 0x11
	hidKeepalive = 0x3b
	hidError     = 0x3f
)
