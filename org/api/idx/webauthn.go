package idx

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/signin"
)

// challengeData is what a page hands to the browser for a security key: the
// members of WebAuthn's request options. Which keys may answer, pages take from
// the list of enrolments.
type challengeData struct {
	Challenge        string   `json:"challenge"`
	UserVerification string   `json:"userVerification"`
	RPID             string   `json:"rpId"`
	Extensions       struct{} `json:"extensions"`
}

// activationData is the same for a new security key: the creation options.
type activationData struct {
	RP                     rp        `json:"rp"`
	User                   keyUser   `json:"user"`
	Challenge              string    `json:"challenge"`
	PubKeyCredParams       []param   `json:"pubKeyCredParams"`
	Attestation            string    `json:"attestation"`
	AuthenticatorSelection selection `json:"authenticatorSelection"`
	ExcludeCredentials     []listed  `json:"excludeCredentials"`
}

type rp struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type keyUser struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	DisplayName string `json:"displayName"`
}

type param struct {
	Type string `json:"type"`
	Alg  int    `json:"alg"`
}

type selection struct {
	UserVerification        string `json:"userVerification"`
	AuthenticatorAttachment string `json:"authenticatorAttachment,omitempty"`
	ResidentKey             string `json:"residentKey"`
	RequireResidentKey      bool   `json:"requireResidentKey"`
}

type listed struct {
	Type       string   `json:"type"`
	ID         string   `json:"id"`
	Transports []string `json:"transports,omitempty"`
}

// keyAnswer is what a page sends of a security key's answer, or a new one's.
type keyAnswer struct {
	ClientData        string          `json:"clientData"`
	AuthenticatorData string          `json:"authenticatorData"`
	SignatureData     string          `json:"signatureData"`
	UserHandle        string          `json:"userHandle"`
	Attestation       string          `json:"attestation"`
	Transports        json.RawMessage `json:"transports"` // a list, inside a string or not
}

// enrol begins the enrolment of an authenticator.
func (s *server) enrol(ctx context.Context, q *request) (signin.View, error) {
	return s.engine.SetUp(ctx, q.StateHandle, q.Authenticator.ID)
}

func (s *server) answerKey(ctx context.Context, handle okta.Secret, k *keyAnswer) (signin.View, error) {
	if k.Attestation == "" {
		return s.engine.Key(ctx, handle, factor.KeyAssertion{
			ClientData: k.ClientData, AuthenticatorData: k.AuthenticatorData, Signature: k.SignatureData, UserHandle: k.UserHandle,
		})
	}
	// Transports are the browser's hint; one that cannot be read is none.
	var list []string
	var text string
	if json.Unmarshal(k.Transports, &text) == nil {
		_ = json.Unmarshal([]byte(text), &list)
	} else {
		_ = json.Unmarshal(k.Transports, &list)
	}
	return s.engine.EnrolKey(ctx, handle, factor.KeyAttestation{ClientData: k.ClientData, Attestation: k.Attestation, Transports: list})
}

// key draws the step that asks a security key.
func (r renderer) key(d *document, v *signin.View) {
	f := r.form(v, "challenge-authenticator", "/idp/idx/challenge/answer", credentials("clientData", "authenticatorData", "signatureData", "userHandle?"))
	f.RelatesTo = []string{"$.currentAuthenticator"}
	current := webAuthnOf(v.WebAuthnID)
	current.ContextualData = &contextualData{ChallengeData: &challengeData{
		Challenge: v.Key.Challenge, UserVerification: keyVerification(v.Key.UserVerification), RPID: v.Key.RPID,
	}}
	r.verify(d, v, f, current)
	r.listKeys(d, v)
}

// setUp draws the choice of what to enrol, and that it may be done later where
// the sign-in does without.
func (r renderer) setUp(d *document, v *signin.View) {
	d.Remediation = arrayOf(r.enrolment(v))
	if v.MayWait {
		d.Remediation.Value = append(d.Remediation.Value, r.form(v, "skip", "/idp/idx/skip"))
	}
	r.listSetUps(d, v)
}

// enrol draws the step that asks a new security key.
func (r renderer) enrol(d *document, v *signin.View) {
	f := r.form(v, "enroll-authenticator", "/idp/idx/challenge/answer", credentials("clientData", "attestation", "transports?", "clientExtensions?"))
	f.RelatesTo = []string{"$.currentAuthenticator"}
	d.Remediation = arrayOf(f, r.enrolment(v))
	if v.MayWait {
		d.Remediation.Value = append(d.Remediation.Value, r.form(v, "skip", "/idp/idx/skip"))
	}
	k := v.Key
	a := activationData{
		RP: rp{ID: k.RPID, Name: orgName}, User: keyUser{ID: k.UserHandle, Name: k.UserName, DisplayName: k.DisplayName},
		Challenge: k.Challenge, Attestation: "direct", PubKeyCredParams: []param{}, ExcludeCredentials: []listed{},
		AuthenticatorSelection: selection{UserVerification: keyVerification(k.UserVerification), ResidentKey: strings.ToLower(k.Resident)},
	}
	a.AuthenticatorSelection.RequireResidentKey = k.Resident == directory.ResidentRequired // for those who do not know the other
	switch k.Attachment {
	case directory.AttachmentBuiltIn:
		a.AuthenticatorSelection.AuthenticatorAttachment = "platform"
	case directory.AttachmentRoaming:
		a.AuthenticatorSelection.AuthenticatorAttachment = "cross-platform"
	}
	for _, alg := range k.Algorithms {
		a.PubKeyCredParams = append(a.PubKeyCredParams, param{publicKey, alg})
	}
	for _, key := range k.Keys {
		a.ExcludeCredentials = append(a.ExcludeCredentials, listed{publicKey, key.CredentialID, key.Transports})
	}
	current := webAuthnOf(v.WebAuthnID)
	current.ContextualData = &contextualData{Activation: &a}
	d.CurrentAuthenticator = objectOf(current)
	r.listSetUps(d, v)
	r.listKeys(d, v)
}

const (
	publicKey = "public-key"
	orgName   = "Countersign"
)

// enrolment is the form that chooses what to enrol; its options relate to the
// list that listSetUps makes, in the same order.
func (r renderer) enrolment(v *signin.View) form {
	var options []option
	for i, c := range v.SetUp {
		options = append(options, option{
			Label: labelWebAuthn, RelatesTo: "$.authenticators.value[" + strconv.Itoa(i) + "]",
			Value: formValue{fields{[]field{
				{Name: "id", Value: c.AuthenticatorID, Required: yes(), Mutable: no()},
				{Name: "methodType", Value: c.Methods[0], Required: no(), Mutable: no()},
			}}},
		})
	}
	return r.form(v, "select-authenticator-enroll", "/idp/idx/credential/enroll", field{Name: "authenticator", Type: "object", Required: yes(), Options: options})
}

func (r renderer) listSetUps(d *document, v *signin.View) {
	d.Authenticators, d.Enrolments = arrayOf[authenticator](), arrayOf[authenticator]()
	d.Authenticators.Value, d.Enrolments.Value = []authenticator{}, []authenticator{}
	for _, c := range v.SetUp {
		d.Authenticators.Value = append(d.Authenticators.Value, webAuthnOf(c.AuthenticatorID))
	}
}

// listKeys puts the person's security keys into the list of enrolments, behind
// what the choice of another way relates to; one of them may be there already.
// The widget hands all that it finds there to the browser.
func (r renderer) listKeys(d *document, v *signin.View) {
	for _, k := range v.Key.Keys {
		if !slices.ContainsFunc(d.Enrolments.Value, func(a authenticator) bool { return a.CredentialID == k.CredentialID }) {
			d.Enrolments.Value = append(d.Enrolments.Value, enrolledKey(v.WebAuthnID, k))
		}
	}
}

func enrolledKey(authenticatorID string, k signin.KeyOfUser) authenticator {
	a := webAuthnOf(authenticatorID)
	a.AuthenticatorID, a.ID, a.DisplayName, a.CredentialID, a.Transports = authenticatorID, k.ID, k.Name, k.CredentialID, k.Transports
	return a
}

func webAuthnOf(id string) authenticator {
	return authenticator{Type: "security_key", Key: signin.KeyWebAuthn, ID: id, DisplayName: labelWebAuthn, Methods: []method{{string(factor.MethodWebAuthn)}}}
}

// credentials is the field for what a key answers; a "?" marks what may be
// missing.
func credentials(names ...string) field {
	f := field{Name: "credentials", Type: "object", Required: yes(), Form: &fields{}}
	for _, n := range names {
		required := yes()
		if n[len(n)-1] == '?' {
			n, required = n[:len(n)-1], no()
		}
		f.Form.Value = append(f.Form.Value, field{Name: n, Label: n, Required: required, Visible: no()})
	}
	return f
}

// keyVerification is the word that WebAuthn has for what is asked.
func keyVerification(n okta.Need) string {
	switch n {
	case okta.NeedRequired:
		return "required"
	case okta.NeedPreferred:
		return "preferred"
	}
	return "discouraged"
}
