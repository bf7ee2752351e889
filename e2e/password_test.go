package e2e

import (
	"testing"

	"countersign.dev/e2e/harness"
)

// A wrong password is said so, the agent never hears of the sign-in, and the
// right one goes on from the same page.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-web")
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.EnterPassword(ctx, "not the password"))
			must(t, v.page.Until(ctx, "the word that the password is wrong", v.saying("Password is incorrect", "does not fit this account")))
			if asked := v.page.Exchanges("/challenge"); len(v.statusOf("POST", "/challenge")) != 0 {
				t.Errorf("the agent was asked before the password was right: %+v", asked)
			}
			must(t, v.page.EnterPassword(ctx, harness.Password))
			who, err := v.finish(ctx)
			mustBeAlice(t, who, err)
		})
	}
}

// A name that nobody has looks the same as a wrong password.
func TestUnknownUserLooksLikeAWrongPassword(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	site := newSite(t, stage.Org)
	for _, d := range doors[2:] {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-web")
			must(t, v.page.Identify(ctx, "nobody@example.com"))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			must(t, v.page.Until(ctx, "the word that the password is wrong", v.saying("Password is incorrect", "does not fit this account")))
			v.mustNotBeSignedIn(t)
		})
	}
}
