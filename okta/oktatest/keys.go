package oktatest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
)

// keys is what the fake org knows of enrolments' keys, and has to tell devices.
type keys struct {
	known   map[string]map[string]jose.JWK // enrolment id -> kid -> key
	updates []json.RawMessage
	notices map[string][]okta.Notice // by enrolment id
}

// Updates returns the bodies of all updates that asked for something, in order.
func (o *Org) Updates() []json.RawMessage {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]json.RawMessage(nil), o.keys.updates...)
}

// Key returns the key that an enrolment has under a kid.
func (o *Org) Key(enrolmentID, kid string) (jose.JWK, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k, ok := o.keys.known[enrolmentID][kid]
	return k, ok
}

// Notify leaves a notice for an enrolment, which its pending list speaks of.
func (o *Org) Notify(enrolmentID string, n okta.Notice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keys.notices == nil {
		o.keys.notices = map[string][]okta.Notice{}
	}
	o.keys.notices[enrolmentID] = append(o.keys.notices[enrolmentID], n)
}

// learn remembers whatever is a key in a request: this org believes everything.
func (o *Org) learn(enrolmentID string, body []byte) {
	var document any
	if json.Unmarshal(body, &document) != nil {
		return
	}
	var found []jose.JWK
	var walk func(v any)
	walk = func(v any) {
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		if m["kid"] != nil && m["kty"] != nil {
			var k jose.JWK
			if b, err := json.Marshal(m); err == nil && json.Unmarshal(b, &k) == nil {
				found = append(found, k)
			}
			return
		}
		for _, inner := range m {
			walk(inner)
		}
	}
	walk(document)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keys.known == nil {
		o.keys.known = map[string]map[string]jose.JWK{}
	}
	if o.keys.known[enrolmentID] == nil {
		o.keys.known[enrolmentID] = map[string]jose.JWK{}
	}
	for _, k := range found {
		o.keys.known[enrolmentID][k.KeyID] = k
	}
}

// update takes everything, but for the question of a key whether it is known.
func (o *Org) update(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		refuse(w, okta.NewError(okta.CodeValidation))
		return
	}
	id := r.PathValue("id")
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme == "SSWS" {
		t, err := jose.Parse(credential, jose.EnrolmentUpdate)
		key, known := jose.JWK{}, false
		if err == nil {
			key, known = o.Key(id, t.Header.KeyID)
		}
		if !known || t.Verify(key) != nil {
			refuse(w, okta.NewError(okta.CodeInvalidToken))
			return
		}
	}
	if string(body) != "{}" {
		o.learn(id, body)
		o.mu.Lock()
		o.keys.updates = append(o.keys.updates, body)
		o.mu.Unlock()
	}
	reply(w, o.enrolment(id, okta.EnrolmentRequest{
		Methods: okta.MethodRequests{Push: &okta.MethodRequest{}, SignedNonce: &okta.MethodRequest{}},
	}))
}

// tellNotice says beside a pending list that there are notices.
func (o *Org) tellNotice(w http.ResponseWriter, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if list := o.keys.notices[id]; len(list) > 0 {
		w.Header().Set(okta.HeaderNotice, strconv.FormatInt(list[len(list)-1].ID, 10))
	}
}

func (o *Org) listNotices(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	list := []okta.Notice{}
	o.mu.Lock()
	for _, n := range o.keys.notices[r.PathValue("id")] {
		if n.ID > after {
			list = append(list, n)
		}
	}
	o.mu.Unlock()
	reply(w, list)
}
