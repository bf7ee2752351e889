package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// C8: a passphrase prints as nothing, whatever the verb, and crosses the socket.
func TestPassphraseRedacts(t *testing.T) {
	r := Rekey{Kind: "passphrase", Passphrase: "very secret", Current: "very secret"}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("rekey", "asked", r, "passphrase", r.Passphrase)
	out := fmt.Sprintf("%v %+v %#v %s %x %q %d", r, r, r, r.Passphrase, r.Passphrase, r.Passphrase, r.Passphrase) + log.String()
	if strings.Contains(out, "very") || strings.Contains(out, "76657279") || !strings.Contains(out, redacted) {
		t.Errorf("leaked: %s", out)
	}
	data, err := json.Marshal(r)
	var back Rekey
	if err != nil || json.Unmarshal(data, &back) != nil || back != r {
		t.Errorf("%s, %v", data, err)
	}
}
