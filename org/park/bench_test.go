package park_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"countersign.dev/org/park"
)

// bare takes connections over and does nothing else: what waiting costs at
// least.
type bare struct {
	mu    sync.Mutex
	conns map[string]net.Conn // guarded by mu
}

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	b.mu.Lock()
	b.conns[r.URL.Path] = conn
	b.mu.Unlock()
	go func() {
		var one [1]byte
		_, _ = conn.Read(one[:])
	}()
}

func (b *bare) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

const bareAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

func (b *bare) tell(key string) {
	b.mu.Lock()
	conn := b.conns[key]
	b.mu.Unlock()
	_, _ = io.WriteString(conn, bareAnswer)
}

// crowd connects n callers, each of which has asked for its key, and returns
// what each of them costs the server.
func crowd(b *testing.B, s *httptest.Server, n int, waiting func() int) (callers []*wire, each int) {
	// They are all there before anybody accepts: their own end is not counted.
	for i := range n {
		c := dial(b, s)
		c.get(b, fmt.Sprintf("/%d", i))
		callers = append(callers, c)
	}
	before := used()
	s.Start()
	until(b, func() bool { return waiting() == n })
	time.Sleep(50 * time.Millisecond) // the goroutines of the server end
	return callers, (used() - before) / n
}

// BenchmarkWaiting measures callers that wait: the memory of each, and how long
// one of them takes to hear of something, beside connections that are merely
// taken over.
func BenchmarkWaiting(b *testing.B) {
	const n = 2000
	floor := &bare{conns: map[string]net.Conn{}}
	fs := httptest.NewUnstartedServer(floor)
	fcallers, feach := crowd(b, fs, n, floor.waiting)
	defer fs.Close()
	defer func() {
		for _, c := range floor.conns {
			c.Close()
		}
	}()

	board := newBoard(park.Config{}, time.Hour)
	s := httptest.NewUnstartedServer(board)
	callers, each := crowd(b, s, n, board.lot.Waiting)
	var served sync.WaitGroup
	served.Go(func() { _ = s.Config.Serve(board.lot.Listener()) })
	defer func() {
		board.lot.Close()
		s.Close()
		served.Wait()
	}()

	var bareTook, took []time.Duration
	text := make([]string, n)
	for i := 0; b.Loop(); i++ {
		who := i * 7 % n
		began := time.Now()
		floor.tell(fmt.Sprintf("/%d", who))
		hear(b, fcallers[who])
		bareTook = append(bareTook, time.Since(began))

		text[who] = fmt.Sprint(i)
		began = time.Now()
		board.post(fmt.Sprint(who), text[who])
		hear(b, callers[who])
		took = append(took, time.Since(began))
		b.StopTimer()
		callers[who].get(b, fmt.Sprintf("/%d?not=%s", who, text[who]))
		until(b, func() bool { return board.lot.Waiting() == n })
		b.StartTimer()
	}
	at := func(d []time.Duration, percent int) float64 {
		slices.Sort(d)
		return float64(d[(len(d)-1)*percent/100].Nanoseconds())
	}
	b.ReportMetric(float64(each), "B/caller")
	b.ReportMetric(float64(each)/float64(feach), "B/bare")
	for _, p := range []int{50, 99} {
		b.ReportMetric(at(took, p), fmt.Sprintf("p%d-ns", p))
		b.ReportMetric(at(took, p)/at(bareTook, p), fmt.Sprintf("p%d/bare", p))
	}
}

// hear reads one answer, of which only the end matters.
func hear(b *testing.B, c *wire) {
	b.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		b.Fatal(err)
	}
}
