package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"countersign.dev/okta"
)

// ErrSeveralAuthenticators says that the org has more than one authenticator
// app that could be meant.
var ErrSeveralAuthenticators = errors.New("the org has several active authenticators of this kind")

// legacyKey is the authenticator that the older protocol is about.
const legacyKey = okta.AuthenticatorKeyOktaVerify

// LegacyConfiguration asks an org that speaks the older protocol (2.8, L1) what
// may be enrolled, in the words of the newer one. That protocol answers nobody
// unknown, and does not say which org it is: OrgID stays empty.
func (o *Org) LegacyConfiguration(ctx context.Context, auth Authorization) (okta.AuthenticatorConfiguration, error) {
	var list []okta.LegacyAuthenticator
	a, err := o.do(ctx, call{
		method: http.MethodGet,
		url:    o.url + okta.LegacyAuthenticatorsPath + "?key=" + legacyKey + "&expand=methods&oauthClientId=" + url.QueryEscape(o.clientID),
		auth:   auth, accept: typeJSON, limit: maxDocument,
	})
	if err != nil {
		return okta.AuthenticatorConfiguration{}, err
	}
	if err := o.decode(a, &list); err != nil {
		return okta.AuthenticatorConfiguration{}, err
	}
	list = slices.DeleteFunc(list, func(l okta.LegacyAuthenticator) bool { return l.Status != "ACTIVE" || l.Key != legacyKey })
	switch {
	case len(list) == 0:
		return okta.AuthenticatorConfiguration{}, ErrNoAuthenticator
	case len(list) > 1:
		return okta.AuthenticatorConfiguration{}, ErrSeveralAuthenticators
	case list[0].ID == "":
		return okta.AuthenticatorConfiguration{}, o.incomplete(a, "id")
	}
	l := list[0]
	c := okta.AuthenticatorConfiguration{
		AuthenticatorID: l.ID, Key: l.Key, Type: l.Type, Name: l.Name,
		SupportedMethods: l.Embedded.Methods, LoopbackOrigins: l.LoopbackOrigins,
	}
	if l.Settings != nil {
		c.Settings = l.Settings.ConfigSettings
	}
	if l.Links.Enrol != nil {
		c.EnrolEndpoint = l.Links.Enrol.Href
	}
	return c, nil
}

// LegacyEnrol creates an enrolment by the older protocol (L2); an empty endpoint
// stands for the usual path.
func (o *Org) LegacyEnrol(ctx context.Context, auth Authorization, endpoint string, r okta.EnrolmentRequest) (okta.Enrolment, error) {
	if endpoint == "" {
		endpoint = o.url + okta.LegacyEnrolmentsPath
	}
	return o.legacyEnrolment(ctx, http.MethodPost, endpoint, auth, r)
}

// LegacyReplace replaces an enrolment by the older protocol (L3).
func (o *Org) LegacyReplace(ctx context.Context, auth Authorization, id string, r okta.EnrolmentRequest) (okta.Enrolment, error) {
	endpoint, err := o.enrolmentAt(okta.LegacyEnrolmentsPath, id)
	if err != nil {
		return okta.Enrolment{}, err
	}
	return o.legacyEnrolment(ctx, http.MethodPut, endpoint, auth, r)
}

// LegacyDelete deletes an enrolment by the older protocol (L4).
func (o *Org) LegacyDelete(ctx context.Context, auth Authorization, id string) error {
	endpoint, err := o.enrolmentAt(okta.LegacyEnrolmentsPath, id)
	if err != nil {
		return err
	}
	_, err = o.do(ctx, call{method: http.MethodDelete, url: endpoint, auth: auth, accept: typeJSON, limit: maxAnswer, discard: true})
	return err
}

func (o *Org) legacyEnrolment(ctx context.Context, method, endpoint string, auth Authorization, r okta.EnrolmentRequest) (okta.Enrolment, error) {
	if err := o.own(endpoint); err != nil {
		return okta.Enrolment{}, err
	}
	body, err := encode(legacyRequest(r))
	if err != nil {
		return okta.Enrolment{}, err
	}
	a, err := o.do(ctx, call{method: method, url: endpoint, auth: auth, accept: typeJSON, contentType: typeJSON, body: body, limit: maxDocument})
	if err != nil {
		return okta.Enrolment{}, err
	}
	var old okta.LegacyEnrolment
	if err := o.decode(a, &old); err != nil {
		return okta.Enrolment{}, err
	}
	e, err := modern(old)
	if err != nil {
		return okta.Enrolment{}, o.incomplete(a, err.Error())
	}
	if err := o.complete(a, e); err != nil {
		return okta.Enrolment{}, err
	}
	return e, nil
}

// legacyRequest writes a request in the older words: methods in an array, and
// whether user verification is ready said apart from its key.
func legacyRequest(r okta.EnrolmentRequest) okta.LegacyEnrolmentRequest {
	l := okta.LegacyEnrolmentRequest{
		AuthenticatorID: r.AuthenticatorID, Key: legacyKey, Device: r.Device, AppSignals: r.AppSignals,
		Methods: []okta.LegacyMethodRequest{}, KeyChange: r.KeyChange,
	}
	add := func(t okta.Method, m *okta.MethodRequest) {
		if m == nil {
			return
		}
		lm := okta.LegacyMethodRequest{Type: t, PushToken: m.PushToken, APSEnvironment: m.APSEnvironment, Keys: m.Keys, Capabilities: m.Capabilities}
		if t != okta.MethodTOTP && m.Keys != nil { // without keys it says nothing of them
			verifies := isKey(m.Keys.UserVerification) || isKey(m.Keys.UserVerificationBioOrPIN)
			lm.SupportUserVerification = &verifies
		}
		l.Methods = append(l.Methods, lm)
	}
	add(okta.MethodPush, r.Methods.Push)
	add(okta.MethodSignedNonce, r.Methods.SignedNonce)
	add(okta.MethodTOTP, r.Methods.TOTP)
	return l
}

// isKey says whether a member of a request is a key, and not that there is none.
func isKey(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// modern writes an enrolment in the newer words. A method that is there twice
// is refused: which of them would count?
func modern(l okta.LegacyEnrolment) (okta.Enrolment, error) {
	e := okta.Enrolment{
		ID: l.ID, AuthenticatorID: l.AuthenticatorID, CreatedDate: l.CreatedDate, LastUpdated: l.LastUpdated,
		User: l.User, Device: l.Device, Links: l.Links, Methods: map[okta.Method]okta.EnrolledMethod{},
	}
	for _, m := range l.Methods {
		if _, twice := e.Methods[m.Type]; twice {
			return okta.Enrolment{}, fmt.Errorf("method %.16q twice", m.Type)
		}
		if m.Status != "" && m.Status != "ACTIVE" {
			continue
		}
		e.Methods[m.Type] = okta.EnrolledMethod{ID: m.ID, CreatedDate: m.CreatedDate, LastUpdated: m.LastUpdated, Links: m.Links, SharedSecret: m.SharedSecret}
	}
	return e, nil
}
