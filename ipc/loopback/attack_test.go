package loopback

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"countersign.dev/ipc/peer"
)

// A1: DNS rebinding. Only our two names with our port pass, before routing.
func TestHost(t *testing.T) {
	agent := &fakeAgent{}
	_, addr := start(t, agent)
	_, port, _ := net.SplitHostPort(addr)

	for _, host := range []string{"localhost:" + port, "127.0.0.1:" + port} {
		if got := raw(t, addr, request("GET", "/probe", "", "Host: "+host, "Origin: "+page)); got.status != 200 {
			t.Errorf("Host %q: %d, want 200", host, got.status)
		}
	}
	asked := len(agent.origins)
	for _, host := range []string{
		"", " ", "localhost", "127.0.0.1", "localhost:", "127.0.0.1:", ":" + port,
		"localhost:1", "127.0.0.1:80", "localhost:0" + port, "localhost:" + port + "0", "localhost:" + port + " x",
		"LOCALHOST:" + port, "Localhost:" + port, "localhost.:" + port, "127.0.0.1.:" + port,
		"127.1:" + port, "127.0.0.2:" + port, "127.0.1:" + port, "0.0.0.0:" + port, "0:" + port,
		"2130706433:" + port, "0x7f000001:" + port, "0177.0.0.1:" + port, "0x7f.0.0.1:" + port,
		"[::1]:" + port, "::1:" + port, "[::]:" + port, "[::ffff:127.0.0.1]:" + port,
		"user@localhost:" + port, "localhost:" + port + "@evil.example", "localhost:" + port + "/", "localhost:" + port + "#",
		"localhost:" + port + ",evil.example", "evil.example", "evil.example:" + port, "localhost.evil.example:" + port,
		"127.0.0.1.evil.example:" + port, "localhost:" + port + ".evil.example", "evil.example:" + port + "\t",
		"rebind.network:" + port, "agent", "localhost\u3002:" + port, "ⓛocalhost:" + port,
	} {
		for _, target := range []string{"GET /probe", "POST /challenge", "OPTIONS /probe", "GET /nowhere"} {
			method, path, _ := strings.Cut(target, " ")
			got := raw(t, addr, request(method, path, "", "Host: "+host, "Origin: "+page, "Content-Type: application/json"))
			if got.status != 403 && got.status != 400 { // 400: not a Host at all for net/http
				t.Errorf("%s with Host %q: %d, want 403", target, host, got.status)
			}
			if hasCORS(got.header) {
				t.Errorf("%s with Host %q: CORS headers %v", target, host, got.header)
			}
		}
	}
	for name, lines := range map[string]string{
		"no Host":       "GET /probe HTTP/1.1\r\nOrigin: " + page + "\r\n\r\n",
		"HTTP/1.0":      "GET /probe HTTP/1.0\r\nOrigin: " + page + "\r\n\r\n",
		"two Hosts":     "GET /probe HTTP/1.1\r\nHost: localhost:" + port + "\r\nHost: evil.example\r\nOrigin: " + page + "\r\n\r\n",
		"whole URL":     "GET http://localhost:" + port + "/probe HTTP/1.1\r\nHost: evil.example\r\nOrigin: " + page + "\r\n\r\n",
		"other URL":     "GET http://evil.example/probe HTTP/1.1\r\nHost: localhost:" + port + "\r\nOrigin: " + page + "\r\n\r\n",
		"server-wide":   "OPTIONS * HTTP/1.1\r\nHost: evil.example\r\nOrigin: " + page + "\r\n\r\n",
		"tunnel":        "CONNECT localhost:" + port + " HTTP/1.1\r\nHost: evil.example\r\nOrigin: " + page + "\r\n\r\n",
		"HTTP/2":        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"X-Forwarded":   "GET /probe HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost:" + port + "\r\nOrigin: " + page + "\r\n\r\n",
		"folded header": "GET /probe HTTP/1.1\r\nHost: evil.example\r\n localhost:" + port + "\r\nOrigin: " + page + "\r\n\r\n",
	} {
		if got := raw(t, addr, lines); got.status/100 == 2 || hasCORS(got.header) {
			t.Errorf("%s: %d %v", name, got.status, got.header)
		}
	}
	if len(agent.origins) != asked || len(agent.seen()) != 0 {
		t.Error("a request with a wrong Host reached the agent")
	}
}

// A2: what a page can send without a preflight changes nothing and starts
// nothing, not even from an allowed page.
func TestSimpleRequests(t *testing.T) {
	agent := &fakeAgent{reply: Accepted}
	_, addr := start(t, agent)
	host := "Host: " + addr
	for name, r := range map[string]string{
		"image":              request("GET", "/challenge", "", host),
		"image of page":      request("GET", "/challenge?challengeRequest=x", "", host, "Origin: "+page),
		"probe as image":     request("GET", "/probe", "", host, "Sec-Fetch-Mode: no-cors"),
		"link prefetch":      request("HEAD", "/probe", "", host, "Origin: "+page),
		"navigation":         request("GET", "/challenge", "", host, "Sec-Fetch-Mode: navigate"),
		"form":               request("POST", "/challenge", "challengeRequest=x", host, "Origin: "+page, "Content-Type: application/x-www-form-urlencoded"),
		"multipart form":     request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: multipart/form-data; boundary=x"),
		"text form":          request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: text/plain"),
		"text with hint":     request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: text/plain; application/json"),
		"beacon":             request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: text/plain;charset=UTF-8"),
		"no type":            request("POST", "/challenge", body, host, "Origin: "+page),
		"two types":          request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: text/plain", "Content-Type: application/json"),
		"list of types":      request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: text/plain, application/json"),
		"json-like type":     request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: application/jsonp"),
		"other parameter":    request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: application/json; version=1"),
		"other charset":      request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: application/json; charset=utf-16"),
		"opaque page":        request("POST", "/challenge", body, host, "Origin: null", "Content-Type: application/json"),
		"foreign page":       request("POST", "/challenge", body, host, "Origin: https://evil.example", "Content-Type: application/json"),
		"web socket":         request("GET", "/challenge", "", host, "Origin: "+page, "Upgrade: websocket"),
		"method override":    request("GET", "/challenge", "", host, "Origin: "+page, "X-HTTP-Method-Override: POST"),
		"other methods":      request("PUT", "/challenge", body, host, "Origin: "+page, "Content-Type: application/json"),
		"bare options":       request("OPTIONS", "/challenge", "", host, "Origin: "+page),
		"preflight":          request("OPTIONS", "/challenge", body, host, "Origin: "+page, "Access-Control-Request-Method: POST"),
		"encoded path":       request("POST", "/%63hallenge", body, host, "Origin: "+page, "Content-Type: application/json"),
		"path with slash":    request("POST", "/challenge/", body, host, "Origin: "+page, "Content-Type: application/json"),
		"double slash":       request("POST", "//challenge", body, host, "Origin: "+page, "Content-Type: application/json"),
		"case of path":       request("POST", "/Challenge", body, host, "Origin: "+page, "Content-Type: application/json"),
		"post to probe":      request("POST", "/probe", body, host, "Origin: "+page, "Content-Type: application/json"),
		"unfinished chunked": "POST /challenge HTTP/1.1\r\n" + host + "\r\nOrigin: " + page + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
	} {
		got := raw(t, addr, r)
		if got.status/100 == 2 && name != "preflight" {
			t.Errorf("%s: %d", name, got.status)
		}
		if got.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: allows credentials", name)
		}
	}
	if n := len(agent.seen()); n != 0 {
		t.Fatalf("%d of them reached the agent", n)
	}
	got := raw(t, addr, request("POST", "/challenge", body, host, "Origin: "+page, "Content-Type: application/json; charset=UTF-8"))
	if got.status != 200 || len(agent.seen()) != 1 {
		t.Errorf("the widget's own request: %d", got.status)
	}
}

// A3, A4: origins x paths x methods. Whatever is not exactly an allowed origin
// gets 403 without any CORS header, wherever it knocks.
func TestOrigins(t *testing.T) {
	agent := &fakeAgent{reply: Accepted}
	_, addr := start(t, agent)
	refused := []string{
		"-", "", "null", "NULL", "*", "file://", "data:", "about:blank", "https://", "http://", "https:", "//id.example.com",
		"id.example.com", "id.example.com:443", "http://id.example.com", "https://id.example.com:443", "https://id.example.com:8443",
		"https://id.example.com/", "https://id.example.com/path", "https://id.example.com?x", "https://id.example.com#x",
		"https://ID.example.com", "HTTPS://id.example.com", "https://id.example.com.", "https://.id.example.com", "https://id..example.com",
		"https://id.example.com.evil.example", "https://evil-id.example.com", "https://xid.example.com", "https://id.example.co",
		"https://id.example.comm", "https://sub.id.example.com", "https://id-example.com", "https://id.examp1e.com",
		"https://xn--d-hga.example.com", "https://іd.example.com", "https://id.example.com%00.evil.example", "https://id.example.com\x0b",
		"https://user@id.example.com", "https://evil.example@id.example.com", "https://id.example.com:443@evil.example", "https://id.example.com\\@evil.example",
		"https://id.example.com https://evil.example", "https://evil.example https://id.example.com", "https://id.example.com,https://evil.example",
		"https://id.example.com;https://evil.example", "chrome-extension://abcdefghijklmnop", "moz-extension://id.example.com",
		"http://localhost", "http://localhost:4174", "https://localhost:4173", "http://localhost:04173", "http://localhost:4173/", "http://127.0.0.1:4173",
		"http://[::1]:4173", "http://[::1", "http://localhost:", "http://localhost:0", "http://localhost:65536", "http://localhost:99999999999999999999",
		"http://evil.localhost:4173", "http://localhost.evil.example:4173", "https://" + strings.Repeat("a", 300),
	}
	for _, origin := range refused {
		for _, method := range []string{"GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE"} {
			for _, path := range []string{"/probe", "/challenge", "/", "/v1/status", "/nowhere"} {
				headers := []string{"Host: " + addr, "Content-Type: application/json",
					"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type", "Access-Control-Request-Private-Network: true",
					"Referer: " + page + "/", "Sec-Fetch-Site: same-origin"}
				if origin != "-" {
					headers = append(headers, "Origin: "+origin)
				}
				got := raw(t, addr, request(method, path, body, headers...))
				if got.status != 403 && got.status != 400 {
					t.Errorf("%s %s from %q: %d, want 403", method, path, origin, got.status)
				}
				if hasCORS(got.header) {
					t.Errorf("%s %s from %q: %v", method, path, origin, got.header)
				}
			}
		}
	}
	two := raw(t, addr, request("POST", "/challenge", body, "Host: "+addr, "Content-Type: application/json", "Origin: "+page, "Origin: https://evil.example"))
	if two.status != 403 || hasCORS(two.header) {
		t.Errorf("two Origins: %d %v", two.status, two.header)
	}
	if n := len(agent.seen()); n != 0 {
		t.Errorf("%d challenges reached the agent", n)
	}
	for _, o := range agent.origins {
		if !validOrigin(o) {
			t.Errorf("the agent was asked about %q, which is no serialised origin", o)
		}
	}

	// An allowed page sees every answer, refusals too, and never credentials.
	for _, origin := range []string{page, "http://localhost:4173"} {
		for _, method := range []string{"GET", "POST", "OPTIONS", "PUT"} {
			for _, path := range []string{"/probe", "/challenge", "/", "/nowhere"} {
				got := raw(t, addr, request(method, path, "", "Host: "+addr, "Origin: "+origin))
				h := got.header
				if v := h.Values("Access-Control-Allow-Origin"); len(v) != 1 || v[0] != origin {
					t.Errorf("%s %s from %q: %d, Allow-Origin %q", method, path, origin, got.status, v)
				}
				if h.Get("Vary") != "Origin" || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Set-Cookie") != "" {
					t.Errorf("%s %s from %q: %v", method, path, origin, h)
				}
			}
		}
	}
}

// A9: a squatter's answers are the browser's business, but nothing it could
// learn from us helps it: it cannot even take a port that we hold.
func TestPortIsHeld(t *testing.T) {
	_, addr := start(t, &fakeAgent{})
	port := netip.MustParseAddrPort(addr).Port()
	if l, err := net.Listen("tcp4", addr); err == nil {
		l.Close()
		t.Error("a second listener got the port")
	}
	if l, err := Listen([]int{int(port)}); err == nil {
		l.Close()
		t.Error("Listen took a port that is held")
	}
	l, err := Listen([]int{int(port), 0})
	if err != nil {
		t.Fatalf("the next port of the list: %v", err)
	}
	l.Close()
}

// A10: another user's browser is sent on with 503 before the agent sees its
// challenge; so is one whose user the system does not tell.
func TestOtherUsersBrowser(t *testing.T) {
	for name, c := range map[string]struct {
		who    peer.Peer
		err    error
		status int
		code   string
	}{
		"own":         {peer.Self(), nil, 200, "accepted"},
		"other":       {peer.Peer{Known: true, UID: peer.Self().UID + 1}, nil, 503, "other_user"},
		"unknown":     {peer.Peer{}, peer.ErrUnknown, 503, "unknown_user"},
		"zero":        {peer.Peer{}, nil, 503, "other_user"},
		"unsupported": {peer.Peer{}, peer.ErrUnsupported, 200, "accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			agent := &fakeAgent{reply: Accepted}
			lookups := 0
			_, addr := start(t, agent, func(s *Server) {
				s.owner = func(local, remote netip.AddrPort) (peer.Peer, error) {
					lookups++
					return c.who, c.err
				}
			})
			probe := raw(t, addr, request("GET", "/probe", "", "Host: "+addr, "Origin: "+page))
			if probe.status != 200 || lookups != 0 {
				t.Errorf("probe: %d after %d look-ups", probe.status, lookups)
			}
			got := raw(t, addr, request("POST", "/challenge", body, "Host: "+addr, "Origin: "+page, "Content-Type: application/json"))
			if got.status != c.status || !strings.Contains(got.body, c.code) || got.header.Get("Access-Control-Allow-Origin") != page {
				t.Errorf("challenge: %+v, want %d %s", got, c.status, c.code)
			}
			if seen := len(agent.seen()); (seen == 1) != (c.status == 200) {
				t.Errorf("the agent saw %d challenges", seen)
			}
		})
	}
}

// A1, A3: a kept connection earns nothing. Each request on it is judged by its
// own Host and Origin, and what the one before was allowed leaves no trace.
func TestKeptConnectionIsNotTrusted(t *testing.T) {
	agent := &fakeAgent{reply: Accepted}
	_, addr := start(t, agent)
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	ask := func(host, origin string) *http.Response {
		t.Helper()
		text := request("POST", "/challenge", body, "Host: "+host, "Origin: "+origin, "Content-Type: application/json")
		if _, err := io.WriteString(c, strings.Replace(text, "Connection: close\r\n", "", 1)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, &http.Request{Method: "POST"})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res
	}
	for _, step := range []struct {
		host, origin string
		status       int
	}{
		{addr, page, 200}, {"evil.example", page, 403}, {addr, "https://evil.example", 403}, {addr, page, 200}, {addr, "null", 403},
	} {
		got := ask(step.host, step.origin)
		if got.StatusCode != step.status || hasCORS(got.Header) != (step.status == 200) {
			t.Errorf("%s from %s: %d %v", step.host, step.origin, got.StatusCode, got.Header)
		}
	}
	if n := len(agent.seen()); n != 2 {
		t.Errorf("%d challenges reached the agent", n)
	}
}

// A12: neither a probe nor a refusal tells who uses this machine, or what for.
func TestProbeTellsNothing(t *testing.T) {
	_, addr := start(t, &fakeAgent{})
	dump := func(origin string) string {
		got := raw(t, addr, request("GET", "/probe", "", "Host: "+addr, "Origin: "+origin))
		var b strings.Builder
		got.header.Del("Date")
		_ = got.header.Write(&b)
		return strings.ReplaceAll(b.String()+got.body, origin, "ORIGIN")
	}
	if a, b := dump(page), dump("http://localhost:4173"); a != b {
		t.Errorf("two orgs, two answers:\n%s\n%s", a, b)
	}
	known := dump(page)
	for _, word := range []string{"example", "user", "account", "version", "Server"} {
		if strings.Contains(known, word) {
			t.Errorf("the probe's answer holds %q: %s", word, known)
		}
	}
	a, b := dump("https://evil.example"), dump("https://id.example.com.evil.example")
	if a != b || strings.Contains(a, "ORIGIN") {
		t.Errorf("two foreign pages, two answers:\n%s\n%s", a, b)
	}
}
