package admin_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/api/admin"
	"countersign.dev/org/directory"
	"countersign.dev/org/signingkey"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

const base = "http://localhost:8080"

func setUp(t *testing.T, token okta.Secret) (http.Handler, *signingkey.Ring) {
	h, keys, _ := setUpOrg(t, token)
	return h, keys
}

func setUpOrg(t *testing.T, token okta.Secret) (http.Handler, *signingkey.Ring, directory.OrgInfo) {
	var org directory.OrgInfo
	db := storetest.Open(t)
	storetest.Write(t, db, func(tx store.Tx) (err error) {
		if org, err = directory.EnsureOrg(t.Context(), tx, time.Now()); err != nil {
			return err
		}
		for login, status := range map[string]string{"alice@example.com": "", "gone@example.com": directory.StatusDeprovisioned} {
			if _, err := directory.CreateUser(t.Context(), tx, directory.User{Login: login, Status: status}, time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	keys, err := signingkey.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return admin.New(admin.Deps{DB: db, Keys: keys, Token: token, BaseURL: base, Now: time.Now, Log: slog.New(slog.DiscardHandler)}), keys, org
}

func call(h http.Handler, method, path, authorization string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, base+path, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const links = "/api/v1/users/alice@example.com/enrolment-links"

func TestOnlyTheAdministrator(t *testing.T) {
	h, _ := setUp(t, "the-admin-token")
	for authorization, want := range map[string]int{
		"SSWS the-admin-token":   200,
		"ssws the-admin-token":   200,
		"":                       401,
		"SSWS":                   401,
		"SSWS the-admin-tokem":   401,
		"SSWS the-admin-token2":  401,
		"Bearer the-admin-token": 401,
		"the-admin-token":        401,
	} {
		if w := call(h, "POST", links, authorization); w.Code != want {
			t.Errorf("%q: %d, want %d", authorization, w.Code, want)
		}
	}
	none, _ := setUp(t, "")
	for _, authorization := range []string{"SSWS", "SSWS ", ""} {
		if w := call(none, "POST", links, authorization); w.Code != 401 {
			t.Errorf("without a token, %q: %d", authorization, w.Code)
		}
	}
}

func TestEnrolmentLink(t *testing.T) {
	h, _ := setUp(t, "secret")
	w := call(h, "POST", links, "SSWS secret")
	var out admin.Link
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	link, err := okta.ParseEnrolmentLink(out.URL)
	if err != nil || link.Login != "alice@example.com" || link.OrgURL != base || link.Token == "" || !strings.HasPrefix(link.AuthenticatorID, "aut") {
		t.Errorf("%+v, %v", link, err)
	}
	for path, want := range map[string]int{
		"/api/v1/users/ALICE%40example.com/enrolment-links": 200,
		"/api/v1/users/nobody/enrolment-links":              404,
		"/api/v1/users/gone@example.com/enrolment-links":    410,
		"/api/v1/users": 404,
	} {
		if w := call(h, "POST", path, "SSWS secret"); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := call(h, "GET", links, "SSWS secret"); w.Code != 405 {
		t.Errorf("GET: %d", w.Code)
	}
}

func TestRotate(t *testing.T) {
	h, keys := setUp(t, "secret")
	before, _ := keys.Public(t.Context())
	const path = "/api/v1/authorizationServers/default/credentials/lifecycle/keyRotate"
	if w := call(h, "POST", path, "SSWS other"); w.Code != 401 {
		t.Errorf("by a stranger: %d", w.Code)
	}
	if w := call(h, "POST", strings.Replace(path, "default", "other", 1), "SSWS secret"); w.Code != 404 {
		t.Errorf("another server: %d", w.Code)
	}
	w := call(h, "POST", path, "SSWS secret")
	var after []jose.JWK
	if err := json.Unmarshal(w.Body.Bytes(), &after); err != nil || len(after) != len(before)+1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), `"d"`) {
		t.Error("a private key")
	}
}
