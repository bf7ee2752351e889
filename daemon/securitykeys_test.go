package daemon

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/securitykey/securitykeytest"
	"countersign.dev/ipc/api"
)

const testKeyPIN = "2580"

// withKey is an agent at whose computer a security key is plugged in.
func withKey(t *testing.T) (*agent, *securitykeytest.Keys, *securitykeytest.Token) {
	t.Helper()
	keys, token := &securitykeytest.Keys{}, securitykeytest.New("YubiKey 5 NFC", testKeyPIN)
	keys.Plug(token)
	c := testConfig(t)
	c.securityKeys = keys
	return startAgent(t, c), keys, token
}

// keyEvents collects what is told of keys until one waits no more.
func keyEvents(t *testing.T, events <-chan api.Event) (states []string) {
	t.Helper()
	for e := range events {
		if e.Type != "security_key" {
			continue
		}
		if e.Key == nil || e.Key.Key == "" || e.Key.Product != "YubiKey 5 NFC" {
			t.Fatalf("%+v", e.Key)
		}
		states = append(states, e.Key.State)
		if e.Key.State == "done" {
			return states
		}
	}
	t.Fatalf("the events ended after %q", states)
	return nil
}

// recorded returns the records of an event, without the time.
func (a *agent) recorded(t *testing.T, prefix string) (list []string) {
	t.Helper()
	for _, r := range a.audit(t) {
		if strings.HasPrefix(r.Event, prefix) {
			list = append(list, r.Event+" "+r.Outcome+": "+r.Reason)
		}
	}
	return list
}

// The story of a key manager: look, set a PIN, see what is on it, delete, wipe.
func TestSecurityKeys(t *testing.T) {
	a, keys, token := withKey(t)
	token.PIN, token.Options = "", map[string]bool{"clientPin": false}
	token.Stored = []securitykey.Credential{{ID: []byte{1}, RPID: "id.example.com", RP: "Example", User: securitykey.User{Name: "alice", DisplayName: "Al\u202eice"}}}
	ctx := t.Context()
	list, err := a.client.SecurityKeys(ctx)
	if err != nil || len(list.Keys) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	k := list.Keys[0]
	if k.ID == "" || k.Product != "YubiKey 5 NFC" || k.Manufacturer != "Yubico" || k.Model != "YubiKey 5 Series" || k.Firmware != "5.4.3" || !slices.Equal(k.Protocols, []string{"U2F_V2", "FIDO_2_0"}) || len(k.Advisories) != 1 {
		t.Fatalf("%+v", k)
	}
	_, err = a.client.SetKeyPIN(ctx, k.ID, api.PIN("1234"), api.PIN("0000"))
	if r := refusalOf(t, err); r.Code != "key_pin_not_set" {
		t.Fatalf("%+v", r)
	}
	if got, err := a.client.SetKeyPIN(ctx, k.ID, api.PIN("1234"), nil); err != nil || !got.PINSet {
		t.Fatalf("%+v, %v", got, err)
	}
	_, err = a.client.SetKeyPIN(ctx, k.ID, api.PIN("1234"), nil)
	if r := refusalOf(t, err); r.Code != "key_pin_set" {
		t.Fatalf("%+v", r)
	}
	_, err = a.client.SetKeyPIN(ctx, k.ID, api.PIN(testKeyPIN), api.PIN("0000"))
	if r := refusalOf(t, err); r.Code != "wrong_key_pin" || r.TriesLeft != 7 || r.Message != "the PIN of the security key is wrong, 7 tries left" {
		t.Fatalf("%+v", r)
	}
	if _, err := a.client.SetKeyPIN(ctx, k.ID, api.PIN(testKeyPIN), api.PIN("1234")); err != nil {
		t.Fatal(err)
	}
	if got, err := a.client.SecurityKey(ctx, k.ID); err != nil || got.TriesLeft != 8 || !got.PINSet || got.Verifies {
		t.Fatalf("%+v, %v", got, err)
	}
	pin := api.PIN(testKeyPIN)
	_, err = a.client.KeyCredentials(ctx, k.ID, nil)
	if r := refusalOf(t, err); r.Code != "key_pin_needed" || r.TriesLeft != 8 {
		t.Fatalf("%+v", r)
	}
	stored, err := a.client.KeyCredentials(ctx, k.ID, pin)
	if err != nil || len(stored.Credentials) != 1 || stored.Left != 24 || stored.Credentials[0] != (api.KeyCredential{ID: "AQ", RPID: "id.example.com", RP: "Example", User: "alice", Display: "Alice"}) {
		t.Fatalf("%+v, %v", stored, err)
	}
	if left, err := a.client.DeleteKeyCredential(ctx, k.ID, api.DeleteKeyCredential{PIN: pin, ID: "AQ", Confirm: "id.example.com"}); err != nil || len(left.Credentials) != 0 || left.Left != 25 {
		t.Fatalf("%+v, %v", left, err)
	}
	events := a.subscribed(t)
	prints, err := a.client.ChangeFingerprint(ctx, k.ID, api.ChangeFingerprint{PIN: pin, Name: "thumb"})
	if err != nil || len(prints.Fingerprints) != 1 || prints.Fingerprints[0].Name != "thumb" {
		t.Fatalf("%+v, %v", prints, err)
	}
	if got := keyEvents(t, events); !slices.Equal(got, []string{"touch", "sample", "sample", "sample", "done"}) {
		t.Fatalf("%q", got)
	}
	if prints, err = a.client.ChangeFingerprint(ctx, k.ID, api.ChangeFingerprint{PIN: pin, Drop: prints.Fingerprints[0].ID}); err != nil || len(prints.Fingerprints) != 0 {
		t.Fatalf("%+v, %v", prints, err)
	}
	if err := a.client.ResetKey(ctx, k.ID, "YubiKey 5 NFC"); err != nil || token.PIN != "" {
		t.Fatal(err)
	}
	if got := keyEvents(t, events); !slices.Equal(got, []string{"touch", "done"}) {
		t.Fatalf("%q", got)
	}
	want := []string{
		"key_pin set: YubiKey 5 NFC",
		"key_pin wrong: YubiKey 5 NFC: wrong PIN of the security key: 7 tries left",
		"key_pin changed: YubiKey 5 NFC",
		"key_credential deleted: YubiKey 5 NFC, alice at id.example.com",
		"key_fingerprint added: YubiKey 5 NFC, thumb",
		"key_fingerprint removed: YubiKey 5 NFC, f1",
		"key_reset done: YubiKey 5 NFC",
	}
	if got := a.recorded(t, "key_"); !slices.Equal(got, want) {
		t.Fatalf("on record:\n%s", strings.Join(got, "\n"))
	}
	keys.Unplug()
	if list, err := a.client.SecurityKeys(ctx); err != nil || len(list.Keys) != 0 || list.Keys == nil {
		t.Fatalf("%+v, %v", list, err)
	}
}

// What the local API promises of a key, the agent says: nothing is left out.
func TestKeyIsToldWhole(t *testing.T) {
	v := reflect.ValueOf(front{d: &Daemon{}}.keyView(securitykey.Key{
		ID: "k1", Path: "/dev/hidraw3", VendorID: 0x1050, Product: "YubiKey 5 NFC", Manufacturer: "Yubico", AAGUID: "ee882879-721c-4913-9775-3dfcce97072a",
		Model: "YubiKey 5 Series", Firmware: "5.4.3", Protocols: []string{"FIDO_2_0"}, Extensions: []string{"credProtect"}, Options: map[string]bool{"clientPin": true},
		TriesLeft: 8, PluggedInAt: time.Now(), Problem: securitykey.ErrInUse,
	}))
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Verifies" && name != "BySystem" { // which TestApprovalBySecurityKey and TestKeyOfWindows look at
			t.Errorf("%s is never told", name)
		}
	}
}

// Keys cost nothing while nobody asks for them.
func TestNobodyAsksForKeys(t *testing.T) {
	a, keys, _ := withKey(t)
	for range 3 {
		if _, err := a.client.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.client.Verification(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.client.Prompts(t.Context(), "cli"); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys.Asked(); len(got) != 0 {
		t.Fatalf("asked: %q", got)
	}
}

// F2: what deletes or wipes takes the name of what the person was shown, as the key
// says it, and is done to that very key: one that was swapped in between, before
// or during the request, keeps what it has.
func TestF2DestroyedIsWhatWasNamed(t *testing.T) {
	credential := base64.RawURLEncoding.EncodeToString([]byte{7})
	reset := func(confirm string) func(a *agent, id string) error {
		return func(a *agent, id string) error { return a.client.ResetKey(t.Context(), id, confirm) }
	}
	remove := func(confirm, id, pin string) func(a *agent, id string) error {
		return func(a *agent, key string) error {
			_, err := a.client.DeleteKeyCredential(t.Context(), key, api.DeleteKeyCredential{PIN: api.PIN(pin), ID: id, Confirm: confirm})
			return err
		}
	}
	for _, row := range []struct {
		name string
		swap string // before this operation; "-" before the request
		do   func(a *agent, id string) error
		code string
	}{
		{"reset by no name", "", reset(""), "not_confirmed"},
		{"reset by a yes", "", reset("yes"), "not_confirmed"},
		{"reset by another name", "", reset("YubiKey 5"), "not_confirmed"},
		{"reset by the right name in other letters", "", reset("yubikey 5 nfc"), "not_confirmed"},
		{"reset of a key that was swapped", "-", reset("YubiKey 5 NFC"), "other_key"},
		{"reset of a key that was swapped at the last moment", "reset", reset("YubiKey 5 NFC"), "other_key"},
		{"deletion by another site's name", "", remove("example.com", credential, testKeyPIN), "not_confirmed"},
		{"deletion of another credential", "", remove("id.example.com", "AQ", testKeyPIN), "credential_unknown"},
		{"deletion without the PIN", "", remove("id.example.com", credential, ""), "key_pin_needed"},
		{"deletion by a wrong PIN", "", remove("id.example.com", credential, "0000"), "wrong_key_pin"},
		{"deletion on a key that was swapped", "-", remove("id.example.com", credential, testKeyPIN), "other_key"},
		{"deletion on a key that was swapped at the last moment", "delete_credential", remove("id.example.com", credential, testKeyPIN), "other_key"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, keys, token := withKey(t)
			twin := securitykeytest.New(token.Product, testKeyPIN)
			both := []*securitykeytest.Token{token, twin}
			for _, k := range both {
				k.Stored = []securitykey.Credential{{ID: []byte{7}, RPID: "id.example.com", User: securitykey.User{Name: "alice"}}}
			}
			swap := func() { keys.Unplug(); keys.Plug(twin) }
			list, err := a.client.SecurityKeys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if row.swap == "-" {
				swap()
			}
			keys.Slip = func(operation string) {
				if operation == row.swap {
					swap()
				}
			}
			if r := refusalOf(t, row.do(a, list.Keys[0].ID)); r.Code != row.code || r.Hint == "" && row.code != "wrong_key_pin" && r.Status != http.StatusBadRequest {
				t.Fatalf("%+v", r)
			}
			for i, k := range both {
				if k.PIN != testKeyPIN || len(k.Stored) != 1 {
					t.Errorf("key %d lost something: %+v", i, k.Stored)
				}
			}
		})
	}
}

// F3: while a key waits for its owner, the agent answers as ever; who gives up ends
// the wait, and the next call works.
func TestF3NobodyWaitsForAKey(t *testing.T) {
	a, keys, token := withKey(t)
	waiting := make(chan struct{})
	token.Touch = func(ctx context.Context) error {
		close(waiting)
		<-ctx.Done()
		return securitykey.ErrCancelled
	}
	events := a.subscribed(t)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	ended := make(chan error, 1)
	go func() { ended <- a.client.ResetKey(ctx, token.ID, token.Product) }()
	<-waiting
	var slowest time.Duration
	for range 200 {
		began := time.Now()
		if _, err := a.client.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	if slowest > 2*time.Second {
		t.Errorf("a call took %s", slowest)
	}
	select {
	case err := <-ended:
		t.Fatalf("the key did not wait: %v", err)
	default:
	}
	giveUp()
	if err := <-ended; err == nil {
		t.Fatal("reset")
	}
	if got := keyEvents(t, events); !slices.Equal(got, []string{"touch", "done"}) {
		t.Fatalf("%q", got)
	}
	keys.Do(func() { token.Touch = nil })
	if token.PIN != testKeyPIN {
		t.Fatal("reset")
	}
	if err := a.client.ResetKey(t.Context(), token.ID, token.Product); err != nil {
		t.Fatal(err)
	}
}

// F3: whatever becomes of a key is one sentence with a name for programs, and
// where there is something to do, what.
func TestF3KeyErrorsHaveNames(t *testing.T) {
	a, keys, token := withKey(t)
	for _, row := range []struct {
		fault  error
		status int
		code   string
		says   string
	}{
		{securitykey.ErrNoKey, 409, "no_key", "no security key is plugged in"},
		{securitykey.ErrRemoved, 409, "key_removed", "pulled out"},
		{securitykey.ErrOtherKey, 409, "other_key", "nothing was done"},
		{&securitykey.PINError{Left: 3}, 403, "wrong_key_pin", "3 tries left"},
		{&securitykey.PINError{Left: 1}, 403, "wrong_key_pin", "1 try left before it is blocked for good"},
		{&securitykey.PINError{Blocked: true}, 423, "key_pin_blocked", "blocked"},
		{&securitykey.PINError{Pause: true}, 423, "key_pin_pause", "three wrong PINs"},
		{&securitykey.PINNeededError{Left: 8}, 403, "key_pin_needed", "takes the PIN"},
		{securitykey.ErrPINNotSet, 409, "key_pin_not_set", "has no PIN"},
		{securitykey.ErrPINRefused, 400, "bad_key_pin", "does not take this PIN"},
		{securitykey.ErrNotAllowed, 409, "key_not_allowed", "does not allow"},
		{securitykey.ErrFull, 409, "key_full", "no room"},
		{securitykey.ErrTimedOut, 409, "key_timed_out", "not touched in time"},
		{securitykey.ErrUnsupported, 409, "key_unsupported", "cannot do this"},
		{securitykey.ErrBySystem, 409, "key_unsupported", "only Windows itself"},
		{securitykey.ErrInUse, 409, "key_in_use", "another program"},
		{securitykey.ErrNoPermission, 403, "key_no_permission", "may not use"},
		{securitykey.ErrNotBuilt, 501, "key_not_built", "no support for security keys"},
		{securitykey.ErrOldSystem, 501, "key_not_built", "this version of Windows"},
		{&securitykey.HelperError{Path: "/opt/countersign-sk", Why: "belongs to another user (uid 7)"}, 503, "key_helper_unusable", "/opt/countersign-sk belongs to another user (uid 7)"},
		{&securitykey.HelperError{Path: "/opt/countersign-sk", Why: "speaks version 0 of the protocol"}, 503, "key_helper_unusable", "speaks version 0"},
		{securitykey.ErrBadKey, 502, "key_misbehaves", "what it must not"},
	} {
		keys.Fail = func(operation string) error {
			if operation == "credentials" {
				return row.fault
			}
			return nil
		}
		_, err := a.client.KeyCredentials(t.Context(), token.ID, api.PIN(testKeyPIN))
		r := refusalOf(t, err)
		if r.Code != row.code || r.Status != row.status || !strings.Contains(r.Message, row.says) || r.Hint == "" && row.code != "wrong_key_pin" {
			t.Errorf("%v: %d %+v", row.fault, r.Status, r)
		}
		keys.Fail = nil
		if _, err := a.client.KeyCredentials(t.Context(), token.ID, api.PIN(testKeyPIN)); err != nil {
			t.Fatalf("after %v: %v", row.fault, err)
		}
	}
}

// B9: no word of a key draws on a terminal, whoever puts it there.
func TestB9WordsOfAKey(t *testing.T) {
	a, keys, token := withKey(t)
	const draws = "\x1b[2J\u009b2J\u202e"
	keys.Do(func() {
		token.Product, token.Manufacturer, token.Firmware, token.AAGUID = "Key"+draws, "Maker"+draws, "5.7.1"+draws, token.AAGUID+draws
		token.Protocols, token.Extensions = []string{"FIDO_2_0" + draws}, []string{"hmac-secret" + draws}
		token.Options["up"+draws] = true
		token.Stored = []securitykey.Credential{{ID: []byte{1}, RPID: "example.com" + draws, RP: "Site" + draws, User: securitykey.User{ID: []byte{1}, Name: "alice" + draws, DisplayName: "Alice" + draws}}}
		token.Fingers = []securitykey.Fingerprint{{ID: "01" + draws, Name: "thumb" + draws}}
	})
	for name, ask := range map[string]func() (any, error){
		"list":         func() (any, error) { return a.client.SecurityKeys(t.Context()) },
		"info":         func() (any, error) { return a.client.SecurityKey(t.Context(), token.ID) },
		"credentials":  func() (any, error) { return a.client.KeyCredentials(t.Context(), token.ID, api.PIN(testKeyPIN)) },
		"fingerprints": func() (any, error) { return a.client.KeyFingerprints(t.Context(), token.ID, api.PIN(testKeyPIN)) },
		"doctor":       func() (any, error) { return a.client.Doctor(t.Context(), "") },
	} {
		said, err := ask()
		if err != nil {
			t.Fatal(name, err)
		}
		if text := fmt.Sprintf("%+v", said); strings.ContainsAny(text, "\x1b\u009b\u202e") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// What Windows reaches verifies the person without a PIN of the agent's, and
// nothing else is done to it, nor asked of it.
func TestKeyOfWindows(t *testing.T) {
	a, keys, token := withKey(t)
	token.Key = securitykey.Key{ID: token.ID, Path: "windows:webauthn", Product: "key that Windows asks for"}
	token.PIN, token.Finger = "", true
	ctx := t.Context()
	list, err := a.client.SecurityKeys(ctx)
	if err != nil || len(list.Keys) != 1 || !list.Keys[0].BySystem || list.Keys[0].PINSet || len(list.Keys[0].Protocols) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	for name, do := range map[string]func() error{
		"pin": func() error { _, err := a.client.SetKeyPIN(ctx, token.ID, api.PIN("1234"), nil); return err },
		"pin change": func() error {
			_, err := a.client.SetKeyPIN(ctx, token.ID, api.PIN("1234"), api.PIN("0000"))
			return err
		},
		"reset": func() error { return a.client.ResetKey(ctx, token.ID, token.Product) },
		"fingerprint": func() error {
			_, err := a.client.ChangeFingerprint(ctx, token.ID, api.ChangeFingerprint{Name: "thumb"})
			return err
		},
	} {
		if r := refusalOf(t, do()); r.Code != "key_unsupported" || !strings.Contains(r.Message, "only Windows itself") || !strings.Contains(r.Hint, "Sign-in options") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if got := a.recorded(t, "key_"); len(got) > 0 {
		t.Errorf("on record: %q", got)
	}
	for _, op := range keys.Asked() {
		if op != "list" && op != "info" {
			t.Errorf("asked for %s", op)
		}
	}
	if _, err := a.client.SwitchVerification(ctx, "security_key", api.EnableVerification{Enabled: true}); err != nil {
		t.Fatal(err)
	}
}

func TestDoctorOnSecurityKeys(t *testing.T) {
	a, keys, token := withKey(t)
	look := func() (list []api.Check) {
		report, err := a.client.Doctor(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range report.Checks {
			if c.Name == "security key" {
				list = append(list, c)
			}
		}
		return list
	}
	for _, row := range []struct {
		name, state, says, hint string
		set                     func()
	}{
		{"advisory", "warning", "EUCLEAK", "info", func() {}},
		{"well", "ok", "answers", "", func() { token.Firmware = "5.7.1" }},
		{"no permission", "warning", "/dev/hidraw7", "udev rule", func() { token.Problem = securitykey.ErrNoPermission }},
		{"in use", "warning", "another program", "browser", func() { token.Problem = securitykey.ErrInUse }},
		{"hangs", "warning", "did not answer", "try again", func() { token.Problem = securitykey.ErrTimedOut }},
		{"other trouble", "warning", "broken", "", func() { token.Problem = errors.New("broken") }},
		{"U2F only", "ok", "U2F only", "", func() { token.Problem, token.AAGUID, token.Protocols = nil, "", []string{"U2F_V2"} }},
		{"of Windows", "ok", "Windows talks to them", "", func() { token.Path, token.Protocols = "windows:webauthn", nil }},
		{"none", "ok", "none ", "", keys.Unplug},
		{"not built", "ok", "no support", "", func() { keys.Fail = func(string) error { return securitykey.ErrNotBuilt } }},
		{"no helper", "ok", "cannot be used here", "", func() {
			keys.Fail = func(string) error { return &securitykey.HelperError{Path: "/x", Why: "is missing"} }
		}},
		{"foreign helper", "warning", "uid 7", "one package", func() {
			keys.Fail = func(string) error {
				return &securitykey.HelperError{Path: "/x", Why: "belongs to another user (uid 7)"}
			}
		}},
	} {
		row.set()
		got := look()
		if len(got) != 1 || got[0].State != row.state || !strings.Contains(got[0].Message, row.says) || !strings.Contains(got[0].Hint, row.hint) {
			t.Errorf("%s: %+v", row.name, got)
		}
	}
	// What the sandbox lacks matters to those who plug a key in.
	keys.Fail = nil
	keys.Do(func() { keys.Sandbox = "no landlock" })
	if got := look(); len(got) != 1 || got[0].State != "ok" {
		t.Errorf("no key, and no landlock: %+v", got)
	}
	keys.Plug(token)
	if got := look(); len(got) != 2 || got[0].State != "warning" || !strings.Contains(got[0].Message, "no landlock") {
		t.Errorf("a key, and no landlock: %+v", got)
	}
	keys.Do(func() { keys.Sandbox = "" })
	keys.Unplug()
	// Where one verifies the person, it matters.
	keys.Fail = nil
	keys.Plug(securitykeytest.New("YubiKey", testKeyPIN))
	if _, err := a.client.SwitchVerification(t.Context(), "security_key", api.EnableVerification{Enabled: true, KeyPIN: api.PIN(testKeyPIN)}); err != nil {
		t.Fatal(err)
	}
	keys.Fail = func(string) error { return securitykey.ErrNotBuilt }
	if got := look(); len(got) != 1 || got[0].State != "failed" {
		t.Errorf("in use: %+v", got)
	}
}
