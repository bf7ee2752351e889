package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"

	"countersign.dev/e2e/harness"
)

// codesARound is how often each program prints its code in a round.
const codesARound = 60

var sixDigits = regexp.MustCompile(`^[0-9]{6}\n$`)

// codes compares one code on the command line, which the agent makes, with
// programs that have the seed themselves.
func (b *bench) codes() ([]row, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	state, err := os.MkdirTemp(b.work, "org-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := start(b.program("countersign-org"), "serve", "--demo", "--state", state, "--listen", "127.0.0.1:"+strconv.Itoa(port), "--log-level", "error")
	if err != nil {
		return nil, err
	}
	defer server.stop()
	const login = "alice@example.com"
	w, err := b.waiter(ctx, harness.RunningOrg("http://localhost:"+strconv.Itoa(port), server.ready.AdminToken, b.program("countersign-org")), login)
	if err != nil {
		return nil, err
	}
	defer w.process.stop()

	type contender struct {
		what  string
		args  []string
		goal  float64
		times []time.Duration
	}
	ours := &contender{args: []string{b.program("countersign"), "--socket", w.client.Socket(), "code", "get", login}}
	all := []*contender{ours, {what: "cobra, no agent", args: []string{b.floor("ccobra"), "code", "get", login}, goal: 1.5}}
	if path, err := exec.LookPath("oathtool"); err == nil {
		all = append(all, &contender{what: "oathtool", args: []string{path, "--totp", "--base32", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}, goal: 3.5})
	}
	for range codesARound * b.rounds {
		for _, c := range all { // in turn, so that all see the same other load
			began := time.Now()
			out, err := exec.CommandContext(ctx, c.args[0], c.args[1:]...).Output()
			if err != nil || !sixDigits.Match(out) {
				return nil, fmt.Errorf("%s printed %q: %w", c.args[0], out, err)
			}
			c.times = append(c.times, time.Since(began))
		}
	}
	p50 := func(c *contender) time.Duration {
		slices.Sort(c.times)
		return c.times[len(c.times)/2]
	}
	var rows []row
	for _, c := range all[1:] {
		rows = append(rows, row{what: "11 one code on the command line, p50 : " + c.what, ours: us(p50(ours)), floor: us(p50(c)),
			ratio: quotient(p50(ours), p50(c)), goal: c.goal, atMost: true})
	}
	return rows, nil
}
