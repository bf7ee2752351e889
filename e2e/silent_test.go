package e2e

import (
	"fmt"
	"slices"
	"testing"

	"countersign.dev/e2e/harness"
)

// The main job: password, and the device answers without a question.
func TestSilentSignIn(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-web")
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			who, err := v.finish(ctx)
			mustBeAlice(t, who, err)
			// The browser itself handed the challenge to the agent, once.
			challenge := fmt.Sprintf(":%d/challenge", agent.Port)
			if got := v.statusOf("POST", challenge); !slices.Equal(got, []int{200}) {
				t.Errorf("POST %s was answered %v, want one 200", challenge, got)
			}
		})
	}
}
