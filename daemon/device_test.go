package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/oktatest"
)

// What `countersign device` shows is what an org that asks for everything is
// told, and an org that asks for little is told little.
func TestDeviceAsTold(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	device, err := a.client.Device(t.Context())
	if err != nil || len(device.Signals) == 0 {
		t.Fatalf("%+v, %v", device, err)
	}
	var names []string
	shown := map[string]string{}
	for _, s := range device.Signals {
		names = append(names, s.Name)
		if s.Known != (s.Value != "") {
			t.Errorf("%+v", s)
		}
		if s.Known {
			shown[s.Name] = s.Value
		}
	}
	told := func(asked ...string) map[string]any {
		t.Helper()
		if got := a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) { c.Signals = asked })); got != 200 {
			t.Fatalf("status %d", got)
		}
		answers := org.Answers()
		token, err := jose.Parse(answers[len(answers)-1].ChallengeResponse, jose.Answer)
		if err != nil {
			t.Fatal(err)
		}
		var claims okta.Answer
		if err := token.Claims(&claims); err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(claims.DeviceSignals)
		var m map[string]any
		_ = json.Unmarshal(b, &m)
		if m["id"] == "" || m["clientInstanceId"] == "" {
			t.Errorf("%v", m)
		}
		delete(m, "id")
		delete(m, "clientInstanceId")
		return m
	}
	all := told(append(names, "shellHistory", "imei")...)
	if len(all) != len(shown) {
		t.Errorf("shown %v, told %v", shown, all)
	}
	for name, value := range shown {
		if fmt.Sprint(all[name]) != value {
			t.Errorf("%s: shown %q, told %v", name, value, all[name])
		}
	}
	if got := told("platform", "shellHistory"); len(got) != 1 || got["platform"] != shown["platform"] {
		t.Errorf("told %v", got)
	}
	if got := told(); len(got) != 0 {
		t.Errorf("told %v", got)
	}
	// A locked agent still shows it.
	_ = a.stop()
	if err := os.Rename(a.config.StateDir+"/vault.key", a.config.StateDir+"/away"); err != nil {
		t.Fatal(err)
	}
	if again, err := startAgent(t, a.config).client.Device(t.Context()); err != nil || len(again.Signals) != len(device.Signals) {
		t.Errorf("locked: %+v, %v", again, err)
	}
}
