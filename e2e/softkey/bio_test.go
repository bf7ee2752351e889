package softkey

import (
	"slices"
	"testing"
)

func TestFingerprints(t *testing.T) {
	finger := NewFinger()
	k := New(Options{PIN: "1234", Fingerprints: true, Touch: finger.Touch})
	h := begin(t, plug(t, k))
	token := []byte(nil)
	bio := func(sub byte, params any) fields {
		f, message := fields{1: 1, 2: sub, 4: 2}, []byte{1, sub}
		if params != nil {
			f[3] = params
			message = append(message, encode(params)...)
		}
		f[5] = tag(2, token, message)
		return f
	}
	print := func() *Wanted {
		t.Helper()
		ask := wanted(t, finger)
		if !ask.Fingerprint {
			t.Fatalf("any touch will do: %+v", ask.Ask)
		}
		return ask
	}
	h.fails(PINRequired, cmdBio, fields{1: 1, 2: bioEnrol})
	token = h.mustToken(2, "1234", mayManage, "")
	h.fails(PINAuthInvalid, cmdBio, bio(bioList, nil))
	token = h.mustToken(2, "1234", mayEnrol, "")
	h.fails(InvalidOption, cmdBio, bio(bioList, nil))
	h.ask(cmdBio, bio(bioEnrol, fields{3: 10000}))
	print().Touch()
	s, a := h.answer()
	if s != OK || a.number(t, 6) != fingerSamples-1 {
		t.Fatal(s, a)
	}
	id := a.bytes(t, 4)
	h.ask(cmdBioPreview, bio(bioMore, fields{1: id, 3: 10000}))
	print().TimeOut()
	if s, a = h.answer(); s != OK || a.number(t, 5) != sampleNoActivity || a.number(t, 6) != fingerSamples-1 {
		t.Fatal(s, a)
	}
	for n := fingerSamples - 2; n >= 0; n-- {
		h.ask(cmdBio, bio(bioMore, fields{1: id, 3: 10000}))
		print().Touch()
		if s, a = h.answer(); s != OK || a.number(t, 6) != n {
			t.Fatal(s, a)
		}
	}
	h.fails(InvalidOption, cmdBio, bio(bioMore, fields{1: id, 3: 10000}))
	h.ok(cmdBio, bio(bioName, fields{1: id, 2: "thumb"}))
	if got := k.Fingerprints(); !slices.Equal(got, []string{"thumb"}) {
		t.Fatal(got)
	}
	h.ok(cmdBio, bio(bioList, nil))
	if n := h.ok(cmdBio, fields{1: 1, 2: bioSensor}).number(t, 3); n != fingerSamples {
		t.Error(n)
	}

	// A token by finger; a wrong finger costs a try.
	byFinger := func() (Status, []byte) {
		s, mine := h.agreed(2)
		h.ask(cmdClientPIN, fields{1: 2, 2: 6, 3: mine, 9: mayMake, 10: rpID})
		ask := print()
		if ask.RP == rpID {
			ask.Touch()
		}
		status, a := h.answer()
		if status != OK {
			return status, nil
		}
		return status, must(s.open(a.bytes(t, 2)))
	}
	s, token = byFinger()
	if s != OK {
		t.Fatal(s)
	}
	h.ask(cmdMakeCredential, proved(making("u", true), 8, token, 2))
	ask := wanted(t, finger)
	if ask.Fingerprint {
		t.Fatal(ask.Ask)
	}
	ask.Touch()
	s, a = h.answer()
	if s != OK {
		t.Fatal(s)
	}
	if _, flags, _ := attested(t, a); flags&flagVerified == 0 {
		t.Error("not verified")
	}
	for n := maxUVRetries - 1; n >= 0; n-- {
		f := asserting()
		f[5] = map[string]bool{"uv": true}
		h.ask(cmdGetAssertion, f)
		print().TimeOut()
		want := UVInvalid
		if n == 0 {
			want = UVBlocked
		}
		if s, _ := h.answer(); s != want {
			t.Fatal(s)
		}
		if left := h.ok(cmdClientPIN, fields{2: 7}).number(t, 5); left != n {
			t.Fatalf("%d tries left, want %d", left, n)
		}
	}
	token = h.mustToken(2, "1234", mayEnrol, "")
	h.ok(cmdBio, bio(bioDelete, fields{1: id}))
	if len(k.Fingerprints()) != 0 {
		t.Error("still there")
	}
}
