package softkey

import (
	"slices"
)

const maxRequest = 1200

// ctap2 carries out one command and makes the whole answer.
func (c *call) ctap2(in []byte) []byte {
	answer, err := c.command(in)
	status, coded := err.(Status)
	switch {
	case err != nil && !coded:
		return []byte{byte(OtherError)}
	case err != nil:
		return []byte{byte(status)}
	case answer == nil:
		return []byte{byte(OK)}
	}
	return append([]byte{byte(OK)}, encode(answer)...)
}

func (c *call) command(in []byte) (any, error) {
	k := c.k
	switch {
	case len(in) == 0:
		return nil, InvalidLength
	case len(in) > maxRequest:
		return nil, RequestTooLarge
	}
	command, body := in[0], in[1:]
	if command != cmdGetNextAssertion {
		k.power.next = nil
	}
	if command != cmdCredentials && command != cmdCredentialsBefore {
		k.power.listing = nil
	}
	newer := k.o.Kind == FIDO21
	switch {
	case command == cmdMakeCredential:
		return c.makeCredential(body)
	case command == cmdGetAssertion:
		return c.getAssertion(body)
	case command == cmdGetNextAssertion:
		return c.getNextAssertion()
	case command == cmdGetInfo:
		return k.info(), nil
	case command == cmdClientPIN:
		return c.clientPIN(body)
	case command == cmdReset:
		return nil, c.reset()
	case command == cmdSelection && newer:
		return nil, c.touch("")
	case (command == cmdCredentials || command == cmdCredentialsBefore) && newer:
		return k.credentialManagement(body)
	case (command == cmdBio || command == cmdBioPreview) && newer && k.o.Fingerprints:
		return c.bio(body)
	case command == cmdConfig && newer:
		return nil, k.config(body)
	}
	return nil, InvalidCommand
}

// info is authenticatorGetInfo (CTAP 2.1, 6.4).
func (k *Key) info() any {
	options := map[string]bool{"rk": true, "up": true, "plat": false, "clientPin": k.store.pinHash != nil}
	if k.o.Fingerprints {
		options["uv"] = len(k.store.prints) > 0
	}
	versions := []string{}
	if k.u2f() {
		versions = append(versions, "U2F_V2")
	}
	versions = append(versions, "FIDO_2_0")
	all := map[int]any{
		2: []string{"hmac-secret"}, 3: k.o.AAGUID[:], 4: options, 5: maxRequest, 6: k.o.PINProtocols,
	}
	if k.o.Kind == FIDO21 {
		versions = append(versions, "FIDO_2_1_PRE", "FIDO_2_1")
		all[2] = []string{"credProtect", "hmac-secret"}
		for _, is := range []string{"pinUvAuthToken", "credMgmt", "credentialMgmtPreview", "authnrCfg", "setMinPINLength"} {
			options[is] = true
		}
		options["alwaysUv"] = k.store.alwaysUV
		options["makeCredUvNotRqd"] = k.o.MakeWithoutPIN && !k.store.alwaysUV
		if k.o.Fingerprints {
			options["bioEnroll"] = len(k.store.prints) > 0
			options["userVerificationMgmtPreview"] = len(k.store.prints) > 0
			all[18] = 2 // fingerprint_internal
		}
		all[7], all[8], all[9] = maxList, credentialIDLength, []string{"usb"}
		all[10] = []any{
			map[string]any{"alg": algES256, "type": "public-key"}, map[string]any{"alg": algEdDSA, "type": "public-key"},
		}
		all[12], all[13], all[14], all[20] = k.store.changePIN, k.store.minPIN, k.o.Firmware, k.room()
	}
	all[1] = versions
	return all
}

// u2f says whether raw U2F messages are taken.
func (k *Key) u2f() bool { return !k.o.NoU2F && !k.store.alwaysUV }

// room is how many more resident credentials fit.
func (k *Key) room() int { return k.o.MaxResident - k.residents() }

func (k *Key) residents() (n int) {
	for _, c := range k.store.credentials {
		if c.Resident {
			n++
		}
	}
	return n
}

// reset is authenticatorReset (CTAP 2.1, 6.6).
func (c *call) reset() error {
	k := c.k
	if k.o.Now().Sub(k.power.since) > resetTime {
		return NotAllowed
	}
	if err := c.touch(""); err != nil {
		return err
	}
	k.factory()
	k.start()
	return nil
}

// config is authenticatorConfig (CTAP 2.1, 6.11).
func (k *Key) config(in []byte) error {
	var r struct {
		Sub      *byte  `cbor:"1,keyasint"`
		Params   raw    `cbor:"2,keyasint"`
		Protocol *int   `cbor:"3,keyasint"`
		Auth     []byte `cbor:"4,keyasint"`
	}
	if err := decode(in, &r); err != nil {
		return err
	}
	if r.Sub == nil {
		return MissingParameter
	}
	if *r.Sub != 2 && *r.Sub != 3 {
		return InvalidSubcommand
	}
	// alwaysUv may be switched on and off freely while there is nothing to verify by.
	if protected := k.store.pinHash != nil || len(k.store.prints) > 0; protected || r.Auth != nil {
		if r.Auth == nil {
			return PINRequired
		}
		message := append(slices.Repeat([]byte{0xff}, 32), cmdConfig, *r.Sub)
		if err := k.authorize(r.Auth, r.Protocol, append(message, r.Params...), mayConfigure, ""); err != nil {
			return err
		}
	}
	if *r.Sub == 2 {
		k.store.alwaysUV = !k.store.alwaysUV
		return nil
	}
	var p struct {
		Length *int  `cbor:"1,keyasint"`
		Change *bool `cbor:"3,keyasint"`
	}
	if len(r.Params) > 0 {
		if err := decode(r.Params, &p); err != nil {
			return err
		}
	}
	if p.Length != nil {
		if *p.Length < k.store.minPIN || *p.Length > 63 {
			return PINPolicyViolation
		}
		// How long the PIN is that is set nobody knows any more.
		k.store.changePIN = k.store.changePIN || k.store.pinHash != nil && *p.Length > k.store.minPIN
		k.store.minPIN = *p.Length
	}
	if p.Change != nil && *p.Change {
		if k.store.pinHash == nil {
			return PINNotSet
		}
		k.store.changePIN = true
	}
	if k.store.changePIN {
		k.power.token.renew()
	}
	return nil
}
