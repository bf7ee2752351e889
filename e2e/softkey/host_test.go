package softkey

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
)

// patience bounds everything that is waited for here. Nothing takes so long unless
// it is broken.
const patience = 20 * time.Second

// host is the other end: a small CTAPHID client.
type host struct {
	t          *testing.T
	f          *os.File
	channel    uint32
	keepalives []byte
}

// plug plugs a key in for a test.
func plug(t *testing.T, k *Key) *Port {
	t.Helper()
	p, err := k.Plug()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Unplug)
	return p
}

// begin opens the key and takes a channel.
func begin(t *testing.T, p *Port) *host {
	t.Helper()
	h := dial(t, p)
	h.init()
	return h
}

func dial(t *testing.T, p *Port) *host {
	t.Helper()
	f, err := os.OpenFile(p.Path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &host{t: t, f: f, channel: broadcast}
}

func (h *host) init() {
	h.t.Helper()
	h.channel = broadcast
	nonce := random(8)
	h.send(hidInit, nonce)
	m := h.receive()
	if m.command != hidInit || len(m.data) != 17 || !bytes.Equal(m.data[:8], nonce) {
		h.t.Fatalf("INIT is answered %+v", m)
	}
	h.channel = binary.BigEndian.Uint32(m.data[8:])
}

func (h *host) send(command byte, data []byte) {
	h.t.Helper()
	for _, r := range (message{h.channel, command, data}).reports() {
		h.report(r)
	}
}

func (h *host) report(r []byte) {
	h.t.Helper()
	if _, err := h.f.Write(append([]byte{0}, r...)); err != nil {
		h.t.Fatal("writing a report:", err)
	}
}

// raw reads one report, nil once the key is gone.
func (h *host) raw() []byte {
	h.t.Helper()
	r := make([]byte, reportSize)
	h.f.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(h.f, r); os.IsTimeout(err) {
		h.t.Fatal("the key says nothing")
	} else if err != nil {
		return nil
	}
	return r
}

// receive reads one message of our channel, and notes keepalives.
func (h *host) receive() message {
	h.t.Helper()
	var a assembler
	for {
		r := h.raw()
		if r == nil {
			h.t.Fatal("the key is gone")
		}
		if binary.BigEndian.Uint32(r) != h.channel {
			continue
		}
		if r[4] == hidKeepalive|isFirst {
			h.keepalives = append(h.keepalives, r[7])
			continue
		}
		m, refused := a.feed(r)
		if refused != nil {
			h.t.Fatalf("the key's own reports are in disorder: %+v", refused)
		}
		if m != nil {
			return *m
		}
	}
}

// blinks waits for a keepalive that says the key waits for its owner.
func (h *host) blinks() {
	h.t.Helper()
	for {
		if r := h.raw(); r == nil {
			h.t.Fatal("the key is gone")
		} else if r[4] == hidKeepalive|isFirst && r[7] == 2 {
			return
		}
	}
}

// refused expects an error of the HID layer.
func (h *host) refused(code byte) {
	h.t.Helper()
	if m := h.receive(); m.command != hidError || len(m.data) != 1 || m.data[0] != code {
		h.t.Fatalf("answered %#02x %x, want the HID error %#02x", m.command, m.data, code)
	}
}

func (h *host) ask(command byte, params any) {
	h.t.Helper()
	request := []byte{command}
	if params != nil {
		request = append(request, encode(params)...)
	}
	h.send(hidCBOR, request)
}

// answer is what a CTAP2 command answers, by its keys.
type answer map[int]cbor.RawMessage

func (a answer) into(t *testing.T, key int, v any) {
	t.Helper()
	if err := cbor.Unmarshal(a[key], v); err != nil {
		t.Fatalf("key %d of the answer, %x: %v", key, a[key], err)
	}
}

func (a answer) bytes(t *testing.T, key int) (b []byte) {
	t.Helper()
	a.into(t, key, &b)
	return b
}

func (a answer) number(t *testing.T, key int) (n int) {
	t.Helper()
	a.into(t, key, &n)
	return n
}

func (h *host) answer() (Status, answer) {
	h.t.Helper()
	m := h.receive()
	if m.command != hidCBOR || len(m.data) == 0 {
		h.t.Fatalf("answered by %#02x %x", m.command, m.data)
	}
	a := answer{}
	if len(m.data) > 1 {
		if err := decoding.Unmarshal(m.data[1:], &a); err != nil {
			h.t.Fatalf("the answer %x: %v", m.data, err)
		}
	}
	return Status(m.data[0]), a
}

func (h *host) do(command byte, params any) (Status, answer) {
	h.t.Helper()
	h.ask(command, params)
	return h.answer()
}

// ok expects success.
func (h *host) ok(command byte, params any) answer {
	h.t.Helper()
	s, a := h.do(command, params)
	if s != OK {
		h.t.Fatalf("command %#02x: %v", command, s)
	}
	return a
}

// fails expects a status.
func (h *host) fails(want Status, command byte, params any) {
	h.t.Helper()
	if s, _ := h.do(command, params); s != want {
		h.t.Fatalf("command %#02x: %v, want %v", command, s, want)
	}
}

// wanted waits until the key wants a finger.
func wanted(t *testing.T, f *Finger) *Wanted {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("the key does not blink"))
	defer cancel()
	w, err := f.Wanted(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

type fields = map[int]any

// agreed is the host's half of the key agreement.
func (h *host) agreed(protocol int) (secrets, coseKey) {
	h.t.Helper()
	var theirs coseKey
	h.ok(cmdClientPIN, fields{1: protocol, 2: 2}).into(h.t, 1, &theirs)
	public := must(ecdh.P256().NewPublicKey(append(append([]byte{4}, theirs.X...), theirs.Y...)))
	mine := must(ecdh.P256().GenerateKey(rand.Reader))
	p := mine.PublicKey().Bytes()
	return derived(protocol, must(mine.ECDH(public))), coseKey{2, algAgreement, 1, p[1:33], p[33:]}
}

func padded(pin string) []byte { return append([]byte(pin), make([]byte, 64-len(pin))...) }

func (h *host) setPIN(protocol int, pin string) Status {
	h.t.Helper()
	s, mine := h.agreed(protocol)
	sealed := s.seal(padded(pin))
	status, _ := h.do(cmdClientPIN, fields{1: protocol, 2: 3, 3: mine, 4: tag(protocol, s.mac, sealed), 5: sealed})
	return status
}

func (h *host) changePIN(protocol int, from, to string) Status {
	h.t.Helper()
	s, mine := h.agreed(protocol)
	sealed, hash := s.seal(padded(to)), s.seal(pinHash([]byte(from)))
	auth := tag(protocol, s.mac, append(bytes.Clone(sealed), hash...))
	status, _ := h.do(cmdClientPIN, fields{1: protocol, 2: 4, 3: mine, 4: auth, 5: sealed, 6: hash})
	return status
}

// token asks for one; without permissions in the manner of CTAP 2.0.
func (h *host) token(protocol int, pin string, permissions byte, rp string) (Status, []byte) {
	h.t.Helper()
	s, mine := h.agreed(protocol)
	request := fields{1: protocol, 2: 5, 3: mine, 6: s.seal(pinHash([]byte(pin)))}
	if permissions != 0 {
		request[2], request[9] = 9, permissions
	}
	if rp != "" {
		request[10] = rp
	}
	status, a := h.do(cmdClientPIN, request)
	if status != OK {
		return status, nil
	}
	return status, must(s.open(a.bytes(h.t, 2)))
}

func (h *host) mustToken(protocol int, pin string, permissions byte, rp string) []byte {
	h.t.Helper()
	s, t := h.token(protocol, pin, permissions, rp)
	if s != OK {
		h.t.Fatal("token:", s)
	}
	return t
}

const rpID = "example.com"

var clientData = sha256.Sum256([]byte("client data"))

// making is a request for a credential.
func making(user string, resident bool) fields {
	r := fields{
		1: clientData[:], 2: map[string]string{"id": rpID, "name": "Example"},
		3: map[string]any{"id": []byte(user), "name": user, "displayName": "the " + user},
		4: []any{map[string]any{"alg": algES256, "type": "public-key"}},
	}
	if resident {
		r[7] = map[string]bool{"rk": true}
	}
	return r
}

func asserting(ids ...[]byte) fields {
	r := fields{1: rpID, 2: clientData[:]}
	var list []descriptor
	for _, id := range ids {
		list = append(list, described(id))
	}
	if len(list) > 0 {
		r[3] = list
	}
	return r
}

// proved adds the proof of a token to a request for a credential (at 8) or an
// assertion (at 6).
func proved(f fields, at int, token []byte, protocol int) fields {
	f[at], f[at+1] = tag(protocol, token, clientData[:]), protocol
	return f
}

// attested takes apart authenticator data, and checks the self attestation.
func attested(t *testing.T, a answer) (id []byte, flags byte, public coseKey) {
	t.Helper()
	data := a.bytes(t, 2)
	rp := sha256.Sum256([]byte(rpID))
	if !bytes.Equal(data[:32], rp[:]) || data[32]&flagAttested == 0 {
		t.Fatalf("authenticator data %x", data)
	}
	n := int(binary.BigEndian.Uint16(data[53:]))
	id = data[55 : 55+n]
	if _, err := cbor.UnmarshalFirst(data[55+n:], &public); err != nil {
		t.Fatal(err)
	}
	var statement struct {
		Algorithm int    `cbor:"alg"`
		Signature []byte `cbor:"sig"`
	}
	a.into(t, 3, &statement)
	if !verifies(public, append(bytes.Clone(data), clientData[:]...), statement.Signature) {
		t.Fatal("the attestation is not signed by the credential")
	}
	return id, data[32], public
}

// asserted checks an assertion.
func asserted(t *testing.T, a answer, public coseKey) (flags byte, counter uint32) {
	t.Helper()
	data := a.bytes(t, 2)
	rp := sha256.Sum256([]byte(rpID))
	if !bytes.Equal(data[:32], rp[:]) {
		t.Fatal("another relying party")
	}
	if !verifies(public, append(bytes.Clone(data), clientData[:]...), a.bytes(t, 3)) {
		t.Fatal("the assertion is not signed by the credential")
	}
	return data[32], binary.BigEndian.Uint32(data[33:])
}

func verifies(public coseKey, message, signature []byte) bool {
	if public.Type == 1 {
		return ed25519.Verify(public.X, message, signature)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, public.X, public.Y))
	sum := sha256.Sum256(message)
	return err == nil && ecdsa.VerifyASN1(key, sum[:], signature)
}
