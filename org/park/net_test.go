package park_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/org/park"
)

// web serves a board over a real network.
func web(t testing.TB, b *board, secure bool) *httptest.Server {
	s := httptest.NewUnstartedServer(b)
	if secure {
		s.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
		s.StartTLS()
	} else {
		s.Start()
	}
	var served sync.WaitGroup
	served.Go(func() { _ = s.Config.Serve(b.lot.Listener()) })
	t.Cleanup(func() {
		b.lot.Close()
		s.Close()
		served.Wait()
	})
	return s
}

// wire is a connection without a client behind it.
type wire struct {
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, s *httptest.Server) *wire {
	t.Helper()
	var c net.Conn
	var err error
	if s.TLS != nil {
		roots := x509.NewCertPool()
		roots.AddCert(s.Certificate())
		c, err = tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "example.com"})
	} else {
		c, err = net.Dial("tcp", s.Listener.Addr().String())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{c, bufio.NewReaderSize(c, 512)}
}

func (w *wire) get(t testing.TB, path string) {
	t.Helper()
	if _, err := io.WriteString(w, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Error(err)
	}
}

func (w *wire) want(t testing.TB, body string) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil {
		t.Error(err)
		return &http.Response{}
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != body {
		t.Errorf("%q, %v; want %q", got, err, body)
	}
	return resp
}

// used is what the program holds in memory now.
func used() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the first one queues what the second frees
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// A14: a thousand callers that wait cost a goroutine and a few KiB each; all are
// told at once, each keeps its connection, and when they have left nothing
// remains.
func TestAThousand(t *testing.T) {
	const n = 1000
	b := newBoard(park.Config{}, time.Minute)
	s := web(t, b, false)
	first := dial(t, s)
	first.get(t, "/warm?not=x") // what is made once is not theirs
	first.want(t, "at once: ")
	goroutines, memory := runtime.NumGoroutine(), used()
	callers := make([]*wire, n)
	for i := range callers {
		callers[i] = dial(t, s)
	}
	keys := make([]string, n)
	for round := range 2 {
		for i, c := range callers {
			keys[i] = fmt.Sprint(i)
			c.get(t, "/"+keys[i]+"?not="+b.text(keys[i]))
		}
		until(t, func() bool { return b.lot.Waiting() == n })
		until(t, func() bool { return runtime.NumGoroutine() <= goroutines+n+5 })
		each := (used() - memory) / n
		t.Logf("%d bytes for each, the caller's own end included", each)
		if each > 12<<10 && !racing {
			t.Errorf("%d bytes for each", each)
		}
		text := fmt.Sprint("round", round)
		b.mu.Lock()
		for _, key := range keys {
			b.texts[key] = text
		}
		b.mu.Unlock()
		b.lot.Notify(keys)
		for _, c := range callers {
			c.want(t, text)
		}
	}
	for _, c := range callers {
		c.Close()
	}
	until(t, func() bool { return runtime.NumGoroutine() <= goroutines+5 })
}

// Behind TLS all is the same, and the server still knows that it is TLS.
func TestBehindTLS(t *testing.T) {
	b := newBoard(park.Config{}, time.Minute)
	var plain atomic.Bool
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || !r.TLS.HandshakeComplete {
			plain.Store(true)
		}
		b.ServeHTTP(w, r)
	}))
	s.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
	s.StartTLS()
	var served sync.WaitGroup
	served.Go(func() { _ = s.Config.Serve(b.lot.Listener()) })
	defer func() {
		b.lot.Close()
		s.Close()
		served.Wait()
	}()
	c := dial(t, s)
	for i := range 3 {
		c.get(t, "/a?not="+b.text("a"))
		until(t, func() bool { return b.lot.Waiting() == 1 })
		b.post("a", fmt.Sprint(i))
		c.want(t, fmt.Sprint(i))
	}
	// Said early, in a record of its own.
	c.get(t, "/a?not=2")
	until(t, func() bool { return b.lot.Waiting() == 1 })
	c.get(t, "/a?not=x")
	b.post("a", "last")
	c.want(t, "last")
	c.want(t, "at once: last")
	if plain.Load() {
		t.Error("a request that came back had lost its TLS")
	}
	c.get(t, "/a?not=last")
	until(t, func() bool { return b.lot.Waiting() == 1 })
	c.Close()
	until(t, func() bool { return b.lot.Waiting() == 0 })
}

// Wakes, deadlines, leaving, speaking early, taking another's place and the end
// of the lot, in any order: whoever stays hears the last word, and nothing is
// left in the end.
func TestAllAtOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	b := newBoard(park.Config{PerKey: 3, Idle: 300 * time.Millisecond}, 400*time.Millisecond)
	s := web(t, b, false)
	const keys = 5
	stop := time.Now().Add(1500 * time.Millisecond)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1)) //nolint:gosec // a test's dice
			for time.Now().Before(stop) {
				c := dial(t, s)
				key := fmt.Sprint(rng.IntN(keys))
				for turn := range 1 + rng.IntN(4) {
					if _, err := io.WriteString(c, "GET /"+key+"?not="+b.text(key)+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
						break // it had rested too long
					}
					switch rng.IntN(6) {
					case 0: // leaves
						c.Close()
					case 1: // speaks early
						_, _ = io.WriteString(c, "GET /none?not=x HTTP/1.1\r\nHost: x\r\n\r\n")
						if err := answered(c); err != nil && turn == 0 {
							t.Error(err) // later it may have rested too long
						}
					}
					if _, err := c.r.Peek(1); err != nil {
						break // it left, or had rested too long
					}
					if err := answered(c); err != nil {
						t.Error(err)
						break
					}
				}
				c.Close()
			}
		})
	}
	for i := range 4 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 2)) //nolint:gosec // a test's dice
			for n := 0; time.Now().Before(stop); n++ {
				b.post(fmt.Sprint(rng.IntN(keys)), fmt.Sprintf("%d-%d", i, n))
				runtime.Gosched()
			}
		})
	}
	all.Wait()
	// Nobody is forgotten: with the same text as before, each is answered.
	var last []*wire
	for i := range keys {
		c := dial(t, s)
		c.get(t, fmt.Sprintf("/%d?not=%s", i, b.text(fmt.Sprint(i))))
		last = append(last, c)
	}
	until(t, func() bool { return b.lot.Waiting() == keys })
	for i, c := range last {
		b.post(fmt.Sprint(i), "end")
		c.want(t, "end")
	}
	b.lot.Close()
	if n := b.lot.Waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
	s.Close()
	until(t, func() bool { return runtime.NumGoroutine() <= before+3 })
}

func answered(c *wire) error {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// The lost wake-up, in real time: each change is heard of, however it falls
// between looking, parking and answering.
func TestEveryChangeIsHeard(t *testing.T) {
	b := newBoard(park.Config{}, time.Hour)
	s := web(t, b, false)
	c := dial(t, s)
	changed := make(chan int)
	const rounds = 2000
	go func() {
		for i := range changed {
			for range i % 97 { // now sooner, now later
				runtime.Gosched()
			}
			b.post("a", fmt.Sprint(i))
		}
	}()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= rounds; i++ {
		changed <- i
		not := ""
		if i > 1 {
			not = fmt.Sprint(i - 1)
		}
		c.get(t, "/a?not="+not)
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatalf("change %d was not heard: %v", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		if got := strings.TrimPrefix(string(body), "at once: "); err != nil || got != fmt.Sprint(i) {
			t.Fatalf("change %d: %q, %v", i, got, err)
		}
	}
	close(changed)
}
