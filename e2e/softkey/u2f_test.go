package softkey

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"testing"
)

// apdu makes a raw message with extended lengths.
func apdu(instruction, p1 byte, data []byte) []byte {
	b := append([]byte{0, instruction, p1, 0, 0}, byte(len(data)>>8), byte(len(data)))
	return append(append(b, data...), 0, 0)
}

func (h *host) u2f(instruction, p1 byte, data ...[]byte) ([]byte, uint16) {
	h.t.Helper()
	h.send(hidMessage, apdu(instruction, p1, bytes.Join(data, nil)))
	m := h.receive()
	if m.command != hidMessage || len(m.data) < 2 {
		h.t.Fatalf("%+v", m)
	}
	n := len(m.data) - 2
	return m.data[:n], binary.BigEndian.Uint16(m.data[n:])
}

func TestU2F(t *testing.T) {
	ca := NewCA("Old Keys")
	for _, kind := range []Kind{U2FOnly, FIDO21} {
		k := New(Options{Kind: kind, CA: ca})
		h := begin(t, plug(t, k))
		if v, sw := h.u2f(u2fVersion, 0); string(v) != "U2F_V2" || sw != swOK {
			t.Fatalf("%q %04x", v, sw)
		}
		app, challenge := sha256.Sum256([]byte(rpID)), random(32)
		r, sw := h.u2f(u2fRegister, 0, challenge, app[:])
		if sw != swOK || r[0] != 5 {
			t.Fatalf("%x %04x", r, sw)
		}
		point, handle, rest := r[1:66], r[67:67+int(r[66])], r[67+int(r[66]):]
		end := 4 + int(binary.BigEndian.Uint16(rest[2:]))
		leaf, err := x509.ParseCertificate(rest[:end])
		if err != nil {
			t.Fatal(err)
		}
		signed := bytes.Join([][]byte{{0}, app[:], challenge, handle, point}, nil)
		if err := leaf.CheckSignature(x509.ECDSAWithSHA256, signed, rest[end:]); err != nil {
			t.Error(err)
		}
		if err := leaf.CheckSignatureFrom(ca.Certificate); err != nil {
			t.Error(err)
		}

		public := coseKey{2, algES256, 1, point[1:33], point[33:]}
		length := []byte{byte(len(handle))}
		counter := uint32(0)
		for _, c := range []struct {
			p1, flags byte
		}{{u2fEnforce, 1}, {u2fDont, 0}} {
			a, sw := h.u2f(u2fAuthenticate, c.p1, challenge, app[:], length, handle)
			if sw != swOK || a[0] != c.flags {
				t.Fatalf("%x %04x", a, sw)
			}
			if !verifies(public, bytes.Join([][]byte{app[:], a[:5], challenge}, nil), a[5:]) {
				t.Error("the signature is wrong")
			}
			if n := binary.BigEndian.Uint32(a[1:]); n <= counter {
				t.Errorf("the counter is %d after %d", n, counter)
			} else {
				counter = n
			}
		}
		for name, c := range map[string]struct {
			p1           byte
			app, handle_ []byte
			want         uint16
		}{
			"check":         {u2fCheckOnly, app[:], handle, swConditionsNotSatisfied},
			"another app":   {u2fCheckOnly, challenge, handle, swWrongData},
			"another key":   {u2fEnforce, app[:], random(48), swWrongData},
			"unknown p1":    {0x55, app[:], handle, swWrongData},
			"no key handle": {u2fEnforce, app[:], nil, swWrongData},
		} {
			if _, sw := h.u2f(u2fAuthenticate, c.p1, challenge, c.app, []byte{byte(len(c.handle_))}, c.handle_); sw != c.want {
				t.Errorf("%s: %04x, want %04x", name, sw, c.want)
			}
		}
		if _, sw := h.u2f(u2fRegister, 0, challenge); sw != swWrongLength {
			t.Errorf("short: %04x", sw)
		}
		if _, sw := h.u2f(0x77, 0); sw != swInstruction {
			t.Errorf("unknown: %04x", sw)
		}
		if kind == FIDO21 { // the same credential, the newer way
			asserted(t, h.ok(cmdGetAssertion, asserting(handle)), public)
			continue
		}
		h.send(hidCBOR, []byte{cmdGetInfo})
		h.refused(hidInvalidCommand)
	}
}

// U2F does not wait: the host asks until the key is touched.
func TestU2FTouch(t *testing.T) {
	finger := NewFinger()
	p := plug(t, New(Options{Kind: U2FOnly, Touch: finger.Touch}))
	h := begin(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	app, challenge := random(32), random(32)
	try := func() uint16 {
		_, sw := h.u2f(u2fRegister, 0, challenge, app)
		return sw
	}
	if sw := try(); sw != swConditionsNotSatisfied {
		t.Fatalf("%04x", sw)
	}
	ask := wanted(t, finger)
	if ask.Step != StepU2FRegister {
		t.Fatal(ask.Ask)
	}
	if sw := try(); sw != swConditionsNotSatisfied {
		t.Fatalf("%04x", sw)
	}
	ask.Touch()
	for try() != swOK {
		if ctx.Err() != nil {
			t.Fatal("the touch does not count")
		}
	}
	// One touch is good for one thing.
	if sw := try(); sw != swConditionsNotSatisfied {
		t.Fatalf("%04x", sw)
	}
	ask = wanted(t, finger)
	p.PowerCycle()
	<-ask.Over
}
