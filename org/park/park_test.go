package park_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/org/park"
	"countersign.dev/org/park/parktest"
)

// board is what callers wait for: a text for each key.
type board struct {
	lot  *park.Lot
	wait time.Duration

	mu    sync.Mutex
	texts map[string]string // guarded by mu
	asked atomic.Int64      // how often somebody was asked for an answer
	hook  func()            // between looking at the text and parking
	later func()            // while it is answered that there is nothing new
}

func newBoard(c park.Config, wait time.Duration) *board {
	c.Own = []string{"X-Own", "X-Absent"}
	return &board{lot: park.New(c), wait: wait, texts: map[string]string{}}
}

func (b *board) text(key string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.texts[key]
}

func (b *board) post(key, text string) {
	b.mu.Lock()
	b.texts[key] = text
	b.mu.Unlock()
	b.lot.Notify([]string{key})
}

// ServeHTTP answers /key with its text, once it differs from ?not=.
func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, not := strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query().Get("not")
	w.Header().Set("X-Set", "before")
	w.Header().Set("X-Own", r.RequestURI)
	turn := b.lot.Look(key)
	if text := b.text(key); text != not {
		_, _ = io.WriteString(w, "at once: "+text)
		return
	}
	if b.hook != nil {
		b.hook()
	}
	if err := b.lot.Park(w, r, park.Place{Key: key, Turn: turn, Wait: b.wait, For: &reader{b, key, not}}); err != nil {
		_, _ = io.WriteString(w, "no place")
	}
}

type reader struct {
	b        *board
	key, not string
}

func (r *reader) Answer(_ context.Context, why park.Reason, w http.ResponseWriter) bool {
	r.b.asked.Add(1)
	text := r.b.text(r.key)
	switch {
	case text == "panic":
		panic("asked to")
	case text == "empty":
		w.WriteHeader(http.StatusNotModified)
		return true
	case why == park.Notified && text == r.not:
		if r.b.later != nil {
			r.b.later()
		}
		return false
	}
	w.Header().Set("X-Why", fmt.Sprint(int(why)))
	_, _ = io.WriteString(w, text)
	return true
}

// house is a server and a board in fake time.
type house struct {
	*board
	*parktest.Server
}

func newHouse(t *testing.T, c park.Config, wait time.Duration) *house {
	b := newBoard(c, wait)
	return &house{b, parktest.Serve(t, b, b.lot)}
}

func TestWaitsAndIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Minute)
		defer h.Close()
		c := h.Caller()
		for i := range 3 { // the connection lives on, each time through another pair of hands
			asked := "/a?not=" + h.text("a")
			c.Get(asked)
			c.WantQuiet()
			if n := h.lot.Waiting(); n != 1 {
				t.Fatalf("%d wait", n)
			}
			h.post("b", "for somebody else")
			h.lot.Notify([]string{"a", "a"}) // nothing new
			c.WantQuiet()
			time.Sleep(30 * time.Second)
			h.post("a", fmt.Sprint(i))
			resp := c.Want(fmt.Sprint(i))
			if resp.StatusCode != 200 || resp.Close || resp.Header.Get("X-Set") != "before" || resp.Header.Get("X-Own") != asked ||
				len(resp.Header.Values("X-Own")) != 1 || resp.Header.Get("X-Why") != "1" ||
				resp.Header.Get("Date") == "" || resp.ContentLength != 1 {
				t.Errorf("%+v", resp)
			}
			time.Sleep(30 * time.Second) // it rests longer than a new connection may
		}
		c.Get("/a?not=x")
		c.Want("at once: 2")
		if n := h.lot.Waiting(); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

func TestTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, 55*time.Second)
		defer h.Close()
		began := time.Now()
		c := h.Caller()
		c.Get("/a")
		time.Sleep(20 * time.Second)
		h.lot.Notify([]string{"a"}) // the time does not begin anew
		resp := c.Want("")
		if took := time.Since(began); took > 55*time.Second || took < 54*time.Second || resp.Header.Get("X-Why") != "2" {
			t.Errorf("after %v: %v", took, resp.Header)
		}
		h.texts["a"] = "empty"
		c.Get("/a?not=empty")
		if resp := c.Want(""); resp.StatusCode != 304 || resp.Header.Get("Content-Length") != "" || resp.Close {
			t.Errorf("%+v", resp)
		}
		// Nobody asks any more: it rests, and ends.
		began = time.Now()
		c.WantEnd()
		if took := time.Since(began); took > 2*time.Minute || took < 119*time.Second {
			t.Errorf("rested for %v", took)
		}
	})
}

// What happens between looking and parking is not missed.
func TestNoLostWakeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Hour)
		defer h.Close()
		for i, hook := range []func(){
			func() { h.post("a", "new") },
			func() { h.lot.Notify([]string{"a"}) },
		} {
			h.hook = hook
			began := time.Now()
			c := h.Caller()
			c.Get("/a?not=" + h.text("a"))
			if i == 1 { // nothing new, after all
				c.WantQuiet()
				h.post("a", "newer")
			}
			synctest.Wait()
			c.Want(h.text("a"))
			if took := time.Since(began); took != 0 {
				t.Errorf("it took %v", took)
			}
			c.Close()
		}
	})
}

// What happens while somebody is told that there is nothing, neither; nor that
// another has taken the place meanwhile.
func TestNewsWhileAnswering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{PerKey: 1}, time.Hour)
		defer h.Close()
		c := h.Caller()
		c.Get("/a")
		c.WantQuiet()
		began := time.Now()
		h.later = func() { h.later = nil; h.post("a", "news") }
		h.lot.Notify([]string{"a"})
		if resp := c.Want("news"); resp.Header.Get("X-Why") != "1" {
			t.Errorf("%v", resp.Header)
		}
		c.Get("/a?not=news")
		c.WantQuiet()
		arrived := make(chan struct{})
		h.later = func() { h.later = nil; <-arrived }
		h.lot.Notify([]string{"a"})
		other := h.Caller()
		other.Get("/a?not=news")
		synctest.Wait()
		close(arrived)
		if resp := c.Want("news"); resp.Header.Get("X-Why") != "3" {
			t.Errorf("%v", resp.Header)
		}
		other.WantQuiet()
		if took := time.Since(began); took != 0 || h.lot.Waiting() != 1 {
			t.Errorf("it took %v, %d wait", took, h.lot.Waiting())
		}
		c.Close()
		other.Close()
	})
}

func TestPlacesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{Max: 5, PerKey: 2}, time.Hour)
		defer h.Close()
		var all []*parktest.Caller
		arrive := func(path string) *parktest.Caller {
			c := h.Caller()
			all = append(all, c)
			c.Get(path)
			synctest.Wait()
			return c
		}
		first, second := arrive("/a"), arrive("/a")
		third := arrive("/a") // the oldest makes room
		if resp := first.Want(""); resp.Header.Get("X-Why") != "3" {
			t.Errorf("%+v", resp.Header)
		}
		second.WantQuiet()
		third.WantQuiet()
		arrive("/b")
		arrive("/c")
		arrive("/d")
		if n := h.lot.Waiting(); n != 5 {
			t.Errorf("%d wait", n)
		}
		arrive("/e").Want("no place")
		h.post("a", "x")
		second.Want("x")
		third.Want("x")
		for _, c := range all {
			c.Close()
		}
		synctest.Wait()
		if n := h.lot.Waiting(); n != 0 {
			t.Errorf("%d wait that have left", n)
		}
	})
}

func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Hour)
		defer h.Close()
		c := h.Caller()
		c.Get("/a")
		c.WantQuiet()
		c.Close()
		synctest.Wait()
		if n := h.lot.Waiting(); n != 0 {
			t.Errorf("%d wait", n)
		}
		h.post("a", "to nobody")
		if n := h.asked.Load(); n != 0 {
			t.Errorf("asked %d times for nobody", n)
		}
	})
}

// What is sent while waiting is the next request, whole.
func TestSpeaksEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Hour)
		defer h.Close()
		h.texts["b"] = "second"
		for name, split := range map[string]int{"in-the-same-breath": 0, "a-byte": 1, "half": 20} {
			c := h.Caller()
			const next = "GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
			request := "GET /a?not=" + h.text("a") + " HTTP/1.1\r\nHost: x\r\n\r\n"
			var sent sync.WaitGroup
			sent.Go(func() { // a pipe holds nothing: who is not listened to waits
				if split == 0 {
					_, _ = io.WriteString(c, request+next)
					return
				}
				_, _ = io.WriteString(c, request)
				time.Sleep(time.Second)
				_, _ = io.WriteString(c, next[:split])
				time.Sleep(time.Second)
				_, _ = io.WriteString(c, next[split:])
			})
			time.Sleep(10 * time.Second)
			h.post("a", name)
			c.Want(name)
			c.Want("at once: second")
			sent.Wait()
			c.Close()
		}
	})
}

func TestCannotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Hour)
		defer h.Close()
		for header, body := range map[string]string{"Content-Length: 3": "abc", "Transfer-Encoding: chunked": "3\r\nabc\r\n0\r\n\r\n"} {
			c := h.Caller()
			// A body could hold a request that was never checked.
			go func() { _, _ = io.WriteString(c, "GET /a HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n"+body) }()
			if resp, body := c.Answer(); body != "no place" {
				t.Errorf("%s: %d %q", header, resp.StatusCode, body)
			}
			c.Close()
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/a", nil))
		if w.Body.String() != "no place" {
			t.Errorf("without a connection: %q", w.Body)
		}
		r := httptest.NewRequest("GET", "/a", nil)
		r.ProtoMajor = 2
		w = httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Body.String() != "no place" || h.lot.Waiting() != 0 {
			t.Errorf("HTTP/2: %q, %d wait", w.Body, h.lot.Waiting())
		}
	})
}

// Who wants the connection closed, or could not know that it lives on.
func TestConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Hour)
		defer h.Close()
		for _, request := range []string{
			"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"GET /a HTTP/1.0\r\nHost: x\r\n\r\n",
		} {
			c := h.Caller()
			_, _ = io.WriteString(c, request)
			c.WantQuiet()
			h.post("a", "x")
			if resp := c.Want("x"); !resp.Close {
				t.Errorf("%q: %+v", request, resp.Header)
			}
			c.WantEnd()
			h.post("a", "")
		}
	})
}

// Without a server to go back to, a connection ends with its answer.
func TestNobodyTakesBack(t *testing.T) {
	b := newBoard(park.Config{}, time.Hour)
	defer b.lot.Close()
	server := httptest.NewServer(b)
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := http.Get(server.URL + "/a")
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "x" || !resp.Close {
			t.Errorf("%q %v %+v", body, err, resp)
		}
	}()
	until(t, func() bool { return b.lot.Waiting() == 1 })
	b.post("a", "x")
	<-done
}

// until waits for what another goroutine does in real time.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("it never came")
		}
		time.Sleep(time.Millisecond)
	}
}

// A14: one that does not read its answer holds up nobody, and is dropped.
func TestSlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Hour)
		defer h.Close()
		var slow [100]*parktest.Caller // more than answers are made at once
		for i := range slow {
			slow[i] = h.Caller()
			slow[i].Get(fmt.Sprintf("/slow%d", i))
		}
		quick := h.Caller()
		quick.Get("/quick")
		synctest.Wait()
		began := time.Now()
		for i := range slow {
			h.post(fmt.Sprintf("slow%d", i), "x")
		}
		h.post("quick", "y")
		quick.Want("y")
		if took := time.Since(began); took != 0 {
			t.Errorf("held up for %v", took)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		for _, c := range slow {
			c.WantEnd()
		}
		if n := h.lot.Waiting(); n != 0 {
			t.Errorf("%d wait", n)
		}
		quick.Close()
	})
}

func TestPanicCostsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Hour)
		defer h.Close()
		c, other := h.Caller(), h.Caller()
		c.Get("/a")
		other.Get("/b")
		synctest.Wait()
		h.post("a", "panic")
		if resp := c.Want(""); resp.StatusCode != 500 || !resp.Close {
			t.Errorf("%+v", resp)
		}
		c.WantEnd()
		h.post("b", "x")
		other.Want("x")
		other.Close()
	})
}

// The lot closes within a second, whatever its callers do.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Hour)
		waits, deaf, rests, writes, early := h.Caller(), h.Caller(), h.Caller(), h.Caller(), h.Caller()
		waits.Get("/a")
		deaf.Get("/a")
		rests.Get("/b")
		writes.Get("/c")
		early.Get("/d")
		synctest.Wait()
		var sent sync.WaitGroup
		sent.Go(func() { _, _ = io.WriteString(early, "GET / HTTP/1.1\r\n") })
		h.post("b", "x")
		rests.Want("x")
		h.post("c", "x") // which nobody reads
		synctest.Wait()
		began := time.Now()
		var answered sync.WaitGroup
		answered.Go(func() {
			if resp := waits.Want(""); resp.Header.Get("X-Why") != "4" || !resp.Close {
				t.Errorf("%+v", resp.Header)
			}
			waits.WantEnd()
		})
		h.lot.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("closing took %v", took)
		}
		answered.Wait()
		deaf.WantEnd()
		rests.WantEnd()
		writes.WantEnd()
		early.Close()
		sent.Wait()
		h.lot.Close() // again
		late := h.Caller()
		late.Get("/a")
		late.Want("no place")
		late.Close()
		h.Close()
	})
}

// A server that shuts down closes its listeners, and with them the lot.
func TestShutdownOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, park.Config{}, time.Hour)
		c, rests := h.Caller(), h.Caller()
		rests.Get("/b")
		synctest.Wait()
		h.post("b", "x")
		rests.Want("x")
		c.Get("/a")
		synctest.Wait()
		var answered sync.WaitGroup
		answered.Go(func() { c.Want(""); c.WantEnd() })
		began := time.Now()
		if err := h.HTTP.Shutdown(t.Context()); err != nil || time.Since(began) > 600*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		answered.Wait()
		rests.WantEnd()
		h.Close()
	})
}
