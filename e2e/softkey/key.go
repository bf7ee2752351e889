package softkey

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// Kind is a generation of keys.
type Kind int

// The generations.
const (
	FIDO21  Kind = iota // CTAP 2.1: tokens with permissions, credential management
	FIDO20              // CTAP 2.0: neither
	U2FOnly             // no CTAP2 at all
)

// Attestation is what a key says of its maker.
type Attestation int

// The ways to attest.
const (
	SelfAttestation  Attestation = iota // packed, signed by the credential's own key
	BasicAttestation                    // packed, with a certificate by Options.CA
	NoAttestation
)

// Options say what a new key is like. The zero value is a current key without a
// PIN that is always touched at once.
type Options struct {
	Kind            Kind
	Manufacturer    string // as enumeration shows it, "Countersign" if empty
	Name            string // likewise, "Soft Key" if empty
	Vendor, Product uint16 // 1209:f1d0 if zero
	AAGUID          [16]byte
	Firmware        uint64 // 0x050403 if zero

	PIN            string
	MinPINLength   int   // 4 if zero, in code points
	PINProtocols   []int // 2, 1 if nil
	AlwaysUV       bool  // "alwaysUv": every use needs PIN or fingerprint, U2F is off
	MakeWithoutPIN bool  // "makeCredUvNotRqd": no PIN is needed for credentials that are not resident
	Fingerprints   bool  // has a reader; enrol by the protocol, or by Key.EnrolFingerprint
	MaxResident    int   // 25 if zero
	NoU2F          bool

	Attestation Attestation
	CA          *CA // needed for BasicAttestation, and used by U2F; self-signed if nil

	// Touch decides each test of user presence: true once the owner has touched the
	// key, false when they let it time out. It may take its time, must return when
	// ctx is done, and is not called by two at once. nil is a finger that rests on
	// the key. See Finger.
	Touch func(ctx context.Context, ask Ask) bool
	// TouchTime is how long the key waits, 30 s if zero.
	TouchTime time.Duration
	// Keepalive is the time between two reports that say so, 100 ms if zero.
	Keepalive time.Duration
	// Now is the key's clock, time.Now if nil.
	Now func() time.Time
}

// Key is one security key. Its methods may be called from anywhere at any time.
type Key struct {
	o Options

	mu    sync.Mutex
	store store
	power *power
	rules []*rule
	steps []Step
	winks int
	port  *Port
	ca    *CA
}

// store is what outlasts a power cycle.
type store struct {
	credentials []*Credential
	counter     uint32
	pinHash     []byte // left 16 bytes of the SHA-256 of the PIN, nil while none is set
	pinRetries  int
	uvRetries   int
	minPIN      int
	changePIN   bool
	alwaysUV    bool
	prints      []fingerprint
}

// power is what does not.
type power struct {
	since time.Time
	on    context.Context // until the power goes
	off   context.CancelFunc
	waits sync.WaitGroup // touches that outlive the message that asked for them
	ram
}

// ram is what a reset forgets, too.
type ram struct {
	agree     *ecdh.PrivateKey
	misses    int // of the PIN, in a row
	token     token
	next      *nextAssertions
	listing   *listing
	enrolling *enrolling
	u2f       *u2fTouch
}

const (
	maxPINRetries = 8
	maxPINMisses  = 3
	maxUVRetries  = 5
	resetTime     = 10 * time.Second
)

// New makes a key, not plugged in.
func New(o Options) *Key {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&o.Manufacturer, "Countersign")
	set(&o.Name, "Soft Key")
	if o.Vendor == 0 && o.Product == 0 {
		o.Vendor, o.Product = 0x1209, 0xf1d0
	}
	if o.AAGUID == ([16]byte{}) {
		copy(o.AAGUID[:], "countersign soft")
	}
	o.Firmware = orElse(o.Firmware, 0x050403)
	o.MinPINLength = orElse(o.MinPINLength, 4)
	o.MaxResident = orElse(o.MaxResident, 25)
	o.TouchTime = orElse(o.TouchTime, 30*time.Second)
	o.Keepalive = orElse(o.Keepalive, 100*time.Millisecond)
	if o.PINProtocols == nil {
		o.PINProtocols = []int{2, 1}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	k := &Key{o: o, ca: o.CA}
	if k.ca == nil {
		k.ca = NewCA("Soft Key Test")
	}
	k.factory()
	if o.PIN != "" {
		k.store.pinHash = pinHash([]byte(o.PIN))
	}
	k.powerUp()
	return k
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func pinHash(pin []byte) []byte {
	h := sha256.Sum256(pin)
	return h[:16]
}

// factory forgets everything. The counter goes on, as it must for U2F.
func (k *Key) factory() {
	k.store = store{
		counter: k.store.counter, pinRetries: maxPINRetries, uvRetries: maxUVRetries, minPIN: k.o.MinPINLength, alwaysUV: k.o.AlwaysUV,
	}
}

func (k *Key) powerUp() {
	k.power = &power{since: k.o.Now()}
	k.power.on, k.power.off = context.WithCancel(context.Background())
	k.start()
}

// start begins with an empty memory.
func (k *Key) start() {
	k.power.ram = ram{}
	k.newAgreement()
	k.power.token.renew()
}

func (k *Key) newAgreement() { k.power.agree = must(ecdh.P256().GenerateKey(rand.Reader)) }

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Credentials are those on the key, the oldest first.
func (k *Key) Credentials() []Credential {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]Credential, 0, len(k.store.credentials))
	for _, c := range k.store.credentials {
		all = append(all, *c)
	}
	return all
}

// PINRetries is how many tries the owner has left.
func (k *Key) PINRetries() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.store.pinRetries
}

// SetPINRetries makes it as if some tries had been missed before this power-up; 0
// blocks the PIN.
func (k *Key) SetPINRetries(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.store.pinRetries = n
}

// HasPIN says whether a PIN is set, and CheckPIN whether it is this one; a check
// costs no try.
func (k *Key) HasPIN() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.store.pinHash != nil
}

// CheckPIN is described at HasPIN.
func (k *Key) CheckPIN(pin string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.store.pinHash != nil && string(k.store.pinHash) == string(pinHash([]byte(pin)))
}

// Steps are the messages that came since the key was made or Steps was called
// last, except for cancellations.
func (k *Key) Steps() []Step {
	k.mu.Lock()
	defer k.mu.Unlock()
	steps := k.steps
	k.steps = nil
	return steps
}

// Winks is how often the key was asked to blink.
func (k *Key) Winks() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.winks
}
