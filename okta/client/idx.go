package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// IDX is the sign-in API that the org's own page speaks: each answer is a step
// that says which forms may be sent next. What is sent and where is the org's
// word, so a form goes by POST to the org's own origin or nowhere, and an answer
// is read strictly and bounded, whatever it is.

const (
	typeIDX = "application/ion+json; okta-version=1.0.0"

	maxForms     = 32  // of a step
	maxFields    = 64  // of a form
	maxIDXListed = 256 // authenticators, enrolments, options, messages
	maxHandle    = 8 << 10
)

// ErrForm says that a form cannot be sent as the org has it.
var ErrForm = errors.New("the org's form cannot be sent")

// Interact begins a sign-in that needs no browser, and returns the handle of
// its first step. The form is that of an authorization request with PKCE.
func (o *Org) Interact(ctx context.Context, form url.Values) (okta.Secret, error) {
	a, err := o.do(ctx, call{
		method: http.MethodPost, url: o.url + "/oauth2/v1/interact", body: []byte(form.Encode()),
		accept: typeJSON, contentType: "application/x-www-form-urlencoded", limit: maxAnswer, oauth: true,
	})
	if err != nil {
		return "", err
	}
	var begun struct {
		Handle okta.Secret `json:"interaction_handle"`
	}
	if err := o.decode(a, &begun); err != nil {
		return "", err
	}
	if begun.Handle == "" || len(begun.Handle) > maxHandle {
		return "", o.incomplete(a, "interaction_handle")
	}
	return begun.Handle, nil
}

// Introspect reads the first step of a sign-in that Interact has begun.
func (o *Org) Introspect(ctx context.Context, handle okta.Secret) (*Step, error) {
	body, err := encode(map[string]string{"interactionHandle": handle.Reveal()})
	if err != nil {
		return nil, err
	}
	return o.step(ctx, o.url+"/idp/idx/introspect", typeIDX, body)
}

// Proceed sends a form of a step with the given values, which must be fields of
// it, beside those that the org has fixed. The next step may say that it was
// refused: that is not an error here.
func (o *Org) Proceed(ctx context.Context, f *Form, values map[string]any) (*Step, error) {
	if f == nil {
		return nil, fmt.Errorf("%w: there is none", ErrForm)
	}
	if f.method != http.MethodPost {
		return nil, fmt.Errorf("%w: %.40q is not sent by POST", ErrForm, f.Name)
	}
	if err := o.own(f.href); err != nil {
		return nil, fmt.Errorf("form %.40q: %w", f.Name, err)
	}
	filled, err := f.fill(values)
	if err != nil {
		return nil, err
	}
	body, err := encode(filled)
	if err != nil {
		return nil, err
	}
	defer clear(body) // it may hold a password
	return o.step(ctx, f.href, typeJSON, body)
}

func (o *Org) step(ctx context.Context, address, contentType string, body []byte) (*Step, error) {
	a, err := o.do(ctx, call{
		method: http.MethodPost, url: address, body: body, accept: typeIDX, contentType: contentType,
		limit: maxDocument, documents: true,
	})
	if err != nil {
		return nil, err
	}
	return o.readStep(a)
}

// Step is where a sign-in is: what the org says, and the forms that lead on.
type Step struct {
	Status   int
	Messages []Message
	Forms    []*Form     // in the org's order
	Code     okta.Secret // of the end: the interaction code; "" while there is more to do

	enrolled []idxAuthenticator
}

// Message is what the org says to the person, in its own words: clean it before
// it is shown.
type Message struct {
	Text  string
	Key   string // of the sentence, the same in all languages
	Error bool
}

// Form is one way on.
type Form struct {
	Name string
	// Key is the kind of authenticator that it is about: "okta_password",
	// "webauthn", …; "" when it is about none.
	Key string
	// Label is what the org calls that authenticator.
	Label   string
	Choices []Choice // of a form that chooses an authenticator

	href, method string
	fields       []idxField
	data         idxData
	enrolled     []idxAuthenticator
}

// Choice is an authenticator that can be chosen.
type Choice struct {
	Key   string // "" when the org does not say
	Label string

	value map[string]json.RawMessage
}

// Form returns the form with a name; nil when the step has none.
func (s *Step) Form(name string) *Form {
	for _, f := range s.Forms {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// Has says whether a form has a field, or a field within one.
func (f *Form) Has(path ...string) bool {
	fields := f.fields
	for _, name := range path {
		field := find(fields, name)
		if field == nil {
			return false
		}
		fields = field.inner()
	}
	return len(path) > 0
}

// Choose makes the value that chooses the authenticator of a kind.
func (f *Form) Choose(key string) (map[string]any, bool) {
	for _, c := range f.Choices {
		if c.Key == key {
			return map[string]any{"authenticator": c.value}, true
		}
	}
	return nil, false
}

// fill makes the body: what the org has fixed, and what it is given.
func (f *Form) fill(values map[string]any) (map[string]any, error) {
	body := map[string]any{}
	for _, field := range f.fields {
		value, given := values[field.Name]
		fixed := field.Mutable != nil && !*field.Mutable
		switch {
		case field.Name == "":
		case given && fixed:
			return nil, fmt.Errorf("%w: %.40q of %.40q is fixed", ErrForm, field.Name, f.Name)
		case given:
			body[field.Name] = value
		case fixed && len(field.Value) > 0:
			body[field.Name] = field.Value
		case field.Required && len(field.Value) > 0 && field.Form == nil && len(field.Options) == 0:
			body[field.Name] = field.Value // what the org's page would have filled in
		case field.Required:
			return nil, fmt.Errorf("%w: %.40q wants %.40q", ErrForm, f.Name, field.Name)
		}
	}
	for name := range values {
		if _, has := body[name]; !has {
			return nil, fmt.Errorf("%w: %.40q has no %.40q", ErrForm, f.Name, name)
		}
	}
	return body, nil
}

// idxDocument is an answer of the API, as far as it is read. Other members are
// for pages.
type idxDocument struct {
	Messages         idxList[idxMessage]        `json:"messages"`
	Remediation      idxList[idxForm]           `json:"remediation"`
	Current          idxValue[idxAuthenticator] `json:"currentAuthenticator"`
	CurrentEnrolment idxValue[idxAuthenticator] `json:"currentAuthenticatorEnrollment"`
	Authenticators   idxList[idxAuthenticator]  `json:"authenticators"`
	Enrolments       idxList[idxAuthenticator]  `json:"authenticatorEnrollments"`
	Success          *idxForm                   `json:"successWithInteractionCode"`
}

type idxList[T any] struct {
	Value []T `json:"value"`
}

type idxValue[T any] struct {
	Value T `json:"value"`
}

type idxMessage struct {
	Message string `json:"message"`
	Class   string `json:"class"`
	I18n    struct {
		Key string `json:"key"`
	} `json:"i18n"`
}

type idxForm struct {
	Name      string     `json:"name"`
	RelatesTo []string   `json:"relatesTo"`
	Href      string     `json:"href"`
	Method    string     `json:"method"`
	Value     []idxField `json:"value"`
}

type idxField struct {
	Name     string          `json:"name"`
	Required bool            `json:"required"`
	Mutable  *bool           `json:"mutable"`
	Value    json.RawMessage `json:"value"` // a string, a number, a truth, or a form
	Form     *idxFields      `json:"form"`
	Options  []idxOption     `json:"options"`
}

type idxFields struct {
	Value []idxField `json:"value"`
}

type idxOption struct {
	Label     string          `json:"label"`
	RelatesTo string          `json:"relatesTo"`
	Value     json.RawMessage `json:"value"` // a string, or a form
}

type idxAuthenticator struct {
	Key          string  `json:"key"`
	DisplayName  string  `json:"displayName"`
	CredentialID string  `json:"credentialId"`
	Data         idxData `json:"contextualData"`
}

type idxData struct {
	Activation json.RawMessage `json:"activationData"`
	Challenge  json.RawMessage `json:"challengeData"`
}

func (d *idxData) empty() bool { return len(d.Activation) == 0 && len(d.Challenge) == 0 }

// inner are the fields of a field that is a form itself.
func (f *idxField) inner() []idxField {
	if f.Form != nil {
		return f.Form.Value
	}
	return formIn(f.Value)
}

// formIn reads the fields of {"form":{"value":[…]}}; nil of anything else.
func formIn(raw json.RawMessage) []idxField {
	var v struct {
		Form idxFields `json:"form"`
	}
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &v) != nil {
		return nil
	}
	return v.Form.Value
}

func find(fields []idxField, name string) *idxField {
	for i := range fields {
		if fields[i].Name == name && name != "" {
			return &fields[i]
		}
	}
	return nil
}

// readStep reads an answer, of whatever status, as a step.
func (o *Org) readStep(a answer) (*Step, error) {
	success := a.status/100 == 2
	var refusal okta.Error
	if !success && jose.DecodeStrict(a.body, &refusal, maxDocument) == nil && refusal.Code != "" {
		refusal.HTTPStatus, refusal.RetryAt = a.status, retryAt(a.header, time.Now())
		return nil, &refusal
	}
	var d idxDocument
	if err := o.decode(a, &d); err != nil {
		return nil, err
	}
	for what, n := range map[string]int{
		"messages": len(d.Messages.Value), "authenticators": len(d.Authenticators.Value), "authenticatorEnrollments": len(d.Enrolments.Value),
		"remediation": len(d.Remediation.Value) * (maxIDXListed / maxForms),
	} {
		if n > maxIDXListed {
			return nil, &UnexpectedAnswer{Host: o.url, Status: a.status, Kind: KindTooLarge, Detail: "too many " + what}
		}
	}
	s := &Step{Status: a.status, enrolled: d.Enrolments.Value}
	for _, m := range d.Messages.Value {
		s.Messages = append(s.Messages, Message{Text: m.Message, Key: m.I18n.Key, Error: !strings.EqualFold(m.Class, "INFO")})
	}
	if d.Success != nil {
		if !success {
			return nil, o.incomplete(a, "a sign-in that succeeded and failed")
		}
		code := find(d.Success.Value, "interaction_code")
		if code == nil || json.Unmarshal(code.Value, (*string)(&s.Code)) != nil || s.Code == "" || len(s.Code) > maxHandle {
			return nil, o.incomplete(a, "interaction_code")
		}
		return s, nil
	}
	for i := range d.Remediation.Value {
		f, err := d.form(&d.Remediation.Value[i])
		if err != nil {
			return nil, o.incomplete(a, err.Error())
		}
		s.Forms = append(s.Forms, f)
	}
	if len(s.Forms) == 0 && len(s.Messages) == 0 {
		return nil, o.incomplete(a, "neither forms nor messages")
	}
	return s, nil
}

// form makes a form of a step, with what it is about.
func (d *idxDocument) form(in *idxForm) (*Form, error) {
	f := &Form{Name: in.Name, href: in.Href, method: strings.ToUpper(in.Method), fields: in.Value, enrolled: d.Enrolments.Value}
	if in.Name == "" || len(in.Value) > maxFields {
		return nil, errors.New("a form without a name, or with too many fields")
	}
	about := &d.Current.Value
	if len(in.RelatesTo) > 0 {
		if strings.Contains(in.RelatesTo[0], "currentAuthenticatorEnrollment") || about.Key == "" {
			about = &d.CurrentEnrolment.Value
		}
		if about.Key == "" {
			about = &d.Current.Value
		}
		f.Key, f.Label, f.data = about.Key, about.DisplayName, about.Data
		// Orgs differ in which of the two holds what the key is asked.
		if other := &d.Current.Value; other != about && other.Key == about.Key && f.data.empty() {
			f.data = other.Data
		}
	}
	choose := find(in.Value, "authenticator")
	if choose == nil {
		return f, nil
	}
	if len(choose.Options) > maxIDXListed {
		return nil, errors.New("too many options")
	}
	for _, option := range choose.Options {
		c := Choice{Label: option.Label, Key: d.keyOf(option.RelatesTo), value: map[string]json.RawMessage{}}
		for _, field := range formIn(option.Value) {
			if field.Name != "" && len(field.Value) > 0 {
				c.value[field.Name] = field.Value
			}
		}
		var method string
		_ = json.Unmarshal(c.value["methodType"], &method)
		if c.Key == "" && method == KeyWebAuthn {
			c.Key = KeyWebAuthn
		}
		f.Choices = append(f.Choices, c)
	}
	return f, nil
}

// The kinds of authenticators that a sign-in without a browser can go by.
const (
	KeyPassword = "okta_password"
	KeyWebAuthn = "webauthn"
)

// keyOf finds what an option is about: "$.authenticators.value[3]".
func (d *idxDocument) keyOf(relatesTo string) string {
	for name, list := range map[string][]idxAuthenticator{"authenticators": d.Authenticators.Value, "authenticatorEnrollments": d.Enrolments.Value} {
		index, ok := strings.CutPrefix(strings.TrimPrefix(relatesTo, "$."), name+".value[")
		var i int
		if n, err := fmt.Sscanf(index, "%d]", &i); ok && n == 1 && err == nil && i >= 0 && i < len(list) {
			return list[i].Key
		}
	}
	return ""
}
