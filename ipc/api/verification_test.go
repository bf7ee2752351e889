package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// C8: a PIN goes in as JSON and comes out of nothing but Reveal, wherever it is
// held.
func TestC8PINIsNeverWritten(t *testing.T) {
	const pin = "314159"
	var d Decision
	if err := json.Unmarshal([]byte(`{"action":"approve","pin":"`+pin+`"}`), &d); err != nil || d.PIN.Reveal() != pin {
		t.Fatalf("read %q, %v", d.PIN.Reveal(), err)
	}
	for name, holder := range map[string]any{
		"itself": d.PIN, "pointer": &d.PIN, "decision": d, "its pointer": &d, "setting": SetPIN{PIN: d.PIN, OldPIN: d.PIN},
		"removing": RemovePIN{PIN: d.PIN}, "enabling": EnableVerification{PIN: d.PIN}, "enabling by key": EnableVerification{KeyPIN: d.PIN}, "PIN by key": SetPIN{KeyPIN: d.PIN},
		"key": KeyPIN{d.PIN}, "PIN of a key": SetKeyPIN{PIN: d.PIN}, "old PIN of a key": SetKeyPIN{OldPIN: d.PIN}, "deleting": DeleteKeyCredential{PIN: d.PIN}, "finger": ChangeFingerprint{PIN: d.PIN}, "signing in": KeySignIn{PIN: d.PIN}, "list": []PIN{d.PIN}, "map": map[string]PIN{"pin": d.PIN},
	} {
		if b, err := json.Marshal(holder); err == nil || strings.Contains(string(b)+err.Error(), pin) {
			t.Errorf("%s: JSON %s, %v", name, b, err)
		}
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if got := fmt.Sprintf(format, holder); strings.Contains(got, pin) || strings.Contains(got, fmt.Sprint([]byte(pin))) {
				t.Errorf("%s by %s: %s", name, format, got)
			}
		}
		var text, object bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "it", holder)
		slog.New(slog.NewJSONHandler(&object, nil)).Info("x", "it", holder)
		if got := text.String() + object.String(); strings.Contains(got, pin) || strings.Contains(got, "MzE0MTU5") {
			t.Errorf("%s in the log: %s", name, got)
		}
	}
	if b, err := json.Marshal(Decision{Action: "deny"}); err != nil || strings.Contains(string(b), "pin") {
		t.Errorf("without a PIN: %s, %v", b, err)
	}
	for _, bad := range []string{`1234`, `["1"]`, `{}`, `true`, `"` + strings.Repeat("1", maxPIN+1) + `"`} {
		if err := json.Unmarshal([]byte(`{"pin":`+bad+`}`), &d); err == nil {
			t.Errorf("read %.20s as a PIN", bad)
		}
	}
}
