package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

const typeJSON = "application/json"

// Organization asks which org this is.
func (o *Org) Organization(ctx context.Context) (okta.Organization, error) {
	var org okta.Organization
	a, err := o.do(ctx, call{method: http.MethodGet, url: o.url + okta.OrganizationPath, contentType: typeJSON, limit: maxDocument})
	if err != nil {
		return org, err
	}
	if err := o.decode(a, &org); err != nil {
		return okta.Organization{}, err
	}
	if org.ID == "" {
		return okta.Organization{}, o.incomplete(a, "id")
	}
	org.AnsweredAt, _ = http.ParseTime(a.header.Get("Date"))
	return org, nil
}

// AuthenticatorConfiguration asks what may be enrolled: the first
// authenticator that the org offers to this client id.
func (o *Org) AuthenticatorConfiguration(ctx context.Context) (okta.AuthenticatorConfiguration, error) {
	var list []okta.AuthenticatorConfiguration
	a, err := o.do(ctx, call{
		method: http.MethodGet,
		url:    o.url + okta.AuthenticatorConfigurationPath + "?oauthClientId=" + url.QueryEscape(o.clientID),
		accept: okta.AcceptVersion,
		limit:  maxDocument,
	})
	if err != nil {
		return okta.AuthenticatorConfiguration{}, err
	}
	if err := o.decode(a, &list); err != nil {
		return okta.AuthenticatorConfiguration{}, err
	}
	if len(list) == 0 {
		return okta.AuthenticatorConfiguration{}, ErrNoAuthenticator
	}
	if list[0].AuthenticatorID == "" || list[0].OrgID == "" {
		return okta.AuthenticatorConfiguration{}, o.incomplete(a, "authenticatorId or orgId")
	}
	return list[0], nil
}

// SigningKeys gets the keys that issuer, the org or one of its authorization
// servers, publishes, and how long it says they may be kept. Entries that are
// not understood are left out.
func (o *Org) SigningKeys(ctx context.Context, issuer string) ([]jose.JWK, time.Duration, error) {
	if err := o.own(issuer); err != nil {
		return nil, 0, err
	}
	a, err := o.do(ctx, call{method: http.MethodGet, url: issuer + "/.well-known/openid-configuration", accept: typeJSON, limit: maxDocument})
	if err != nil {
		return nil, 0, err
	}
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := o.decode(a, &doc); err != nil {
		return nil, 0, err
	}
	if doc.Issuer != issuer {
		return nil, 0, o.incomplete(a, "issuer differs from the one asked for")
	}
	if err := o.own(doc.JWKSURI); err != nil {
		return nil, 0, fmt.Errorf("jwks_uri: %w", err)
	}
	if a, err = o.do(ctx, call{method: http.MethodGet, url: doc.JWKSURI, accept: typeJSON, limit: maxDocument}); err != nil {
		return nil, 0, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := o.decode(a, &set); err != nil {
		return nil, 0, err
	}
	var keys []jose.JWK
	for _, raw := range set.Keys {
		var k jose.JWK
		if json.Unmarshal(raw, &k) == nil {
			keys = append(keys, k)
		}
	}
	return keys, maxAge(a.header), nil
}

// maxAge reads Cache-Control; 0 when it does not say, or forbids keeping.
func maxAge(h http.Header) time.Duration {
	for _, d := range strings.Split(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if s, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
			return time.Duration(s) * time.Second
		}
	}
	return 0
}

// Enrol creates an enrolment at the endpoint that the authenticator
// configuration names; an empty one stands for the published path.
func (o *Org) Enrol(ctx context.Context, auth Authorization, endpoint string, r okta.EnrolmentRequest) (okta.Enrolment, error) {
	if endpoint == "" {
		endpoint = o.url + okta.AppAuthenticatorsPath
	}
	return o.enrolment(ctx, call{method: http.MethodPost, url: endpoint, auth: auth, accept: okta.AcceptVersion, contentType: typeJSON}, r)
}

// UpdateEnrolment applies a JSON merge patch to an enrolment: an absent member
// leaves, null deletes, a value replaces. New keys may come with the member
// "keyChange", a token with the claims okta.KeyChange (extension).
func (o *Org) UpdateEnrolment(ctx context.Context, auth Authorization, id string, patch any) (okta.Enrolment, error) {
	endpoint, err := o.enrolmentAt(okta.AppAuthenticatorsPath, id)
	if err != nil {
		return okta.Enrolment{}, err
	}
	return o.enrolment(ctx, call{method: http.MethodPatch, url: endpoint, auth: auth, accept: okta.MergePatchVersion, contentType: okta.MergePatchVersion}, patch)
}

func (o *Org) enrolment(ctx context.Context, c call, body any) (okta.Enrolment, error) {
	var e okta.Enrolment
	if err := o.own(c.url); err != nil {
		return e, err
	}
	var err error
	if c.body, err = encode(body); err != nil {
		return e, err
	}
	c.limit = maxDocument
	a, err := o.do(ctx, c)
	if err != nil {
		return e, err
	}
	if err := o.decode(a, &e); err != nil {
		return okta.Enrolment{}, err
	}
	if err := o.complete(a, e); err != nil {
		return okta.Enrolment{}, err
	}
	return e, nil
}

// complete refuses an enrolment without what makes it one.
func (o *Org) complete(a answer, e okta.Enrolment) error {
	for _, m := range [...]struct{ name, value string }{
		{"id", e.ID}, {"user.id", e.User.ID}, {"device.id", e.Device.ID}, {"device.clientInstanceId", e.Device.ClientInstanceID},
	} {
		if m.value == "" {
			return o.incomplete(a, m.name)
		}
	}
	if len(e.Methods) == 0 {
		return o.incomplete(a, "methods")
	}
	return nil
}

// DeleteEnrolment deletes an enrolment at the org.
func (o *Org) DeleteEnrolment(ctx context.Context, auth Authorization, id string) error {
	endpoint, err := o.enrolmentAt(okta.AppAuthenticatorsPath, id)
	if err != nil {
		return err
	}
	_, err = o.do(ctx, call{method: http.MethodDelete, url: endpoint, auth: auth, accept: okta.AcceptVersion, limit: maxAnswer, discard: true})
	return err
}

// Answer delivers a signed answer and returns nil when the org took it,
// approval or denial. Where it goes is the caller's responsibility: the
// verification URI has to be compared with the org before.
func (o *Org) Answer(ctx context.Context, verificationURI string, r okta.AnswerRequest) error {
	body, err := encode(r)
	if err != nil {
		return err
	}
	_, err = o.do(ctx, call{
		method: http.MethodPost, url: verificationURI, body: body,
		accept: okta.AcceptVersion, contentType: typeJSON,
		limit: maxAnswer, discard: true,
	})
	return err
}

// own refuses a URL elsewhere than at the org's origin, where credentials and
// questions of trust must not go.
func (o *Org) own(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || Origin(u) != o.url {
		return ErrForeignURL
	}
	return nil
}

// enrolmentAt returns the address of an enrolment below path; id stays one
// segment.
func (o *Org) enrolmentAt(path, id string) (string, error) {
	if id == "" || id == "." || id == ".." {
		return "", fmt.Errorf("%w: enrolment id %.16q", ErrURL, id)
	}
	return o.url + path + "/" + url.PathEscape(id), nil
}

func (o *Org) incomplete(a answer, what string) error {
	return &UnexpectedAnswer{Host: o.url, Status: a.status, Kind: KindIncomplete, Detail: what}
}
