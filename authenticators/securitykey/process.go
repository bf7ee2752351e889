package securitykey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"countersign.dev/authenticators/securitykey/wire"
)

// operation is one run of the helper.
type operation struct {
	req      wire.Request
	time     time.Duration
	pin      wire.PIN // sent when the key wants it
	sent     bool     // it was
	progress Progress
	key      Key // for progress
}

// grace is how long the helper may take beyond the operation's time, and then to
// end once it was told to.
const (
	grace   = 1200 * time.Millisecond
	dying   = 1200 * time.Millisecond
	maxSaid = 4 << 10 // of its standard error
	// maxEvents bounds what a helper may say before its result.
	maxEvents = 200
)

// run starts the helper, and returns when it has ended.
func (ks *Keys) run(ctx context.Context, op operation) (_ *wire.Result, err error) {
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	path, err := ks.helper()
	if err != nil {
		return nil, err
	}
	patience := op.time
	if deadline, ok := ctx.Deadline(); ok {
		patience = max(time.Millisecond, min(patience, time.Until(deadline)))
	}
	op.req.PINAtHand = len(op.pin.PIN) > 0
	op.req.Version, op.req.Timeout = wire.Version, int(patience.Milliseconds()+1)
	p, err := ks.begin(path, &op.req)
	if err != nil {
		return nil, &HelperError{path, "does not start: " + err.Error()}
	}
	switch op.req.Op {
	case wire.List, wire.Inspect, wire.Select, wire.Holds: // who looks for a key means to use it
		ks.ahead(path)
	}
	if p == nil {
		return nil, ErrUnsupported // a request that is too long
	}
	type outcome struct {
		result *wire.Result
		err    error
	}
	done := make(chan outcome, 1)
	go func() { // ends when the helper's output does, which kill sees to
		result, err := talk(p, &op)
		done <- outcome{result, err}
	}()
	var o outcome
	late := time.NewTimer(patience + grace)
	defer late.Stop()
	select {
	case o = <-done:
	case <-ctx.Done():
		p.stdin.Close() // it cancels, says so, and ends
		end := time.NewTimer(dying)
		select {
		case o = <-done:
		case <-end.C:
			p.kill()
			o = <-done
		}
		end.Stop()
		// What was done is done, also if nobody waited for it any more.
		if o.result == nil {
			o.err = ended(ctx)
		}
	case <-late.C:
		p.kill()
		if o = <-done; o.result == nil {
			o.err = ErrTimedOut
		}
	}
	state := p.wait()
	if said := p.said.String(); said != "" {
		ks.o.Log.Warn("security-key helper", "op", op.req.Op, "said", strconv.QuoteToASCII(said))
	}
	var e *wire.Error
	switch {
	case errors.As(o.err, &e):
		ks.o.Log.Info("security-key helper", "op", op.req.Op, "code", strconv.QuoteToASCII(e.Code), "message", strconv.QuoteToASCII(e.Message))
		if e.Code == wire.WrongPIN && !op.sent {
			return nil, ErrBadKey // nobody has tried one
		}
		return nil, errorOf(e)
	case errors.Is(o.err, errNoEnd):
		// It died. Its key may be what killed it.
		ks.o.Log.Warn("security-key helper", "op", op.req.Op, "ended", state)
		return nil, &HelperError{path, "ended without a result: " + state}
	case o.err != nil:
		var foreign *HelperError
		if errors.As(o.err, &foreign) {
			foreign.Path = path
		}
		return nil, o.err
	}
	ks.mu.Lock()
	ks.lacks = o.result.Log
	ks.mu.Unlock()
	if o.result.Log != "" {
		ks.o.Log.Warn("security-key helper", "op", op.req.Op, "message", strconv.QuoteToASCII(o.result.Log))
	}
	return o.result, nil
}

// errNoEnd says that the helper's output ended before its result.
var errNoEnd = errors.New("the helper ended without a result")

// talk is the conversation with one helper after its request. Whatever breaks it ends the helper.
func talk(p *process, op *operation) (*wire.Result, error) {
	for range maxEvents {
		var r wire.Reply
		if err := wire.Read(p.stdout, &r); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, errNoEnd
			}
			return nil, p.foul("sent what is no frame of the protocol")
		}
		switch {
		case r.Version != wire.Version:
			return nil, p.foul(fmt.Sprintf("speaks version %d of the protocol, and this agent %d: install both from one package", r.Version, wire.Version))
		case r.Error != nil && r.Result == nil && r.Event == "":
			if err := p.quiet(); err != nil {
				return nil, err
			}
			return nil, r.Error
		case r.Result != nil && r.Error == nil && r.Event == "":
			if err := p.quiet(); err != nil {
				return nil, err
			}
			return r.Result, nil
		case r.Result != nil || r.Error != nil:
			return nil, p.foul("sent an event and an end in one")
		}
		switch r.Event {
		case wire.NeedPIN:
			if len(op.pin.PIN) == 0 {
				p.stdin.Close()
				p.drain()
				return nil, &PINNeededError{max(0, r.TriesLeft)}
			}
			err := wire.WritePIN(p.stdin, op.pin)
			op.pin, op.sent = wire.PIN{}, true // once
			if errors.Is(err, wire.ErrTooLong) {
				p.stdin.Close()
				p.drain()
				return nil, ErrPINRefused
			}
			if err != nil {
				return nil, errNoEnd
			}
		case wire.Touch, wire.Sample:
			if op.progress != nil {
				op.progress(Event{Key: op.key, State: r.Event, Left: max(0, r.Left)})
			}
		default:
			return nil, p.foul("sent an unknown event")
		}
	}
	return nil, p.foul("does not come to an end")
}

// process is a helper that runs.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	said   capped
	once   sync.Once   // of kill
	last   *time.Timer // its second half
}

func start(path string) (*process, error) {
	p := &process{cmd: exec.Command(path)}
	p.cmd.Env = environment()
	p.cmd.Dir = string(filepath.Separator)
	p.cmd.Stderr = &p.said
	p.cmd.WaitDelay = dying
	apart(p.cmd)
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return p, p.cmd.Start()
}

// foul ends a helper that breaks the protocol.
func (p *process) foul(why string) error {
	p.kill()
	return &HelperError{Why: why}
}

// quiet waits for the end of the helper after its last frame: nothing may follow.
func (p *process) quiet() error {
	p.stdin.Close()
	end := time.AfterFunc(dying, p.kill)
	defer end.Stop()
	if n, _ := io.Copy(io.Discard, io.LimitReader(p.stdout, 1)); n > 0 {
		return p.foul("went on after its end")
	}
	return nil
}

// drain lets a helper that was told to stop end by itself.
func (p *process) drain() {
	end := time.AfterFunc(dying, p.kill)
	defer end.Stop()
	_, _ = io.Copy(io.Discard, io.LimitReader(p.stdout, wire.MaxFrame))
}

// kill ends the helper: first it may still tell its key to stop. Who waits for its
// output, and wait, see it end; also if it has left somebody who holds that open.
func (p *process) kill() {
	p.once.Do(func() {
		p.stdin.Close()
		terminate(p.cmd)
		p.last = time.AfterFunc(dying, func() { destroy(p.cmd); p.stdout.Close() })
	})
}

// wait collects the helper, whose output has ended, and says how it did.
func (p *process) wait() string {
	end := time.AfterFunc(dying, p.kill)
	_ = p.cmd.Wait()
	end.Stop()
	p.once.Do(func() {}) // from here on there is nothing to kill
	if p.last != nil {
		p.last.Stop()
	}
	return p.cmd.ProcessState.String()
}

// capped keeps the beginning of what is written.
type capped struct{ b []byte }

func (c *capped) Write(p []byte) (int, error) {
	if room := maxSaid - len(c.b); room > 0 {
		c.b = append(c.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (c *capped) String() string { return string(c.b) }
