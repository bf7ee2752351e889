package loopback

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	page = "https://id.example.com"
	body = `{"challengeRequest":"eyJ.token"}`
)

// fakeAgent allows one page and remembers what it was asked.
type fakeAgent struct {
	mu        sync.Mutex
	origins   []string  // asked about
	requests  []Request // challenges seen
	reply     Reply
	challenge func(context.Context, Request) Reply // instead of reply
}

func (f *fakeAgent) AllowOrigin(_ context.Context, origin string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.origins = append(f.origins, origin)
	return origin == page || origin == "http://localhost:4173"
}

func (f *fakeAgent) Challenge(ctx context.Context, c Request) Reply {
	f.mu.Lock()
	f.requests = append(f.requests, c)
	handler := f.challenge
	f.mu.Unlock()
	if handler != nil {
		return handler(ctx, c)
	}
	return f.reply
}

func (f *fakeAgent) seen() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Request(nil), f.requests...)
}

// start serves agent on a free port until the test ends, and then checks that
// nothing of the server is left running.
func start(t testing.TB, agent Agent, change ...func(*Server)) (s *Server, addr string) {
	t.Helper()
	before := runtime.NumGoroutine()
	l, err := Listen([]int{0})
	if err != nil {
		t.Fatal(err)
	}
	s = New(agent, Options{})
	for _, c := range change {
		c(s)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		noLeak(t, before)
	})
	return s, l.Addr().String()
}

// noLeak waits for goroutines that are on their way out.
func noLeak(t testing.TB, before int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			return
		}
		runtime.Gosched()
	}
}

type reply struct {
	status int
	header http.Header
	body   string
	close  bool // the server said that it closes
}

// raw sends bytes as they are and reads one response; a status of 0 means that
// the connection was closed without one.
func raw(t testing.TB, addr, request string) reply {
	t.Helper()
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		return reply{}
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return reply{}
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(b), res.Close}
}

// request writes one HTTP/1.1 request; headers are lines without line ends.
func request(method, path, body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, path)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("Connection: close\r\n\r\n" + body)
	return b.String()
}

func hasCORS(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			return true
		}
	}
	return false
}
