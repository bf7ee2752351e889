package myaccount_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/park/parktest"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// listening is a fixture with one enrolment, served in fake time.
type listening struct {
	*fixture
	*parktest.Server
	agent  devicetest.Agent
	id     string
	device string
	path   string
}

func listen(t *testing.T) *listening {
	l := &listening{fixture: setUp(t), agent: devicetest.New(t)}
	e := l.create(l.agent)
	u, err := url.Parse(e.Methods[okta.MethodPush].Links["pending"].Href)
	if err != nil {
		t.Fatal(err)
	}
	l.id, l.device, l.path = e.ID, e.Device.ID, u.Path
	l.Server = parktest.Serve(t, l.Handler, l.lot)
	return l
}

// announce replaces the list and tells whoever waits.
func (l *listening) announce(challenges ...string) {
	l.push(challenges...)
	l.lot.Notify([]string{l.id})
}

func (l *listening) waiting(t *testing.T, lines ...string) *parktest.Caller {
	t.Helper()
	c := l.Caller()
	c.Get(l.path, append([]string{"Authorization: Bearer read", "Prefer: wait=55"}, lines...)...)
	c.WantQuiet()
	return c
}

func listBody(challenges ...string) string {
	var parts []string
	for _, c := range challenges {
		parts = append(parts, `{"payloadVersion":"IDXv1","challenge":"`+c+`"}`)
	}
	return "[" + strings.Join(parts, ",") + "]\n"
}

func TestWaitingForAPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t)
		defer l.Close()
		c := l.waiting(t)
		time.Sleep(20 * time.Second)
		l.announce("a.b.c")
		resp := c.Want(listBody("a.b.c"))
		h := resp.Header
		if resp.StatusCode != 200 || h.Get("Preference-Applied") != "wait=55" || h.Get("Vary") != "Prefer" || resp.Close ||
			h.Get("Content-Type") != "application/json;okta-version=1.0.0" || h.Get("ETag") == "" {
			t.Errorf("%d %v", resp.StatusCode, h)
		}
		tag := h.Get("ETag")
		// Not again while it stays: the caller knows it.
		c.Get(l.path, "Authorization: Bearer read", "Prefer: wait=55", "If-None-Match: "+tag)
		c.WantQuiet()
		l.announce("a.b.c", "d.e.f")
		second := c.Want(listBody("a.b.c", "d.e.f")).Header.Get("ETag")
		if second == tag {
			t.Error("one tag for two lists")
		}
		// Answered on another device: this one is told, too.
		c.Get(l.path, "Authorization: Bearer read", "Prefer: wait=55", "If-None-Match: "+second)
		c.WantQuiet()
		l.announce()
		empty := c.Want("[]\n").Header.Get("ETag")
		// Nothing happens.
		began := time.Now()
		c.Get(l.path, "Authorization: Bearer read", "Prefer: wait=55", "If-None-Match: "+empty)
		resp = c.Want("")
		if took := time.Since(began); resp.StatusCode != 304 || took > 55*time.Second || took < 54*time.Second ||
			resp.Header.Get("ETag") != empty || resp.Header.Get("Preference-Applied") != "wait=55" {
			t.Errorf("%d after %v: %v", resp.StatusCode, took, resp.Header)
		}
		c.Get(l.path, "Authorization: Bearer read", "Prefer: wait=2")
		if resp = c.Want("[]\n"); resp.StatusCode != 200 || resp.Header.Get("Preference-Applied") != "wait=2" {
			t.Errorf("%d: %v", resp.StatusCode, resp.Header)
		}
	})
}

// A change that nobody announces, such as a challenge that expired, is at
// least found when the time is over.
func TestWaitingFindsTheListChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t)
		defer l.Close()
		l.push("a.b.c")
		tag := l.call("GET", l.path, "Bearer read", nil).Header().Get("ETag")
		c := l.waiting(t, "If-None-Match: "+tag)
		l.push()
		if resp := c.Want("[]\n"); resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
	})
}

// Who is answered at once, and what.
func TestNotWaiting(t *testing.T) {
	f := setUp(t)
	e := f.create(devicetest.New(t))
	path := e.Methods[okta.MethodPush].Links["pending"].Href
	empty := f.call("GET", path, "Bearer read", nil).Header().Get("ETag")
	f.push("a.b.c")
	full := f.call("GET", path, "Bearer read", nil).Header().Get("ETag")
	for _, c := range []struct {
		name         string
		list, header []string
		status       int
	}{
		{"empty", nil, nil, 200},
		{"something", []string{"a.b.c"}, nil, 200},
		{"something, would wait", []string{"a.b.c"}, []string{"Prefer", "wait=55"}, 200},
		{"something else, would wait", []string{"a.b.c"}, []string{"Prefer", "wait=55", "If-None-Match", empty}, 200},
		{"no more, would wait", nil, []string{"Prefer", "wait=55", "If-None-Match", full}, 200},
		{"known", []string{"a.b.c"}, []string{"If-None-Match", full}, 304},
		{"known, weakly", []string{"a.b.c"}, []string{"If-None-Match", `"x", W/` + full}, 304},
		{"known, whatever it is", []string{"a.b.c"}, []string{"If-None-Match", "*"}, 304},
		{"empty, known", nil, []string{"If-None-Match", empty}, 304},
		{"another tag", []string{"a.b.c"}, []string{"If-None-Match", strings.Trim(full, `"`)}, 200},
	} {
		f.push(c.list...)
		w := f.call("GET", path, "Bearer read", nil, c.header...)
		want := ""
		if c.status == 200 {
			want = listBody(c.list...)
		}
		if w.Code != c.status || w.Body.String() != want || w.Header().Get("ETag") == "" || w.Header().Get("Preference-Applied") != "" {
			t.Errorf("%s: %d %s %v", c.name, w.Code, w.Body, w.Header())
		}
	}
}

// Hostile and malformed wishes make nobody wait, and nobody for long.
func TestPreferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t)
		defer l.Close()
		for _, c := range []struct {
			lines []string
			want  int // seconds
		}{
			{[]string{"Prefer: wait=1"}, 1},
			{[]string{"Prefer: wait=60"}, 60},
			{[]string{"Prefer: wait=61"}, 60},
			{[]string{"Prefer: wait=1000000000"}, 60},
			{[]string{"Prefer: wait=" + strings.Repeat("9", 4000)}, 60},
			{[]string{"Prefer: WAIT = 7"}, 7},
			{[]string{`Prefer: wait="8"`}, 8},
			{[]string{"Prefer: respond-async, wait=9;foo=bar"}, 9},
			{[]string{"Prefer: respond-async", "Prefer: wait=10"}, 10},
			{[]string{"Prefer: wait=3, wait=50"}, 3},
			{[]string{"Prefer: wait=4", "Prefer: wait=50"}, 4},
			{[]string{"Prefer: wait=-1, wait=50"}, 0},
			{[]string{"Prefer: wait=-1"}, 0},
			{[]string{"Prefer: wait=+1"}, 0},
			{[]string{"Prefer: wait=1e9"}, 0},
			{[]string{"Prefer: wait=0"}, 0},
			{[]string{"Prefer: wait=1.5"}, 0},
			{[]string{"Prefer: wait"}, 0},
			{[]string{"Prefer: wait="}, 0},
			{[]string{"Prefer: wait=\""}, 0},
			{[]string{"Prefer: wait=٣"}, 0},
			{[]string{"Prefer: waits=5"}, 0},
			{[]string{"Prefer: foo=\"wait=5\""}, 0},
			{[]string{"Prefer:"}, 0},
			{[]string{"X-Prefer: wait=5"}, 0},
			{[]string{"Prefer: wait=5", "Content-Length: 0"}, 5},
		} {
			began := time.Now()
			caller := l.Caller()
			caller.Get(l.path, append(c.lines, "Authorization: Bearer read")...)
			resp := caller.Want("[]\n")
			took := time.Since(began).Seconds()
			if took > float64(c.want) || took < float64(c.want)-0.25 {
				t.Errorf("%.60q: %v seconds", c.lines, took)
			}
			want := ""
			if c.want > 0 {
				want = "wait=" + strconv.Itoa(c.want)
			}
			if got := resp.Header.Get("Preference-Applied"); got != want {
				t.Errorf("%.60q: applied %q", c.lines, got)
			}
			caller.Close()
		}
		// A body could be taken for the next request: with one nobody waits.
		c := l.Caller()
		go c.Write([]byte("GET " + l.path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer read\r\nPrefer: wait=5\r\nContent-Length: 2\r\n\r\n{}"))
		if resp := c.Want("[]\n"); resp.Header.Get("Preference-Applied") != "" {
			t.Error("waited with a body")
		}
		c.Close()
	})
}

// B8 and more: what ended while a caller waited lets it hear nothing more than
// that.
func TestRevokedWhileWaiting(t *testing.T) {
	for _, c := range []struct {
		name   string
		end    func(t *testing.T, l *listening)
		status int
		code   okta.ErrorCode
	}{
		{"token", func(_ *testing.T, l *listening) { l.tokens.revoke("read") }, 401, okta.CodeInvalidToken},
		{"enrolment deleted", func(t *testing.T, l *listening) {
			if w := l.call("DELETE", strings.TrimSuffix(l.path, "/push/notifications"), "Bearer manage", nil); w.Code != 204 {
				t.Errorf("%d", w.Code)
			}
		}, 410, okta.CodeEnrolmentDeleted},
		{"enrolment suspended", func(t *testing.T, l *listening) {
			storetest.Write(t, l.db, func(tx store.Tx) error {
				return device.SetStatus(t.Context(), tx, l.id, device.StatusSuspended, l.now)
			})
		}, 423, okta.CodeEnrolmentSuspended},
		{"device suspended", func(t *testing.T, l *listening) {
			storetest.Write(t, l.db, func(tx store.Tx) error {
				return device.SetDeviceStatus(t.Context(), tx, l.device, device.StatusSuspended, l.now)
			})
		}, 403, okta.CodeDeviceSuspended},
		{"user suspended", func(t *testing.T, l *listening) {
			storetest.Write(t, l.db, func(tx store.Tx) error {
				return directory.SetUserStatus(t.Context(), tx, l.alice.ID, directory.StatusSuspended, l.now)
			})
		}, 423, okta.CodeUserSuspended},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := listen(t)
				defer l.Close()
				bearer, own := l.waiting(t), l.Caller()
				own.Get(l.path, "Prefer: wait=55", "Authorization: SSWS "+
					l.agent.PoP.Sign(t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(l.id, l.alice.ID, base, l.now)))
				own.WantQuiet()
				c.end(t, l)
				l.announce("secret.of.theirs")
				for name, caller := range map[string]*parktest.Caller{"bearer": bearer, "own key": own} {
					resp, body := caller.Answer()
					if name == "own key" && c.name == "token" { // it has none
						if body != listBody("secret.of.theirs") {
							t.Errorf("own key: %d %s", resp.StatusCode, body)
						}
					} else if resp.StatusCode != c.status || !strings.Contains(body, string(c.code)) || strings.Contains(body, "secret") ||
						resp.Header.Get("Content-Type") != "application/json" {
						t.Errorf("%s: %d %s", name, resp.StatusCode, body)
					}
					caller.Close()
				}
			})
		})
	}
}

// A key that was taken away while its proof waited hears nothing either.
func TestKeyReplacedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t)
		defer l.Close()
		self := strings.TrimSuffix(l.path, "/push/notifications")
		key := func(k string) string { return `{"methods":{"push":{"keys":{"userVerification":` + k + `}}}}` }
		if w := l.call("PATCH", self, "Bearer manage", key(string(l.agent.UV.Raw(t)))); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		c := l.Caller()
		c.Get(l.path, "Prefer: wait=55", "Authorization: SSWS "+
			l.agent.UV.Sign(t, okta.TypeEnrolmentUpdate, devicetest.NewClaims(l.id, l.alice.ID, base, l.now)))
		c.WantQuiet()
		if w := l.call("PATCH", self, "Bearer manage", key("null")); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if resp, body := c.Answer(); resp.StatusCode != 401 {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
		c.Close()
	})
}

// A14: many of one enrolment, or of many, take no more than their places.
func TestPlacesOfOneEnrolment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t)
		defer l.Close()
		first := l.waiting(t)
		var others []*parktest.Caller
		for range 4 {
			others = append(others, l.waiting(t))
		}
		if resp := first.Want("[]\n"); resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
		if n := l.lot.Waiting(); n != 4 {
			t.Errorf("%d wait", n)
		}
		l.announce("a.b.c")
		for _, c := range others {
			c.Want(listBody("a.b.c"))
			c.Close()
		}
		first.Close()
	})
}

// The org closes: who knows the list hears that it is the same, as far as
// anybody knows.
func TestClosingWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t)
		l.push("a.b.c")
		tag := l.call("GET", l.path, "Bearer read", nil).Header().Get("ETag")
		knows := l.waiting(t, "If-None-Match: "+tag)
		l.push()
		waits := l.waiting(t)
		go l.lot.Close()
		if resp := knows.Want(""); resp.StatusCode != 304 || resp.Header.Get("ETag") != tag {
			t.Errorf("%d", resp.StatusCode)
		}
		if resp := waits.Want("[]\n"); resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
		l.Close()
	})
}

func TestTooManyPolls(t *testing.T) {
	f := setUp(t)
	e, other := f.create(devicetest.New(t)), f.create(devicetest.New(t))
	poll := func(e okta.Enrolment, authorization string) *httptest.ResponseRecorder {
		return f.call("GET", e.Methods[okta.MethodPush].Links["pending"].Href, authorization, nil)
	}
	for range 100 { // of nobody's account
		if w := poll(e, "Bearer bob"); w.Code != 404 {
			t.Fatalf("%d", w.Code)
		}
	}
	for i := range 60 {
		if w := poll(e, "Bearer read"); w.Code != 200 {
			t.Fatalf("%d: %d %s", i, w.Code, w.Body)
		}
	}
	for range 3 { // asking on makes it no worse
		w := poll(e, "Bearer read")
		f.wantError("the 61st", w, 429, okta.CodeTooManyRequests)
		h := w.Header()
		reset, err := strconv.ParseInt(h.Get("X-Rate-Limit-Reset"), 10, 64)
		if left := time.Unix(reset, 0).Sub(f.now); err != nil || left < 2*time.Second || left > 4*time.Second ||
			h.Get("Retry-After") != "2" || h.Get("X-Rate-Limit-Remaining") != "0" || h.Get("X-Rate-Limit-Limit") != "30" {
			t.Errorf("%v", h)
		}
	}
	if w := poll(other, "Bearer read"); w.Code != http.StatusOK {
		t.Errorf("another enrolment: %d", w.Code)
	}
	f.now = f.now.Add(2 * time.Second)
	if w := poll(e, "Bearer read"); w.Code != 200 {
		t.Errorf("two seconds later: %d", w.Code)
	}
	f.wantError("and again", poll(e, "Bearer read"), 429, okta.CodeTooManyRequests)
	// B7: a clock that is set back locks nobody out, nor one that jumps ahead.
	f.now = f.now.Add(-24 * time.Hour)
	if w := poll(e, "Bearer read"); w.Code != 200 {
		t.Errorf("a day back: %d", w.Code)
	}
	f.now = f.now.Add(48 * time.Hour)
	for range 60 {
		if w := poll(e, "Bearer read"); w.Code != 200 {
			t.Fatalf("two days on: %d", w.Code)
		}
	}
	f.wantError("two days on", poll(e, "Bearer read"), 429, okta.CodeTooManyRequests)
}
