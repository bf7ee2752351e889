package oktatest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// intercept counts requests, records answers, and gives canned replies.
func (o *Org) intercept(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.hits[r.URL.Path]++
		var canned Reply
		for prefix, reply := range o.replies {
			if strings.HasPrefix(r.URL.Path, prefix) {
				canned = reply
			}
		}
		o.mu.Unlock()
		if canned.Status == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/verify") {
			o.recordAnswer(r)
		}
		maps.Copy(w.Header(), canned.Header)
		if canned.ContentType == "" {
			canned.ContentType = "application/json"
		}
		w.Header().Set("Content-Type", canned.ContentType)
		w.WriteHeader(canned.Status)
		_, _ = io.WriteString(w, canned.Body)
	})
}

func (o *Org) organization(w http.ResponseWriter, _ *http.Request) {
	reply(w, okta.Organization{ID: o.OrgID, Pipeline: "idx"})
}

func (o *Org) configuration(w http.ResponseWriter, r *http.Request) {
	list := []okta.AuthenticatorConfiguration{}
	if r.URL.Query().Get("oauthClientId") == o.ClientID {
		o.mu.Lock()
		origins := o.origins
		o.mu.Unlock()
		list = append(list, okta.AuthenticatorConfiguration{
			AuthenticatorID: AuthenticatorID, OrgID: o.OrgID, Key: okta.AuthenticatorKeyCustomApp, Type: "app", Name: "Countersign",
			Settings: okta.ConfigSettings{UserVerification: okta.NeedPreferred},
			SupportedMethods: []okta.SupportedMethod{
				{Type: okta.MethodPush, Status: "ACTIVE", Settings: okta.MethodSettings{Algorithms: []string{"ES256", "RS256"}, KeyProtection: "ANY", TransactionTypes: []string{okta.TransactionLogin}}},
				{Type: okta.MethodSignedNonce, Status: "ACTIVE", Settings: okta.MethodSettings{Algorithms: []string{"ES256", "RS256"}, KeyProtection: "ANY"}},
				{Type: okta.MethodTOTP, Status: "ACTIVE", Settings: okta.MethodSettings{TimeInterval: 30, Encoding: "Base32", HMAC: "HMACSHA1", PassCodeLength: 6}},
			},
			EnrolEndpoint:   o.URL + okta.AppAuthenticatorsPath,
			LoopbackOrigins: origins,
		})
	}
	reply(w, list)
}

func (o *Org) keySet(w http.ResponseWriter, _ *http.Request) {
	o.mu.Lock()
	key, err := jose.NewJWK(o.kid, o.key.Public(), "")
	o.mu.Unlock()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	key.Algorithm, key.Use = string(jose.RS256), "sig"
	w.Header().Set("Cache-Control", "max-age=3600, must-revalidate")
	reply(w, map[string][]jose.JWK{"keys": {key}})
}

func (o *Org) enrol(w http.ResponseWriter, r *http.Request) {
	var req okta.EnrolmentRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &req)
	}
	if err != nil {
		refuse(w, okta.NewError(okta.CodeValidation, err.Error()))
		return
	}
	if !o.admits(r) {
		refuse(w, okta.NewError(okta.CodeInvalidToken))
		return
	}
	o.mu.Lock()
	o.enrolments = append(o.enrolments, req)
	n := len(o.enrolments)
	o.mu.Unlock()
	id := fmt.Sprintf("pfdFakeEnrolment%04d", n)
	o.learn(id, body)
	reply(w, o.enrolment(id, req))
}

func (o *Org) enrolment(id string, req okta.EnrolmentRequest) okta.Enrolment {
	now, self := okta.Timestamp(time.Now()), o.URL+okta.AppAuthenticatorsPath+"/"+id
	e := okta.Enrolment{
		ID: id, AuthenticatorID: AuthenticatorID, CreatedDate: now, LastUpdated: now,
		User:    okta.EnrolmentUser{ID: UserID, Username: Login},
		Device:  okta.EnrolmentDevice{ID: "guoFakeDevice0000000", Status: "ACTIVE", ClientInstanceID: "cliFakeInstance00000"},
		Methods: map[okta.Method]okta.EnrolledMethod{},
		Links:   map[string]okta.Link{"self": {Href: self, Hints: &okta.LinkHints{Allow: []string{"PATCH", "DELETE"}}}},
	}
	if req.Methods.Push != nil {
		e.Methods[okta.MethodPush] = okta.EnrolledMethod{
			ID: "opfFakePush000000000", CreatedDate: now, LastUpdated: now,
			Links: map[string]okta.Link{"pending": {Href: self + "/push/notifications", Hints: &okta.LinkHints{Allow: []string{"GET"}}}},
		}
	}
	if req.Methods.SignedNonce != nil {
		e.Methods[okta.MethodSignedNonce] = okta.EnrolledMethod{ID: "opfFakeSignedNonce00", CreatedDate: now, LastUpdated: now}
	}
	if req.Methods.TOTP != nil {
		e.Methods[okta.MethodTOTP] = okta.EnrolledMethod{ID: "opfFakeTOTP000000000", CreatedDate: now, LastUpdated: now, SharedSecret: Seed}
	}
	return e
}

func (o *Org) remove(w http.ResponseWriter, r *http.Request) {
	if !o.admits(r) {
		refuse(w, okta.NewError(okta.CodeInvalidToken))
		return
	}
	o.mu.Lock()
	o.deleted = append(o.deleted, r.PathValue("id"))
	o.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (o *Org) pendingList(w http.ResponseWriter, r *http.Request) {
	o.tellNotice(w, r.PathValue("id"))
	o.mu.Lock()
	list := append([]okta.PendingChallenge{}, o.pending...)
	o.mu.Unlock()
	reply(w, list)
}

func (o *Org) verify(w http.ResponseWriter, r *http.Request) {
	if !o.recordAnswer(r) {
		refuse(w, okta.NewError(okta.CodeValidation))
		return
	}
	reply(w, struct{}{})
}

func (o *Org) recordAnswer(r *http.Request) bool {
	var req okta.AnswerRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers = append(o.answers, req)
	return true
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, e *okta.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.HTTPStatus)
	_ = json.NewEncoder(w).Encode(e)
}
