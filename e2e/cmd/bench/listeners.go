package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	"countersign.dev/okta"
)

// manyListeners is how many devices wait at one org.
const manyListeners = 10_000

// comingBack is how many of them connect in a second.
const comingBack = 1000

// restful is how long a server does nothing before it counts as being at rest:
// longer than the org waits until it gives memory back.
const restful = 12 * time.Second

// listeners measures what devices that wait for a push cost the org: memory
// and wake-ups, beside a server that parks connections and does nothing else.
func (b *bench) listeners() ([]row, error) {
	floor, err := start(b.floor("hijack"))
	if err != nil {
		return nil, err
	}
	defer floor.stop()
	bare, bareWakes, err := b.parked(floor, func(int) (string, error) { return "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", nil })
	if err != nil {
		return nil, fmt.Errorf("bare: %w", err)
	}
	floor.stop()

	state, err := os.MkdirTemp(b.work, "org-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	crowd, err := newCrowd(state, "http://localhost:"+strconv.Itoa(port), manyListeners, true)
	if err != nil {
		return nil, err
	}
	org, err := crowd.start(b, port)
	if err != nil {
		return nil, err
	}
	defer org.stop()
	host := "localhost:" + strconv.Itoa(port)
	ours, wakes, err := b.parked(org, func(i int) (string, error) {
		d := crowd.devices[i]
		token, err := d.proof(crowd.url)
		return "GET " + okta.AppAuthenticatorsPath + "/" + d.enrolment + "/push/notifications HTTP/1.1\r\nHost: " + host +
			"\r\nAuthorization: SSWS " + token + "\r\nAccept: " + okta.AcceptVersion + "\r\nPrefer: " + okta.PreferWait + "\r\n\r\n", err
	})
	if err != nil {
		return nil, fmt.Errorf("org: %w", err)
	}
	return []row{
		{what: "25 an idle listener of 10,000, memory at the org : 16 KiB", ours: kib(ours), floor: kib(16 << 10), ratio: ours / (16 << 10), goal: 1, atMost: true, gate: true},
		{what: "25 an idle listener of 10,000 : 7 KiB", ours: kib(ours), floor: kib(7 << 10), ratio: ours / (7 << 10), goal: 1, atMost: true},
		{what: "25 an idle listener of 10,000 : bare parked connection", ours: kib(ours), floor: kib(bare), ratio: ours / bare, goal: 2, atMost: true},
		{what: "28 wake-ups of the org a second, 10,000 listeners : 10", ours: fmt.Sprintf("%.1f", wakes), floor: fmt.Sprintf("%.1f bare", bareWakes), ratio: wakes / 10, goal: 1, atMost: true, gate: true},
	}, nil
}

// parked opens the connections, waits until the server is at rest, and
// measures what one of them costs in bytes and how often the server wakes up.
// A thousand go before and leave again, and are not counted: with them come code
// that is read, caches and pools, which a thousand need as much as ten.
func (b *bench) parked(p *process, request func(i int) (string, error)) (bytes, wakes float64, err error) {
	target, err := url.Parse(p.ready.URL)
	if err != nil {
		return 0, 0, err
	}
	conns := make([]net.Conn, 0, manyListeners)
	leave := func() {
		for _, c := range conns {
			c.Close()
		}
		conns = conns[:0]
	}
	defer func() { leave() }()
	// As devices come back after an outage, with jitter: at a pace, not all at
	// once, or what is measured is the crowd at the door.
	pace := time.NewTicker(time.Second / comingBack)
	defer pace.Stop()
	connect := func(until int) (rss float64, err error) {
		for len(conns) < until {
			text, err := request(len(conns))
			if err != nil {
				return 0, err
			}
			<-pace.C
			c, err := net.Dial("tcp", "127.0.0.1:"+target.Port())
			if err != nil {
				return 0, err
			}
			conns = append(conns, c)
			if _, err := c.Write([]byte(text)); err != nil {
				return 0, err
			}
		}
		p.rest()
		return p.rss(), nil
	}
	if _, err := connect(manyListeners / 10); err != nil {
		return 0, 0, err
	}
	leave()
	before, err := connect(0)
	if err != nil {
		return 0, 0, err
	}
	after, err := connect(manyListeners)
	if err != nil {
		return 0, 0, err
	}
	for i := 0; i < len(conns); i += 100 { // a sample
		conns[i].SetReadDeadline(time.Now().Add(time.Millisecond)) //nolint:errcheck
		if n, err := conns[i].Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, 0, fmt.Errorf("connection %d is not parked: %d bytes, %v", i, n, err)
		}
	}
	woken := p.switches()
	const watch = 10 * time.Second
	time.Sleep(watch)
	wakes = (p.switches() - woken) / watch.Seconds()
	return (after - before) / manyListeners, wakes, nil
}

// rest waits until the process has done what it was asked.
func (p *process) rest() {
	for used, since := p.cpu(), time.Now(); time.Since(since) < restful; {
		time.Sleep(time.Second)
		now := p.cpu()
		if now-used > 200*time.Millisecond {
			since = time.Now()
		}
		used = now
	}
}

func kib(bytes float64) string { return fmt.Sprintf("%.1f KiB", bytes/(1<<10)) }
