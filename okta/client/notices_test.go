package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

func TestNotices(t *testing.T) {
	var asked *http.Request
	body := ""
	org := handler(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Clone(r.Context())
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	})
	one := okta.Notice{ID: 8, Event: okta.NoticeKeysReplaced, EnrolmentID: "pfdother", Device: "workshop", Created: "2026-03-01T12:00:00.000Z"}
	two := okta.Notice{ID: 9, Event: "SOMETHING_NEW", EnrolmentID: "pfdother", Device: "workshop", Created: "2026-03-01T12:00:01.000Z"}
	raw := func(n okta.Notice) string {
		b, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	long := one
	long.Device = strings.Repeat("x", 256)
	for name, c := range map[string]struct {
		body string
		want []okta.Notice
	}{
		"none":              {`[]`, nil},
		"two":               {`[` + raw(one) + `,` + raw(two) + `]`, []okta.Notice{one, two}},
		"odd ones between":  {`[7,` + raw(one) + `,{},null,{"id":"9","event":"X"},` + raw(two) + `]`, []okta.Notice{one, two}},
		"old ones":          {`[{"id":7,"event":"X"},{"id":-1,"event":"X"},` + raw(two) + `]`, []okta.Notice{two}},
		"twice, and back":   {`[` + raw(two) + `,` + raw(two) + `,` + raw(one) + `]`, []okta.Notice{two}},
		"a huge name":       {`[` + raw(long) + `,` + raw(two) + `]`, []okta.Notice{two}},
		"more than 50 odd":  {`[` + strings.Repeat(`7,`, 50) + raw(one) + `]`, nil},
		"an event too long": {`[{"id":8,"event":"` + strings.Repeat("X", 65) + `"}]`, nil},
	} {
		body = c.body
		got, err := org.Notices(t.Context(), client.SSWS("secret"), "pfd1", 7)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if want := okta.AppAuthenticatorsPath + "/pfd1/notices"; asked.Method != "GET" || asked.URL.Path != want || asked.URL.RawQuery != "after=7" ||
			asked.Header.Get("Authorization") != "SSWS secret" {
			t.Fatalf("%s %s", asked.Method, asked.URL)
		}
	}
	body = `{"id":8}`
	var odd *client.UnexpectedAnswer
	if got, err := org.Notices(t.Context(), client.SSWS("secret"), "pfd1", -3); !errors.As(err, &odd) || odd.Kind != client.KindNotJSON || got != nil || asked.URL.RawQuery != "after=0" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := org.Notices(t.Context(), client.SSWS("secret"), "..", 0); !errors.Is(err, client.ErrURL) {
		t.Error(err)
	}
}

func TestPendingTellsOfNotices(t *testing.T) {
	for header, want := range map[string]int64{"": 0, "7": 7, "-7": 0, "seven": 0, "9223372036854775807": 1<<63 - 1, "99999999999999999999": 0} {
		for _, status := range []int{http.StatusOK, http.StatusNotModified} {
			ask := pendingAt(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set(okta.HeaderNotice, header)
				w.WriteHeader(status)
				if status == http.StatusOK {
					fmt.Fprint(w, `[]`)
				}
			})
			got, err := ask(client.PendingRequest{ETag: `"v1"`})
			if err != nil || got.Notice != want || got.Unchanged != (status == http.StatusNotModified) {
				t.Errorf("%q with %d: %+v, %v", header, status, got, err)
			}
		}
	}
}

// E12: whatever comes in the place of notices, what comes out is bounded and
// ascending.
func FuzzNotices(f *testing.F) {
	f.Add([]byte(`[{"id":8,"event":"ENROLLED","enrollmentId":"pfd","device":"x","created":"y"},7]`), "8")
	f.Add([]byte(`[{"id":1e3,"event":"ENROLLED"},{"id":2}]`), "-1")
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		org := newOrg(t, "http://localhost:1", client.Options{HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Request: r, ContentLength: -1, Body: io.NopCloser(strings.NewReader(string(body))),
				Header: http.Header{"Content-Type": {"application/json"}, okta.HeaderNotice: {header}}}, nil
		})}})
		if list, err := org.Pending(t.Context(), client.Bearer("s"), org.URL()+"/p", client.PendingRequest{}); err == nil && list.Notice < 0 {
			t.Fatalf("%q: %d", header, list.Notice)
		}
		list, err := org.Notices(t.Context(), client.Bearer("s"), "pfd", 3)
		if err != nil {
			return
		}
		last := int64(3)
		for _, n := range list {
			if n.ID <= last || n.Event == "" || len(n.Device) > 4*255 || len(n.Event) > 64 {
				t.Fatalf("%+v", n)
			}
			last = n.ID
		}
		if len(list) > 50 {
			t.Fatalf("%d notices", len(list))
		}
	})
}
