package softkey

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestPIN(t *testing.T) {
	for _, protocol := range []int{1, 2} {
		t.Run(fmt.Sprint("protocol ", protocol), func(t *testing.T) {
			k := New(Options{PINProtocols: []int{protocol}})
			p := plug(t, k)
			h := begin(t, p)
			expect := func(want, got Status) {
				t.Helper()
				if got != want {
					t.Fatalf("%v, want %v", got, want)
				}
			}
			s, _ := h.token(protocol, "1234", 0, "")
			expect(PINNotSet, s)
			expect(PINPolicyViolation, h.setPIN(protocol, "123"))
			expect(PINPolicyViolation, h.setPIN(protocol, "ääa")) // five bytes
			expect(OK, h.setPIN(protocol, "1234"))
			expect(PINAuthInvalid, h.setPIN(protocol, "1234"))
			expect(PINInvalid, h.changePIN(protocol, "wrong", "abcdef"))
			if k.PINRetries() != maxPINRetries-1 || !k.CheckPIN("1234") {
				t.Fatal("retries", k.PINRetries())
			}
			expect(OK, h.changePIN(protocol, "1234", "abcdef"))
			h.mustToken(protocol, "abcdef", 0, "")
			if n := h.ok(cmdClientPIN, fields{2: 1}).number(t, 3); n != maxPINRetries {
				t.Error("retries after the right one:", n)
			}
			h.fails(InvalidParameter, cmdClientPIN, fields{1: 3 - protocol, 2: 2})
			h.fails(MissingParameter, cmdClientPIN, fields{2: 2})
			h.fails(InvalidSubcommand, cmdClientPIN, fields{1: protocol, 2: 77, 3: func() coseKey { _, m := h.agreed(protocol); return m }()})

			// Three misses in a row, and nothing is tried until a power cycle; eight, and
			// nothing ever.
			for n := 1; n <= maxPINRetries; n++ {
				s, _ := h.token(protocol, "wrong", 0, "")
				switch {
				case n == maxPINRetries:
					expect(PINBlocked, s)
				case n%maxPINMisses == 0:
					expect(PINAuthBlocked, s)
					s, _ = h.token(protocol, "abcdef", 0, "")
					expect(PINAuthBlocked, s)
					p.PowerCycle()
					h.init()
				default:
					expect(PINInvalid, s)
				}
				if k.PINRetries() != maxPINRetries-n {
					t.Fatalf("after %d misses %d are left", n, k.PINRetries())
				}
			}
			s, _ = h.token(protocol, "abcdef", 0, "")
			expect(PINBlocked, s)
			expect(PINBlocked, h.changePIN(protocol, "abcdef", "123456"))
			p.PowerCycle()
			h.init()
			s, _ = h.token(protocol, "abcdef", 0, "")
			expect(PINBlocked, s)
			h.ok(cmdReset, nil)
			expect(OK, h.setPIN(protocol, "1234"))
		})
	}
}

// What a PIN protects is refused without a token, and with one that is for
// something else.
func TestTokens(t *testing.T) {
	k := New(Options{PIN: "1234"})
	h := begin(t, plug(t, k))
	h.fails(PINRequired, cmdMakeCredential, making("u", false))
	h.fails(PINRequired, cmdMakeCredential, making("u", true))
	h.fails(PINAuthInvalid, cmdMakeCredential, proved(making("u", false), 8, random(32), 2))
	h.fails(InvalidParameter, cmdMakeCredential, proved(making("u", false), 8, random(32), 3))

	for name, c := range map[string]struct {
		permissions byte
		rp          string
		want        Status
	}{
		"none":               {0, rpID, InvalidParameter},
		"make without RP":    {mayMake, "", MissingParameter},
		"large blobs":        {1 << 4, "", UnauthorizedPermission},
		"enrol, no reader":   {mayEnrol, "", UnauthorizedPermission},
		"unknown":            {1 << 7, "", UnauthorizedPermission},
		"manage without RP":  {mayManage, "", OK},
		"make and manage":    {mayMake | mayManage, rpID, OK},
		"assert for another": {mayAssert, "other.example", OK},
	} {
		if s, _ := h.token(2, "1234", c.permissions, c.rp); s != c.want {
			t.Errorf("%s: %v, want %v", name, s, c.want)
		}
	}

	token := h.mustToken(2, "1234", mayAssert, rpID)
	h.fails(PINAuthInvalid, cmdMakeCredential, proved(making("u", false), 8, token, 2))
	token = h.mustToken(2, "1234", mayMake, "other.example")
	h.fails(PINAuthInvalid, cmdMakeCredential, proved(making("u", false), 8, token, 2))
	token = h.mustToken(1, "1234", mayMake, rpID)
	h.fails(PINAuthInvalid, cmdMakeCredential, proved(making("u", false), 8, token, 2)) // of the other protocol
	a := h.ok(cmdMakeCredential, proved(making("u", false), 8, token, 1))
	id, flags, public := attested(t, a)
	if flags&flagVerified == 0 {
		t.Error("not said to be verified")
	}
	h.fails(PINAuthInvalid, cmdMakeCredential, proved(making("v", false), 8, token, 1)) // spent

	// A token of CTAP 2.0 is bound by its first use.
	token = h.mustToken(2, "1234", 0, "")
	silent := func() fields {
		r := proved(asserting(id), 6, token, 2)
		r[5] = map[string]bool{"up": false}
		return r
	}
	flags, _ = asserted(t, h.ok(cmdGetAssertion, silent()), public)
	if flags != flagVerified {
		t.Errorf("a silent assertion has the flags %#x", flags)
	}
	other := silent()
	other[1] = "other.example"
	h.fails(PINAuthInvalid, cmdGetAssertion, other)
	flags, _ = asserted(t, h.ok(cmdGetAssertion, proved(asserting(id), 6, token, 2)), public)
	if flags != flagVerified|flagPresent {
		t.Errorf("flags %#x", flags)
	}

	// A new token ends the one before.
	old := h.mustToken(2, "1234", mayAssert, rpID)
	h.mustToken(2, "1234", mayAssert, rpID)
	h.fails(PINAuthInvalid, cmdGetAssertion, proved(asserting(id), 6, old, 2))
	h.ok(cmdGetAssertion, asserting(id)) // needs none
	// The empty proof asks which key is meant.
	empty := asserting(id)
	empty[6], empty[7] = []byte{}, 2
	h.fails(PINInvalid, cmdGetAssertion, empty)
}

// Tokens, resets and enumerations have their time.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(Options{PIN: "1234"})
		now := &call{k: k, ctx: t.Context(), waiting: func(bool) {}}
		issue := func() {
			k.issue(derived(2, random(32)), mayAssert, rpID)
		}
		use := func() error {
			return k.authorize(tag(2, k.power.token.value, clientData[:]), new(2), clientData[:], mayAssert, rpID)
		}
		issue()
		time.Sleep(tokenFirstUse + time.Nanosecond)
		if use() == nil {
			t.Error("a token is good though it was not used for long")
		}
		issue()
		if err := use(); err != nil {
			t.Error(err)
		}
		time.Sleep(tokenLife)
		if err := use(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Nanosecond)
		if use() == nil {
			t.Error("a token is good for ever")
		}
		if s := now.ctap2([]byte{cmdReset}); Status(s[0]) != NotAllowed {
			t.Error("a reset long after power-up:", s)
		}
		k.powerUp()
		time.Sleep(resetTime)
		if s := now.ctap2([]byte{cmdReset}); Status(s[0]) != OK || k.HasPIN() {
			t.Error("a reset in time:", s)
		}
	})
}
