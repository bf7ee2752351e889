package signin

import (
	"slices"
	"strings"

	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// Authentication method references (RFC 8176, and Okta's own).
const (
	amrPassword  = "pwd"
	amrVerify    = "okta_verify"
	amrResistant = "phr"
	amrHardware  = "hwk"
	amrSoftware  = "swk"
	amrCode      = "otp"
	amrKey       = "pop" // a security key
	amrMulti     = "mfa"
)

// amr says what was proven. The kind of key is that of the strongest proof: a
// key in hardware that approved a push must not seem to have resisted phishing
// because another one, in software, did.
func (st *state) amr() []string {
	if st.FromSession {
		return st.AMR
	}
	var list []string
	add := func(names ...string) {
		for _, n := range names {
			if !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	}
	if st.proven(policy.Password) {
		add(amrPassword)
	}
	multi := false
	for _, m := range [...]policy.Methods{policy.SignedNonce, policy.Push, policy.TOTP} {
		i := slices.IndexFunc(st.Proofs, func(p proof) bool { return p.Method == m })
		if i < 0 {
			continue
		}
		p := st.Proofs[i]
		multi = multi || st.proven(policy.Password) || p.Traits&policy.UserVerification != 0
		add(amrVerify)
		key := amrSoftware
		if p.Traits&policy.Hardware != 0 {
			key = amrHardware
		}
		switch {
		case m == policy.SignedNonce:
			add(amrResistant, key)
		case m == policy.TOTP:
			add(amrCode)
		case !st.proven(policy.SignedNonce):
			add(key)
		}
	}
	if i := slices.IndexFunc(st.Proofs, func(p proof) bool { return p.Method == policy.WebAuthn }); i >= 0 {
		multi = multi || st.proven(policy.Password) || st.Proofs[i].Traits&policy.UserVerification != 0
		add(amrKey)
	}
	if multi {
		add(amrMulti)
	}
	return list
}

// adopt takes what a session has proven. A session remembers no presence, so
// rules that want a person to approve are never met by one, and what it says of
// a key counts only as long as the enrolment does.
func (t *transaction) adopt(s SessionFacts) {
	t.state = state{
		Step: StepDone, UserID: s.UserID, AMR: s.AMR, AuthTime: store.Millis(s.AuthTime), FromSession: true,
		EnrolmentID: s.EnrolmentID, DeviceID: s.DeviceID, KeyID: s.KeyID, Protection: s.KeyProtection,
	}
	has := func(name string) bool { return slices.Contains(s.AMR, name) }
	if has(amrPassword) {
		t.prove(policy.Proof{Method: policy.Password, At: s.AuthTime}, "")
	}
	if s.EnrolmentID == "" {
		return
	}
	p := policy.Proof{At: s.AuthTime}
	switch {
	case strings.HasPrefix(s.EnrolmentID, ids.SecurityKey):
		if !has(amrKey) {
			return
		}
		p.Method = policy.WebAuthn // a rule that wants more of it has the key asked again
	case has(amrResistant):
		p.Method, p.Traits = policy.SignedNonce, policy.DeviceBound|policy.PhishingResistant
	case has(amrVerify) && (has(amrSoftware) || has(amrHardware)):
		p.Method, p.Traits = policy.Push, policy.DeviceBound
	case has(amrVerify) && has(amrCode):
		p.Method = policy.TOTP
	default:
		return
	}
	if has(amrHardware) {
		p.Traits |= policy.Hardware
	}
	t.prove(p, s.EnrolmentID)
}
