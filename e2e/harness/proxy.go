package harness

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Proxy stands between an agent and its org as a network does: what passes it
// can be cut, held up, replaced or lost. It takes TCP connections, with TLS
// when it is given a certificate, and speaks plain HTTP/1.1 to the org.
type Proxy struct {
	address  string
	upstream *http.Transport

	mu        sync.Mutex // guards what follows
	listener  net.Listener
	tls       *tls.Config
	target    string // host:port of the org
	rules     []rule
	conns     map[net.Conn]bool
	observe   func(*http.Request, []byte)
	healed    chan struct{} // closed by Heal
	refusing  bool
	handshook int

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
}

type rule struct {
	match func(*http.Request) bool
	fault Fault
}

// Fault is what happens to one exchange in place of its being forwarded. It
// says whether the connection can be used on; one that fails is closed.
type Fault func(*Crossing) (keep bool)

// Crossing is one request on its way to the org.
type Crossing struct {
	Conn    net.Conn
	Request *http.Request
	Healed  <-chan struct{} // closed when the fault is over, or the client has left

	forward func() ([]byte, error)
}

// Forward has the org handle the request and returns the whole answer as it
// would go over the wire.
func (x *Crossing) Forward() ([]byte, error) { return x.forward() }

// StartProxy listens on a free loopback port; config may be nil for plain HTTP.
func StartProxy(target string, config *tls.Config) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		address: l.Addr().String(), target: target, tls: config, conns: map[net.Conn]bool{}, healed: make(chan struct{}),
		upstream: &http.Transport{DisableCompression: true},
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.accept(l)
	return p, nil
}

// Port is where the proxy listens.
func (p *Proxy) Port() string { return p.address[strings.LastIndexByte(p.address, ':')+1:] }

// Target names another address of the org, as after its restart.
func (p *Proxy) Target(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = address
}

// Certificate changes what the next connections are shown.
func (p *Proxy) Certificate(config *tls.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tls = config
}

// Observe has f see every request and every answer that was forwarded.
func (p *Proxy) Observe(f func(request *http.Request, answer []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.observe = f
}

// Break has the fault happen to every request that matches, until Heal.
func (p *Proxy) Break(match func(*http.Request) bool, fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, rule{match, fault})
}

// Refuse stops listening and cuts every connection, until Heal.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	p.refusing = true
	p.listener.Close()
	p.mu.Unlock()
	p.Cut()
}

// Cut ends every connection there is.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Heal ends every fault, and those that are waiting for it.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	p.rules = nil
	close(p.healed)
	p.healed = make(chan struct{})
	refused := p.refusing
	p.refusing = false
	p.mu.Unlock()
	if !refused {
		return nil
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("listening again: %w", err)
	}
	p.accept(l)
	return nil
}

// Handshakes counts the connections whose TLS handshake the client finished.
func (p *Proxy) Handshakes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handshook
}

// Close ends everything and waits for it.
func (p *Proxy) Close() {
	p.stop()
	p.mu.Lock()
	p.listener.Close()
	p.mu.Unlock()
	p.Cut()
	p.work.Wait()
	p.upstream.CloseIdleConnections()
}

func (p *Proxy) accept(l net.Listener) {
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(c) })
		}
	})
}

func (p *Proxy) serve(raw net.Conn) {
	p.mu.Lock()
	p.conns[raw] = true
	config := p.tls
	if p.ctx.Err() != nil || p.refusing { // accepted, but too late
		raw.Close()
	}
	p.mu.Unlock()
	defer func() {
		raw.Close()
		p.mu.Lock()
		delete(p.conns, raw)
		p.mu.Unlock()
	}()
	conn := raw
	if config != nil {
		secured := tls.Server(raw, config)
		if err := secured.HandshakeContext(p.ctx); err != nil {
			return
		}
		p.mu.Lock()
		p.handshook++
		p.mu.Unlock()
		conn = secured
	}
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !p.exchange(conn, in, r, body) {
			return
		}
	}
}

// exchange handles one request and says whether the connection goes on.
func (p *Proxy) exchange(conn net.Conn, in *bufio.Reader, r *http.Request, body []byte) bool {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	// A client that leaves ends what goes on for it. The next request, which
	// must not come before the answer, ends the watch, too.
	left := make(chan struct{})
	go func() {
		defer close(left)
		if _, err := in.Peek(1); err != nil {
			cancel()
		}
	}()
	p.mu.Lock()
	healed, fault := p.healed, Fault(nil)
	for _, rule := range p.rules {
		if fault == nil && rule.match(r) {
			fault = rule.fault
		}
	}
	p.mu.Unlock()
	over := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		defer close(over)
		select {
		case <-healed:
		case <-ctx.Done():
		}
	}()
	x := &Crossing{Conn: conn, Request: r, Healed: over, forward: func() ([]byte, error) { return p.forward(ctx, r, body) }}
	keep := false
	if fault != nil {
		keep = fault(x)
	} else if answer, err := x.Forward(); err == nil {
		_, err = conn.Write(answer)
		keep = err == nil && !r.Close
	}
	if !keep {
		cancel()
		conn.Close()
	}
	<-left // or two would read
	cancel()
	<-watching
	return keep
}

func (p *Proxy) forward(ctx context.Context, r *http.Request, body []byte) ([]byte, error) {
	p.mu.Lock()
	target, observe := p.target, p.observe
	p.mu.Unlock()
	out := r.Clone(ctx)
	out.RequestURI, out.Close = "", false
	out.URL.Scheme, out.URL.Host = "http", target
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	res, err := p.upstream.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body, res.ContentLength, res.TransferEncoding = io.NopCloser(bytes.NewReader(content)), int64(len(content)), nil
	var wire bytes.Buffer
	if err := res.Write(&wire); err != nil {
		return nil, err
	}
	if observe != nil {
		seen := r.Clone(ctx)
		seen.Body = io.NopCloser(bytes.NewReader(body))
		observe(seen, wire.Bytes())
	}
	return wire.Bytes(), nil
}

// The faults.

// CutBefore ends the connection; the org hears nothing of the request.
func CutBefore(*Crossing) bool { return false }

// Lose has the org handle the request and ends the connection in place of the
// answer.
func Lose(x *Crossing) bool {
	x.Forward()
	return false
}

// Tear has the org handle the request and resets the connection after half of
// the answer.
func Tear(x *Crossing) bool {
	answer, err := x.Forward()
	if err != nil {
		return false
	}
	x.Conn.Write(answer[:len(answer)/2])
	raw := x.Conn
	if secured, ok := raw.(*tls.Conn); ok {
		raw = secured.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		tcp.SetLinger(0)
		tcp.Close()
	}
	return false
}

// Stall neither forwards nor answers until the fault is over.
func Stall(x *Crossing) bool {
	<-x.Healed
	return false
}

// StallAnswer has the org handle the request and keeps the answer back.
func StallAnswer(x *Crossing) bool {
	x.Forward()
	<-x.Healed
	return false
}

// Slow lets the answer through in small pieces.
func Slow(x *Crossing) bool {
	answer, err := x.Forward()
	if err != nil {
		return false
	}
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for piece := range slices.Chunk(answer, 16) {
		<-pace.C
		if _, err := x.Conn.Write(piece); err != nil {
			return false
		}
	}
	return true
}

// Twice has the org handle the request twice, as a network that repeats what
// it takes for lost, and passes the second answer on.
func Twice(x *Crossing) bool {
	if _, err := x.Forward(); err != nil {
		return false
	}
	answer, err := x.Forward()
	if err != nil {
		return false
	}
	_, err = x.Conn.Write(answer)
	return err == nil
}

// Garbage answers with what is no HTTP.
func Garbage(x *Crossing) bool {
	x.Conn.Write([]byte("\x00\x01\xff\xfe SSH-2.0-nothing \r\n\r\n"))
	return false
}

// Say answers by itself, with this status, type and body, and headers in
// pairs. The org hears nothing.
func Say(status int, contentType, body string, headers ...string) Fault {
	return func(x *Crossing) bool {
		res := &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {contentType}},
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
		for i := 0; i+1 < len(headers); i += 2 {
			res.Header.Set(headers[i], headers[i+1])
		}
		return res.Write(x.Conn) == nil
	}
}

// Then does something more once the org has handled the request, and before
// the client has its answer.
func Then(do func()) Fault {
	return func(x *Crossing) bool {
		answer, err := x.Forward()
		do()
		if err == nil {
			_, err = x.Conn.Write(answer)
		}
		return err == nil
	}
}

// First does something before the org gets the request, which then goes on.
func First(do func()) Fault {
	return func(x *Crossing) bool {
		do()
		answer, err := x.Forward()
		if err == nil {
			_, err = x.Conn.Write(answer)
		}
		return err == nil
	}
}

// On matches one kind of request: the method, or "" for any, and a part of the
// path.
func On(method, part string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return (method == "" || r.Method == method) && strings.Contains(r.URL.Path, part)
	}
}
