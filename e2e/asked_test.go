package e2e

import (
	"testing"

	"countersign.dev/e2e/harness"
)

// An app that wants to see the person's own decision: the agent asks, and the
// person approves in a terminal.
func TestAskedAndApproved(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			decision := agent.Decide(ctx, "approve")
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			who, err := v.finish(ctx)
			mustBeAlice(t, who, err)
			outcome, err := decision.Outcome(ctx)
			must(t, err)
			if outcome.Outcome != "approved" {
				t.Errorf("the terminal says %+v, want approved", outcome)
			}
		})
	}
}

// The person says no: nobody is signed in, the page says so, and it can be
// tried again.
func TestAskedAndDenied(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			decision := agent.Decide(ctx, "deny")
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			must(t, v.page.VerifyWithDevice(ctx, "the word that it was denied", v.saying("reject this login", "denied on your device")))
			outcome, err := decision.Outcome(ctx)
			must(t, err)
			if outcome.Outcome != "denied" {
				t.Errorf("the terminal says %+v, want denied", outcome)
			}
			v.mustNotBeSignedIn(t)

			// The way on stands beside it: ask once more, and approve this time.
			decision = agent.Decide(ctx, "approve")
			who, err := v.again(ctx)
			mustBeAlice(t, who, err)
			_, err = decision.Outcome(ctx)
			must(t, err)
		})
	}
}

// As long as the person says nothing, nobody is signed in; and what they are
// asked names the app, the account and the page it comes from.
func TestPromptNamesAppOrgAccountAndOrigin(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	ctx := deadline(t)
	v := doors[0].knock(t, stage.Org, site, "demo-strict")
	must(t, v.page.Identify(ctx, harness.Alice))
	must(t, v.page.EnterPassword(ctx, harness.Password))
	must(t, v.page.VerifyWithDevice(ctx, "the hand-over of the challenge", harness.WaitsForDevice))
	prompts, err := agent.WaitForPrompt(ctx)
	must(t, err)
	if len(prompts) != 1 {
		t.Fatalf("pending prompts: %+v, want one", prompts)
	}
	p := prompts[0]
	if p.App == "" || p.User != harness.Alice || p.Origin != site.URL || p.Kind != "signed_nonce" {
		t.Errorf("the prompt %+v does not say which app, which account and from where", p)
	}
	v.mustNotBeSignedIn(t)
	_, err = agent.Run(ctx, "prompt", "deny", p.ID, "--json")
	must(t, err)
	must(t, v.page.WaitForText(ctx, "reject this login"))
	v.mustNotBeSignedIn(t)
}
