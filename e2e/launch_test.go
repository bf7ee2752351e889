package e2e

import (
	"testing"

	"countersign.dev/e2e/harness"
)

// The button that asks the device first: it says who is signing in, so that
// the person types no name. The app wants the password as well.
func TestSignInStartsWithTheDevice(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			decision := agent.Decide(ctx, "approve")
			must(t, v.page.LaunchAgent(ctx))
			outcome, err := decision.Outcome(ctx)
			must(t, err)
			if outcome.Outcome != "approved" {
				t.Fatalf("the terminal says %+v, want approved", outcome)
			}
			must(t, v.page.EnterPassword(ctx, harness.Password))
			must(t, v.page.Until(ctx, "the end of the sign-in", harness.ResultShown))
			who, err := v.identity(ctx)
			mustBeAlice(t, who, err)
		})
	}
}
