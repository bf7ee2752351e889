package myaccount_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/park/parktest"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// rotation is a patch that gives both methods another key that signs silently;
// by is the key that agrees.
func (f *fixture) rotation(e okta.Enrolment, fresh, by devicetest.Key) string {
	f.t.Helper()
	thumbprint, err := fresh.JWK.Thumbprint()
	if err != nil {
		f.t.Fatal(err)
	}
	agreement := by.Sign(f.t, okta.TypeKeyChange, devicetest.NewClaims(e.ID, f.alice.ID, base, f.now).With("keys", map[string]string{
		okta.KeyPlace(okta.MethodPush, okta.KeyProofOfPossession):        thumbprint,
		okta.KeyPlace(okta.MethodSignedNonce, okta.KeyProofOfPossession): thumbprint,
	}))
	keys := `{"keys":{"proofOfPossession":` + string(fresh.Raw(f.t)) + `}}`
	return `{"methods":{"push":` + keys + `,"signed_nonce":` + keys + `},"keyChange":"` + agreement + `"}`
}

func (f *fixture) ssws(k devicetest.Key, enrolmentID string) string {
	return "SSWS " + k.Sign(f.t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(enrolmentID, f.alice.ID, base, f.now))
}

// C2: what a key change takes, over HTTP, and how an agent learns of one whose
// answer was lost.
func TestC2KeyChange(t *testing.T) {
	f := setUp(t)
	a, fresh := devicetest.New(t), devicetest.NewKey(t)
	e := f.create(a)
	self := e.Links["self"].Href
	good := f.rotation(e, fresh, a.PoP)
	for _, c := range []struct {
		name, authorization, body string
		status                    int
		code                      okta.ErrorCode
	}{
		{"nobody", "", good, 401, okta.CodeInvalidToken},
		{"maintenance", "Bearer maintain", good, 403, okta.CodeForbidden},
		{"an old sign-in", "Bearer old", good, 403, okta.CodeForbidden},
		{"one factor", "Bearer weak", good, 403, okta.CodeForbidden},
		{"another user", "Bearer bob", good, 404, okta.CodeNotFound},
		{"the silent key", f.ssws(a.PoP, e.ID), good, 400, okta.CodeUVRequired},
		{"the new key", f.ssws(fresh, e.ID), good, 401, okta.CodeInvalidToken},
		{"a token alone", "Bearer manage", good[:strings.Index(good, `,"keyChange"`)] + "}", 403, okta.CodeForbidden},
		{"the new key agrees", "Bearer manage", f.rotation(e, fresh, fresh), 400, okta.CodeValidation},
		{"a number agrees", "Bearer manage", strings.Replace(good, `"keyChange":"`, `"keyChange":7,"x":"`, 1), 400, okta.CodeValidation},
		{"two agreements", "Bearer manage", strings.Replace(good, `"keyChange":"`, `"keyChange":"x","keyChange":"`, 1), 400, okta.CodeValidation},
		{"a huge body", "Bearer manage", strings.Replace(good, `{`, `{"x":"`+strings.Repeat("x", 17<<10)+`",`, 1), 413, okta.CodeValidation},
		{"good", "Bearer manage", good, 200, ""},
		{"its answer was lost", "Bearer manage", good, 200, ""},
		{"its answer was lost, by the new key", f.ssws(fresh, e.ID), `{}`, 200, ""},
		{"by the old key", f.ssws(a.PoP, e.ID), `{}`, 401, okta.CodeInvalidToken},
	} {
		w := f.call(http.MethodPatch, self, c.authorization, c.body)
		if c.code == "" {
			if doc := decode[okta.Enrolment](t, w); w.Code != c.status || doc.ID != e.ID || doc.Methods[okta.MethodPush].ID != e.Methods[okta.MethodPush].ID {
				t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
			}
			continue
		}
		f.wantError(c.name, w, c.status, c.code)
	}
}

// C2: the other devices hear at once, whether they ask, wait or look; nobody
// else does, and the device itself does not.
func TestC2OtherDevicesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t)
		defer l.Close()
		list := func(auth, query string) []okta.Notice {
			t.Helper()
			w := l.call("GET", base+okta.AppAuthenticatorsPath+"/"+l.id+okta.NoticesPath+query, auth, nil)
			if w.Code != 200 || w.Header().Get("Content-Type") != "application/json;okta-version=1.0.0" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			return decode[[]okta.Notice](t, w)
		}
		before := l.call("GET", l.path, "Bearer read", nil)
		if got := list("Bearer read", ""); len(got) != 0 || before.Header().Get(okta.HeaderNotice) != "" {
			t.Errorf("%v %v", got, before.Header())
		}
		knows := "If-None-Match: " + before.Header().Get("ETag")
		// One waits with the list, one without; both are answered with the news.
		for _, lines := range [][]string{{knows}, nil} {
			c := l.waiting(t, lines...)
			second := l.create(devicetest.New(t))
			resp := c.Want("[]\n")
			newest := resp.Header.Get(okta.HeaderNotice)
			if resp.StatusCode != 200 || newest == "" || resp.Header.Get("ETag") == before.Header().Get("ETag") {
				t.Errorf("%d %v", resp.StatusCode, resp.Header)
			}
			notices := list("Bearer read", "")
			last := notices[len(notices)-1]
			if fmt.Sprint(last.ID) != newest || last.Event != okta.NoticeEnrolled || last.EnrolmentID != second.ID || last.Device != "workshop" ||
				last.Created != okta.Timestamp(l.now) {
				t.Errorf("%+v, newest %s", last, newest)
			}
			if got := list(l.ssws(l.agent.PoP, l.id), "?after="+newest); len(got) != 0 {
				t.Errorf("after the newest: %v", got)
			}
			// What is known is no news; who waits with it waits on, and 304 says it, too.
			c.Get(l.path, "Authorization: Bearer read", "Prefer: wait=5", "If-None-Match: "+resp.Header.Get("ETag"))
			if again := c.Want(""); again.StatusCode != 304 || again.Header.Get(okta.HeaderNotice) != newest {
				t.Errorf("%d %v", again.StatusCode, again.Header)
			}
			c.Close()
		}
		if got := list("Bearer manage", ""); len(got) != 2 {
			t.Errorf("%v", got)
		}
		// Its own change is no news to a device: who waits is woken, and waits on.
		c := l.waiting(t, "If-None-Match: "+l.call("GET", l.path, "Bearer read", nil).Header().Get("ETag"))
		uv := `{"methods":{"push":{"keys":{"userVerification":` + string(l.agent.UV.Raw(t)) + `}}}}`
		if w := l.call("PATCH", strings.TrimSuffix(l.path, "/push/notifications"), "Bearer manage", uv); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		c.WantQuiet()
		c.Close()
	})
}

func TestWhoMayReadNotices(t *testing.T) {
	f := setUp(t)
	a := devicetest.New(t)
	e := f.create(a)
	f.tokens.pin("device", e.ID)
	url := enrol + "/" + e.ID + okta.NoticesPath
	for _, c := range []struct {
		name, method, url, authorization string
		status                           int
		code                             okta.ErrorCode
	}{
		{"nobody", "GET", url, "", 401, okta.CodeInvalidToken},
		{"bad bearer", "GET", url, "Bearer forged", 401, okta.CodeInvalidToken},
		{"a link", "GET", url, "OTDT x", 401, okta.CodeInvalidToken},
		{"scope", "GET", url, "Bearer openid", 403, okta.CodeForbidden},
		{"another user", "GET", url, "Bearer bob", 404, okta.CodeNotFound},
		{"another enrolment's token", "GET", enrol + "/pfdother" + okta.NoticesPath, "Bearer device", 404, okta.CodeNotFound},
		{"POST", "POST", url, "Bearer read", 405, okta.CodeMethodNotAllowed},
		{"after nothing", "GET", url + "?after=x", "Bearer read", 400, okta.CodeValidation},
		{"after less than nothing", "GET", url + "?after=-1", "Bearer read", 400, okta.CodeValidation},
		{"after too much", "GET", url + "?after=9223372036854775808", "Bearer read", 400, okta.CodeValidation},
		{"read", "GET", url, "Bearer read", 200, ""},
		{"maintenance", "GET", url, "Bearer maintain", 200, ""},
		{"manage, from long ago", "GET", url, "Bearer old", 200, ""},
		{"the device's own token", "GET", url, "Bearer device", 200, ""},
		{"the silent key", "GET", url, f.ssws(a.PoP, e.ID), 200, ""},
		{"after all", "GET", url + "?after=9223372036854775807", "Bearer read", 200, ""},
	} {
		w := f.call(c.method, c.url, c.authorization, nil)
		if c.code != "" {
			f.wantError(c.name, w, c.status, c.code)
		} else if w.Code != 200 || strings.TrimSpace(w.Body.String()) != "[]" {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
	f.wantError("another version", f.call("GET", url, "Bearer read", nil, "Accept", "application/json; okta-version=2.0.0"), 406, okta.CodeNotAcceptable)
	storetest.Write(t, f.db, func(tx store.Tx) error {
		return device.SetStatus(t.Context(), tx, e.ID, device.StatusDeleted, f.now)
	})
	f.wantError("gone", f.call("GET", url, "Bearer read", nil), 410, okta.CodeEnrolmentDeleted)
	busy := f.create(devicetest.New(t))
	status := 0
	for range 70 {
		status = f.call("GET", enrol+"/"+busy.ID+okta.NoticesPath, "Bearer read", nil).Code
	}
	if status != 429 {
		t.Errorf("70 questions in no time: %d", status)
	}
}

// C2: who waits by a key that is replaced hears so, and nothing more.
func TestOldKeyWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t)
		defer l.Close()
		e := okta.Enrolment{ID: l.id}
		wait := func(k devicetest.Key) *parktest.Caller {
			c := l.Caller()
			c.Get(l.path, "Prefer: wait=55", "Authorization: "+l.ssws(k, l.id))
			c.WantQuiet()
			return c
		}
		c, fresh := wait(l.agent.PoP), devicetest.NewKey(t)
		if w := l.call("PATCH", strings.TrimSuffix(l.path, "/push/notifications"), "Bearer manage", l.rotation(e, fresh, l.agent.PoP)); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		began := time.Now()
		if resp, body := c.Answer(); resp.StatusCode != 401 || !strings.Contains(body, string(okta.CodeInvalidToken)) || time.Since(began) > time.Second {
			t.Errorf("%d %s after %v", resp.StatusCode, body, time.Since(began))
		}
		c.Close()
		c = wait(fresh)
		l.announce("a.b.c")
		c.Want(listBody("a.b.c"))
		c.Close()
	})
}
