package e2e

import (
	"testing"

	"countersign.dev/e2e/harness"
)

// A state token is bound to nothing but its sign-in: the app's server may ask
// for it, and a page that the org trusts show the sign-in. The device then
// answers for that page.
func TestStateTokenOnAPageOfTheApp(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, gen := range []harness.Generation{harness.Gen2, harness.Gen3} {
		t.Run(gen.String(), func(t *testing.T) {
			ctx := deadline(t)
			v := &visit{door: door{gen: gen, hosted: true}, org: stage.Org, site: site, page: newPage(t), app: "demo-web"}
			v.signIn = stage.Org.NewSignIn(v.app, v.server, site.URL+"/callback")
			token, err := v.signIn.StateToken(ctx)
			must(t, err)
			must(t, v.page.Open(ctx, site.StateTokenPage(gen, token)))
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			who, err := v.finish(ctx)
			mustBeAlice(t, who, err)
		})
	}
}
