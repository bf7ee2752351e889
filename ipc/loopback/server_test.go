package loopback

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/ipc/peer"
)

func TestProbe(t *testing.T) {
	_, addr := start(t, &fakeAgent{})
	// As the widget sends it: a content type on a GET.
	got := raw(t, addr, request("GET", "/probe", "", "Host: "+addr, "Origin: "+page, "Content-Type: application/json", "X-Okta-XsrfToken:"))
	if got.status != 200 || got.header.Get("Access-Control-Allow-Origin") != page || got.header.Get("Vary") != "Origin" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v", got)
	}
}

func TestPreflight(t *testing.T) {
	_, addr := start(t, &fakeAgent{})
	for _, path := range []string{"/probe", "/challenge"} {
		for _, private := range []string{"", "true", "false"} {
			got := raw(t, addr, request("OPTIONS", path, "", "Host: "+addr, "Origin: "+page, "Access-Control-Request-Method: POST",
				"Access-Control-Request-Headers: content-type,x-okta-xsrftoken", "Access-Control-Request-Private-Network: "+private))
			want := map[string]string{
				"Access-Control-Allow-Origin":      page,
				"Access-Control-Allow-Headers":     "Content-Type, X-Okta-Xsrftoken",
				"Access-Control-Allow-Methods":     "GET, POST, OPTIONS",
				"Access-Control-Max-Age":           "600",
				"Access-Control-Allow-Credentials": "",
				"Vary":                             "Origin",
			}
			if private == "true" {
				want["Access-Control-Allow-Private-Network"] = "true"
			} else {
				want["Access-Control-Allow-Private-Network"] = ""
			}
			if got.status != 204 || got.body != "" {
				t.Errorf("%s: %d %q", path, got.status, got.body)
			}
			for name, value := range want {
				if got.header.Get(name) != value {
					t.Errorf("%s: %s is %q, want %q", path, name, got.header.Get(name), value)
				}
			}
		}
	}
}

// The table of architecture section 4.
func TestReplies(t *testing.T) {
	agent := &fakeAgent{}
	_, addr := start(t, agent)
	for reply, want := range map[Reply]struct {
		status int
		code   string
	}{
		Refused: {500, "refused"}, Accepted: {200, "accepted"}, NotMine: {503, "not_mine"}, Locked: {503, "locked"},
		ForeignOrigin: {403, "foreign_origin"}, Malformed: {400, "malformed"}, AlreadyAnswered: {409, "already_answered"},
		Expired: {504, "expired"}, NoFrontEnd: {504, "no_front_end"}, OrgUnreachable: {502, "org_unreachable"}, OrgRefused: {502, "org_refused"},
		-1: {500, "refused"}, 99: {500, "refused"},
	} {
		agent.reply = reply
		got := raw(t, addr, request("POST", "/challenge", body, "Host: "+addr, "Origin: "+page, "Content-Type: application/json"))
		if got.status != want.status || got.body != `{"code":"`+want.code+`"}`+"\n" || got.header.Get("Access-Control-Allow-Origin") != page {
			t.Errorf("%v: %+v, want %+v", reply, got, want)
		}
	}
	var zero Reply
	if zero.Status() == 200 {
		t.Error("the zero Reply accepts")
	}
	last := agent.seen()[0]
	if last.Token != "eyJ.token" || last.Origin != page || (runtime.GOOS == "linux" && !last.Peer.Mine()) {
		t.Errorf("the agent got %+v", last)
	}
}

func TestChallengeBodies(t *testing.T) {
	agent := &fakeAgent{reply: Accepted}
	_, addr := start(t, agent)
	post := func(body string, more ...string) int {
		headers := append([]string{"Host: " + addr, "Origin: " + page, "Content-Type: application/json"}, more...)
		return raw(t, addr, request("POST", "/challenge", body, headers...)).status
	}
	for _, bad := range []string{
		``, ` `, `null`, `""`, `[]`, `{}`, `{"challengeRequest":""}`, `{"challengeRequest":null}`, `{"challengeRequest":1}`, `{"challengeRequest":["x"]}`,
		`{"challengeRequest":{"x":"y"}}`, `{"challengerequest":"x"}`, `{"CHALLENGEREQUEST":"x"}`, `{"other":"x"}`, `{"challengeRequest":"x","other":1}`,
		`{"challengeRequest":"x","challengeRequest":"y"}`, `{"challengeRequest":"x"}x`, `{"challengeRequest":"x"}{}`, `{"challengeRequest":"x"`,
		`{"challengeRequest":"x",}`, `[{"challengeRequest":"x"}]`, "{\"challengeRequest\":\"\xff\"}", "\xef\xbb\xbf{\"challengeRequest\":\"x\"}", strings.Repeat("[", 10000),
	} {
		if status := post(bad); status != 400 {
			t.Errorf("%.40q: %d, want 400", bad, status)
		}
	}
	large := `{"challengeRequest":"` + strings.Repeat("x", maxBody) + `"}`
	if status := post(large); status != 413 {
		t.Errorf("a large body: %d, want 413", status)
	}
	if status := post("", "Transfer-Encoding: chunked", "", "8000", strings.Repeat(" ", 0x8000), "0", ""); status != 413 {
		t.Errorf("a large body in chunks: %d, want 413", status)
	}
	if n := len(agent.seen()); n != 0 {
		t.Fatalf("%d of them reached the agent", n)
	}
	exact := `{"challengeRequest":"` + strings.Repeat("x", maxBody-len(`{"challengeRequest":""}`)) + `"}`
	if status := post(exact); status != 200 {
		t.Errorf("a body of just the limit: %d", status)
	}
}

// A14: a thousand probes at once are all answered, and nothing stays behind
// (start checks the goroutines).
func TestThousandProbes(t *testing.T) {
	_, addr := start(t, &fakeAgent{})
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if got := raw(t, addr, request("GET", "/probe", "", "Host: "+addr, "Origin: "+page)); got.status != 200 {
				t.Errorf("a probe got %d", got.status)
			}
		})
	}
	wg.Wait()
}

// A14: more clients than there is room for, which keep their connections: the
// number of connections is bounded, later ones are answered all the same, and
// answers close connections while it is crowded.
func TestCrowd(t *testing.T) {
	s, addr := start(t, &fakeAgent{})
	var kept []net.Conn
	defer func() {
		for _, c := range kept {
			c.Close()
		}
	}()
	for range busyConnections {
		c, err := net.Dial("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, c)
	}
	wait(t, func() bool { return s.connections.Load() == busyConnections })
	for range 200 {
		r := strings.Replace(request("GET", "/probe", "", "Host: "+addr, "Origin: "+page), "Connection: close\r\n", "", 1)
		if got := raw(t, addr, r); got.status != 200 || !got.close {
			t.Fatalf("in a crowd: %d, closes %v", got.status, got.close)
		}
	}
	for range maxConnections {
		c, err := net.Dial("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, c)
	}
	wait(t, func() bool { return s.connections.Load() == maxConnections })
	for _, c := range kept {
		c.Close()
	}
	if got := raw(t, addr, request("GET", "/probe", "", "Host: "+addr, "Origin: "+page)); got.status != 200 {
		t.Errorf("after the crowd: %d", got.status)
	}
	wait(t, func() bool { return s.connections.Load() == 0 && len(s.slots) <= 1 }) // one is waiting in Accept
}

// Chromium connects and hangs up without a request; so do port scanners.
func TestConnectionsWithoutRequest(t *testing.T) {
	s, addr := start(t, &fakeAgent{})
	for i := range 200 {
		c, err := net.Dial("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0) // a reset instead of an end
		}
		c.Close()
	}
	wait(t, func() bool { return s.connections.Load() == 0 })
	if got := raw(t, addr, request("GET", "/probe", "", "Host: "+addr, "Origin: "+page)); got.status != 200 {
		t.Errorf("afterwards: %d", got.status)
	}
}

// Only so many challenges run at once; one more is told so.
func TestTooManyChallenges(t *testing.T) {
	release := make(chan struct{})
	running := make(chan struct{}, maxChallenges)
	agent := &fakeAgent{challenge: func(context.Context, Request) Reply {
		running <- struct{}{}
		<-release
		return Accepted
	}}
	_, addr := start(t, agent)
	post := func() int {
		return raw(t, addr, request("POST", "/challenge", body, "Host: "+addr, "Origin: "+page, "Content-Type: application/json")).status
	}
	var wg sync.WaitGroup
	for range maxChallenges {
		wg.Go(func() {
			if status := post(); status != 200 {
				t.Errorf("one of the first: %d", status)
			}
		})
	}
	for range maxChallenges {
		<-running
	}
	if status := post(); status != 429 {
		t.Errorf("one too many: %d, want 429", status)
	}
	close(release)
	wg.Wait()
}

// Shutdown lets a running challenge end, but not for ever.
func TestShutdownWaits(t *testing.T) {
	release, running := make(chan struct{}), make(chan struct{})
	agent := &fakeAgent{challenge: func(context.Context, Request) Reply {
		close(running)
		<-release
		return Accepted
	}}
	l, err := Listen([]int{0})
	if err != nil {
		t.Fatal(err)
	}
	s := New(agent, Options{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	addr := l.Addr().String()
	status := make(chan int, 1)
	go func() {
		status <- raw(t, addr, request("POST", "/challenge", body, "Host: "+addr, "Origin: "+page, "Content-Type: application/json")).status
	}()
	<-running
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown without patience: %v", err)
	}
	close(release)
	<-status
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestListen(t *testing.T) {
	l, err := Listen([]int{0})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ip := l.Addr().(*net.TCPAddr).IP; !ip.Equal(net.IPv4(127, 0, 0, 1)) {
		t.Errorf("listens on %s", ip)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if _, err := Listen([]int{port, port}); !errors.Is(err, ErrNoFreePort) {
		t.Errorf("no free port: %v", err)
	}
	if _, err := Listen(nil); !errors.Is(err, ErrNoFreePort) {
		t.Errorf("no ports: %v", err)
	}
	everywhere, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	if err := New(&fakeAgent{}, Options{}).Serve(everywhere); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("serving on all addresses: %v", err)
	}
}

// wait gives the server's goroutines a moment.
func wait(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that within 10 s")
		}
	}
}

// pipeListener hands out the server's ends of pipes that pass for loopback
// connections: inside a synctest bubble their deadlines run on fake time.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

type pipeConn struct{ net.Conn }

var loopbackAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:8769"))

func (pipeConn) LocalAddr() net.Addr  { return loopbackAddr }
func (pipeConn) RemoteAddr() net.Addr { return loopbackAddr }

func (l *pipeListener) Addr() net.Addr { return loopbackAddr }
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// startFake serves agent inside a bubble.
func startFake(t *testing.T, agent Agent) (dial func() net.Conn) {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := New(agent, Options{})
	s.owner = func(_, _ netip.AddrPort) (peer.Peer, error) { return peer.Self(), nil }
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Shutdown(context.Background())
		<-served
	})
	return func() net.Conn {
		client, server := net.Pipe()
		l.conns <- pipeConn{server}
		return client
	}
}

const onFake = "Host: localhost:8769"

// A challenge may wait for the person for five minutes: no time-out of the
// server ends it or makes it look as if the browser had gone.
func TestLongChallenge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &fakeAgent{challenge: func(ctx context.Context, _ Request) Reply {
			select {
			case <-time.After(5 * time.Minute):
				return Accepted
			case <-ctx.Done():
				return Expired
			}
		}}
		c := startFake(t, agent)()
		defer c.Close()
		begun := time.Now()
		for range 2 { // and the connection is good for another
			got := exchange(t, c, strings.Replace(request("POST", "/challenge", body, onFake, "Origin: "+page, "Content-Type: application/json"), "Connection: close\r\n", "", 1))
			if got != "HTTP/1.1 200 OK" {
				t.Fatalf("after %s: %q", time.Since(begun), got)
			}
		}
		if took := time.Since(begun); took != 10*time.Minute {
			t.Errorf("took %s", took)
		}
	})
}

// The agent learns that the browser has gone, and decides what that means.
func TestBrowserLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := make(chan error, 1)
		running := make(chan struct{})
		agent := &fakeAgent{challenge: func(ctx context.Context, _ Request) Reply {
			close(running)
			<-ctx.Done()
			left <- ctx.Err()
			return Accepted
		}}
		c := startFake(t, agent)()
		go func() {
			_, _ = io.WriteString(c, request("POST", "/challenge", body, onFake, "Origin: "+page, "Content-Type: application/json"))
		}()
		<-running
		c.Close()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A14: slow clients are let go: one that sends nothing, one that sends its
// headers or its body byte by byte, one that keeps an idle connection.
func TestSlowClients(t *testing.T) {
	whole := request("POST", "/challenge", body, onFake, "Origin: "+page, "Content-Type: application/json")
	for name, c := range map[string]struct {
		send  string        // at once
		every time.Duration // then one byte each
		drip  string
		limit time.Duration
	}{
		"silent":       {"", 0, "", headerTimeout},
		"slow headers": {"", time.Second, whole, headerTimeout},
		"slow body":    {strings.TrimSuffix(whole, body), time.Second, body, readTimeout},
		"idle":         {strings.Replace(request("GET", "/probe", "", onFake, "Origin: "+page), "Connection: close\r\n", "", 1), 0, "", idleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				agent := &fakeAgent{reply: Accepted}
				conn := startFake(t, agent)()
				defer conn.Close()
				begun := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					_, _ = io.WriteString(conn, c.send)
					for i := range len(c.drip) {
						time.Sleep(c.every) // fake time
						if _, err := io.WriteString(conn, c.drip[i:i+1]); err != nil {
							return
						}
					}
				}()
				_, _ = io.Copy(io.Discard, conn)
				// net/http lingers half a second before it closes.
				if took := time.Since(begun); took > c.limit+time.Second {
					t.Errorf("let go after %s, want %s", took, c.limit)
				}
				<-sent
				if n := len(agent.seen()); n != 0 {
					t.Errorf("the agent saw %d challenges", n)
				}
			})
		})
	}
}

// exchange writes a request and reads the answer's first line, and the rest as
// far as it comes with it.
func exchange(t *testing.T, c net.Conn, request string) string {
	t.Helper()
	go func() { _, _ = io.WriteString(c, request) }()
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(buf[:n]), "\r\n")
	return line
}

var _ http.Handler = (*Server)(nil)
