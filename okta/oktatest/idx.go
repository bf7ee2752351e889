package oktatest

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// Step is a request of the sign-in API: where it went, and its body.
type Step struct {
	Path string // after /idp/idx/
	Body map[string]any
}

// idxState is a sign-in without a browser; Org.mu guards it.
type idxState struct {
	answer func(s Step) (status int, document string)
	steps  []Step
	grant  grant

	noPrompts bool
}

// RefusePrompts makes the org refuse to begin a sign-in with a prompt parameter.
func (o *Org) RefusePrompts() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.idx.noPrompts = true
}

// Steps makes the org answer sign-ins without a browser: "ORG" in a document is
// its address, and "CODE" is a code that its token endpoint takes once.
func (o *Org) Steps(answer func(s Step) (status int, document string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.idx.answer = answer
}

// Stepped returns the requests of the sign-in API so far.
func (o *Org) Stepped() []Step {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]Step(nil), o.idx.steps...)
}

func (o *Org) interact(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("client_id") != o.ClientID {
		tokenError(w, http.StatusUnauthorized, "invalid_client", "unknown client")
		return
	}
	o.mu.Lock()
	o.oauth.asked = append(o.oauth.asked, r.PostForm)
	o.idx.grant = grant{r.PostForm, o.oauth.who}
	refuse := o.idx.noPrompts && r.PostForm.Has("prompt")
	o.mu.Unlock()
	if refuse {
		tokenError(w, http.StatusBadRequest, "invalid_request", "The value of prompt is not known.")
		return
	}
	reply(w, map[string]string{"interaction_handle": "handle-" + rand.Text()})
}

func (o *Org) step(w http.ResponseWriter, r *http.Request) {
	s := Step{Path: strings.TrimPrefix(r.URL.Path, "/idp/idx/")}
	_ = json.NewDecoder(r.Body).Decode(&s.Body)
	o.mu.Lock()
	o.idx.steps = append(o.idx.steps, s)
	answer := o.idx.answer
	o.mu.Unlock()
	if answer == nil {
		http.NotFound(w, r)
		return
	}
	status, document := answer(s)
	if strings.Contains(document, "CODE") {
		code := "interaction-" + rand.Text()
		o.mu.Lock()
		if o.oauth.codes == nil {
			o.oauth.codes = map[string]grant{}
		}
		o.oauth.codes[code] = o.idx.grant
		o.mu.Unlock()
		document = strings.NewReplacer("CODE", code, "ORG", o.URL).Replace(document) // in one go: a code is random, and may have ORG in it
	} else {
		document = strings.ReplaceAll(document, "ORG", o.URL)
	}
	w.Header().Set("Content-Type", "application/ion+json; okta-version=1.0.0")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, document)
}
