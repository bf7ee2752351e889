package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"countersign.dev/e2e/harness"
)

// Bob has nothing but a password. An app that asks for more has him set up a
// security key, and signs him in; from then on it asks for that key, and
// refuses a copy of it (C11).
func TestSecurityKeyInTheBrowser(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	site := newSite(t, stage.Org)
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			forgetKeys(t, ctx, stage.Org, harness.Bob)
			tab := newPage(t)
			key, err := tab.PlugInKey(ctx, true)
			must(t, err)
			v := d.knockIn(t, tab, stage.Org, site, "demo-web")
			must(t, v.page.Identify(ctx, harness.Bob))
			must(t, v.page.EnterPassword(ctx, harness.Password))
			must(t, v.page.SetUpKey(ctx))
			must(t, v.page.Until(ctx, "the end of the sign-in", harness.ResultShown))
			who, err := v.identity(ctx)
			mustBeBobWithKey(t, who, err)
			if n, err := key.Credentials(ctx); err != nil || n != 1 {
				t.Errorf("%d credentials, %v", n, err)
			}

			// The strict app wants somebody to be there now: a session is not enough.
			again := func() *visit {
				v := d.knockIn(t, tab, stage.Org, site, "demo-strict")
				must(t, v.page.Identify(ctx, harness.Bob))
				must(t, v.page.EnterPassword(ctx, harness.Password))
				return v
			}
			v = again()
			must(t, v.page.Until(ctx, "the end of the sign-in", harness.ResultShown))
			who, err = v.identity(ctx)
			mustBeBobWithKey(t, who, err)

			must(t, key.Rewind(ctx))
			v = again()
			must(t, v.page.Until(ctx, "the word that the key is refused", v.saying("unable to use a Security key", "counted backwards")))
			v.mustNotBeSignedIn(t)
		})
	}
}

// mustBeBobWithKey fails unless bob signed in with his password and his key.
func mustBeBobWithKey(t *testing.T, who harness.Identity, err error) {
	t.Helper()
	must(t, err)
	slices.Sort(who.AMR)
	if who.Username != harness.Bob || !slices.Equal(who.AMR, []string{"mfa", "pop", "pwd"}) {
		t.Fatalf("signed in %s by %v, want bob by password and security key", who.Username, who.AMR)
	}
}

// forgetKeys has the administrator remove a person's security keys.
func forgetKeys(t *testing.T, ctx context.Context, org *harness.Org, user string) {
	t.Helper()
	var keys []struct {
		ID         string `json:"id"`
		FactorType string `json:"factorType"`
	}
	must(t, org.Administer(ctx, "GET", "/api/v1/users/"+user+"/factors", nil, &keys))
	for _, k := range keys {
		must(t, org.Administer(ctx, "DELETE", "/api/v1/users/"+user+"/factors/"+k.ID, nil, nil))
	}
}

// The own page with the keyboard alone, and what it says when a key is not the
// right one. With UPDATE_SCREENSHOTS=1 its pictures are made anew.
func TestSecurityKeyOnTheOwnPage(t *testing.T) {
	t.Parallel()
	var options harness.StageOptions
	if updateScreenshots {
		options.Listen = "127.0.0.1:8080" // the pages show it
	}
	stage := newStage(t, options)
	site := newSite(t, stage.Org)
	ctx := deadline(t)
	page := newPage(t)
	key, err := page.PlugInKey(ctx, true)
	must(t, err)
	signIn := stage.Org.NewSignIn("demo-strict", "", site.URL+"/callback")
	begin := func() {
		must(t, page.Open(ctx, signIn.AuthorizeURL()))
		must(t, page.Identify(ctx, harness.Bob))
		must(t, page.EnterPassword(ctx, harness.Password))
	}
	press := func(selector string) {
		t.Helper()
		on := false
		for tabs := 0; tabs < 5 && !on; tabs++ {
			must(t, page.Press(ctx, kb.Tab))
			must(t, page.Eval(ctx, &on, "document.activeElement.matches("+selector+")"))
		}
		if !on {
			t.Fatalf("five Tabs lead to no %s", selector)
		}
		must(t, page.Press(ctx, kb.Enter))
	}
	begin()
	must(t, page.WaitForText(ctx, "Set up a second way"))
	look(t, page, "set-up")
	press("'[data-se=\"webauthn\"]'")
	must(t, page.WaitForText(ctx, "Set up your security key"))
	look(t, page, "set-up-key")
	press("'[data-se=\"ask-key\"]'")
	must(t, page.Until(ctx, "the end of the sign-in", harness.ResultShown))

	// Another key than the one that was set up: the browser knows it is not.
	must(t, key.Unplug(ctx))
	other, err := page.PlugInKey(ctx, true)
	must(t, err)
	begin()
	must(t, page.WaitForText(ctx, "Your key was not used"))
	must(t, page.Until(ctx, "the word to be spoken", `document.querySelector('#notes [role="alert"]')?.innerText.includes("Your key was not used")`))
	look(t, page, "key-refused")
	must(t, other.Unplug(ctx))
	// None at all: the page says what it waits for, and that it may be left.
	press("'[data-se=\"ask-key\"]'")
	must(t, page.WaitForText(ctx, "Waiting for your security key"))
	mustAnnounce(t, page)
	look(t, page, "key")
	must(t, page.Click(ctx, `[data-se="cancel"]`))
	must(t, page.WaitFor(ctx, harness.FieldIdentifier))
}

// A page that is left open: the org asks anew where the question has grown old, and
// ends a sign-in that has.
func TestSecurityKeyOnAPageLeftOpen(t *testing.T) {
	t.Parallel()
	clock := &harness.Clock{}
	stage := newStage(t, harness.StageOptions{Clock: clock})
	site := newSite(t, stage.Org)
	ctx := deadline(t)
	page := newPage(t)
	key, err := page.PlugInKey(ctx, true)
	must(t, err)
	must(t, key.Unplug(ctx))
	begin := func() {
		must(t, page.Open(ctx, stage.Org.NewSignIn("demo-strict", "", site.URL+"/callback").AuthorizeURL()))
		must(t, page.Identify(ctx, harness.Bob))
		must(t, page.EnterPassword(ctx, harness.Password))
		must(t, page.Click(ctx, `[data-se="webauthn"]`))
		must(t, page.Click(ctx, `[data-se="ask-key"]`))
		must(t, page.WaitForText(ctx, "Waiting for your security key"))
	}
	begin()
	clock.Advance(2 * time.Hour)
	key, err = page.PlugInKey(ctx, true)
	must(t, err)
	must(t, page.WaitForText(ctx, "This sign-in took too long"))
	must(t, key.Unplug(ctx))
	begin()
	clock.Advance(301 * time.Second)
	_, err = page.PlugInKey(ctx, true)
	must(t, err)
	must(t, page.WaitForText(ctx, "Nobody used the key in time"))
	must(t, page.Click(ctx, `[data-se="ask-key"]`))
	must(t, page.Until(ctx, "the end of the sign-in", harness.ResultShown))
}
