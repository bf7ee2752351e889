package e2e

import (
	"strings"
	"testing"

	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
	"countersign.dev/e2e/harness"
)

const pin = "471108"

// newTPM is a TPM that allows as many wrong PINs as real ones do.
func newTPM(t *testing.T) *tpmtest.TPM {
	t.Helper()
	chip := tpmtest.New(t)
	must(t, chip.SetLockout(32, 600, 86400))
	return chip
}

// newVerifier is an org, and an agent that keeps its keys in a TPM of its own,
// on which alice has set a PIN before she was enrolled.
func newVerifier(t *testing.T) (*harness.Stage, *harness.Agent, *harness.Site, *tpmtest.TPM) {
	t.Helper()
	chip := newTPM(t)
	stage := newStage(t, harness.StageOptions{AgentArgs: []string{"--device-key", "tpm", "--tpm", chip.Socket}})
	agent := newAgent(t, stage, nil)
	setPIN(t, agent)
	enrolWithPIN(t, stage, agent, harness.Alice)
	return stage, agent, newSite(t, stage.Org), chip
}

func setPIN(t *testing.T, agent *harness.Agent) {
	t.Helper()
	_, err := agent.Tell(deadline(t), pin+"\n", "pin", "set", "--stdin")
	must(t, err)
}

func enrolWithPIN(t *testing.T, stage *harness.Stage, agent *harness.Agent, user string) {
	t.Helper()
	ctx := deadline(t)
	link, err := stage.Org.EnrolmentLink(ctx, user)
	must(t, err)
	_, err = agent.Tell(ctx, link+"\n"+pin+"\n", "account", "add", "-", "--pin-stdin")
	must(t, err)
}

// The org wants to know that the user is there: the agent asks for the PIN, and
// the key that it unlocks is in the TPM.
func TestVerifiedByPIN(t *testing.T) {
	t.Parallel()
	stage, agent, site, _ := newVerifier(t)
	if list := accounts(t, agent); len(list) != 1 || list[0].Protection != "hardware" {
		t.Fatalf("accounts: %+v", list)
	}
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-uv")
			decision := agent.Verify(ctx, pin)
			v.toChoice(t, ctx, harness.Alice)
			who, err := v.finish(ctx)
			mustBe(t, harness.Alice, who, err, "phr", "swk")
			outcome, err := decision.Outcome(ctx)
			must(t, err)
			if outcome.Outcome != "approved" {
				t.Errorf("the terminal says %+v, want approved", outcome)
			}
		})
	}
	records, err := agent.Audit(deadline(t))
	must(t, err)
	verified := 0
	for _, r := range records {
		if r.Outcome == "approved" && r.KeyType == "userVerificationBioOrPin" {
			verified++
		}
	}
	if verified != len(doors) {
		t.Errorf("%d answers by the key that the PIN unlocks, want %d", verified, len(doors))
	}
}

// The same by a push: the number that the page shows, and the PIN.
func TestPushVerifiedByPIN(t *testing.T) {
	t.Parallel()
	stage, agent, site, _ := newVerifier(t)
	must(t, stage.Org.NumberChallenge(deadline(t), "ALWAYS"))
	for _, d := range []door{doors[0], doors[4]} {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-uv")
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.ChoosePush(ctx))
			number, err := v.page.Number(ctx)
			must(t, err)
			p := onlyPrompt(t, ctx, agent)
			if p.UserVerification != "required" {
				t.Fatalf("asked %+v", p)
			}
			// The number alone approves nothing, nor does a wrong PIN; the question stays.
			if _, err := agent.Run(ctx, "prompt", "approve", p.ID, "--number", number); err == nil {
				t.Fatal("approved without the PIN")
			}
			if _, err := agent.Tell(ctx, "000011\n", "prompt", "approve", p.ID, "--number", number, "--pin-stdin"); err == nil || !strings.Contains(err.Error(), "left") {
				t.Fatalf("a wrong PIN: %v", err)
			}
			_, err = agent.Tell(ctx, pin+"\n", "prompt", "approve", p.ID, "--number", number, "--pin-stdin")
			must(t, err)
			who, err := v.byEnd(ctx)
			mustBe(t, harness.Alice, who, err, "swk")
		})
	}
}

// An account without a key that verifies: the agent says so to the org, the page
// says so to the person, and nobody is signed in.
func TestNothingToVerifyWith(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-uv")
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			must(t, v.page.WaitForText(ctx, "that you have not set up"))
			v.mustNotBeSignedIn(t)
		})
	}
	if list, err := agent.Prompts(deadline(t)); err != nil || len(list) != 0 {
		t.Errorf("asked %+v, %v", list, err)
	}
}

// Wrong PINs are counted until there is a pause, and the sign-in waits for none
// of them. The TPM is not locked for others by it.
func TestWrongPINs(t *testing.T) {
	t.Parallel()
	stage, agent, site, _ := newVerifier(t)
	ctx := deadline(t)
	v := doors[4].knock(t, stage.Org, site, "demo-uv")
	v.toChoice(t, ctx, harness.Alice)
	must(t, v.page.VerifyWithDevice(ctx, "the hand-over of the challenge", harness.WaitsForDevice))
	prompts, err := agent.WaitForPrompt(ctx)
	must(t, err)
	var said []string
	locked := false
	for range 6 {
		_, err := agent.Tell(ctx, "000011\n", "prompt", "approve", prompts[0].ID, "--pin-stdin")
		if err == nil {
			t.Fatal("a wrong PIN approved")
		}
		said = append(said, err.Error())
		if locked = strings.Contains(err.Error(), "locked until"); locked {
			break
		}
	}
	if !locked {
		t.Fatalf("never locked:\n%s", strings.Join(said, "\n"))
	}
	// While it is locked, the right one is not looked at.
	if _, err := agent.Tell(ctx, pin+"\n", "prompt", "approve", prompts[0].ID, "--pin-stdin"); err == nil || !strings.Contains(err.Error(), "locked until") {
		t.Errorf("the right PIN while locked: %v", err)
	}
	s, err := agent.Status(ctx)
	must(t, err)
	if len(s.Verification) == 0 || s.Verification[0].State != "lockout" || s.Verification[0].Until.IsZero() {
		t.Errorf("status says %+v", s.Verification)
	}
	v.mustNotBeSignedIn(t)
}

// The TPM goes away while the agent runs: its accounts wait, the others go on,
// and one sentence says so. It comes back, and all is well.
func TestTPMGoesAway(t *testing.T) {
	t.Parallel()
	chip := newTPM(t)
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Bob) // keys in software
	must(t, agent.Stop())
	agent.More("--device-key", "tpm", "--tpm", chip.Socket)
	must(t, agent.Restart(deadline(t)))
	must(t, stage.Enrol(deadline(t), agent, harness.Alice))
	site := newSite(t, stage.Org)
	signIn := func(user string) (harness.Identity, error) {
		ctx := deadline(t)
		v := doors[4].knock(t, stage.Org, site, "demo-web")
		v.toChoice(t, ctx, user)
		return v.finish(ctx)
	}
	who, err := signIn(harness.Alice)
	mustBe(t, harness.Alice, who, err, "phr", "swk")

	chip.Kill()
	ctx := deadline(t)
	v := doors[4].knock(t, stage.Org, site, "demo-web")
	v.toChoice(t, ctx, harness.Alice)
	must(t, v.page.VerifyWithDevice(ctx, "the word that the device could not answer", v.saying("could not answer", "could not answer")))
	v.mustNotBeSignedIn(t)
	must(t, agent.Problem(ctx, "tpm_absent"))
	out, err := agent.Run(ctx, "doctor")
	if !strings.Contains(string(out), "TPM") {
		t.Errorf("doctor says, %v:\n%s", err, out)
	}
	who, err = signIn(harness.Bob)
	mustBe(t, harness.Bob, who, err, "phr", "swk")

	// A restart without it is no other matter.
	must(t, agent.Stop())
	must(t, agent.Restart(deadline(t)))
	who, err = signIn(harness.Bob)
	mustBe(t, harness.Bob, who, err, "phr", "swk")

	must(t, chip.Start())
	who, err = signIn(harness.Alice)
	mustBe(t, harness.Alice, who, err, "phr", "swk")
}

// C10: the TPM is cleared. The account is not lost by that; it says that its keys
// are, and enrolling again leads back.
func TestC10ClearedAndEnrolledAgain(t *testing.T) {
	t.Parallel()
	stage, agent, site, chip := newVerifier(t)
	must(t, chip.Clear())
	ctx := deadline(t)
	v := doors[4].knock(t, stage.Org, site, "demo-web")
	v.toChoice(t, ctx, harness.Alice)
	must(t, v.page.VerifyWithDevice(ctx, "the word that the device could not answer", v.saying("could not answer", "could not answer")))
	must(t, agent.Problem(ctx, "keys_cleared"))
	before := accounts(t, agent)
	if len(before) != 1 {
		t.Fatalf("accounts: %+v", before)
	}
	// The PIN went with its key.
	setPIN(t, agent)
	enrolWithPIN(t, stage, agent, harness.Alice)
	after := accounts(t, agent)
	if len(after) != 1 || after[0].ID == before[0].ID || after[0].State != "active" {
		t.Fatalf("accounts: %+v, before %+v", after, before)
	}
	v = doors[4].knock(t, stage.Org, site, "demo-uv")
	decision := agent.Verify(ctx, pin)
	v.toChoice(t, ctx, harness.Alice)
	who, err := v.finish(ctx)
	mustBe(t, harness.Alice, who, err, "phr", "swk")
	_, err = decision.Outcome(ctx)
	must(t, err)
}

// An account that was enrolled in software, without a PIN, gets both: the keys
// move into the TPM, by a sign-in at the org. Her other device is told.
func TestKeysMoveIntoTheTPM(t *testing.T) {
	t.Parallel()
	chip := newTPM(t)
	stage := newStage(t, harness.StageOptions{})
	other := newAgent(t, stage, stage.Ports[:1], harness.Alice)
	agent := newAgent(t, stage, stage.Ports[1:], harness.Alice)
	must(t, other.Stop())
	must(t, agent.Stop())
	agent.More("--device-key", "tpm", "--tpm", chip.Socket)
	must(t, agent.Restart(deadline(t)))
	setPIN(t, agent)
	id := accounts(t, agent)[0].ID

	ctx := deadline(t)
	page := newPage(t)
	change := signInFor(t, ctx, agent, pin+"\n", "key", "migrate", id, "--no-browser", "--pin-stdin")
	must(t, page.Open(ctx, change.url))
	must(t, page.GoOn(ctx, harness.Alice, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the way back to the agent", "location.href.startsWith('http://127.0.0.1:')"))
	if said := change.end(t, ctx); !strings.Contains(said, "in hardware") {
		t.Errorf("it said:\n%s", said)
	}
	if list := accounts(t, agent); len(list) != 1 || list[0].Protection != "hardware" || list[0].ID != id {
		t.Fatalf("accounts: %+v", list)
	}
	site := newSite(t, stage.Org)
	v := doors[0].knock(t, stage.Org, site, "demo-uv")
	decision := agent.Verify(ctx, pin)
	v.toChoice(t, ctx, harness.Alice)
	who, err := v.finish(ctx)
	mustBe(t, harness.Alice, who, err, "phr", "swk")
	_, err = decision.Outcome(ctx)
	must(t, err)

	must(t, other.Restart(ctx))
	must(t, other.Problem(ctx, "keys_changed_elsewhere"))
}

// A PIN that was forgotten goes with its keys; the account stays, and gets new
// ones by a sign-in at the org.
func TestForgottenPIN(t *testing.T) {
	t.Parallel()
	stage, agent, site, _ := newVerifier(t)
	ctx := deadline(t)
	_, err := agent.Run(ctx, "pin", "reset", "--yes")
	must(t, err)
	const next = "230571"
	_, err = agent.Tell(ctx, next+"\n", "pin", "set", "--stdin")
	must(t, err)
	id := accounts(t, agent)[0].ID
	page := newPage(t)
	change := signInFor(t, ctx, agent, next+"\n", "key", "verify", id, "--no-browser", "--pin-stdin")
	must(t, page.Open(ctx, change.url))
	must(t, page.GoOn(ctx, harness.Alice, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the way back to the agent", "location.href.startsWith('http://127.0.0.1:')"))
	change.end(t, ctx)
	v := doors[4].knock(t, stage.Org, site, "demo-uv")
	decision := agent.Verify(ctx, next)
	v.toChoice(t, ctx, harness.Alice)
	who, err := v.finish(ctx)
	mustBe(t, harness.Alice, who, err, "phr", "swk")
	_, err = decision.Outcome(ctx)
	must(t, err)
}
