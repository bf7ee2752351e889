package softkey

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"testing"
)

func TestInfo(t *testing.T) {
	for _, c := range []struct {
		o        Options
		versions []string
		options  map[string]bool
	}{
		{Options{}, []string{"U2F_V2", "FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1"}, map[string]bool{"clientPin": false, "rk": true, "credMgmt": true, "pinUvAuthToken": true}},
		{Options{Kind: FIDO20, PIN: "1234"}, []string{"U2F_V2", "FIDO_2_0"}, map[string]bool{"clientPin": true}},
		{Options{AlwaysUV: true, MakeWithoutPIN: true}, []string{"FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1"}, map[string]bool{"alwaysUv": true, "makeCredUvNotRqd": false}},
		{Options{NoU2F: true, Fingerprints: true}, []string{"FIDO_2_0", "FIDO_2_1_PRE", "FIDO_2_1"}, map[string]bool{"uv": false, "bioEnroll": false}},
	} {
		a := begin(t, plug(t, New(c.o))).ok(cmdGetInfo, nil)
		var versions []string
		var options map[string]bool
		a.into(t, 1, &versions)
		a.into(t, 4, &options)
		if !slices.Equal(versions, c.versions) {
			t.Errorf("%+v: versions %v", c.o, versions)
		}
		for name, want := range c.options {
			if got, there := options[name]; !there || got != want {
				t.Errorf("%+v: option %s is %v %v", c.o, name, got, there)
			}
		}
		if _, there := options["credMgmt"]; there != (c.o.Kind == FIDO21) {
			t.Errorf("%+v: credMgmt %v", c.o, there)
		}
	}
}

// A request that is not exactly as it should be is refused.
func TestRefusesRequests(t *testing.T) {
	k := New(Options{})
	h := begin(t, plug(t, k))
	make := func(change func(fields)) []byte {
		f := making("u", false)
		change(f)
		return append([]byte{cmdMakeCredential}, encode(f)...)
	}
	for name, c := range map[string]struct {
		request []byte
		want    Status
	}{
		"nothing":             {nil, InvalidLength},
		"unknown command":     {[]byte{0x3f}, InvalidCommand},
		"no parameters":       {[]byte{cmdMakeCredential}, MissingParameter},
		"trailing bytes":      {append(make(func(fields) {}), 0), InvalidCBOR},
		"truncated":           {make(func(fields) {})[:40], InvalidCBOR},
		"not canonical":       {[]byte{cmdClientPIN, 0xa2, 0x02, 0x01, 0x01, 0x01}, InvalidCBOR},
		"a longer number":     {[]byte{cmdClientPIN, 0xa1, 0x02, 0x18, 0x01}, InvalidCBOR},
		"a key twice":         {[]byte{cmdClientPIN, 0xa2, 0x02, 0x01, 0x02, 0x01}, InvalidCBOR},
		"indefinite length":   {[]byte{cmdClientPIN, 0xbf, 0x02, 0x01, 0xff}, InvalidCBOR},
		"too deep":            {append([]byte{cmdClientPIN}, bytes.Repeat([]byte{0x81}, 100)...), InvalidCBOR},
		"too large":           {append([]byte{cmdMakeCredential}, bytes.Repeat([]byte{0}, maxRequest)...), RequestTooLarge},
		"another type":        {make(func(f fields) { f[1] = "text" }), UnexpectedType},
		"no hash":             {make(func(f fields) { delete(f, 1) }), MissingParameter},
		"short hash":          {make(func(f fields) { f[1] = []byte{1} }), InvalidParameter},
		"no user ID":          {make(func(f fields) { f[3] = map[string]any{"id": []byte{}} }), InvalidParameter},
		"unknown algorithms":  {make(func(f fields) { f[4] = []any{map[string]any{"alg": -257, "type": "public-key"}} }), UnsupportedAlgorithm},
		"up false":            {make(func(f fields) { f[7] = map[string]bool{"up": false} }), InvalidOption},
		"uv without a reader": {make(func(f fields) { f[7] = map[string]bool{"uv": true} }), InvalidOption},
		"enterprise":          {make(func(f fields) { f[10] = 1 }), InvalidParameter},
		"credProtect 4":       {make(func(f fields) { f[6] = map[string]any{"credProtect": 4} }), InvalidOption},
		"long list":           {make(func(f fields) { f[5] = slices.Repeat([]descriptor{described([]byte{1})}, maxList+1) }), RequestTooLarge},
		"bio without reader":  {append([]byte{cmdBio}, encode(fields{6: true})...), InvalidCommand},
		"next without first":  {[]byte{cmdGetNextAssertion}, NotAllowed},
		"rk at an assertion": {append([]byte{cmdGetAssertion}, encode(func() fields {
			f := asserting()
			f[5] = map[string]bool{"rk": true}
			return f
		}())...), UnsupportedOption},
	} {
		h.send(hidCBOR, c.request)
		if s, _ := h.answer(); s != c.want {
			t.Errorf("%s: %v, want %v", name, s, c.want)
		}
	}
	if n := len(k.Credentials()); n != 0 {
		t.Errorf("%d credentials were made", n)
	}
}

func TestCredentials(t *testing.T) {
	k := New(Options{MaxResident: 2})
	h := begin(t, plug(t, k))
	id, flags, public := attested(t, h.ok(cmdMakeCredential, making("alice", false)))
	if flags != flagPresent|flagAttested {
		t.Errorf("flags %#x", flags)
	}
	flags, first := asserted(t, h.ok(cmdGetAssertion, asserting(random(48), id)), public)
	_, second := asserted(t, h.ok(cmdGetAssertion, asserting(id)), public)
	if flags != flagPresent || second <= first {
		t.Errorf("flags %#x, counter %d after %d", flags, second, first)
	}
	h.fails(NoCredentials, cmdGetAssertion, asserting(random(48)))
	h.fails(NoCredentials, cmdGetAssertion, asserting()) // it is not resident
	elsewhere := asserting(id)
	elsewhere[1] = "elsewhere.example"
	h.fails(NoCredentials, cmdGetAssertion, elsewhere)
	excluding := making("alice", false)
	excluding[5] = []descriptor{described(id)}
	h.fails(CredentialExcluded, cmdMakeCredential, excluding)

	// EdDSA.
	eddsa := making("carol", false)
	eddsa[4] = []any{map[string]any{"alg": algEdDSA, "type": "public-key"}}
	id, _, public = attested(t, h.ok(cmdMakeCredential, eddsa))
	asserted(t, h.ok(cmdGetAssertion, asserting(id)), public)

	// Resident ones: the newest first, one for a user, and as many as there is room.
	_, _, alice := attested(t, h.ok(cmdMakeCredential, making("alice", true)))
	h.ok(cmdMakeCredential, making("bob", true))
	_, _, bob := attested(t, h.ok(cmdMakeCredential, making("bob", true)))
	h.fails(KeyStoreFull, cmdMakeCredential, making("carol", true))
	a := h.ok(cmdGetAssertion, asserting())
	var user map[string]any
	a.into(t, 4, &user)
	asserted(t, a, bob)
	if a.number(t, 5) != 2 || string(user["id"].([]byte)) != "bob" || user["name"] != nil {
		t.Errorf("%v of %x", user, a[5])
	}
	asserted(t, h.ok(cmdGetNextAssertion, nil), alice)
	h.fails(NotAllowed, cmdGetNextAssertion, nil)
	h.ok(cmdGetAssertion, asserting())
	h.ok(cmdGetInfo, nil)
	h.fails(NotAllowed, cmdGetNextAssertion, nil)
	if len(k.Credentials()) != 4 {
		t.Errorf("%d credentials", len(k.Credentials()))
	}
	h.ok(cmdReset, nil)
	h.fails(NoCredentials, cmdGetAssertion, asserting())
}

func TestAttestationByCA(t *testing.T) {
	ca := NewCA("Example Keys")
	k := New(Options{Attestation: BasicAttestation, CA: ca, AAGUID: [16]byte{1, 2, 3}})
	a := begin(t, plug(t, k)).ok(cmdMakeCredential, making("u", false))
	var statement struct {
		Signature []byte   `cbor:"sig"`
		Chain     [][]byte `cbor:"x5c"`
	}
	a.into(t, 3, &statement)
	leaf, err := x509.ParseCertificate(statement.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
	if err := leaf.CheckSignature(x509.ECDSAWithSHA256, append(a.bytes(t, 2), clientData[:]...), statement.Signature); err != nil {
		t.Error(err)
	}
	a = begin(t, plug(t, New(Options{Attestation: NoAttestation}))).ok(cmdMakeCredential, making("u", false))
	var format string
	if a.into(t, 1, &format); format != "none" || !bytes.Equal(a[3], []byte{0xa0}) {
		t.Errorf("no attestation is %q %x", format, a[3])
	}
}

// hmac-secret gives the same for the same salt, another for another credential, and
// another to whoever has not shown who they are.
func TestHMACSecret(t *testing.T) {
	for _, protocol := range []int{1, 2} {
		k := New(Options{PINProtocols: []int{protocol}})
		h := begin(t, plug(t, k))
		request := making("u", true)
		request[6] = map[string]any{"hmac-secret": true}
		a := h.ok(cmdMakeCredential, request)
		id, flags, _ := attested(t, a)
		if flags&flagExtensions == 0 || !bytes.HasSuffix(a.bytes(t, 2), encode(map[string]bool{"hmac-secret": true})) {
			t.Error("the extension is not confirmed")
		}
		secret := func(salts []byte, pin string) []byte {
			t.Helper()
			s, mine := h.agreed(protocol)
			f := asserting(id)
			if pin != "" {
				proved(f, 6, h.mustToken(protocol, pin, mayAssert, rpID), protocol)
			}
			sealed := s.seal(salts)
			e := fields{1: mine, 2: sealed, 3: tag(protocol, s.mac, sealed)}
			if protocol == 2 {
				e[4] = 2
			}
			f[4] = map[string]any{"hmac-secret": e}
			data := h.ok(cmdGetAssertion, f).bytes(t, 2)
			var out map[string][]byte
			if err := decoding.Unmarshal(data[37:], &out); err != nil {
				t.Fatal(err)
			}
			return must(s.open(out["hmac-secret"]))
		}
		salt, salt2 := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
		one := secret(salt, "")
		if both := secret(append(bytes.Clone(salt2), salt...), ""); len(both) != 64 || !bytes.Equal(both[32:], one) || bytes.Equal(both[:32], one) {
			t.Errorf("protocol %d: %x for one salt, %x for two", protocol, one, both)
		}
		if s := h.setPIN(protocol, "1234"); s != OK {
			t.Fatal(s)
		}
		if verified := secret(salt, "1234"); bytes.Equal(verified, one) || !bytes.Equal(verified, secret(salt, "1234")) {
			t.Errorf("protocol %d: verified %x, not verified %x", protocol, verified, one)
		}
		s, mine := h.agreed(protocol)
		f := asserting(id)
		f[4] = map[string]any{"hmac-secret": fields{1: mine, 2: s.seal(salt), 3: random(32), 4: protocol}}
		h.fails(PINAuthInvalid, cmdGetAssertion, f)
	}
}

func TestCredProtectAndAlwaysUV(t *testing.T) {
	k := New(Options{PIN: "1234"})
	h := begin(t, plug(t, k))
	made := func(user string, level int) []byte {
		f := proved(making(user, true), 8, h.mustToken(2, "1234", mayMake, rpID), 2)
		f[6] = map[string]any{"credProtect": level}
		id, _, _ := attested(t, h.ok(cmdMakeCredential, f))
		return id
	}
	made("one", 1)
	two, three := made("two", 2), made("three", 3)
	a := h.ok(cmdGetAssertion, asserting())
	if _, more := a[5]; more {
		t.Error("shows those that are protected")
	}
	h.ok(cmdGetAssertion, asserting(two))
	h.fails(NoCredentials, cmdGetAssertion, asserting(three))
	verified := func(f fields) fields { return proved(f, 6, h.mustToken(2, "1234", mayAssert, rpID), 2) }
	h.ok(cmdGetAssertion, verified(asserting(three)))
	if n := h.ok(cmdGetAssertion, verified(asserting())).number(t, 5); n != 3 {
		t.Errorf("%d credentials for who is verified", n)
	}

	config := func(params any) fields {
		token := h.mustToken(2, "1234", mayConfigure, "")
		f, sub, raw := fields{1: 2, 3: 2}, byte(2), []byte(nil)
		if params != nil {
			sub, raw = 3, encode(params)
			f[1], f[2] = 3, params
		}
		f[4] = tag(2, token, append(append(bytes.Repeat([]byte{0xff}, 32), cmdConfig, sub), raw...))
		return f
	}
	h.fails(PINRequired, cmdConfig, fields{1: 2})
	h.ok(cmdConfig, config(nil))
	h.fails(PINRequired, cmdGetAssertion, asserting(two))
	h.ok(cmdGetAssertion, verified(asserting(two)))
	h.send(hidMessage, apdu(u2fVersion, 0, nil))
	if m := h.receive(); !bytes.Equal(m.data, []byte{0x69, 0x86}) {
		t.Errorf("U2F answers %x", m.data)
	}
	h.fails(PINPolicyViolation, cmdConfig, config(fields{1: 3}))
	h.ok(cmdConfig, config(fields{1: 6}))
	if s, _ := h.token(2, "1234", mayAssert, rpID); s != PINPolicyViolation {
		t.Error("a PIN that may be too short now:", s)
	}
	if s := h.changePIN(2, "1234", "12345"); s != PINPolicyViolation {
		t.Error(s)
	}
	if s := h.changePIN(2, "1234", "123456"); s != OK {
		t.Error(s)
	}
	h.mustToken(2, "123456", mayAssert, rpID)
}

func TestManagement(t *testing.T) {
	k := New(Options{PIN: "1234"})
	h := begin(t, plug(t, k))
	for _, user := range []string{"alice", "bob"} {
		h.ok(cmdMakeCredential, proved(making(user, true), 8, h.mustToken(2, "1234", mayMake, rpID), 2))
	}
	other := making("alice", true)
	other[2] = map[string]string{"id": "other.example"}
	h.ok(cmdMakeCredential, proved(other, 8, h.mustToken(2, "1234", mayMake, "other.example"), 2))
	ids := k.Credentials()

	manage := func(rp string, sub byte, params any) fields {
		token, f, message := h.mustToken(2, "1234", mayManage, rp), fields{1: sub, 3: 2}, []byte{sub}
		if params != nil {
			f[2] = params
			message = append(message, encode(params)...)
		}
		f[4] = tag(2, token, message)
		return f
	}
	h.fails(PINRequired, cmdCredentials, fields{1: manageMetadata})
	a := h.ok(cmdCredentials, manage("", manageMetadata, nil))
	if a.number(t, 1) != 3 || a.number(t, 2) != 22 {
		t.Errorf("%x", a)
	}
	h.fails(PINAuthInvalid, cmdCredentials, manage(rpID, manageMetadata, nil))
	a = h.ok(cmdCredentialsBefore, manage("", manageRPs, nil))
	var rp RelyingParty
	if a.into(t, 3, &rp); a.number(t, 5) != 2 || rp.ID != rpID || rp.Name != "Example" {
		t.Errorf("%v %x", rp, a)
	}
	h.fails(NotAllowed, cmdCredentials, fields{1: manageNextCredential})
	h.ok(cmdCredentials, manage("", manageRPs, nil))
	h.ok(cmdCredentials, fields{1: manageNextRP})
	h.fails(NotAllowed, cmdCredentials, fields{1: manageNextRP})

	hash := sha256.Sum256([]byte(rpID))
	h.fails(PINAuthInvalid, cmdCredentials, manage("other.example", manageCredentials, fields{1: hash[:]}))
	a = h.ok(cmdCredentials, manage(rpID, manageCredentials, fields{1: hash[:]}))
	var user User
	if a.into(t, 6, &user); a.number(t, 9) != 2 || user.Name != "bob" || user.DisplayName != "the bob" {
		t.Errorf("%v %x", user, a)
	}
	h.ok(cmdCredentials, fields{1: manageNextCredential})

	name := func(id []byte) fields {
		return fields{2: described(ids[0].ID), 3: map[string]any{"id": id, "name": "Alice B."}}
	}
	h.fails(InvalidParameter, cmdCredentials, manage("", manageUpdate, name([]byte("bob"))))
	h.ok(cmdCredentials, manage("", manageUpdate, name([]byte("alice"))))
	if got := k.Credentials()[0].User.Name; got != "Alice B." {
		t.Errorf("the name is %q", got)
	}
	h.fails(NoCredentials, cmdCredentials, manage("", manageDelete, fields{2: described(random(48))}))
	h.fails(PINAuthInvalid, cmdCredentials, manage("other.example", manageDelete, fields{2: described(ids[0].ID)}))
	h.ok(cmdCredentials, manage(rpID, manageDelete, fields{2: described(ids[0].ID)}))
	if n := len(k.Credentials()); n != 2 {
		t.Errorf("%d are left", n)
	}
	// What was signed for one thing is not taken for another.
	f := manage("", manageDelete, fields{2: described(ids[1].ID)})
	f[2] = fields{2: described(ids[2].ID)}
	h.fails(PINAuthInvalid, cmdCredentials, f)
}

func FuzzRequests(f *testing.F) {
	for _, r := range []any{making("u", true), asserting(random(48)), fields{2: 1}, fields{1: 2, 2: 2}, fields{6: true}} {
		for _, c := range []byte{1, 2, 4, 6, 7, 8, 9, 10, 11, 13} {
			f.Add(append([]byte{c}, encode(r)...))
		}
	}
	f.Add(apdu(u2fRegister, 0, make([]byte, 64)))
	f.Add(apdu(u2fAuthenticate, u2fEnforce, make([]byte, 70)))
	k := New(Options{PIN: "1234", Fingerprints: true})
	k.EnrolFingerprint("thumb")
	f.Fuzz(func(t *testing.T, in []byte) {
		stepOf(message{1, hidCBOR, in})
		k.mu.Lock()
		defer k.mu.Unlock()
		k.store.credentials = nil // as many as there were inputs otherwise
		c := &call{k: k, ctx: t.Context(), waiting: func(bool) {}, pull: func() {}}
		if a := c.ctap2(in); len(a) == 0 || Status(a[0]) == OtherError {
			t.Fatalf("%x is answered %x", in, a)
		}
		if a := c.u2fMessage(in); len(a) < 2 {
			t.Fatalf("%x is answered %x", in, a)
		}
		if k.store.pinRetries != maxPINRetries && k.store.pinHash != nil && len(in) > 0 && in[0] != cmdClientPIN {
			t.Fatal("a try is gone by something else")
		}
		k.store.pinRetries, k.power.misses = maxPINRetries, 0
	})
}
