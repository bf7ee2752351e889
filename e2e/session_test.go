package e2e

import (
	"testing"

	"countersign.dev/e2e/harness"
)

// The same sign-in page in two tabs of one browser: each is a sign-in of its
// own, and an approval lets in the tab that asked for it.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range []door{doors[0], doors[1], doors[4]} { // the two that share a store, and the own page
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			page := newPage(t)
			tab, err := page.NewTab()
			must(t, err)
			t.Cleanup(tab.Close)

			ask := func(p *harness.Page, before string) (*visit, string) {
				v := d.knockIn(t, p, stage.Org, site, "demo-strict")
				must(t, p.Identify(ctx, harness.Alice))
				must(t, p.EnterPassword(ctx, harness.Password))
				must(t, p.VerifyWithDevice(ctx, "the hand-over of the challenge", harness.WaitsForDevice))
				prompt, err := agent.WaitForPromptOtherThan(ctx, before)
				must(t, err)
				return v, prompt.ID
			}
			first, promptOfFirst := ask(page, "")
			second, promptOfSecond := ask(tab, promptOfFirst)
			for v, prompt := range map[*visit]string{second: promptOfSecond, first: promptOfFirst} {
				v.mustNotBeSignedIn(t)
				_, err := agent.Run(ctx, "prompt", "approve", prompt)
				must(t, err)
				who, err := v.finish(ctx)
				mustBeAlice(t, who, err)
			}
		})
	}
}

// Somebody who is signed in goes straight on to the next app: no page, no
// question. Where the app wants to see the person again, there is a page.
func TestSessionGoesStraightOn(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	ctx := deadline(t)
	own := doors[len(doors)-1]
	v := own.knock(t, stage.Org, site, "demo-web")
	must(t, v.page.Identify(ctx, harness.Alice))
	must(t, v.page.EnterPassword(ctx, harness.Password))
	who, err := v.finish(ctx)
	mustBeAlice(t, who, err)

	tab, err := v.page.NewTab()
	must(t, err)
	t.Cleanup(tab.Close)
	v = own.knockIn(t, tab, stage.Org, site, "demo-web")
	who, err = v.identity(ctx)
	mustBeAlice(t, who, err)
	if steps := tab.Exchanges("/idp/idx/"); len(steps) != 0 {
		t.Errorf("there was a sign-in page all the same: %+v", steps)
	}
	must(t, tab.Open(ctx, stage.Org.URL+"/login"))
	must(t, tab.WaitForURL(ctx, stage.Org.URL+"/app/UserHome"))

	must(t, tab.Open(ctx, stage.Org.NewSignIn("demo-web", "", site.URL+"/callback").AuthorizeURL()+"&prompt=login"))
	must(t, tab.WaitFor(ctx, harness.FieldIdentifier+", "+harness.FieldPassword))
}
