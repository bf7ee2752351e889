package org_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"countersign.dev/org"
)

// The administrator finds the authenticator in the list that apps read too, and
// says when pushes ask for the number.
func TestNumberChallengeIsSet(t *testing.T) {
	s := open(t, org.Config{StateDir: filepath.Join(t.TempDir(), "state"), Demo: true})
	admin := []string{"Authorization", "SSWS " + s.AdminToken().Reveal()}
	w := call(s, "GET", "/api/v1/authenticators?key=okta_verify", nil, admin...)
	var list []struct{ ID string }
	if err := json.Unmarshal(w.Body.Bytes(), &list); w.Code != 200 || err != nil || len(list) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	path := "/api/v1/authenticators/" + list[0].ID
	body := map[string]any{"settings": map[string]any{"channelBinding": map[string]string{"style": "NUMBER_CHALLENGE", "required": "NEVER"}}}
	if w := call(s, "PUT", path, body, admin...); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var now struct {
		Settings struct{ ChannelBinding struct{ Required string } }
	}
	w = call(s, "GET", path, nil, admin...)
	if err := json.Unmarshal(w.Body.Bytes(), &now); err != nil || now.Settings.ChannelBinding.Required != "NEVER" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := call(s, "PUT", path, body); w.Code != 401 {
		t.Errorf("without the token: %d", w.Code)
	}
}
