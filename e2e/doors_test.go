package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"countersign.dev/e2e/harness"
)

// A door is one way for a person to come to the sign-in and out of it again:
// what the page shows, and how the app learns the result.
type door struct {
	name   string
	gen    harness.Generation // 0: the org's own page
	hosted bool               // the org's page with a state token, not a page of the app
	server string             // the app's authorization server, "" or "default"
}

// doors are the widget in both generations with both entries, and the org's
// own page. They differ in the authorization server, too.
var doors = []door{
	{name: "gen3 in the app's page", gen: harness.Gen3, server: "default"},
	{name: "gen2 in the app's page", gen: harness.Gen2},
	{name: "gen3 on the org's page", gen: harness.Gen3, hosted: true},
	{name: "gen2 on the org's page", gen: harness.Gen2, hosted: true, server: "default"},
	{name: "own page", hosted: true},
}

// visit is one person at one door.
type visit struct {
	door
	org    *harness.Org
	site   *harness.Site
	page   *harness.Page
	app    string
	signIn *harness.SignIn // hosted doors only
}

// knock opens the page at which the person signs in to the app.
func (d door) knock(t *testing.T, org *harness.Org, site *harness.Site, app string) *visit {
	t.Helper()
	return d.knockIn(t, newPage(t), org, site, app)
}

// knockIn does so in a given tab.
func (d door) knockIn(t *testing.T, tab *harness.Page, org *harness.Org, site *harness.Site, app string) *visit {
	t.Helper()
	ctx := deadline(t)
	v := &visit{door: d, org: org, site: site, page: tab, app: app}
	if !d.hosted {
		must(t, v.page.Open(ctx, site.Page(d.gen, app, d.server, harness.Tokens)))
		return v
	}
	if d.gen != 0 {
		must(t, v.page.ShowWidgetOnOrgPages(ctx, d.gen, org.URL))
	}
	v.signIn = org.NewSignIn(app, d.server, site.URL+"/callback")
	must(t, v.page.Open(ctx, v.signIn.AuthorizeURL()))
	return v
}

// finish lets the device verify and waits until the app has the result.
func (v *visit) finish(ctx context.Context) (harness.Identity, error) {
	if err := v.page.VerifyWithDevice(ctx, "the end of the sign-in", harness.ResultShown); err != nil {
		return harness.Identity{}, err
	}
	return v.identity(ctx)
}

// again is finish after a try that did not work out.
func (v *visit) again(ctx context.Context) (harness.Identity, error) {
	if err := v.page.VerifyAgain(ctx, "the end of the sign-in", harness.ResultShown); err != nil {
		return harness.Identity{}, err
	}
	return v.identity(ctx)
}

// identity reads the result the way the app does, and trusts nothing in it
// that is not signed by the org.
func (v *visit) identity(ctx context.Context) (harness.Identity, error) {
	var result struct {
		Error   string `json:"error"`
		IDToken string `json:"idToken"` // the app's own page has tokens
		Code    string `json:"code"`    // the callback address has a code
		State   string `json:"state"`
	}
	if err := v.page.Result(ctx, &result); err != nil {
		return harness.Identity{}, err
	}
	if result.Error != "" {
		return harness.Identity{}, fmt.Errorf("the app was told %q", result.Error)
	}
	issuer := v.org.NewSignIn(v.app, v.server, "").Issuer
	if v.signIn != nil {
		if result.State != v.signIn.State {
			return harness.Identity{}, fmt.Errorf("the state is %q, not the one the app sent", result.State)
		}
		tokens, err := v.signIn.Redeem(ctx, result.Code)
		if err != nil {
			return harness.Identity{}, err
		}
		result.IDToken = tokens.IDToken
	}
	who, err := harness.VerifyIDToken(ctx, issuer, v.app, result.IDToken)
	if err == nil && v.signIn != nil && who.Nonce != v.signIn.Nonce {
		err = fmt.Errorf("the nonce is %q, not the one the app sent", who.Nonce)
	}
	return who, err
}

// mustBeAlice fails unless alice signed in with her password and her device.
func mustBeAlice(t *testing.T, who harness.Identity, err error) {
	t.Helper()
	must(t, err)
	if who.Username != harness.Alice || !who.ByPasswordAndKey() {
		t.Fatalf("signed in %+v, want %s by password and key", who, harness.Alice)
	}
}

// statusOf returns the status of the answers to the page's requests of this
// method whose URL ends with part, in order.
func (v *visit) statusOf(method, part string) []int {
	var codes []int
	for _, x := range v.page.Exchanges(part) {
		if x.Method == method && strings.HasSuffix(x.URL, part) {
			codes = append(codes, x.Status)
		}
	}
	return codes
}

// saying is an expression that is true when the page shows the text: what the
// widget says, or what the own page says.
func (v *visit) saying(widget, own string) string {
	text := widget
	if v.gen == 0 {
		text = own
	}
	return fmt.Sprintf("document.body.innerText.includes(%q)", text)
}

// mustNotBeSignedIn fails when the page has left for the app, or shows a result.
func (v *visit) mustNotBeSignedIn(t *testing.T) {
	t.Helper()
	ctx := deadline(t)
	var ended bool
	must(t, v.page.Eval(ctx, &ended, "!!("+harness.ResultShown+")"))
	at := v.page.URL(ctx)
	if ended || strings.HasSuffix(at.Path, "/callback") || strings.HasPrefix(at.Path, "/app/") {
		t.Fatalf("somebody is signed in at %s\n%s", at, v.page.Describe())
	}
}

// mustHaveAnsweredNothing fails when the agent's own record says that it
// signed or decided anything.
func mustHaveAnsweredNothing(t *testing.T, a *harness.Agent) {
	t.Helper()
	records, err := a.Audit(deadline(t))
	must(t, err)
	for _, r := range records {
		if r.Event == "challenge" {
			t.Errorf("%s took up a challenge: %+v", a.Name, r)
		}
	}
}
