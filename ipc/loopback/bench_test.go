package loopback

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"
)

// quietAgent allows every page and costs nothing.
type quietAgent struct{}

func (quietAgent) AllowOrigin(context.Context, string) bool         { return true }
func (quietAgent) Challenge(context.Context, Request) (reply Reply) { return Accepted }

// BenchmarkProbe measures /probe and, alternating in the same run, a bare
// net/http handler that writes the same headers and body; x/floor is the ratio
// of the medians. The goal is at most 1.3.
func BenchmarkProbe(b *testing.B) {
	_, addr := start(b, quietAgent{})
	bare, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	floor := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", page)
		h.Set("Vary", "Origin")
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", here.length[0])
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(here.body)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = floor.Serve(bare) }()
	defer func() { floor.Close(); <-done }()

	ours, theirs := newProber(b, addr), newProber(b, bare.Addr().String())
	var a, f []time.Duration
	for b.Loop() {
		a = append(a, ours.probe(b))
		f = append(f, theirs.probe(b))
	}
	b.ReportMetric(float64(median(a))/float64(median(f)), "x/floor")
	b.ReportMetric(float64(median(a).Nanoseconds()), "probe-ns")
	b.ReportMetric(float64(median(f).Nanoseconds()), "floor-ns")
}

type prober struct {
	c       net.Conn
	r       *bufio.Reader
	request []byte
}

func newProber(b *testing.B, addr string) *prober {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	request := fmt.Sprintf("GET /probe HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nContent-Type: application/json\r\nX-Okta-XsrfToken: \r\n"+
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: */*\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\nReferer: %s/\r\n\r\n", addr, page, page)
	return &prober{c, bufio.NewReader(c), []byte(request)}
}

func (p *prober) probe(b *testing.B) time.Duration {
	begun := time.Now()
	if _, err := p.c.Write(p.request); err != nil {
		b.Fatal(err)
	}
	res, err := http.ReadResponse(p.r, nil)
	if err != nil || res.StatusCode != 200 {
		b.Fatal(res, err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		b.Fatal(err)
	}
	return time.Since(begun)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkChallenge is what the server itself adds to a challenge.
func BenchmarkChallenge(b *testing.B) {
	_, addr := start(b, quietAgent{})
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	post := []byte(fmt.Sprintf("POST /challenge HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", addr, page, len(body), body))
	for b.Loop() {
		if _, err := c.Write(post); err != nil {
			b.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 200 {
			b.Fatal(res, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
	}
}
