package softkey

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

func TestFaultsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range AllFaults() {
		if found, known := FaultNamed(f.Name); f.Name == "" || seen[f.Name] || !known || found.Name != f.Name {
			t.Errorf("%q", f.Name)
		}
		seen[f.Name] = true
	}
	if _, known := FaultNamed(""); known {
		t.Error("the absence of a fault has a name")
	}
}

// broken has the key answer getInfo with a fault, and gives the reports that come
// until it answers a ping.
func broken(t *testing.T, f Fault) (h *host, honest []byte, reports [][]byte) {
	t.Helper()
	k := New(Options{Keepalive: time.Hour})
	h = begin(t, plug(t, k))
	h.send(hidCBOR, []byte{cmdGetInfo})
	honest = h.receive().data
	k.Break(f, When{Step: StepInfo, Times: 1})
	h.send(hidCBOR, []byte{cmdGetInfo})
	marker := random(20)
	h.send(hidPing, marker)
	for {
		r := h.raw()
		if r == nil {
			t.Fatal("the key is gone")
		}
		if r[4] == hidPing|isFirst && bytes.Equal(r[7:27], marker) {
			break
		}
		if bytes.Equal(r[:8], message{h.channel, hidError, []byte{hidBusy}}.reports()[0][:8]) {
			h.send(hidPing, marker) // it was still at work
			continue
		}
		reports = append(reports, r)
	}
	if k.Mend() != 1 {
		t.Error("the fault did not happen")
	}
	return h, honest, reports
}

func TestWireFaults(t *testing.T) {
	count := func(r []byte) int { return int(binary.BigEndian.Uint16(r[5:])) }
	channel := func(r []byte) uint32 { return binary.BigEndian.Uint32(r) }
	for _, f := range WireFaults {
		t.Run(f.Name, func(t *testing.T) {
			h, honest, all := broken(t, f)
			var a assembler
			var got [][]byte // messages on our channel
			var order error
			for _, r := range all {
				if channel(r) != h.channel {
					continue
				}
				m, refused := a.feed(r)
				if refused != nil {
					order = fmt.Errorf("out of order: %d", refused.code)
				}
				if m != nil {
					got = append(got, m.data)
				}
			}
			is := func(shown bool) {
				t.Helper()
				if !shown {
					t.Errorf("it does not show: %d reports, %d messages, %v, still open %v", len(all), len(got), order, a.open)
				}
			}
			whole := len(got) > 0 && bytes.Equal(got[0], honest)
			switch f.Name {
			case ByteCountTooBig.Name:
				is(order != nil && count(all[0]) == 0xffff)
			case ByteCountTooSmall.Name:
				is(len(got) == 1 && len(got[0]) == len(honest)/2)
			case ByteCountZero.Name:
				is(len(got) == 1 && len(got[0]) == 0)
			case ByteCountBeyond.Name, LastReportMissing.Name:
				is(len(got) == 0 && a.open)
			case SequenceGap.Name, SequenceRepeated.Name, SequenceBackwards.Name:
				is(order != nil && len(got) == 0)
			case WrongChannel.Name:
				is(len(all) > 1 && channel(all[0]) != h.channel && len(got) == 0)
			case WrongChannelMidway.Name:
				is(channel(all[0]) == h.channel && channel(all[1]) != h.channel && len(got) == 0)
			case WrongCommand.Name:
				is(whole && all[0][4] == hidMessage|isFirst)
			case HIDError.Name:
				is(all[0][4] == hidError|isFirst && all[0][7] == 0x7f)
			case NoiseBefore.Name:
				is(whole && channel(all[0]) != h.channel)
			case GarbageBefore.Name:
				is(channel(all[0]) == h.channel && !bytes.Equal(all[0][7:], honest[:firstData]))
			case GarbageAfter.Name:
				is(whole && len(all) == len(message{data: honest}.reports())+2)
			case AnswerTwice.Name:
				is(whole && len(got) == 2 && bytes.Equal(got[1], honest))
			case LongestAnswer.Name:
				is(len(got) == 1 && len(got[0]) == maxMessage)
			default:
				t.Error("nothing is known of it")
			}
			// And it is the old key again.
			h.init()
			h.ok(cmdGetInfo, nil)
		})
	}
}

func TestContentFaults(t *testing.T) {
	for _, f := range ContentFaults {
		t.Run(f.Name, func(t *testing.T) {
			h, honest, all := broken(t, f)
			var a assembler
			var m *message
			for _, r := range all {
				m, _ = a.feed(r)
			}
			if m == nil || bytes.Equal(m.data, honest) || f.Name != EmptyAnswer.Name && m.data[0] != 0 {
				t.Fatalf("%+v", m)
			}
			// Each is either no CBOR that CTAP2 allows, or not what getInfo should say.
			var info struct {
				Versions []string `cbor:"1,keyasint"`
				AAGUID   []byte   `cbor:"3,keyasint"`
			}
			if len(m.data) > 1 && decoding.Unmarshal(m.data[1:], &info) == nil && len(info.AAGUID) == 16 {
				t.Errorf("there is nothing wrong with %x", m.data)
			}
			h.ok(cmdGetInfo, nil)
		})
	}
	k := New(Options{})
	h := dial(t, plug(t, k))
	k.Break(WrongNonce, When{Step: StepInit, Times: 1})
	nonce := random(8)
	h.send(hidInit, nonce)
	if m := h.receive(); bytes.Equal(m.data[:8], nonce) {
		t.Error("the nonce is right")
	}
	h.init()
}

func TestLies(t *testing.T) {
	for _, f := range Lies {
		t.Run(f.Name, func(t *testing.T) {
			k := New(Options{PIN: "1234"})
			h := begin(t, plug(t, k))
			token := h.mustToken(2, "1234", mayMake, rpID)
			request := proved(making("alice", true), 8, token, 2)
			request[6] = map[string]any{"hmac-secret": true}
			honest := h.ok(cmdMakeCredential, request)
			id, _, public := attested(t, honest)
			_, counter := asserted(t, h.ok(cmdGetAssertion, asserting()), public)
			salts := func() (fields, secrets) {
				s, mine := h.agreed(2)
				sealed := s.seal(bytes.Repeat([]byte{1}, 32))
				a := asserting()
				a[4] = map[string]any{"hmac-secret": fields{1: mine, 2: sealed, 3: tag(2, s.mac, sealed), 4: 2}}
				return a, s
			}
			secret := func(a answer, s secrets) []byte {
				var out map[string][]byte
				if err := decoding.Unmarshal(a.bytes(t, 2)[37:], &out); err != nil {
					t.Fatal(err)
				}
				return must(s.open(out["hmac-secret"]))
			}
			r, s := salts()
			right := secret(h.ok(cmdGetAssertion, r), s)

			k.Break(f, When{})
			token = h.mustToken(2, "1234", mayMake, rpID)
			made := h.ok(cmdMakeCredential, proved(making("bob", true), 8, token, 2)).bytes(t, 2)
			n := int(binary.BigEndian.Uint16(made[53:]))
			last := k.Credentials()[1]
			r, s = salts()
			r[3] = []descriptor{described(id)}
			a := h.ok(cmdGetAssertion, r)
			data, signature := a.bytes(t, 2), a.bytes(t, 3)
			signed := verifies(public, append(bytes.Clone(data), clientData[:]...), signature)
			var said descriptor
			a.into(t, 1, &said)
			var user User
			a.into(t, 4, &user)
			silent := asserting(id)
			silent[5] = map[string]bool{"up": false}
			quiet := h.ok(cmdGetAssertion, silent).bytes(t, 2)
			rp := sha256.Sum256([]byte(rpID))
			now := binary.BigEndian.Uint32(data[33:])

			shown, signs := false, true
			switch f.Name {
			case WrongCredentialID.Name:
				shown = !bytes.Equal(said.ID, id) && !bytes.Contains(made, last.ID)
			case WrongCredentialLength.Name:
				shown = n == 0xffff
			case ClaimsVerified.Name:
				shown = data[32]&flagVerified != 0
			case DeniesVerified.Name:
				shown = made[32]&flagVerified == 0
			case ClaimsPresence.Name:
				shown = quiet[32]&flagPresent != 0
			case DeniesPresence.Name:
				shown = data[32]&flagPresent == 0 && made[32]&flagPresent == 0
			case WrongRPHash.Name:
				shown = !bytes.Equal(data[:32], rp[:]) && !bytes.Equal(made[:32], rp[:])
			case BadSignature.Name, OtherKeySigns.Name, OtherChallenge.Name:
				shown, signs = true, false
			case CounterStuck.Name:
				shown = now == counter+1 // by the honest one before
			case CounterBack.Name:
				shown = now < counter
			case WrongUser.Name:
				shown = string(user.ID) != "alice"
			case WrongAAGUID.Name:
				shown = !bytes.Equal(made[37:53], k.o.AAGUID[:])
			case BadPublicKey.Name:
				shown = bytes.Contains(made, bytes.Repeat([]byte{0xff}, 32))
			case WrongAlgorithm.Name:
				var key coseKey
				_, err := cbor.UnmarshalFirst(made[55+n:], &key)
				shown = err == nil && key.Algorithm == -257
			case WrongSecret.Name:
				shown = !bytes.Equal(secret(a, s), right)
			}
			if !shown || signed != signs {
				t.Errorf("shown %v, signed %v", shown, signed)
			}
			k.Mend()
			r, s = salts()
			r[3] = []descriptor{described(id)}
			a = h.ok(cmdGetAssertion, r)
			if _, n := asserted(t, a, public); n <= counter || !bytes.Equal(secret(a, s), right) {
				t.Error("mended, but not as before")
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	k := New(Options{})
	h := begin(t, plug(t, k))
	k.Break(Answers(PINBlocked), When{Step: StepPIN, Skip: 1, Times: 2})
	k.Break(AnswersU2F(swConditionsNotSatisfied), When{Step: StepU2FRegister, Times: 1})
	h.ok(cmdClientPIN, fields{2: 1})
	h.ok(cmdGetInfo, nil)
	h.fails(PINBlocked, cmdClientPIN, fields{2: 1})
	h.fails(PINBlocked, cmdClientPIN, fields{1: 2, 2: 2})
	h.ok(cmdClientPIN, fields{2: 1})
	if _, sw := h.u2f(u2fRegister, 0, make([]byte, 64)); sw != swConditionsNotSatisfied || len(k.Credentials()) != 0 {
		t.Errorf("%04x", sw)
	}
	if _, sw := h.u2f(u2fRegister, 0, make([]byte, 64)); sw != swOK {
		t.Errorf("%04x", sw)
	}
	want := []Step{StepInit, StepPINRetries, StepInfo, StepPINRetries, StepPINAgreement, StepPINRetries, StepU2FRegister, StepU2FRegister}
	if got := k.Steps(); !slices.Equal(got, want) || k.Happened() != 3 || k.Mend() != 3 {
		t.Errorf("steps %q", got)
	}
}

func TestTimeFaults(t *testing.T) {
	finger := NewFinger()
	for _, f := range TimeFaults {
		t.Run(f.Name, func(t *testing.T) {
			k := New(Options{Keepalive: time.Millisecond, Touch: finger.Touch})
			p := plug(t, k)
			h := begin(t, p)
			k.Break(f, When{Step: StepSelect, Times: 1})
			h.ask(cmdSelection, nil)
			touch := func() { wanted(t, finger).Touch() }
			switch f.Name {
			case Hang.Name:
				h.send(hidCancel, nil)
				h.send(hidPing, nil)
				h.refused(hidBusy)
				if h.keepalives != nil {
					t.Error("it shows signs of life")
				}
			case Dead.Name:
				h.send(hidPing, nil)
				h.f.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				if n, err := h.f.Read(make([]byte, reportSize)); err == nil {
					t.Fatalf("it says %d bytes", n)
				}
				p.PowerCycle()
			case LateAnswer.Name:
				touch()
				m := message{command: hidError}
				for m.command == hidError { // it is still at work
					h.send(hidPing, nil)
					m = h.receive()
				}
				if next := h.receive(); m.command != hidCBOR || m.data[0] != byte(OK) || next.command != hidPing {
					t.Errorf("%+v, then %+v", m, next)
				}
			case EndlessKeepalive.Name, KeepaliveFlood.Name:
				for range 20 {
					h.blinks()
				}
				h.send(hidCancel, nil)
				for range 200 { // more than was on its way
					h.blinks()
				}
			case IgnoresCancel.Name:
				h.blinks()
				h.send(hidCancel, nil)
				touch()
				if s, _ := h.answer(); s != OK {
					t.Error(s)
				}
			case DrippingAnswer.Name:
				touch()
				if s, _ := h.answer(); s != OK {
					t.Error(s)
				}
			}
			h.init() // a host that comes anew
			h.ok(cmdGetInfo, nil)
		})
	}
}

// try asks, and gives the answer unless the key goes away first.
func (h *host) try(command byte, data []byte) (_ message, there bool) {
	h.t.Helper()
	for _, r := range (message{h.channel, command, data}).reports() {
		if _, err := h.f.Write(append([]byte{0}, r...)); err != nil {
			return message{}, false
		}
	}
	var a assembler
	for {
		r := h.raw()
		if r == nil {
			return message{}, false
		}
		if r[4] == hidKeepalive|isFirst {
			continue
		}
		if m, _ := a.feed(r); m != nil {
			return *m, true
		}
	}
}

// The key can be pulled out at every step of what a host does: it answers up to
// there, and not after.
func TestUnplugAtEachStep(t *testing.T) {
	steps := []Step{StepInit, StepInfo, StepMake}
	for _, f := range UnplugFaults {
		for n, step := range steps {
			if f.unplug == unplugAtTouch && step != StepMake {
				continue
			}
			t.Run(fmt.Sprintf("%s: %s", f.Name, step), func(t *testing.T) {
				k := New(Options{})
				p := plug(t, k)
				k.Break(f, When{Skip: n, Times: 1})
				h := dial(t, p)
				heard := 0
				if _, there := h.try(hidInit, random(8)); there {
					heard, h.channel = 1, 1
					for _, request := range [][]byte{{cmdGetInfo}, append([]byte{cmdMakeCredential}, encode(making("u", false))...)} {
						if _, there := h.try(hidCBOR, request); !there {
							break
						}
						heard++
					}
				}
				<-p.Gone()
				want, made := n, 0
				if f.unplug == unplugAfter {
					want = n + 1
				}
				if step == StepMake && f.unplug != unplugBefore && f.unplug != unplugAtTouch {
					made = 1
				}
				if heard != want || len(k.Credentials()) != made || k.Mend() != 1 {
					t.Errorf("heard %d answers, want %d; %d credentials, want %d", heard, want, len(k.Credentials()), made)
				}
				// Plugged in again it is as good as ever.
				begin(t, plug(t, k)).ok(cmdMakeCredential, making("u", false))
			})
		}
	}
}
