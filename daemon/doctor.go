package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/prompt"
	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
)

const checkWait = 5 * time.Second

// examination collects what doctor finds.
type examination struct {
	d      *Daemon
	checks []api.Check
}

func (x *examination) ok(name, message string) { x.add(name, "ok", message, "") }
func (x *examination) warn(name, message, hint string) {
	x.add(name, "warning", message, hint)
}
func (x *examination) fail(name, message, hint string) { x.add(name, "failed", message, hint) }
func (x *examination) add(name, state, message, hint string) {
	x.note(api.Check{Name: name, State: state, Message: message, Hint: hint})
}

// note cleans what may have an org's words in it (B9).
func (x *examination) note(c api.Check) {
	c.Message = prompt.Clean(c.Message, 600)
	x.checks = append(x.checks, c)
}

// Doctor looks at everything that a sign-in needs; topic "loopback" leaves out
// what browsers do not depend on.
func (f front) Doctor(ctx context.Context, topic string) (api.Report, error) {
	if topic != "" && topic != "loopback" {
		return api.Report{}, &api.Error{Status: http.StatusBadRequest, Code: "unknown_topic", Message: "doctor knows the topic loopback, or none", Hint: "countersign doctor"}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*checkWait)
	defer cancel()
	f.d.awaitUnlock(ctx)
	x := &examination{d: f.d}
	x.state(ctx)
	x.port(ctx)
	x.otherPorts(ctx)
	x.orgs(ctx)
	x.frontEnds(ctx)
	x.session()
	if topic == "" {
		x.verification(ctx)
		x.securityKeys(ctx)
		x.pushes()
		x.record()
	}
	x.browser()
	return api.Report{Checks: x.checks}, nil
}

func (x *examination) state(ctx context.Context) {
	kind, state := x.d.vault.State()
	switch {
	case x.d.hub.failure() != nil:
		x.fail("state", x.d.hub.failure().Error(), "stop the agent, look at the file, and put its backup in its place if that is right")
		return
	case x.d.vault.Locked():
		x.fail("state", "locked: "+whyLocked(x.d.vault.LockReason()), x.d.unlockHint())
		return
	case state == "file_permissions_only":
		x.warn("state", "open; its key is protected by file permissions only", "countersign vault rekey --to keyring, or to tpm or passphrase")
	default:
		x.protection(ctx, kind)
	}
	c := x.d.core.Load()
	if c == nil {
		return
	}
	x.deviceKeys(ctx, c)
	if len(usableAccounts(c)) == 0 {
		x.warn("accounts", "no account is enrolled", "countersign account add ORG_URL")
	}
}

// protection asks for the data key once more, which the agent has in memory: a
// keyring that is locked meanwhile, or a TPM that is gone, shows at the next
// start only, and then as a state that does not open.
func (x *examination) protection(ctx context.Context, kind unlock.Kind) {
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	if err := x.d.vault.Verify(ctx); err != nil {
		x.warn("state", "open, but the next start would find it locked: "+whyLocked(err), x.d.lockHint(err))
		return
	}
	x.ok("state", "open, protected by "+kindWords(kind))
}

// port asks the agent's own door, the way a browser would.
func (x *examination) port(ctx context.Context) {
	const name = "loopback port"
	port := x.d.port()
	if port == 0 {
		message := "no port of the list is free (" + portList(x.d.config.LoopbackPorts) + ")"
		if who := whoHas(x.d.config.LoopbackPorts); who != "" {
			message += ": " + who
		}
		x.fail(name, message, "stop what listens there, or choose others with --loopback-ports, and start the agent again")
		return
	}
	origin := ""
	if c := x.d.core.Load(); c != nil {
		if list := usableAccounts(c); len(list) > 0 {
			origin = list[0].OrgURL
		}
	}
	status, allowed, err := probe(ctx, port, origin)
	switch {
	case err != nil:
		x.fail(name, fmt.Sprintf("port %d does not answer: %v", port, err), "a local firewall may be in the way")
	case origin == "":
		x.ok(name, fmt.Sprintf("listening on 127.0.0.1:%d; without an account every page is refused", port))
	case status != http.StatusOK || allowed != origin:
		x.fail(name, fmt.Sprintf("port %d answers %d and allows %q to a page of %s", port, status, allowed, origin), "this is a fault of the agent: please report it")
	default:
		x.ok(name, fmt.Sprintf("listening on 127.0.0.1:%d and answering pages of %s", port, origin))
	}
}

// otherPorts looks at the ports that browsers try before the agent's (A9).
func (x *examination) otherPorts(ctx context.Context) {
	mine := slices.Index(x.d.config.LoopbackPorts, x.d.port())
	for i, port := range x.d.config.LoopbackPorts {
		if mine < 0 || i >= mine {
			break
		}
		who := portHolder(port)
		status, _, err := probe(ctx, port, "")
		if who == "" {
			if err != nil {
				continue // nobody there (any more)
			}
			who = "a process that this user may not see"
		}
		message := fmt.Sprintf("browsers try port %d first, which is held by %s", port, who)
		hint := "if it is another user's agent, all is well: it sends browsers on; else stop it"
		if err != nil {
			hint = "it does not answer like an agent; sign-ins wait for it: stop it"
		} else if status/100 == 2 {
			hint = "it says that it is an authenticator to any page, so sign-ins end there: stop it"
		}
		x.warn("port "+strconv.Itoa(port), message, hint)
	}
}

// probe is what the sign-in page does first.
func probe(ctx context.Context, port int, origin string) (status int, allowed string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	host := net.JoinHostPort("localhost", strconv.Itoa(port))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/probe", nil)
	if err != nil {
		return 0, "", err
	}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	r.Header.Set("Content-Type", "application/json")
	// To this machine only, whatever the resolver or a proxy setting says.
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		},
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	return resp.StatusCode, resp.Header.Get("Access-Control-Allow-Origin"), nil
}

// orgs asks each org who it is and for its keys, all at once.
func (x *examination) orgs(ctx context.Context) {
	c := x.d.core.Load()
	if c == nil {
		return
	}
	byURL := map[string]*account.Account{}
	for _, a := range usableAccounts(c) {
		byURL[a.OrgURL] = a
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, a := range byURL {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, checkWait)
			defer cancel()
			check, who := checkOrg(ctx, c, a)
			now := x.d.now()
			mu.Lock()
			defer mu.Unlock()
			x.note(check)
			x.clock(who, now, a.OrgURL)
		})
	}
	wg.Wait()
}

func checkOrg(ctx context.Context, c *core, a *account.Account) (check api.Check, who okta.Organization) {
	check = api.Check{Name: "org " + a.OrgURL, State: "failed"}
	org, err := c.book.Org(a.OrgURL)
	if err != nil {
		check.Message = err.Error()
		return check, who
	}
	who, err = org.Organization(ctx)
	if err == nil && who.ID != a.OrgID {
		check.Message = "another org answers there than the one enrolled at"
		return check, who
	}
	if err == nil {
		var keys int
		list, _, fetch := org.SigningKeys(ctx, a.OrgURL)
		if keys, err = len(list), fetch; err == nil && keys == 0 {
			check.Message = "the org publishes no signing key"
			return check, who
		}
	}
	if err != nil {
		check.Message = err.Error()
		var known *api.Error
		if errors.As(explain(err), &known) {
			check.Hint = known.Hint
		}
		return check, who
	}
	check.State, check.Message = "ok", "answers and publishes its signing keys"
	if a.Development() {
		check.Message += " (development org, plain http)"
	}
	return check, who
}

// clock compares this computer's clock with an org's.
func (x *examination) clock(who okta.Organization, now time.Time, orgURL string) {
	switch off := clockOff(who, now); {
	case off != 0:
		x.fail("clock", clockWords(off, orgURL)+"; challenges are refused as too old, or not yet good", clockHint)
	case !who.AnsweredAt.IsZero():
		x.ok("clock", "agrees with that of "+orgURL)
	}
}

func (x *examination) record() {
	c := x.d.core.Load()
	if c == nil {
		return
	}
	if err := c.audit.Verify(); err != nil {
		x.fail("audit record", err.Error(), "countersign audit --verify")
		return
	}
	x.ok("audit record", "unbroken")
}

// browser says what cannot be seen from here.
func (x *examination) browser() {
	const name = "browser"
	if file := blockingPolicy(); file != "" {
		x.warn(name, "a browser policy concerns access to this machine: "+file, "LoopbackNetworkBlockedForUrls and LocalNetworkAccessBlockedForUrls must not match the org")
		return
	}
	x.ok(name, "no policy found that keeps pages away; Chrome 142 and later ask once whether the org's page may reach this device: allow it")
}
