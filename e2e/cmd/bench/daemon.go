package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// probes compares GET /probe with a bare handler that sends the same headers.
func (b *bench) probes() ([]row, error) {
	org, err := start(b.floor("barepath"), "org")
	if err != nil {
		return nil, err
	}
	defer org.stop()
	bare, err := start(b.floor("barepath"), "probe")
	if err != nil {
		return nil, err
	}
	defer bare.stop()
	ours, err := b.agent(b.work, org.ready.URL, 1)
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	var oursRuns, bareRuns []run
	for round := range b.rounds + 1 {
		for _, c := range []struct {
			p    *process
			url  string
			runs *[]run
		}{{bare, bare.ready.URL, &bareRuns}, {ours, "http://localhost:" + strconv.Itoa(ours.ready.LoopbackPort), &oursRuns}} {
			r, err := drive(c.p, 8, 20*b.n, func(int) (*http.Request, error) {
				request, err := http.NewRequest(http.MethodGet, c.url+"/probe", nil)
				if err == nil {
					request.Header.Set("Origin", org.ready.URL)
				}
				return request, err
			})
			if err != nil {
				return nil, err
			}
			if round > 0 {
				*c.runs = append(*c.runs, r)
			}
		}
	}
	p50 := func(runs []run) time.Duration { return middle(runs, func(r run) time.Duration { return r.p50 }) }
	cpu := func(runs []run) time.Duration { return middle(runs, func(r run) time.Duration { return r.cpu }) }
	return []row{
		{what: "   /probe, p50, 8 clients : bare handler", ours: us(p50(oursRuns)), floor: us(p50(bareRuns)),
			ratio: quotient(p50(oursRuns), p50(bareRuns)), goal: 1.3, atMost: true},
		{what: "   /probe, processor time : bare handler", ours: us(cpu(oursRuns)), floor: us(cpu(bareRuns)),
			ratio: quotient(cpu(oursRuns), cpu(bareRuns)), goal: 1.3, atMost: true, gate: true},
	}, nil
}

// overSocket is an HTTP client of a unix socket.
func overSocket(path string) *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}

// firstAnswer starts a program and waits until its socket answers HTTP.
func firstAnswer(cmd *exec.Cmd, socket, path string) (*process, time.Duration, error) {
	client := overSocket(socket)
	if cmd.Env == nil {
		cmd.Env = append(os.Environ(), "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent")
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	p := &process{cmd: cmd}
	for deadline := began.Add(10 * time.Second); time.Now().Before(deadline); {
		response, err := client.Get("http://agent" + path)
		if err != nil {
			time.Sleep(100 * time.Microsecond) // not a test: the resolution of this measurement
			continue
		}
		io.Copy(io.Discard, response.Body) //nolint:errcheck
		response.Body.Close()
		return p, time.Since(began), nil
	}
	p.stop()
	return nil, 0, fmt.Errorf("%s did not answer", filepath.Base(cmd.Path))
}

func (b *bench) starts() ([]row, error) {
	var ours, missing, deps, bare []time.Duration
	state, err := os.MkdirTemp(b.work, "start-")
	if err != nil {
		return nil, err
	}
	for i := range 4*b.rounds + 1 {
		socket := filepath.Join(state, "s")
		for _, keys := range []struct {
			args  []string
			times *[]time.Duration
		}{
			{[]string{"--device-key", "software"}, &ours},
			{[]string{"--device-key", "tpm", "--tpm", filepath.Join(state, "no-tpm")}, &missing},
		} {
			p, took, err := firstAnswer(exec.Command(b.program("countersignd"), append([]string{"run", "--state", state, "--socket", socket, "--vault-key", "file",
				"--loopback-ports", "0", "--log-level", "error"}, keys.args...)...), socket, "/v1/status")
			if err != nil {
				return nil, err
			}
			p.stop()
			if i > 0 { // the first start makes the state
				*keys.times = append(*keys.times, took)
			}
		}
		for floor, times := range map[string]*[]time.Duration{"ddeps": &deps, "dbare": &bare} {
			socket := filepath.Join(b.work, floor+strconv.Itoa(i))
			p, took, err := firstAnswer(exec.Command(b.floor(floor), socket), socket, "/")
			if err != nil {
				return nil, err
			}
			p.stop()
			*times = append(*times, took)
		}
	}
	self := func(d time.Duration) time.Duration { return d }
	// Twenty milliseconds are what a missing TPM may cost.
	more := middle(missing, self) - middle(ours, self)
	return []row{{what: "14 what a missing TPM adds to the start : 20 ms", ours: us(more), floor: us(20 * time.Millisecond),
		ratio: quotient(more, 20*time.Millisecond), goal: 1, atMost: true},
		{what: "14 start to first answer : daemon with the same libraries", ours: us(middle(ours, self)), floor: us(middle(deps, self)),
			ratio: quotient(middle(ours, self), middle(deps, self)), goal: 2, atMost: true},
		{what: "14 start to first answer : bare daemon", ours: us(middle(ours, self)), floor: us(middle(bare, self)),
			ratio: quotient(middle(ours, self), middle(bare, self)), goal: 2, atMost: true}}, nil
}

// idle measures memory at rest, wake-ups, and memory after work.
func (b *bench) idle() ([]row, error) {
	org, err := start(b.floor("barepath"), "org")
	if err != nil {
		return nil, err
	}
	defer org.stop()
	socket := filepath.Join(b.work, "idle")
	deps, _, err := firstAnswer(exec.Command(b.floor("ddeps"), socket), socket, "/")
	if err != nil {
		return nil, err
	}
	defer deps.stop()
	enrolled, err := b.agent(b.work, org.ready.URL, 10)
	if err != nil {
		return nil, err
	}
	// A fresh start with ten accounts, as after a login.
	state := filepath.Dir(enrolled.ready.Socket)
	enrolled.stop()
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	ours, err := start(b.program("countersignd"), "run", "--state", state, "--socket", filepath.Join(state, "s"), "--vault-key", "file",
		"--loopback-ports", strconv.Itoa(port), "--log-level", "error")
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	time.Sleep(15 * time.Second) // let the work after the start end
	before := ours.switches()
	time.Sleep(20 * time.Second)
	wakeUps := ours.switches() - before
	oursIdle, depsIdle := ours.rss(), deps.rss()

	if _, err := load(org.ready.URL, "http://localhost:"+strconv.Itoa(port), ours, 8, 5000); err != nil {
		return nil, err
	}
	client := overSocket(socket)
	for range 5000 {
		response, err := client.Get("http://agent/sign")
		if err != nil {
			return nil, err
		}
		io.Copy(io.Discard, response.Body) //nolint:errcheck
		response.Body.Close()
	}
	oursAfter, depsAfter := ours.rss(), deps.rss()
	time.Sleep(30 * time.Second)
	settled := ours.rss()
	return []row{
		{what: "12 memory at rest, 10 accounts : daemon with the same libs", ours: mib(oursIdle), floor: mib(depsIdle), ratio: oursIdle / depsIdle, goal: 1.5, atMost: true, gate: true},
		{what: "12 memory at rest : 15 MiB", ours: mib(oursIdle), floor: mib(15 << 20), ratio: oursIdle / (15 << 20), goal: 1, atMost: true, gate: true},
		{what: "13 memory after 5,000 answers : same libs after 5,000", ours: mib(oursAfter), floor: mib(depsAfter), ratio: oursAfter / depsAfter, goal: 1.3, atMost: true, gate: true},
		{what: "13 memory 30 s later : at rest", ours: mib(settled), floor: mib(oursIdle), ratio: settled / oursIdle, goal: 1.2, atMost: true, gate: true},
		{what: "15 wake-ups in 20 s at rest : 1", ours: fmt.Sprintf("%.0f", wakeUps), floor: "1", ratio: wakeUps, goal: 0, atMost: true, gate: true},
	}, nil
}

func (b *bench) sizes() ([]row, error) {
	ours, err := os.Stat(b.program("countersignd"))
	if err != nil {
		return nil, err
	}
	deps, err := os.Stat(b.floor("ddeps"))
	if err != nil {
		return nil, err
	}
	tray, err := os.Stat(b.program("countersign-tray"))
	if err != nil {
		return nil, err
	}
	icon, err := os.Stat(b.floor("dtray"))
	if err != nil {
		return nil, err
	}
	return []row{{what: "16 size of the daemon : daemon with the same libraries", ours: mib(float64(ours.Size())), floor: mib(float64(deps.Size())),
		ratio: float64(ours.Size()) / float64(deps.Size()), goal: 1.6, atMost: true, gate: true},
		{what: "   size of the tray : icon by the same library alone", ours: mib(float64(tray.Size())), floor: mib(float64(icon.Size())),
			ratio: float64(tray.Size()) / float64(icon.Size()), goal: 2.5, atMost: true}}, nil
}
