package e2e

import (
	"context"
	"slices"
	"testing"

	"countersign.dev/e2e/harness"
)

// Alice has a device and adds a security key, because the app asks that she may.
// Then she chooses between them, and the same key is not set up twice.
func TestSecurityKeyBesideADevice(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	newAgent(t, stage, nil, harness.Alice)
	site := newSite(t, stage.Org)
	for _, d := range doors {
		if !d.hosted {
			continue // an app's page cannot ask for that
		}
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			forgetKeys(t, ctx, stage.Org, harness.Alice)
			tab := newPage(t)
			_, err := tab.PlugInKey(ctx, true)
			must(t, err)
			signedIn := func(v *visit, methods ...string) {
				t.Helper()
				must(t, v.page.Until(ctx, "the end of the sign-in", harness.ResultShown))
				who, err := v.identity(ctx)
				must(t, err)
				slices.Sort(who.AMR)
				if who.Username != harness.Alice || !slices.Equal(who.AMR, methods) {
					t.Fatalf("signed in %s by %v, want %v", who.Username, who.AMR, methods)
				}
			}
			mayBeSetUp := func(v *visit) string {
				return `document.querySelector('[data-se="webauthn"]') && ` + v.saying("Optional", "Set up later")
			}
			v := asksToSetUp(t, ctx, d, tab, stage.Org, site)
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.VerifyWithDevice(ctx, "what may be set up", mayBeSetUp(v)))
			must(t, v.page.SetUpKey(ctx))
			signedIn(v, "mfa", "okta_verify", "phr", "pop", "pwd", "swk")

			v = d.knockIn(t, tab, stage.Org, site, "demo-strict")
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.ChooseKey(ctx))
			signedIn(v, "mfa", "pop", "pwd")

			// The browser knows the key, and makes no other credential on it.
			v = asksToSetUp(t, ctx, d, tab, stage.Org, site)
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.ChooseKey(ctx))
			must(t, v.page.Until(ctx, "what may be set up", mayBeSetUp(v)))
			must(t, v.page.StartSettingUpKey(ctx))
			must(t, v.page.Until(ctx, "the word that it is set up already", v.saying("contains one of the credentials already registered", "This key is set up already")))
			v.mustNotBeSignedIn(t)
		})
	}
}

// asksToSetUp opens the page for an app that asks that something may be set up.
func asksToSetUp(t *testing.T, ctx context.Context, d door, tab *harness.Page, org *harness.Org, site *harness.Site) *visit {
	t.Helper()
	v := d.knockIn(t, tab, org, site, "demo-web")
	must(t, v.page.Open(ctx, v.signIn.AuthorizeURL()+"&prompt=enroll_authenticator"))
	return v
}

// A browser that cannot ask keys, and an org that cannot be reached when the key
// has answered: the own page says so, and in the end the same answer counts.
func TestSecurityKeyInTrouble(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	site := newSite(t, stage.Org)
	ctx := deadline(t)
	page := newPage(t)
	_, err := page.PlugInKey(ctx, true)
	must(t, err)
	begin := func(before string) {
		must(t, page.Open(ctx, stage.Org.NewSignIn("demo-strict", "", site.URL+"/callback").AuthorizeURL()))
		must(t, page.Identify(ctx, harness.Bob))
		must(t, page.Eval(ctx, nil, before))
		must(t, page.EnterPassword(ctx, harness.Password))
		must(t, page.Click(ctx, `[data-se="webauthn"]`))
	}
	begin("window.PublicKeyCredential = undefined")
	must(t, page.WaitForText(ctx, "This browser cannot use security keys"))
	must(t, page.Until(ctx, "no button for it", `!document.querySelector('[data-se="ask-key"]')`))
	begin(`(() => { const send = window.fetch; let lost = 0;
		window.fetch = (to, o) => o?.body?.includes("attestation") && lost++ === 0 ? Promise.reject(new TypeError("lost")) : send(to, o); })()`)
	must(t, page.Click(ctx, `[data-se="ask-key"]`))
	must(t, page.WaitForText(ctx, "The organisation did not answer"))
	must(t, page.Click(ctx, "#notes button"))
	must(t, page.Until(ctx, "the end of the sign-in", harness.ResultShown))
}
