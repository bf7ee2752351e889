package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"countersign.dev/e2e/harness"
)

// No agent runs: the page does not hang but says so and offers the ways there
// are. Once the agent is up, the same page signs in.
func TestAgentAbsent(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			must(t, agent.Stop())
			v := d.knock(t, stage.Org, site, "demo-web")
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			must(t, v.page.VerifyWithDevice(ctx, "the word that no agent answered", v.saying("No authenticator answered", "did not answer on this device")))
			v.mustNotBeSignedIn(t)

			must(t, agent.Restart(ctx))
			who, err := v.again(ctx)
			mustBeAlice(t, who, err)
		})
	}
}

// A10: two people share a machine. The first port belongs to the other one's
// agent, which says "not mine"; the second one signs in. Nobody is asked and
// nothing is signed at the first.
func TestTwoAgentsOnTwoPorts(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	bobs := newAgent(t, stage, stage.Ports[:1], harness.Bob)
	alices := newAgent(t, stage, stage.Ports[1:], harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-web")
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			who, err := v.finish(ctx)
			mustBeAlice(t, who, err)
			for _, want := range []struct {
				agent  *harness.Agent
				status int
			}{{bobs, http.StatusServiceUnavailable}, {alices, http.StatusOK}} {
				challenge := fmt.Sprintf(":%d/challenge", want.agent.Port)
				if got := v.statusOf("POST", challenge); !slices.Equal(got, []int{want.status}) {
					t.Errorf("POST %s was answered %v, want one %d", challenge, got, want.status)
				}
			}
		})
	}
	mustHaveAnsweredNothing(t, bobs)
}

// An agent without any account is passed over like one that is not there.
func TestAgentWithoutAccountIsPassedOver(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	empty := newAgent(t, stage, stage.Ports[:1])
	newAgent(t, stage, stage.Ports[1:], harness.Alice)
	site := newSite(t, stage.Org)
	ctx := deadline(t)
	v := doors[0].knock(t, stage.Org, site, "demo-web")
	must(t, v.page.Identify(ctx, harness.Alice))
	must(t, v.page.EnterPassword(ctx, harness.Password))
	who, err := v.finish(ctx)
	mustBeAlice(t, who, err)
	mustHaveAnsweredNothing(t, empty)
}
