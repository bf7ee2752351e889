package e2e

import (
	"errors"
	"testing"

	"countersign.dev/e2e/harness"
)

// Apps embed the widget in other ways than to ask it for tokens: with a
// callback, or so that it leaves for their redirect address.
func TestWidgetEndings(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, gen := range []harness.Generation{harness.Gen2, harness.Gen3} {
		t.Run(gen.String()+" calls back", func(t *testing.T) {
			ctx := deadline(t)
			v := &visit{door: door{gen: gen}, org: stage.Org, page: newPage(t), app: "demo-web"}
			must(t, v.page.Open(ctx, site.Page(gen, v.app, "", harness.Callback)))
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			who, err := v.finish(ctx)
			mustBeAlice(t, who, err)
		})
		t.Run(gen.String()+" redirects", func(t *testing.T) {
			ctx := deadline(t)
			signIn, code := signInByRedirect(t, stage.Org, site, gen, harness.Redirect)
			tokens, err := signIn.RedeemInteraction(ctx, code)
			must(t, err)
			who, err := harness.VerifyIDToken(ctx, signIn.Issuer, signIn.Client, tokens.IDToken)
			mustBeAlice(t, who, err)
		})
	}
	// Generation 3 as it comes redeems the code itself, and leaves with it all
	// the same. The app is told that the code is used up; nothing breaks.
	t.Run("gen3 redirects with a used code", func(t *testing.T) {
		signIn, code := signInByRedirect(t, stage.Org, site, harness.Gen3, harness.Untouched)
		_, err := signIn.RedeemInteraction(deadline(t), code)
		var refused *harness.StatusError
		if !errors.As(err, &refused) || refused.Status != 400 {
			t.Errorf("redeeming the code once more: %v, want a refusal", err)
		}
	})
}

// signInByRedirect signs in on a page whose widget leaves for the app's
// redirect address, and returns what the app needs there to redeem the code.
func signInByRedirect(t *testing.T, org *harness.Org, site *harness.Site, gen harness.Generation, ending harness.Ending) (*harness.SignIn, string) {
	t.Helper()
	ctx := deadline(t)
	page := newPage(t)
	signIn := org.NewSignIn("demo-web", "", site.URL+"/callback")
	must(t, page.Open(ctx, site.Page(gen, signIn.Client, "", ending)))
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.WaitFor(ctx, harness.FieldPassword))
	// The page keeps what belongs to the code, as a single-page app does.
	must(t, page.Eval(ctx, &signIn.Verifier, `[...Object.values(localStorage), ...Object.values(sessionStorage)].join().match(/"codeVerifier":"([^"]+)"/)[1]`))
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the redirect address", harness.ResultShown))
	var result struct {
		Code string `json:"interaction_code"`
	}
	must(t, page.Result(ctx, &result))
	if at := page.URL(ctx); at.Path != "/callback" || result.Code == "" {
		t.Fatalf("the widget left for %s", at)
	}
	return signIn, result.Code
}

// A page that is loaded again in the middle goes on: to the step it was at, or
// to the first one, and in either case to the end.
func TestReloadInTheMiddle(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			must(t, v.page.Identify(ctx, harness.Alice))
			must(t, v.page.WaitFor(ctx, harness.FieldPassword))
			must(t, v.page.Reload(ctx))
			must(t, v.page.GoOn(ctx, harness.Alice, harness.Password))
			must(t, v.page.VerifyWithDevice(ctx, "the hand-over of the challenge", harness.WaitsForDevice))
			asked, err := agent.WaitForPrompt(ctx)
			must(t, err)

			must(t, v.page.Reload(ctx))
			must(t, v.page.GoOn(ctx, harness.Alice, harness.Password))
			must(t, v.page.VerifyWithDevice(ctx, "the hand-over once more", harness.WaitsForDevice))
			// The page that asked is gone, and its question with it.
			again, err := agent.WaitForPromptOtherThan(ctx, asked[0].ID)
			must(t, err)
			_, err = agent.Run(ctx, "prompt", "approve", again.ID)
			must(t, err)
			who, err := v.finish(ctx)
			mustBeAlice(t, who, err)
		})
	}
}
