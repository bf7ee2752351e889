package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Transaction is a sign-in that the harness drives by itself over the IDX API,
// as a phishing proxy's server would: no browser, no widget, no page.
type Transaction struct {
	Last IDX
}

// IDX is the part of an IDX response that the harness reads.
type IDX struct {
	Remediation struct {
		Value []IDXForm `json:"value"`
	} `json:"remediation"`
	Messages struct {
		Value []struct {
			Message string `json:"message"`
			I18N    struct {
				Key string `json:"key"`
			} `json:"i18n"`
		} `json:"value"`
	} `json:"messages"`
	CurrentAuthenticator struct {
		Value struct {
			ContextualData struct {
				Challenge struct {
					Value IDXChallenge `json:"value"`
				} `json:"challenge"`
				CorrectAnswer string `json:"correctAnswer"`
			} `json:"contextualData"`
		} `json:"value"`
	} `json:"currentAuthenticator"`
	Success *struct {
		Href string `json:"href"`
	} `json:"success"`
	Cancel IDXForm `json:"cancel"`
}

// IDXChallenge is what a page hands to an agent.
type IDXChallenge struct {
	Method  string `json:"challengeMethod"`
	Request string `json:"challengeRequest"`
	Domain  string `json:"domain"`
}

// IDXForm is one remediation.
type IDXForm struct {
	Name  string     `json:"name"`
	Href  string     `json:"href"`
	Value []IDXField `json:"value"`
}

// IDXField is one field of a form; options and nested forms stay raw.
type IDXField struct {
	Name    string          `json:"name"`
	Value   json.RawMessage `json:"value,omitempty"`
	Mutable *bool           `json:"mutable,omitempty"`
	Options json.RawMessage `json:"options,omitempty"`
}

// BeginTransaction opens the sign-in page of an app and reads the first step.
func (o *Org) BeginTransaction(ctx context.Context, s *SignIn) (*Transaction, error) {
	return o.BeginAt(ctx, s.AuthorizeURL())
}

// BeginAt opens the sign-in page at an address that somebody else has made.
func (o *Org) BeginAt(ctx context.Context, address string) (*Transaction, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("opening the sign-in page: %w", err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("opening the sign-in page: %w", err)
	}
	token, err := findStateToken(page)
	if err != nil {
		return nil, fmt.Errorf("opening the sign-in page: status %d: %w", res.StatusCode, err)
	}
	t := &Transaction{}
	return t, t.post(ctx, o.URL+"/idp/idx/introspect", map[string]any{"stateToken": token})
}

// Form returns the remediation with this name.
func (t *Transaction) Form(name string) (IDXForm, bool) {
	for _, f := range t.Last.Remediation.Value {
		if f.Name == name {
			return f, true
		}
	}
	return IDXForm{}, false
}

// Submit sends the form with the given values beside its fixed fields.
func (t *Transaction) Submit(ctx context.Context, name string, values map[string]any) error {
	form, ok := t.Form(name)
	if !ok {
		return fmt.Errorf("submitting %s: the org offers %s", name, t.offered())
	}
	return t.send(ctx, form, values)
}

// Cancel starts over from a step that was read earlier: whatever has been asked
// of a device since then is withdrawn.
func (t *Transaction) Cancel(ctx context.Context, from IDX) error {
	return t.send(ctx, from.Cancel, nil)
}

func (t *Transaction) send(ctx context.Context, form IDXForm, values map[string]any) error {
	body := map[string]any{}
	for _, f := range form.Value {
		if f.Mutable != nil && !*f.Mutable && f.Value != nil {
			body[f.Name] = f.Value
		}
	}
	for k, v := range values {
		body[k] = v
	}
	return t.post(ctx, form.Href, body)
}

func (t *Transaction) offered() string {
	var names []string
	for _, f := range t.Last.Remediation.Value {
		names = append(names, f.Name)
	}
	for _, m := range t.Last.Messages.Value {
		names = append(names, "message "+m.I18N.Key)
	}
	return "[" + strings.Join(names, " ") + "]"
}

func (t *Transaction) post(ctx context.Context, address string, body any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	t.Last = IDX{}
	err = call(ctx, http.MethodPost, address, "application/json", bytes.NewReader(encoded), &t.Last)
	var status *StatusError
	if errors.As(err, &status) {
		json.Unmarshal(status.Body, &t.Last) // a refusal is an IDX response, too
	}
	return err
}

// Challenge goes on from the first step to the challenge for the agent: the
// user's name, the password, and the choice of signing with the device.
func (t *Transaction) Challenge(ctx context.Context, user, password string) (IDXChallenge, error) {
	if err := t.Choice(ctx, user, password); err != nil {
		return IDXChallenge{}, err
	}
	if err := t.Choose(ctx, "signed_nonce"); err != nil {
		return IDXChallenge{}, err
	}
	c := t.Last.CurrentAuthenticator.Value.ContextualData.Challenge.Value
	if _, ok := t.Form("challenge-poll"); !ok || c.Request == "" {
		return IDXChallenge{}, fmt.Errorf("reading the challenge: the org offers %s", t.offered())
	}
	return c, nil
}

// Choice goes on from the first step to the one after the password.
func (t *Transaction) Choice(ctx context.Context, user, password string) error {
	if err := t.Submit(ctx, "identify", map[string]any{"identifier": user}); err != nil {
		return err
	}
	return t.Submit(ctx, "challenge-authenticator", map[string]any{"credentials": map[string]string{"passcode": password}})
}

// Choose chooses a method of the authenticator app, if the org asks which.
func (t *Transaction) Choose(ctx context.Context, method string) error {
	form, ok := t.Form("select-authenticator-authenticate")
	if !ok {
		return nil
	}
	choice, err := choose(form, method)
	if err != nil {
		return err
	}
	return t.Submit(ctx, form.Name, map[string]any{"authenticator": choice})
}

// Number is what the person has to pick on the device; "" without a number
// challenge.
func (t *Transaction) Number() string {
	return t.Last.CurrentAuthenticator.Value.ContextualData.CorrectAnswer
}

// Leave goes where a sign-in that has succeeded leads, and returns where the org
// sends the browser from there. The answer may carry its session.
func (t *Transaction) Leave(ctx context.Context) (location string, cookies []*http.Cookie, err error) {
	if t.Last.Success == nil {
		return "", nil, fmt.Errorf("leaving: not signed in; the org offers %s", t.offered())
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.Last.Success.Href, nil)
	if err != nil {
		return "", nil, err
	}
	res, err := client.Do(r)
	if err != nil {
		return "", nil, err
	}
	defer res.Body.Close()
	if location = res.Header.Get("Location"); location == "" {
		return "", nil, fmt.Errorf("leaving: status %d", res.StatusCode)
	}
	return location, res.Cookies(), nil
}

// Poll asks the org whether the challenge was answered.
func (t *Transaction) Poll(ctx context.Context) error { return t.Submit(ctx, "challenge-poll", nil) }

// choose finds the option whose method is this one, or may be.
func choose(form IDXForm, method string) (map[string]any, error) {
	type field struct {
		Name    string          `json:"name"`
		Value   json.RawMessage `json:"value"`
		Options []struct {
			Value string `json:"value"`
		} `json:"options"`
	}
	for _, f := range form.Value {
		if f.Name != "authenticator" {
			continue
		}
		var options []struct {
			Value struct {
				Form struct {
					Value []field `json:"value"`
				} `json:"form"`
			} `json:"value"`
		}
		if err := json.Unmarshal(f.Options, &options); err != nil {
			return nil, fmt.Errorf("reading the choices: %w", err)
		}
		for _, o := range options {
			choice, fits := map[string]any{}, false
			for _, f := range o.Value.Form.Value {
				switch {
				case f.Name == "methodType" && f.Options != nil:
					for _, m := range f.Options {
						fits = fits || m.Value == method
					}
					choice["methodType"] = method
				case f.Name == "methodType":
					fits = fits || string(f.Value) == quote(method)
					choice["methodType"] = f.Value
				case f.Name == "id":
					choice["id"] = f.Value
				}
			}
			if fits {
				return choice, nil
			}
		}
	}
	return nil, fmt.Errorf("choosing how to verify: %s is not among the choices", method)
}
