package softkey

import (
	"fmt"
	"slices"
)

// Fault is one way in which a key misbehaves. The zero value is none.
type Fault struct {
	Name string

	lie    lie                        // in what it signs
	status []byte                     // what it answers instead of doing what it is asked
	body   func(answer []byte) []byte // what becomes of an answer
	wire   func(m message) [][]byte   // what reports become of it
	timing timing                     // when it answers
	unplug unplug                     // when it is pulled out
}

// lie is a false statement in an answer that is well formed.
type lie int

const (
	honest lie = iota
	lieCredential
	lieCredentialLength
	lieVerified
	lieNotVerified
	liePresent
	lieNotPresent
	lieRPHash
	lieSignature
	lieOtherKey
	lieChallenge
	lieCounterStuck
	lieCounterBack
	lieUser
	lieAAGUID
	liePublicKey
	lieAlgorithm
	lieSecret
)

type timing int

const (
	inTime      timing = iota
	hang               // no answer, no sign of life; another host can begin anew
	dead               // likewise for everything that comes, until a power cycle
	late               // the answer waits for the next report from the host
	keepForever        // signs of life at the usual pace, and no answer
	keepFlood          // as many as the wire takes
	deaf               // does not hear that it should stop waiting for a touch
	drip               // the answer's reports come one at a time, at the pace of signs of life
)

type unplug int

const (
	plugged unplug = iota
	unplugBefore
	unplugAtTouch
	unplugUnanswered
	unplugMidAnswer
	unplugAfter
)

// Faults of the wire.
var (
	ByteCountTooBig   = Fault{Name: "byte count too big", wire: byteCount(func(int) int { return 0xffff })}
	ByteCountTooSmall = Fault{Name: "byte count too small", wire: byteCount(func(n int) int { return n / 2 })}
	ByteCountZero     = Fault{Name: "byte count zero", wire: byteCount(func(int) int { return 0 })}
	// ByteCountBeyond announces a report more than comes.
	ByteCountBeyond    = Fault{Name: "byte count beyond what comes", wire: byteCount(func(n int) int { return n + reportSize })}
	LastReportMissing  = Fault{Name: "last report missing", wire: lastMissing}
	SequenceGap        = Fault{Name: "sequence gap", wire: sequence(func(i int) int { return i + 1 })}
	SequenceRepeated   = Fault{Name: "sequence repeated", wire: sequence(func(i int) int { return max(0, i-1) })}
	SequenceBackwards  = Fault{Name: "sequence backwards", wire: sequence(func(i int) int { return 0x7f - i })}
	WrongChannel       = Fault{Name: "wrong channel", wire: channels(0)}
	WrongChannelMidway = Fault{Name: "wrong channel midway", wire: channels(1)}
	WrongCommand       = Fault{Name: "wrong command", wire: wrongCommand}
	HIDError           = Fault{Name: "HID error", wire: hidErrorAnswer}
	NoiseBefore        = Fault{Name: "noise on other channels before", wire: noiseBefore} // of no concern to the host
	GarbageBefore      = Fault{Name: "garbage before", wire: garbageBefore}
	GarbageAfter       = Fault{Name: "garbage after", wire: garbageAfter}
	AnswerTwice        = Fault{Name: "answer twice", wire: answerTwice}
	LongestAnswer      = Fault{Name: "longest answer", body: longest}
)

// Faults of an answer's contents.
var (
	TruncatedCBOR     = Fault{Name: "truncated CBOR", body: func(a []byte) []byte { return a[:(len(a)+1)/2] }}
	TrailingBytes     = Fault{Name: "trailing bytes", body: func(a []byte) []byte { return append(a, make([]byte, 17)...) }}
	EmptyAnswer       = Fault{Name: "empty answer", body: func([]byte) []byte { return nil }}
	StatusOnly        = Fault{Name: "status only", body: bytesOf(0)}
	NotCBOR           = Fault{Name: "not CBOR", body: bytesOf(0, 0xff, 0xfe, 0x1c, 0xff)}
	HugeList          = Fault{Name: "huge CBOR list", body: bytesOf(0, 0xa1, 0x01, 0x9a, 0xff, 0xff, 0xff, 0xff)}
	GreedyList        = Fault{Name: "CBOR list of 2 GiB", body: bytesOf(0, 0xa1, 0x01, 0x9a, 0x10, 0, 0, 0)} // as pointers
	HugerList         = Fault{Name: "CBOR list of 2^63", body: bytesOf(0, 0xa1, 0x01, 0x9b, 0x80, 0, 0, 0, 0, 0, 0, 0)}
	HugeMap           = Fault{Name: "huge CBOR map", body: bytesOf(0, 0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)}
	HugeString        = Fault{Name: "huge CBOR string", body: bytesOf(0, 0xa1, 0x02, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)}
	LongList          = Fault{Name: "long CBOR list", body: longList}
	DeepNesting       = Fault{Name: "deep nesting", body: deep}
	DuplicateKeys     = Fault{Name: "duplicate keys", body: bytesOf(0, 0xa3, 0x01, 0x60, 0x01, 0x60, 0x02, 0x40)}
	WrongTypes        = Fault{Name: "wrong types", body: wrongTypes}
	IndefiniteLengths = Fault{Name: "indefinite lengths", body: bytesOf(0, 0xbf, 0x01, 0x9f, 0x7f, 0x61, 0x61, 0xff, 0xff, 0x02, 0x5f, 0x41, 0, 0xff, 0xff)}
	WrongNonce        = Fault{Name: "wrong nonce", body: wrongNonce} // for StepInit
)

// Faults of what a key says, signed and well formed.
var (
	WrongCredentialID     = Fault{Name: "wrong credential ID", lie: lieCredential}
	WrongCredentialLength = Fault{Name: "wrong credential length", lie: lieCredentialLength}
	ClaimsVerified        = Fault{Name: "claims to have verified", lie: lieVerified}
	DeniesVerified        = Fault{Name: "denies to have verified", lie: lieNotVerified}
	ClaimsPresence        = Fault{Name: "claims presence", lie: liePresent}
	DeniesPresence        = Fault{Name: "denies presence", lie: lieNotPresent}
	WrongRPHash           = Fault{Name: "wrong RP ID hash", lie: lieRPHash}
	BadSignature          = Fault{Name: "bad signature", lie: lieSignature}
	OtherKeySigns         = Fault{Name: "other key signs", lie: lieOtherKey}
	OtherChallenge        = Fault{Name: "signs another challenge", lie: lieChallenge}
	CounterStuck          = Fault{Name: "counter stuck", lie: lieCounterStuck}
	CounterBack           = Fault{Name: "counter goes back", lie: lieCounterBack}
	WrongUser             = Fault{Name: "wrong user", lie: lieUser}
	WrongAAGUID           = Fault{Name: "wrong AAGUID", lie: lieAAGUID}
	BadPublicKey          = Fault{Name: "public key on no curve", lie: liePublicKey}
	WrongAlgorithm        = Fault{Name: "wrong algorithm", lie: lieAlgorithm}
	WrongSecret           = Fault{Name: "wrong hmac-secret", lie: lieSecret}
)

// Faults of time.
var (
	Hang             = Fault{Name: "hang", timing: hang}
	Dead             = Fault{Name: "dead", timing: dead}
	LateAnswer       = Fault{Name: "late answer", timing: late}
	EndlessKeepalive = Fault{Name: "endless keepalive", timing: keepForever}
	KeepaliveFlood   = Fault{Name: "keepalive flood", timing: keepFlood}
	IgnoresCancel    = Fault{Name: "ignores cancel", timing: deaf}
	DrippingAnswer   = Fault{Name: "dripping answer", timing: drip}
)

// The key is pulled out.
var (
	UnplugBefore     = Fault{Name: "unplug as the request comes", unplug: unplugBefore}
	UnplugAtTouch    = Fault{Name: "unplug while it blinks", unplug: unplugAtTouch}
	UnplugUnanswered = Fault{Name: "unplug once done, unanswered", unplug: unplugUnanswered}
	UnplugMidAnswer  = Fault{Name: "unplug amid the answer", unplug: unplugMidAnswer}
	UnplugAfter      = Fault{Name: "unplug after the answer", unplug: unplugAfter}
)

// Answers makes a key answer a CTAP2 command with a status, without carrying it
// out. Nothing is touched, and no PIN is tried.
func Answers(s Status) Fault {
	return Fault{Name: fmt.Sprintf("answers %#02x", byte(s)), status: []byte{byte(s)}}
}

// AnswersU2F makes it answer a U2F message with a status word.
func AnswersU2F(word uint16) Fault {
	return Fault{Name: fmt.Sprintf("answers %04x", word), status: []byte{byte(word >> 8), byte(word)}}
}

// The faults by kind, for tables.
var (
	WireFaults = []Fault{
		ByteCountTooBig, ByteCountTooSmall, ByteCountZero, ByteCountBeyond, LastReportMissing, SequenceGap, SequenceRepeated,
		SequenceBackwards, WrongChannel, WrongChannelMidway, WrongCommand, HIDError, NoiseBefore, GarbageBefore, GarbageAfter,
		AnswerTwice, LongestAnswer,
	}
	ContentFaults = []Fault{
		TruncatedCBOR, TrailingBytes, EmptyAnswer, StatusOnly, NotCBOR, HugeList, GreedyList, HugerList, HugeMap, HugeString, LongList, DeepNesting,
		DuplicateKeys, WrongTypes, IndefiniteLengths,
	}
	Lies = []Fault{
		WrongCredentialID, WrongCredentialLength, ClaimsVerified, DeniesVerified, ClaimsPresence, DeniesPresence, WrongRPHash,
		BadSignature, OtherKeySigns, OtherChallenge, CounterStuck, CounterBack, WrongUser, WrongAAGUID, BadPublicKey, WrongAlgorithm,
		WrongSecret,
	}
	TimeFaults   = []Fault{Hang, Dead, LateAnswer, EndlessKeepalive, KeepaliveFlood, IgnoresCancel, DrippingAnswer}
	UnplugFaults = []Fault{UnplugBefore, UnplugAtTouch, UnplugUnanswered, UnplugMidAnswer, UnplugAfter}
)

// AllFaults are all that have a name of their own.
func AllFaults() []Fault {
	return append(slices.Concat(WireFaults, ContentFaults, Lies, TimeFaults, UnplugFaults), WrongNonce)
}

// FaultNamed finds one by its name.
func FaultNamed(name string) (Fault, bool) {
	all := AllFaults()
	if i := slices.IndexFunc(all, func(f Fault) bool { return f.Name == name }); i >= 0 {
		return all[i], true
	}
	return Fault{}, false
}

// When says at which messages a fault happens. The zero value is every one.
type When struct {
	Step  Step // only at these
	Skip  int  // lets so many of them pass first
	Times int  // then happens so often, 0: for ever
}

// rule is a fault with its messages.
type rule struct {
	Fault
	When
	seen, done int
}

// Break gives the key a fault. Of several whose time has come the first given
// happens.
func (k *Key) Break(f Fault, w When) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rules = append(k.rules, &rule{Fault: f, When: w})
}

// Mend takes all faults away, and says how often any of them happened. A key that
// is Dead stays so until it is plugged in again.
func (k *Key) Mend() (happened int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.rules {
		happened += r.done
	}
	k.rules = nil
	return happened
}

// Happened says how often faults have happened since the last Mend.
func (k *Key) Happened() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.rules {
		n += r.done
	}
	return n
}

// fault notes a message, and gives the fault that it meets.
func (k *Key) fault(s Step) (f Fault) {
	k.steps = append(k.steps, s)
	for _, r := range k.rules {
		if !s.within(r.Step) {
			continue
		}
		r.seen++
		if r.seen > r.Skip && (r.Times == 0 || r.done < r.Times) && f.Name == "" {
			r.done++
			f = r.Fault
		}
	}
	return f
}
