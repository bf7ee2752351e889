package e2e

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"countersign.dev/e2e/harness"
	"countersign.dev/e2e/softkey"
	"countersign.dev/ipc/api"
)

// keyed is an agent whose computer has a security key plugged in, as a person has
// it who has just bought both.
func keyed(t *testing.T, o softkey.Options) (*harness.Stage, *harness.Agent, *softkey.Key, *softkey.Port) {
	t.Helper()
	helper, err := harness.BuildKeyHelper(deadline(t), t.TempDir())
	must(t, err)
	key := softkey.New(o)
	port, err := key.Plug()
	must(t, err)
	t.Cleanup(port.Unplug)
	stage := newStage(t, harness.StageOptions{KeyHelper: helper, AgentArgs: []string{"--security-key-device", port.Path}})
	return stage, newAgent(t, stage, nil), key, port
}

// says runs a command that must work, with secrets on its standard input, and
// reads what it says.
func says(t *testing.T, agent *harness.Agent, in string, into any, args ...string) {
	t.Helper()
	out, err := agent.Tell(deadline(t), in, append(args, "--json")...)
	must(t, err)
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// A new key from its PIN to a sign-in that it verifies: seen, given a PIN, enabled,
// an account enrolled whose keys it unlocks, approved by it at an app that demands
// verification, and wiped.
func TestSecurityKeyVerifies(t *testing.T) {
	t.Parallel()
	stage, agent, _, port := keyed(t, softkey.Options{})
	ctx := deadline(t)
	var list api.SecurityKeyList
	says(t, agent, "", &list, "securitykey", "list")
	if len(list.Keys) != 1 || list.Keys[0].Path != port.Path || !slices.Contains(list.Keys[0].Protocols, "FIDO_2_1") || list.Keys[0].AAGUID == "" || list.Keys[0].Problem != nil {
		t.Fatalf("%+v", list)
	}
	var k api.SecurityKey
	says(t, agent, "2580\n", &k, "securitykey", "pin", "set", "--pin-stdin")
	if !k.PINSet {
		t.Fatalf("%+v", k)
	}
	_, err := agent.Tell(ctx, "0000\n", "securitykey", "credential", "list", "--pin-stdin")
	if err == nil || !strings.Contains(err.Error(), "the PIN of the security key is wrong, 7 tries left") {
		t.Fatalf("a wrong PIN: %v", err)
	}
	says(t, agent, "", &k, "securitykey", "info")
	if k.TriesLeft != 7 || k.Verifies {
		t.Fatalf("%+v", k)
	}
	var ways api.VerificationList
	says(t, agent, "2580\n", &ways, "verification", "enable", "security_key", "--pin-stdin")
	if !slices.ContainsFunc(ways.Verification, func(v api.Verification) bool { return v.Method == "security_key" && v.State == "ready" }) {
		t.Fatalf("%+v", ways)
	}
	says(t, agent, "", &k, "securitykey", "info")
	if k.TriesLeft != 8 || !k.Verifies {
		t.Fatalf("%+v", k)
	}
	link, err := stage.Org.EnrolmentLink(ctx, harness.Alice)
	must(t, err)
	_, err = agent.Tell(ctx, link+"\n2580\n", "account", "add", "-", "--by", "security_key", "--pin-stdin")
	must(t, err)
	if all := accounts(t, agent); len(all) != 1 || !slices.Contains(all[0].Verification, "userVerificationBioOrPin") {
		t.Fatalf("%+v", all)
	}
	must(t, agent.Stop())
	must(t, agent.Restart(ctx)) // what verifies is in the vault

	v := doors[0].knock(t, stage.Org, newSite(t, stage.Org), "demo-uv")
	decision := agent.Verify(ctx, "2580", "--by", "security_key")
	v.toChoice(t, ctx, harness.Alice)
	who, err := v.finish(ctx)
	mustBe(t, harness.Alice, who, err, "phr", "swk")
	outcome, err := decision.Outcome(ctx)
	must(t, err)
	if outcome.Outcome != "approved" {
		t.Fatalf("%+v", outcome)
	}
	records, err := agent.Audit(ctx)
	must(t, err)
	if r := records[len(records)-1]; r.Outcome != "approved" || r.KeyType != "userVerificationBioOrPin" {
		t.Fatalf("%+v", r)
	}
	var stored api.KeyCredentialList
	says(t, agent, "2580\n", &stored, "securitykey", "credential", "list", "--pin-stdin")
	if len(stored.Credentials) != 0 {
		t.Fatalf("it takes room on the key: %+v", stored)
	}
}

// F3: a key that is pulled out while it waits is one clear sentence, at once; the
// agent goes on, and so does the key when it is plugged in again.
func TestF3PulledOutUnderWay(t *testing.T) {
	t.Parallel()
	finger := softkey.NewFinger()
	_, agent, key, port := keyed(t, softkey.Options{PIN: "2580", Touch: finger.Touch})
	ctx := deadline(t)
	// As long as it is open, no key of another test comes to lie in this place.
	place, err := os.OpenFile(port.Path, os.O_RDWR|syscall.O_NOCTTY, 0)
	must(t, err)
	defer place.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := agent.Tell(ctx, "2580\n", "verification", "enable", "security_key", "--pin-stdin")
		ended <- err
	}()
	_, err = finger.Wanted(ctx)
	must(t, err)
	if _, err := agent.Status(ctx); err != nil {
		t.Fatal(err)
	}
	port.Unplug()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "countersign: enable the security key: the security key was pulled out\n") {
		t.Fatalf("%v", err)
	}
	_, err = agent.Run(ctx, "securitykey", "info")
	if err == nil || !strings.Contains(err.Error(), "no security key is plugged in") {
		t.Fatalf("%v", err)
	}
	again, err := key.Plug()
	must(t, err)
	defer again.Unplug()
	must(t, agent.Stop())
	agent.More("--security-key-device", again.Path) // another place
	must(t, agent.Restart(ctx))
	var list api.SecurityKeyList
	says(t, agent, "", &list, "securitykey", "list")
	if len(list.Keys) != 1 || list.Keys[0].Path != again.Path {
		t.Fatalf("%+v", list)
	}
	var stored api.KeyCredentialList
	says(t, agent, "2580\n", &stored, "securitykey", "credential", "list", "--pin-stdin")
}
