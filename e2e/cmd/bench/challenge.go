package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

type bench struct {
	bin, floors, work string
	rounds, n         int
}

func (b *bench) program(name string) string { return filepath.Join(b.bin, name) }
func (b *bench) floor(name string) string   { return filepath.Join(b.floors, name) }

// agent starts the real agent with its state below parent and enrols it with
// as many accounts as asked.
func (b *bench) agent(parent, orgURL string, accounts int) (*process, error) {
	dir, err := os.MkdirTemp(parent, "agent-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p, err := start(b.program("countersignd"), "run", "--state", dir, "--socket", filepath.Join(dir, "s"),
		"--vault-key", "file", "--loopback-ports", strconv.Itoa(port), "--log-level", "error", "--desktop", "off")
	if err != nil {
		return nil, err
	}
	for i := range accounts {
		link := fmt.Sprintf("oktaverify://user%d%%40example.com/?t=token%dtoken%dtoken&f=autfloor&s=%s&issuer=localhost", i, i, i, orgURL)
		out, err := exec.Command(b.program("countersign"), "--socket", filepath.Join(dir, "s"), "account", "add", link).CombinedOutput()
		if err != nil {
			p.stop()
			return nil, fmt.Errorf("enrolling: %w\n%s", err, out)
		}
	}
	return p, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// run is what one contender achieved in one round.
type run struct {
	p50, cpu time.Duration // cpu per answer
	rate     float64       // answers a second
}

func (b *bench) challenges() ([]row, error) {
	org, err := start(b.floor("barepath"), "org")
	if err != nil {
		return nil, err
	}
	defer org.stop()
	bare, err := start(b.floor("barepath"), "agent", org.ready.URL)
	if err != nil {
		return nil, err
	}
	defer bare.stop()
	// The work folder must be on a real disk for the fsync to count.
	disk, err := os.MkdirTemp(".", ".bench-")
	if err != nil {
		return nil, err
	}
	disk, err = filepath.Abs(disk)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(disk)
	durable, err := start(b.floor("barepath"), "agent", org.ready.URL, filepath.Join(disk, "record"))
	if err != nil {
		return nil, err
	}
	defer durable.stop()
	ours, err := b.agent(disk, org.ready.URL, 1)
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	// The same agent with its state in memory: what it costs without the disk.
	memory := b.work
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		if dir, err := os.MkdirTemp("/dev/shm", "countersign-bench-"); err == nil {
			memory = dir
			defer os.RemoveAll(dir)
		}
	}
	contenders := []struct {
		name string
		p    *process
		url  string
	}{
		{"bare", bare, bare.ready.URL},
		{"durable", durable, durable.ready.URL},
		{"ours", ours, "http://localhost:" + strconv.Itoa(ours.ready.LoopbackPort)},
	}
	results := map[string][]run{}
	collect := func() error {
		for round := range b.rounds + 1 { // the first one warms up
			for _, c := range contenders {
				for _, clients := range []int{1, 8} {
					n := b.n
					if round == 0 {
						n = 100
					}
					r, err := load(org.ready.URL, c.url, c.p, clients, n)
					if err != nil {
						return fmt.Errorf("%s: %w", c.name, err)
					}
					if round > 0 {
						key := c.name + strconv.Itoa(clients)
						results[key] = append(results[key], r)
					}
				}
			}
		}
		return nil
	}
	if err := collect(); err != nil {
		return nil, err
	}
	// Second pass: the state in memory against the bare path.
	inMemory, err := b.agent(memory, org.ready.URL, 1)
	if err != nil {
		return nil, err
	}
	defer inMemory.stop()
	contenders = contenders[:1]
	contenders = append(contenders, struct {
		name string
		p    *process
		url  string
	}{"memory", inMemory, "http://localhost:" + strconv.Itoa(inMemory.ready.LoopbackPort)})
	delete(results, "bare1")
	delete(results, "bare8")
	if err := collect(); err != nil {
		return nil, err
	}
	p50 := func(key string) time.Duration {
		return middle(results[key], func(r run) time.Duration { return r.p50 })
	}
	cpu := func(runs []run) time.Duration { return middle(runs, func(r run) time.Duration { return r.cpu }) }
	rate := func(runs []run) float64 { return middle(runs, func(r run) float64 { return r.rate }) }
	rows := []row{
		{what: " 1 silent challenge, p50, 1 client, state in memory : bare", ours: us(p50("memory1")), floor: us(p50("bare1")),
			ratio: quotient(p50("memory1"), p50("bare1")), goal: 1.3, atMost: true},
		{what: " 2 silent challenge, answers/s, 8 clients : bare", ours: perSecond(rate(results["memory8"])), floor: perSecond(rate(results["bare8"])),
			ratio: rate(results["memory8"]) / rate(results["bare8"]), goal: 0.75, gate: true},
		{what: " 3 processor time of the agent, 8 clients, in memory : bare", ours: us(cpu(results["memory8"])), floor: us(cpu(results["bare8"])),
			ratio: quotient(cpu(results["memory8"]), cpu(results["bare8"])), goal: 1.4, atMost: true, gate: true},
		{what: " 3 processor time of the agent, 8 clients : bare + one fsync", ours: us(cpu(results["ours8"])), floor: us(cpu(results["durable8"])),
			ratio: quotient(cpu(results["ours8"]), cpu(results["durable8"])), goal: 1.4, atMost: true, gate: true},
		{what: " 4 durable claim, p50, 1 client : bare + one fsync", ours: us(p50("ours1")), floor: us(p50("durable1")),
			ratio: quotient(p50("ours1"), p50("durable1")), goal: 1.25, atMost: true},
		{what: " 4 durable claim, answers/s, 8 clients : bare + one fsync", ours: perSecond(rate(results["ours8"])), floor: perSecond(rate(results["durable8"])),
			ratio: rate(results["ours8"]) / rate(results["durable8"]), goal: 0.75, gate: true},
	}
	return rows, nil
}

// load has n fresh challenges answered by clients in parallel.
func load(orgURL, agentURL string, agent *process, clients, n int) (run, error) {
	bodies, err := fetchChallenges(orgURL, n)
	if err != nil {
		return run{}, err
	}
	return drive(agent, clients, n, func(i int) (*http.Request, error) {
		request, err := http.NewRequest(http.MethodPost, agentURL+"/challenge", bytes.NewReader(bodies[i]))
		if err == nil {
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Origin", orgURL)
		}
		return request, err
	})
}

// drive sends n requests by clients in parallel and measures them and the
// process that answers. Anything but 200 ends it.
func drive(p *process, clients, n int, request func(i int) (*http.Request, error)) (run, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	send := func(i int) error {
		r, err := request(i)
		if err != nil {
			return err
		}
		response, err := client.Do(r)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		io.Copy(io.Discard, response.Body) //nolint:errcheck
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answered %s", r.URL.Path, response.Status)
		}
		return nil
	}
	var (
		latencies = make([]time.Duration, n)
		failures  = make([]error, clients)
		wg        sync.WaitGroup
	)
	cpu, began := p.cpu(), time.Now()
	for c := range clients {
		wg.Go(func() {
			for i := c; i < n && failures[c] == nil; i += clients {
				sent := time.Now()
				failures[c] = send(i)
				latencies[i] = time.Since(sent)
			}
		})
	}
	wg.Wait()
	took, used := time.Since(began), p.cpu()-cpu
	if err := errors.Join(failures...); err != nil {
		return run{}, err
	}
	slices.Sort(latencies)
	return run{p50: latencies[n/2], cpu: used / time.Duration(n), rate: float64(n) / took.Seconds()}, nil
}

func fetchChallenges(orgURL string, n int) ([][]byte, error) {
	response, err := http.Get(orgURL + "/challenges?n=" + strconv.Itoa(n))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var bodies [][]byte
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		body, err := json.Marshal(map[string]string{"challengeRequest": lines.Text()})
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	if len(bodies) != n {
		return nil, fmt.Errorf("the org signed %d challenges, not %d", len(bodies), n)
	}
	return bodies, nil
}

func middle[R any, T interface{ ~int64 | ~float64 }](runs []R, of func(R) T) T {
	if len(runs) == 0 {
		return 0
	}
	values := make([]T, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func us(d time.Duration) string           { return fmt.Sprintf("%d us", d.Microseconds()) }
func perSecond(f float64) string          { return fmt.Sprintf("%.0f/s", f) }
func mib(bytes float64) string            { return fmt.Sprintf("%.1f MiB", bytes/(1<<20)) }
func quotient(a, b time.Duration) float64 { return float64(a) / float64(b) }
