// Package helper is what countersign-sk runs: one operation on one security key,
// in a process of its own that ends with it.
//
// The agent never talks to a key. A key may be hostile or broken, the library that
// talks to it is C, and its calls may hang: so each operation is a process that
// has shut itself in before it opens the key (see sandbox_linux.go), that has a
// deadline, and that may be killed at any time. It asks for a PIN only when the key
// wants one, tries it once, and keeps nothing.
//
// While a key waits for its owner it stays busy until it is told to stop. So an
// operation that ends early, by its deadline, by the end of its input (the agent is
// gone, or wants no more) or by SIGTERM, cancels until the library's call returns,
// and gives up soon: the process ends with it.
//
// Built without cgo it answers every request that it cannot.
package helper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"countersign.dev/authenticators/securitykey/wire"
)

// Bounds of what a request may say.
const (
	maxPatience = 10 * time.Minute
	firstFrame  = 10 * time.Second // within which the request is there
)

// fail is an error of the protocol.
func fail(code, format string, args ...any) *wire.Error {
	return &wire.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Run serves one request, and gives the exit code: 0 after a result, 1 after an
// error that was reported, 2 when nobody listens.
func Run(in, out *os.File) int {
	// The library prints to the standard output in one of its calls: that is ours.
	os.Stdout = os.Stderr
	// To listen takes a while, which the agent does not wait for when it has started
	// this ahead. One that is told to stop before it knows what to do does so then, or
	// when its input ends.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	late := time.AfterFunc(firstFrame, func() { os.Exit(2) })
	req := &wire.Request{}
	err := wire.Read(in, req)
	late.Stop()
	var result *wire.Result
	switch {
	case errors.Is(err, io.EOF):
		return 2 // nobody wants anything
	case err != nil:
		err = fail(wire.BadRequest, "%v", err)
	case req.Version != wire.Version:
		err = fail(wire.BadRequest, "version %d of the protocol is asked for, this is %d", req.Version, wire.Version)
	case req.Patience() <= 0 || req.Patience() > maxPatience:
		err = fail(wire.BadRequest, "a timeout of %d ms", req.Timeout)
	default:
		result, err = serve(in, out, signals, req)
	}
	return end(out, result, err)
}

// end writes the last frame.
func end(out io.Writer, result *wire.Result, err error) int {
	r := wire.Reply{Version: wire.Version, Result: result}
	if err != nil {
		var e *wire.Error
		if !errors.As(err, &e) {
			e = fail(wire.Failed, "%v", err)
		}
		r.Result, r.Error = nil, e
	}
	if wire.Write(out, &r) != nil {
		return 2
	}
	if err != nil {
		return 1
	}
	return 0
}
