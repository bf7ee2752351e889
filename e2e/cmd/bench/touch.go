package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"countersign.dev/e2e/softkey"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
)

// statusesARound is how many answers of the local API are measured in a row, and
// touchRounds how often in a round of the bench: the two kinds take turns, and
// medians of their quantiles count.
const (
	statusesARound = 600
	touchRounds    = 5
	// settling is for the helper to say that the key blinks, and to end: neither
	// round is to have that in it.
	settling = 400 * time.Millisecond
)

// touches compares the local API while a key waits for its owner with the same at
// rest, in one agent.
func (b *bench) touches() ([]row, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	finger := softkey.NewFinger()
	port, err := softkey.New(softkey.Options{PIN: keyPIN, Touch: finger.Touch}).Plug()
	if err != nil {
		return nil, err
	}
	defer port.Unplug()
	dir, err := os.MkdirTemp(b.work, "agent-")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "s")
	agent, err := start(b.program("countersignd"), "run", "--state", dir, "--socket", socket, "--vault-key", "file",
		"--loopback-ports", "0", "--log-level", "error", "--desktop", "off", "--security-key-device", port.Path)
	if err != nil {
		return nil, err
	}
	defer agent.stop()

	// To enable a key it is touched twice, and the second time it signs. It never is
	// enabled: the second touch is waited for in vain.
	blinking := func() (stop func() error, err error) {
		asking, give := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() {
			_, err := client.New(socket).SwitchVerification(asking, "security_key", api.EnableVerification{Enabled: true, KeyPIN: api.PIN(keyPIN)})
			done <- err
			give() // who waits for it to blink need not
		}()
		var ask *softkey.Wanted
		for _, step := range []softkey.Step{softkey.StepMake, softkey.StepAssert} {
			if ask != nil {
				ask.Touch()
			}
			if ask, err = finger.Wanted(asking); err != nil {
				give()
				return nil, errors.Join(err, <-done)
			}
			if ask.Step != step {
				give()
				<-done
				return nil, fmt.Errorf("the key blinks at %s", ask.Step)
			}
		}
		return func() error {
			select {
			case <-ask.Over:
				err = errors.New("the key does not wait any more")
			default:
			}
			give()
			<-done
			select {
			case <-ask.Over:
			case <-ctx.Done():
				err = errors.Join(err, ctx.Err())
			}
			return err
		}, nil
	}

	local := overSocket(socket)
	type latency struct{ p50, p99 time.Duration }
	statuses := func(rounds *[]latency) error {
		time.Sleep(settling)
		var times []time.Duration
		for range statusesARound {
			began := time.Now()
			response, err := local.Get("http://agent/v1/status")
			if err != nil {
				return err
			}
			io.Copy(io.Discard, response.Body) //nolint:errcheck
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("/v1/status answered %s", response.Status)
			}
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		*rounds = append(*rounds, latency{times[len(times)/2], times[len(times)*99/100]})
		return nil
	}
	var warm, waiting, rest []latency
	if err := statuses(&warm); err != nil {
		return nil, err
	}
	for range touchRounds * b.rounds {
		stop, err := blinking()
		if err != nil {
			return nil, err
		}
		err = statuses(&waiting)
		if err := errors.Join(err, stop()); err != nil {
			return nil, err
		}
		if err := statuses(&rest); err != nil {
			return nil, err
		}
	}
	var rows []row
	for _, q := range []struct {
		name string
		of   func(latency) time.Duration
	}{
		{"p50", func(l latency) time.Duration { return l.p50 }},
		{"p99", func(l latency) time.Duration { return l.p99 }},
	} {
		ours, floor := middle(waiting, q.of), middle(rest, q.of)
		rows = append(rows, row{what: "   /v1/status while a key waits for its touch, " + q.name + " : at rest", ours: us(ours), floor: us(floor),
			ratio: quotient(ours, floor), goal: 1.1, atMost: true})
	}
	return rows, nil
}
