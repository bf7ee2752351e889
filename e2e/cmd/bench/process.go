package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one started program and what its ready line said.
type process struct {
	cmd   *exec.Cmd
	ready struct {
		URL          string `json:"url"`
		Socket       string `json:"socket"`
		LoopbackPort int    `json:"loopbackPort"`
		AdminToken   string `json:"adminToken"`
	}
}

func start(name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...)}
	p.cmd.Env = append(os.Environ(), "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent", "DISPLAY=")
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var log strings.Builder
	p.cmd.Stderr = &log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.ready)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s did not get ready: %w\n%s", filepath.Base(name), err, log.String())
	}
	go io.Copy(io.Discard, stdout) //nolint:errcheck // ends with the process
	return p, nil
}

func (p *process) stop() {
	if p == nil || p.cmd.Process == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck
	done := make(chan struct{})
	go func() { p.cmd.Wait(); close(done) }() //nolint:errcheck
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		p.cmd.Process.Kill() //nolint:errcheck
		<-done
	}
}

// cpu is the processor time the process has used so far.
func (p *process) cpu() time.Duration {
	var total time.Duration
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		ns, _, _ := strings.Cut(string(b), " ")
		n, _ := strconv.ParseInt(ns, 10, 64)
		total += time.Duration(n)
	}
	return total
}

// rss is the resident memory in bytes.
func (p *process) rss() float64 { return 1024 * p.status("VmRSS:", "status") }

// switches counts how often any thread was woken or suspended.
func (p *process) switches() float64 {
	var total float64
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.cmd.Process.Pid))
	for _, t := range tasks {
		total += p.status("voluntary_ctxt_switches:", "task/"+filepath.Base(t)+"/status")
	}
	return total
}

func (p *process) status(field, file string) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return n
		}
	}
	return 0
}
