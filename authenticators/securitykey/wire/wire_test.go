package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	req := Request{Version: Version, Op: MakeCredential, Device: "/dev/hidraw0", Timeout: 1, CredentialIDs: [][]byte{{1, 2}}, User: &User{ID: []byte{3}, Name: "u"}}
	if err := Write(&b, &req); err != nil {
		t.Fatal(err)
	}
	var back Request
	if err := Read(&b, &back); err != nil || !reflect.DeepEqual(back, req) {
		t.Errorf("%+v, %v", back, err)
	}
	if err := Read(&b, &back); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := Write(io.Discard, strings.Repeat("x", MaxFrame)); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	for name, text := range map[string]string{"cut": "\x00\x00\x00\x09{}", "half a head": "\x00\x00", "text": "\x00\x00\x00\x04text", "empty": "\x00\x00\x00\x00"} {
		if err := Read(strings.NewReader(text), &back); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Read(bytes.NewReader(binary.BigEndian.AppendUint32(nil, 1<<31)), &back); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
}

func TestPINs(t *testing.T) {
	for _, pin := range []PIN{{PIN: []byte("1234")}, {PIN: []byte("\"\\\u00e9\x01 <&>"), Old: []byte("old")}, {PIN: bytes.Repeat([]byte{0xff}, MaxPIN), Old: bytes.Repeat([]byte{'o'}, MaxPIN)}} {
		var b bytes.Buffer
		if err := WritePIN(&b, pin); err != nil {
			t.Fatal(err)
		}
		var back PIN
		if err := Read(&b, &back); err != nil || !reflect.DeepEqual(back, pin) {
			t.Errorf("%q, %v", back, err)
		}
	}
	if err := WritePIN(io.Discard, PIN{PIN: make([]byte, MaxPIN+1)}); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
}

// The buffer that a PIN was written from is wiped.
func TestPINFrameIsWiped(t *testing.T) {
	var kept []byte
	w := writer(func(p []byte) (int, error) { kept = p; return len(p), nil })
	if err := WritePIN(w, PIN{PIN: []byte("123456")}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, make([]byte, len(kept))) {
		t.Errorf("%q is left", kept)
	}
	// So is that which one was read into.
	var b bytes.Buffer
	if err := WritePIN(&b, PIN{PIN: []byte("123456")}); err != nil {
		t.Fatal(err)
	}
	r := reader(func(p []byte) (int, error) { kept = p; return b.Read(p) })
	if err := Read(r, &PIN{}); err != nil || len(kept) < 8 || !bytes.Equal(kept, make([]byte, len(kept))) {
		t.Errorf("%q is left, %v", kept, err)
	}
	// An error does not quote one.
	if err := Read(strings.NewReader("\x00\x00\x00\x10{\"pin\":\"secret\"x"), &PIN{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// A frame is read whole or not at all, and what is read can be written again.
func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	_ = Write(&b, &Reply{Version: Version, Result: &Result{Info: &Info{Firmware: "5.4.3", Options: map[string]bool{"rk": true}}}})
	f.Add(b.Bytes())
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff{}"))
	f.Add([]byte("\x00\x00\x00\x1a{\"error\":{\"code\":\"removed\"}}"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var r Reply
		in := bytes.NewReader(frame)
		if err := Read(in, &r); err != nil {
			return
		}
		if read := len(frame) - in.Len(); read != 4+int(binary.BigEndian.Uint32(frame)) {
			t.Fatalf("%d bytes read", read)
		}
		var again bytes.Buffer
		if err := Write(&again, &r); err != nil && !errors.Is(err, ErrTooLong) {
			t.Fatal(err)
		}
	})
}
