package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/okta"
)

// A5: an adversary in the middle. The person is on a page that is not the
// org's; behind it somebody drives the org's real sign-in with the password
// that was typed, and now needs an answer to the org's real challenge. The
// person's own browser, with the agent beside it, is to fetch that answer.

// relayPage tries everything a page can do to hand a challenge to the agent,
// and shows what it could learn from it.
const relayPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Totally your organisation</title><link rel="icon" href="data:,"></head>
<body><iframe name="sink" hidden></iframe><pre id="result"></pre>
<script>
const { challengeRequest, ports } = {{RELAYED}};
const body = JSON.stringify({ challengeRequest });
const json = { 'Content-Type': 'application/json' };
const status = (url, options) => fetch(url, options).then((r) => r.status, () => 'blocked');
const tried = [];
async function all() {
  for (const host of ['localhost', '127.0.0.1']) for (const port of ports) {
    const at = 'http://' + host + ':' + port;
    tried.push({
      at,
      probe: await status(at + '/probe', { headers: json }),
      challenge: await status(at + '/challenge', { method: 'POST', headers: json, body }),
    });
    // What needs no preflight reaches the agent; it must do nothing there.
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])
      await status(at + '/challenge', { method: 'POST', mode: 'no-cors', headers: { 'Content-Type': type }, body });
    navigator.sendBeacon(at + '/challenge', body);
    await status(at + '/challenge?challengeRequest=' + encodeURIComponent(challengeRequest), { mode: 'no-cors' });
    const form = Object.assign(document.createElement('form'), { method: 'POST', enctype: 'text/plain', target: 'sink', action: at + '/challenge' });
    form.append(Object.assign(document.createElement('input'), { name: body.slice(0, -1) + ',"x":"', value: '"}' }));
    document.body.append(form);
    const loaded = new Promise((done) => { document.querySelector('iframe').onload = done; setTimeout(done, 2000); });
    form.submit();
    await loaded;
  }
  document.getElementById('result').textContent = JSON.stringify(tried);
}
all();
</script></body></html>`

// relayed is what the phisher's page could learn at one address.
type relayed struct {
	At        string `json:"at"`
	Probe     any    `json:"probe"`
	Challenge any    `json:"challenge"`
}

// serveOn serves handler on a port of this machine until the test ends.
func serveOn(t *testing.T, handler http.Handler) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

// phish lets the phisher's server sign in as alice up to the challenge, and
// alice's browser visit the phisher's page on host.
func phish(t *testing.T, stage *harness.Stage, host string) (*harness.Transaction, []relayed) {
	t.Helper()
	ctx := deadline(t)
	transaction, err := stage.Org.BeginTransaction(ctx, stage.Org.NewSignIn("demo-web", "", "http://localhost:1/callback"))
	must(t, err)
	challenge, err := transaction.Challenge(ctx, harness.Alice, harness.Password)
	must(t, err)
	data, err := json.Marshal(map[string]any{"challengeRequest": challenge.Request, "ports": stage.Ports})
	must(t, err)
	port := serveOn(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, strings.Replace(relayPage, "{{RELAYED}}", string(data), 1))
	}))
	page := newPage(t)
	must(t, page.Open(ctx, fmt.Sprintf("http://%s:%d/", host, port)))
	var tried []relayed
	must(t, page.Result(ctx, &tried))
	return transaction, tried
}

// mustStillWait fails unless the phisher's sign-in stands where it stood: at
// an unanswered challenge.
func mustStillWait(t *testing.T, transaction *harness.Transaction) {
	t.Helper()
	must(t, transaction.Poll(deadline(t)))
	if _, waiting := transaction.Form("challenge-poll"); !waiting || transaction.Last.Success != nil {
		t.Errorf("the phisher's sign-in moved on: %+v", transaction.Last)
	}
}

// A page somewhere else on the web learns nothing from the agent, and nothing
// it can send makes the agent sign.
func TestPhishingPageIsRefusedByTheAgent(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	transaction, tried := phish(t, stage, harness.EvilSite)
	for _, r := range tried {
		if r.Probe != "blocked" || r.Challenge != "blocked" {
			t.Errorf("at %s the page could read the answers %v and %v", r.At, r.Probe, r.Challenge)
		}
	}
	mustHaveAnsweredNothing(t, agent)
	mustStillWait(t, transaction)

	// The browser kept the real request back. Without a browser, the agent
	// itself says no.
	challenge := transaction.Last.CurrentAuthenticator.Value.ContextualData.Challenge.Value.Request
	if status := hand(t, agent, "http://"+harness.EvilSite, challenge); status != http.StatusForbidden {
		t.Errorf("the agent answered a foreign origin with %d, want 403", status)
	}
	mustHaveAnsweredNothing(t, agent)
	mustStillWait(t, transaction)
}

// A page that may talk to the agent, because the org trusts its origin, is
// still not the page that the challenge was made for.
func TestTrustedPageCannotRelayAnothersChallenge(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	transaction, tried := phish(t, stage, "localhost")
	refused := false
	for _, r := range tried {
		if strings.HasSuffix(r.At, ":"+strconv.Itoa(agent.Port)) && strings.Contains(r.At, "localhost") {
			refused = r.Probe == float64(http.StatusOK) && r.Challenge == float64(http.StatusForbidden)
		}
	}
	if !refused {
		t.Errorf("the agent was to answer the probe and refuse the challenge with 403: %+v", tried)
	}
	mustHaveAnsweredNothing(t, agent)
	mustStillWait(t, transaction)
}

// When the agent is made to lie and signs for any page, the org still refuses:
// the origin in the answer is the browser's word. The phisher's sign-in ends.
func TestCarelessAnswerIsRefusedByTheOrg(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := enrolCareless(t, stage.Org, harness.Alice)
	agent.listen(t, stage.Ports[0])
	ctx := deadline(t)
	transaction, _ := phish(t, stage, harness.EvilSite)
	refusals := agent.refused()
	if len(refusals) == 0 || refusals[0].Code != okta.CodeOriginMismatch || refusals[0].HTTPStatus != http.StatusForbidden {
		t.Fatalf("the org refused with %v, want 403 %s", refusals, okta.CodeOriginMismatch)
	}
	err := transaction.Poll(ctx)
	if _, waiting := transaction.Form("challenge-poll"); waiting || transaction.Last.Success != nil {
		t.Errorf("the phisher's sign-in goes on: %+v (%v)", transaction.Last, err)
	}

	// The same agent is good enough for the org's own page: it was the origin.
	site := newSite(t, stage.Org)
	v := doors[len(doors)-1].knock(t, stage.Org, site, "demo-web")
	must(t, v.page.Identify(ctx, harness.Alice))
	must(t, v.page.EnterPassword(ctx, harness.Password))
	who, err := v.finish(ctx)
	mustBeAlice(t, who, err)
}

// The org's own page behind a reverse proxy on another host: it looks right,
// and takes the password, but the device does not answer.
func TestProxiedSignInPageCannotUseTheDevice(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := newAgent(t, stage, nil, harness.Alice)
	evil := proxyOrg(t, stage.Org)
	ctx := deadline(t)
	page := newPage(t)
	must(t, page.Open(ctx, evil+"/login"))
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the word that the device does not answer", `/did not answer on this device|Use another way/.test(document.body.innerText)`))
	if at := page.URL(ctx); at.Path != "/login" {
		t.Errorf("the proxied page went on to %s", at)
	}
	mustHaveAnsweredNothing(t, agent)
}

// The same proxy with a careless agent: the org ends the sign-in and says why.
func TestProxiedSignInIsStoppedByTheOrg(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	agent := enrolCareless(t, stage.Org, harness.Alice)
	agent.listen(t, stage.Ports[0])
	evil := proxyOrg(t, stage.Org)
	ctx := deadline(t)
	page := newPage(t)
	must(t, page.Open(ctx, evil+"/login"))
	must(t, page.Identify(ctx, harness.Alice))
	must(t, page.EnterPassword(ctx, harness.Password))
	must(t, page.VerifyWithDevice(ctx, "the word that it was stopped", `document.body.innerText.includes("not one of your organisation's")`))
	if at := page.URL(ctx); at.Path != "/login" {
		t.Errorf("the proxied page went on to %s", at)
	}
}

// proxyOrg is the phisher's reverse proxy: it makes every request look as if
// it came from the org's own page, and every page as if it were its own.
func proxyOrg(t *testing.T, org *harness.Org) (address string) {
	t.Helper()
	upstream, err := url.Parse(org.URL)
	must(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream) // the Host, too
			r.Out.Header.Del("Accept-Encoding")
			for _, name := range []string{"Origin", "Referer"} {
				if r.In.Header.Get(name) != "" {
					r.Out.Header.Set(name, org.URL)
				}
			}
			r.Out.Header.Del("Sec-Fetch-Site")
		},
		ModifyResponse: func(res *http.Response) error {
			body, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
			if err != nil {
				return err
			}
			res.Body.Close()
			body = bytes.ReplaceAll(body, []byte(org.URL), []byte(address))
			res.Body = io.NopCloser(bytes.NewReader(body))
			res.ContentLength = int64(len(body))
			res.Header.Set("Content-Length", strconv.Itoa(len(body)))
			res.Header.Del("Content-Security-Policy")
			if to := res.Header.Get("Location"); to != "" {
				res.Header.Set("Location", strings.ReplaceAll(to, org.URL, address))
			}
			return nil
		},
	}
	address = fmt.Sprintf("http://%s:%d", harness.EvilSite, serveOn(t, proxy))
	return address
}

// hand gives the agent a challenge the way a page of origin would if no
// browser stood in between, and returns the agent's status.
func hand(t *testing.T, agent *harness.Agent, origin, challenge string) int {
	t.Helper()
	body, err := json.Marshal(map[string]string{"challengeRequest": challenge})
	must(t, err)
	req, err := http.NewRequestWithContext(deadline(t), http.MethodPost, fmt.Sprintf("http://localhost:%d/challenge", agent.Port), bytes.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", origin)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	res.Body.Close()
	return res.StatusCode
}

// A9: somebody else's program sits on the agent's port and says yes to
// everything. It can keep the person from signing in, and nothing more: what
// it gets it cannot answer, and nobody else's agent will.
func TestStrangerOnThePortCannotSignIn(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	newAgent(t, stage, stage.Ports[1:], harness.Alice)
	took := make(chan string, 1)
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(stage.Ports[0])))
	must(t, err)
	stranger := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type, X-Okta-Xsrftoken")
		var body struct {
			Challenge string `json:"challengeRequest"`
		}
		if r.Method == http.MethodPost && json.NewDecoder(r.Body).Decode(&body) == nil {
			select {
			case took <- body.Challenge:
			default:
			}
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); stranger.Serve(l) }()
	t.Cleanup(func() { stranger.Close(); <-done })

	ctx := deadline(t)
	site := newSite(t, stage.Org)
	v := doors[0].knock(t, stage.Org, site, "demo-web")
	must(t, v.page.Identify(ctx, harness.Alice))
	must(t, v.page.EnterPassword(ctx, harness.Password))
	must(t, v.page.VerifyWithDevice(ctx, "the page to ask the org what came of it",
		"performance.getEntriesByType('resource').filter(e => e.name.endsWith('/idp/idx/authenticators/poll')).length >= 2"))
	v.mustNotBeSignedIn(t)

	other, err := harness.FreePorts(1)
	must(t, err)
	bobs := newAgent(t, stage, other, harness.Bob)
	if status := hand(t, bobs, site.URL, <-took); status != http.StatusServiceUnavailable {
		t.Errorf("another agent answered the stolen challenge with %d, want 503", status)
	}
	mustHaveAnsweredNothing(t, bobs)
}
