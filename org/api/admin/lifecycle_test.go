package admin_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/api/admin"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/directory"
	"countersign.dev/org/session"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
	sts "countersign.dev/org/token"
)

const token = "SSWS the-admin-token"

// estate is an org with two users, one of whom has a device.
type estate struct {
	http.Handler
	t         *testing.T
	db        *store.DB
	registry  *device.Registry
	info      directory.OrgInfo
	alice     directory.User
	agent     devicetest.Agent
	enrolment device.Enrolment
	notified  []string
}

func newEstate(t *testing.T) *estate {
	e := &estate{t: t, db: storetest.Open(t), agent: devicetest.New(t)}
	storetest.Write(t, e.db, func(tx store.Tx) (err error) {
		if e.info, err = directory.EnsureOrg(t.Context(), tx, time.Now()); err != nil {
			return err
		}
		if _, err = directory.CreateUser(t.Context(), tx, directory.User{Login: "bob@example.com"}, time.Now()); err != nil {
			return err
		}
		e.alice, err = directory.CreateUser(t.Context(), tx,
			directory.User{Login: "alice@example.com", FirstName: "Alice", LastName: "Example", Email: "alice@example.com"}, time.Now())
		return err
	})
	e.registry = device.NewRegistry(e.db, base, time.Now)
	e.Handler = admin.New(admin.Deps{
		DB: e.db, Registry: e.registry, Token: "the-admin-token", BaseURL: base,
		Notify: func(ids []string) { e.notified = append(e.notified, ids...) }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	e.enrolment = e.enrol(e.agent)
	return e
}

func (e *estate) enrol(a devicetest.Agent) device.Enrolment {
	e.t.Helper()
	out, err := e.registry.Create(e.t.Context(), device.ByUser(e.alice.ID), a.Request(e.info.Authenticators.OktaVerify))
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// refusal is what the agent hears.
func (e *estate) refusal() okta.ErrorCode {
	e.t.Helper()
	_, err := e.registry.Admit(e.t.Context(), device.AsUser(e.alice.ID), e.enrolment.ID)
	if err == nil {
		return ""
	}
	refusal, ok := err.(*okta.Error) //nolint:errorlint // as callers get it
	if !ok {
		e.t.Fatal(err)
	}
	if gone := refusal.Gone(); gone != (refusal.HTTPStatus == 410) {
		e.t.Errorf("%v: gone %v", refusal, gone)
	}
	return refusal.Code
}

func (e *estate) get(path string, dst any) string {
	e.t.Helper()
	w := call(e, "GET", path, token)
	if err := json.Unmarshal(w.Body.Bytes(), dst); err != nil || w.Code != 200 {
		e.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

type object struct {
	ID, Status, Created, LastUpdated string
	Profile                          map[string]any
	Links                            map[string]struct {
		Href, Method string
		Hints        struct{ Allow []string }
	} `json:"_links"`
	ResourceDisplayName struct{ Value string }
}

func (o object) actions() string {
	var out []string
	for name := range o.Links {
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// The life of a device, and what its agent hears at each station.
func TestLifeOfADevice(t *testing.T) {
	e := newEstate(t)
	path := "/api/v1/devices/" + e.enrolment.Device.ID
	for _, step := range []struct {
		method, do string
		status     int
		device     string         // its status afterwards; "" when it is gone
		actions    string         // what may be done then
		agent      okta.ErrorCode // what the agent hears
		told       bool
	}{
		{"POST", "/lifecycle/unsuspend", 400, "ACTIVE", "deactivate self suspend", "", false},
		{"POST", "/lifecycle/activate", 204, "ACTIVE", "deactivate self suspend", "", true},
		{"DELETE", "", 403, "ACTIVE", "deactivate self suspend", "", false},
		{"POST", "/lifecycle/suspend", 204, "SUSPENDED", "deactivate self unsuspend", okta.CodeDeviceSuspended, true},
		{"POST", "/lifecycle/suspend", 400, "SUSPENDED", "deactivate self unsuspend", okta.CodeDeviceSuspended, false},
		{"POST", "/lifecycle/activate", 400, "SUSPENDED", "deactivate self unsuspend", okta.CodeDeviceSuspended, false},
		{"DELETE", "", 403, "SUSPENDED", "deactivate self unsuspend", okta.CodeDeviceSuspended, false},
		{"POST", "/lifecycle/unsuspend", 204, "ACTIVE", "deactivate self suspend", "", true},
		{"POST", "/lifecycle/suspend", 204, "SUSPENDED", "deactivate self unsuspend", okta.CodeDeviceSuspended, true},
		// From here on the enrolment is gone for good, and its agent must hear that.
		{"POST", "/lifecycle/deactivate", 204, "DEACTIVATED", "activate self", okta.CodeEnrolmentDeleted, true},
		{"POST", "/lifecycle/deactivate", 400, "DEACTIVATED", "activate self", okta.CodeEnrolmentDeleted, false},
		{"POST", "/lifecycle/activate", 204, "ACTIVE", "deactivate self suspend", okta.CodeEnrolmentDeleted, false},
		{"POST", "/lifecycle/deactivate", 204, "DEACTIVATED", "activate self", okta.CodeEnrolmentDeleted, false},
		{"DELETE", "", 204, "", "", okta.CodeDeviceDeleted, false},
		{"DELETE", "", 404, "", "", okta.CodeDeviceDeleted, false},
		{"POST", "/lifecycle/activate", 404, "", "", okta.CodeDeviceDeleted, false},
	} {
		e.notified = nil
		w := call(e, step.method, path+step.do, token)
		if w.Code != step.status || step.status == 204 && w.Body.Len() != 0 {
			t.Errorf("%s %s: %d %s", step.method, step.do, w.Code, w.Body)
		}
		if told := slices.Equal(e.notified, []string{e.enrolment.ID}); told != step.told || !told && len(e.notified) != 0 {
			t.Errorf("%s %s: told %v", step.method, step.do, e.notified)
		}
		if got := e.refusal(); got != step.agent {
			t.Errorf("%s %s: the agent hears %q, want %q", step.method, step.do, got, step.agent)
		}
		if step.device == "" {
			if w := call(e, "GET", path, token); w.Code != 404 || !strings.Contains(w.Body.String(), "(GenericUDObject)") {
				t.Errorf("deleted: %d %s", w.Code, w.Body)
			}
			continue
		}
		var o object
		e.get(path, &o)
		if o.Status != step.device || o.actions() != step.actions {
			t.Errorf("%s %s: %s, may %s", step.method, step.do, o.Status, o.actions())
		}
	}
}

func TestDeviceObject(t *testing.T) {
	e := newEstate(t)
	var o object
	text := e.get("/api/v1/devices/"+e.enrolment.Device.ID, &o)
	if o.ID != e.enrolment.Device.ID || o.Created == "" || o.LastUpdated == "" || o.Profile["displayName"] != "workshop" || o.Profile["platform"] != "LINUX" ||
		o.Profile["registered"] != true || o.Profile["secureHardwarePresent"] != false || o.ResourceDisplayName.Value != "workshop" ||
		!strings.Contains(text, `"resourceAlternateId":null`) || !strings.Contains(text, `"resourceType":"UDDevice"`) {
		t.Errorf("%s", text)
	}
	if suspend := o.Links["suspend"]; suspend.Href != base+"/api/v1/devices/"+o.ID+"/lifecycle/suspend" || !slices.Equal(suspend.Hints.Allow, []string{"POST"}) {
		t.Errorf("%+v", suspend)
	}
	if strings.Contains(text, "clientInstance") || strings.Contains(text, `"kty"`) {
		t.Errorf("keys: %s", text)
	}
}

func TestLifeOfAUser(t *testing.T) {
	e := newEstate(t)
	other := e.enrol(devicetest.New(t))
	path := "/api/v1/users/alice@example.com"
	var o object
	e.get(path, &o)
	if o.ID != e.alice.ID || o.Status != "ACTIVE" || o.Profile["login"] != "alice@example.com" || o.Profile["firstName"] != "Alice" || o.actions() != "self suspend" ||
		o.Links["suspend"].Method != "POST" {
		t.Errorf("%+v", o)
	}
	if w := call(e, "POST", path+"/lifecycle/unsuspend", token); w.Code != 400 {
		t.Errorf("unsuspend of an active user: %d %s", w.Code, w.Body)
	}
	if w := call(e, "POST", path+"/lifecycle/suspend", token); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "{}" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	slices.Sort(e.notified)
	want := []string{e.enrolment.ID, other.ID}
	slices.Sort(want)
	if !slices.Equal(e.notified, want) || e.refusal() != okta.CodeUserSuspended {
		t.Errorf("told %v, want %v; the agent hears %q", e.notified, want, e.refusal())
	}
	if w := call(e, "POST", path+"/lifecycle/suspend", token); w.Code != 400 {
		t.Errorf("twice: %d %s", w.Code, w.Body)
	}
	e.get("/api/v1/users/"+e.alice.ID, &o)
	if o.Status != "SUSPENDED" || o.LastUpdated == "" {
		t.Errorf("%+v", o)
	}
	if w := call(e, "POST", "/api/v1/users/"+e.alice.ID+"/lifecycle/unsuspend", token); w.Code != 200 || e.refusal() != "" {
		t.Errorf("%d %s; the agent hears %q", w.Code, w.Body, e.refusal())
	}
}

func TestDevicesOfAUser(t *testing.T) {
	e := newEstate(t)
	type entry struct {
		Created, DeviceUserID string
		Device                object
	}
	var list []entry
	e.get("/api/v1/users/bob@example.com/devices", &list)
	if len(list) != 0 {
		t.Errorf("bob has %v", list)
	}
	// A second enrolment on the same device, and one on another.
	b := devicetest.New(t)
	b.Client = e.agent.Client
	d := e.enrolment.Device
	req := b.OnDevice(b.Request(e.info.Authenticators.OktaVerify), d.ID, d.ClientInstanceID,
		b.Client.Sign(t, "JWT", devicetest.NewClaims(d.ClientInstanceID, d.ID, base, time.Now())))
	if _, err := e.registry.Create(t.Context(), device.ByUser(e.alice.ID), req); err != nil {
		t.Fatal(err)
	}
	other := e.enrol(devicetest.New(t))
	e.get("/api/v1/users/alice@example.com/devices", &list)
	if len(list) != 2 || list[0].Device.ID != d.ID || list[1].Device.ID != other.Device.ID || !strings.HasPrefix(list[0].DeviceUserID, "lnk") ||
		list[0].DeviceUserID == list[1].DeviceUserID || list[0].Created == "" {
		t.Errorf("%+v", list)
	}
}

// Only the administrator, and only what there is.
func TestLifecycleRefused(t *testing.T) {
	e := newEstate(t)
	d := "/api/v1/devices/" + e.enrolment.Device.ID
	for _, c := range []struct {
		method, path, authorization string
		status                      int
	}{
		{"POST", d + "/lifecycle/suspend", "", 401},
		{"POST", d + "/lifecycle/suspend", "SSWS wrong", 401},
		{"POST", d + "/lifecycle/suspend", "Bearer the-admin-token", 401},
		{"POST", d + "/lifecycle/suspend", "SSWS " + e.agent.PoP.Sign(t, okta.TypeEnrolmentUpdate,
			devicetest.NewClaims(e.enrolment.ID, e.alice.ID, base, time.Now())), 401},
		{"DELETE", d, "", 401},
		{"GET", d, "", 401},
		{"GET", "/api/v1/users/alice@example.com", "", 401},
		{"GET", "/api/v1/users/alice@example.com/devices", "", 401},
		{"POST", "/api/v1/users/alice@example.com/lifecycle/suspend", "", 401},
		{"GET", d + "/lifecycle/suspend", token, 405},
		{"PUT", d, token, 405},
		{"POST", d + "/lifecycle/explode", token, 404},
		{"POST", d + "/lifecycle/delete", token, 404},
		{"POST", d + "/lifecycle/", token, 404},
		{"POST", "/api/v1/devices/guounknown/lifecycle/suspend", token, 404},
		{"DELETE", "/api/v1/devices/guounknown", token, 404},
		{"GET", "/api/v1/users/nobody", token, 404},
		{"GET", "/api/v1/users/nobody/devices", token, 404},
		{"POST", "/api/v1/users/nobody/lifecycle/suspend", token, 404},
		{"POST", "/api/v1/users/alice@example.com/lifecycle/deactivate", token, 404},
	} {
		if w := call(e, c.method, c.path, c.authorization); w.Code != c.status {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, w.Code, w.Body, c.status)
		}
	}
	if e.refusal() != "" || len(e.notified) != 0 {
		t.Errorf("the agent hears %q, told %v", e.refusal(), e.notified)
	}
}

// E26: whoever was signed in as somebody who is suspended is not signed in again
// when that ends.
func TestSuspensionEndsSignIns(t *testing.T) {
	e := newEstate(t)
	var bob directory.User
	users := map[string]*directory.User{"alice": &e.alice, "bob": &bob}
	sessions := map[string]okta.Secret{}
	storetest.Write(t, e.db, func(tx store.Tx) (err error) {
		if bob, err = directory.UserByLogin(t.Context(), tx, "bob@example.com"); err != nil {
			return err
		}
		for name, u := range users {
			if sessions[name], err = session.Create(t.Context(), tx, session.Session{UserID: u.ID, AuthTime: time.Now()}, time.Now()); err != nil {
				return err
			}
			if _, err := sts.New(sts.Deps{DB: e.db, BaseURL: base}).IssueCode(t.Context(), tx, sts.Grant{
				ClientID: name, UserID: u.ID, RedirectURI: "http://localhost/x", CodeChallenge: strings.Repeat("A", 43), Scopes: []string{"openid"}, AuthTime: time.Now(),
			}); err != nil {
				return err
			}
		}
		return nil
	})
	signedIn := func(name string) (int, bool) {
		t.Helper()
		var grants int
		var found bool
		storetest.Read(t, e.db, func(tx store.Tx) error {
			_, err := session.Lookup(t.Context(), tx, sessions[name], time.Now())
			found = err == nil
			return tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM oauth_grants WHERE user_id = ? AND revoked_at IS NULL`, users[name].ID).Scan(&grants)
		})
		return grants, found
	}
	for _, step := range []string{"suspend", "unsuspend"} {
		if w := call(e, "POST", "/api/v1/users/"+e.alice.ID+"/lifecycle/"+step, token); w.Code != 200 {
			t.Fatalf("%s: %d %s", step, w.Code, w.Body)
		}
	}
	if grants, session := signedIn("alice"); grants != 0 || session {
		t.Errorf("after it: %d grants, session %v", grants, session)
	}
	if grants, session := signedIn("bob"); grants != 1 || !session {
		t.Errorf("somebody else: %d grants, session %v", grants, session)
	}
}
