package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// pendingAt serves h as the pending list of an org.
func pendingAt(t testing.TB, h http.HandlerFunc) func(client.PendingRequest) (client.PendingList, error) {
	org := handler(t, h)
	return func(r client.PendingRequest) (client.PendingList, error) {
		return org.Pending(t.Context(), client.Bearer("secret"), org.URL()+"/pending", r)
	}
}

func TestPendingEntriesStandForThemselves(t *testing.T) {
	good := `{"payloadVersion":"IDXv1","challenge":"a.b.c"}`
	for body, want := range map[string]struct{ taken, skipped int }{
		`[]`:                           {0, 0},
		`[` + good + `]`:               {1, 0},
		`[` + good + `,` + good + `]`:  {2, 0},
		`[7,` + good + `,null,"x",[]]`: {1, 4},
		`[{"payloadVersion":"V1","challenge":"a.b.c"},` + good + `]`:                                                        {1, 1},
		`[{"payloadVersion":7,"challenge":"a.b.c"},{"payloadVersion":"IDXv1","challenge":{}},` + good + `]`:                 {1, 2},
		`[{"payloadVersion":"IDXv1"},{"challenge":"a.b.c"},{}]`:                                                             {0, 3},
		`[{"payloadVersion":"IDXv1","challenge":"` + strings.Repeat("x", okta.MaxChallengeTokenSize+1) + `"},` + good + `]`: {1, 1},
		`[` + strings.Repeat(good+`,`, 299) + good + `]`:                                                                    {256, 44},
	} {
		ask := pendingAt(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, body)
		})
		got, err := ask(client.PendingRequest{})
		if err != nil || len(got.Challenges) != want.taken || got.Skipped != want.skipped || got.Unchanged || got.Waited {
			t.Errorf("%.80s: %d taken, %d skipped, %v; want %+v", body, len(got.Challenges), got.Skipped, err, want)
		}
	}
}

func TestPendingWaits(t *testing.T) {
	ask := pendingAt(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Prefer") == "wait=55" {
			w.Header().Set("Preference-Applied", "respond-async, wait=55")
		}
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"v1"`)
		_, _ = io.WriteString(w, `[]`)
	})
	got, err := ask(client.PendingRequest{Wait: true})
	if err != nil || !got.Waited || got.ETag != `"v1"` || got.Unchanged {
		t.Fatalf("%+v, %v", got, err)
	}
	got, err = ask(client.PendingRequest{Wait: true, ETag: got.ETag})
	if err != nil || !got.Waited || got.ETag != `"v1"` || !got.Unchanged {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err = ask(client.PendingRequest{}); err != nil || got.Waited {
		t.Fatalf("not asked to wait: %+v, %v", got, err)
	}
}

// A wait has the time that it needs, every other call its short one.
func TestPendingMayTakeLong(t *testing.T) {
	var left time.Duration
	org := newOrg(t, "http://localhost:1", client.Options{HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		deadline, _ := r.Context().Deadline()
		left = time.Until(deadline)
		return nil, errors.New("enough")
	})}})
	_, _ = org.Pending(t.Context(), client.Bearer("s"), org.URL()+"/p", client.PendingRequest{Wait: true})
	if left < 110*time.Second || left > 120*time.Second {
		t.Errorf("%v for a wait", left)
	}
	_, _ = org.Pending(t.Context(), client.Bearer("s"), org.URL()+"/p", client.PendingRequest{})
	if left > client.DefaultTimeout {
		t.Errorf("%v without one", left)
	}
}

// E12: what an org sends in the place of a list: too much, none, another
// address.
func TestE12HostilePendingLists(t *testing.T) {
	for name, row := range map[string]struct {
		send func(w http.ResponseWriter)
		kind string
	}{
		"100 MB announced": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", fmt.Sprint(100<<20))
			_, _ = w.Write([]byte("["))
		}, client.KindTooLarge},
		"100 MB in pieces": {func(w http.ResponseWriter) {
			piece := []byte(strings.Repeat(" ", 64<<10))
			for range 100 << 20 / len(piece) {
				if _, err := w.Write(piece); err != nil {
					return // the client has gone, as it should
				}
			}
		}, client.KindTooLarge},
		"an object":          {func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"challenge":"x"}`)) }, client.KindNotJSON},
		"half a list":        {func(w http.ResponseWriter) { _, _ = w.Write([]byte(`[{"payloadVersion":"IDXv1"`)) }, client.KindNotJSON},
		"a nest":             {func(w http.ResponseWriter) { _, _ = w.Write([]byte(strings.Repeat("[", 10000))) }, client.KindNotJSON},
		"unchanged, unasked": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotModified) }, client.KindRedirect},
		"a redirect": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://evil.example/")
			w.WriteHeader(http.StatusFound)
		}, client.KindRedirect},
		"a page of some portal": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>"))
		}, client.KindHTML},
	} {
		ask := pendingAt(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			row.send(w)
		})
		var odd *client.UnexpectedAnswer
		if got, err := ask(client.PendingRequest{}); !errors.As(err, &odd) || odd.Kind != row.kind || len(got.Challenges) != 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	org := handler(t, func(http.ResponseWriter, *http.Request) { t.Error("asked elsewhere") })
	if _, err := org.Pending(t.Context(), client.Bearer("s"), "https://evil.example/p", client.PendingRequest{}); !errors.Is(err, client.ErrForeignURL) {
		t.Error(err)
	}
}

// FuzzPending: whatever the body, the entries that come out are of our version,
// bounded, and among those that went in.
func FuzzPending(f *testing.F) {
	f.Add([]byte(`[{"payloadVersion":"IDXv1","challenge":"a.b.c"},7]`), `"v1"`, "wait=55")
	f.Add([]byte(`[{"payloadVersion":"V1","challenge":"a.b.c"},{"challenge":1}]`), "W/\"x\"", "WAIT ; q=1")
	f.Fuzz(func(t *testing.T, body []byte, tag, applied string) {
		org := newOrg(t, "http://localhost:1", client.Options{HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Request: r, ContentLength: -1, Body: io.NopCloser(strings.NewReader(string(body))),
				Header: http.Header{"Content-Type": {"application/json"}, "Etag": {tag}, "Preference-Applied": {applied}}}, nil
		})}})
		list, err := org.Pending(t.Context(), client.Bearer("s"), org.URL()+"/p", client.PendingRequest{Wait: true})
		if err != nil {
			return
		}
		var in []any
		if json.Unmarshal(body, &in) != nil || len(list.Challenges)+list.Skipped != len(in) {
			t.Fatalf("%d and %d of %d", len(list.Challenges), list.Skipped, len(in))
		}
		for _, c := range list.Challenges {
			if c.PayloadVersion != okta.PayloadVersion || c.Challenge == "" || len(c.Challenge) > okta.MaxChallengeTokenSize {
				t.Fatalf("%+v", c)
			}
		}
		if strings.ContainsAny(list.ETag, "\r\n") || len(list.ETag) > 256 {
			t.Fatalf("ETag %q", list.ETag)
		}
	})
}
