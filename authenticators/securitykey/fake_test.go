//go:build unix

package securitykey

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"countersign.dev/authenticators/securitykey/wire"
)

// TestMain is the helper, too, when a script of fake calls it.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "fake-helper" {
		pretend(os.Args[2])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var twoKeys = []wire.Info{
	{Identity: wire.Identity{Path: "/dev/hidraw0", VendorID: 0x1050, ProductID: 0x407, Product: "One", AAGUID: "2fc0579f-8113-47ea-b116-bb5a8db9202a", Arrival: "usb 1.2"},
		Firmware: "5.4.3", Versions: []string{"FIDO_2_0"}, Options: map[string]bool{"clientPin": true}},
	{Identity: wire.Identity{Path: "/dev/hidraw1", VendorID: 0x1209, Product: "Two", Arrival: "usb 1.3"}, Versions: []string{"U2F_V2"}},
}

// pretend is a helper that behaves as the mode says.
func pretend(mode string) {
	if mode == "reads nothing" {
		time.Sleep(time.Minute)
	}
	var req wire.Request
	if err := wire.Read(os.Stdin, &req); err != nil {
		os.Exit(3)
	}
	say := func(r wire.Reply) {
		if r.Version == 0 {
			r.Version = wire.Version
		}
		if wire.Write(os.Stdout, &r) != nil {
			os.Exit(4)
		}
	}
	note := func(text string) {
		if dir := filepath.Dir(os.Getenv("FAKE_NOTES")); dir != "." {
			f, _ := os.OpenFile(os.Getenv("FAKE_NOTES"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			fmt.Fprintln(f, text)
			f.Close()
		}
	}
	if req.Op == wire.List {
		infos := twoKeys
		switch mode {
		case "one", "pin":
			infos = infos[:1]
		case "terminal":
			infos = slices.Clone(infos[:1])
			infos[0].Path = "/dev/pts/1"
		case "many":
			infos = slices.Repeat(infos[:1], maxKeys+1)
		}
		lacks := ""
		if mode == "open" {
			lacks = "no landlock"
		}
		say(wire.Reply{Result: &wire.Result{Keys: infos, Log: lacks}})
		return
	}
	ok := func() { say(wire.Reply{Result: &wire.Result{Info: &twoKeys[0]}}) }
	switch mode {
	case "one", "two":
		if req.Op == wire.Select && req.Device != "/dev/hidraw1" {
			say(wire.Reply{Event: wire.Touch})
			note("began " + req.Device)
			_, err := io.Copy(io.Discard, os.Stdin) // until told to stop
			note(fmt.Sprint("stopped ", req.Device, " ", err))
			say(wire.Reply{Error: &wire.Error{Code: wire.Cancelled}})
			return
		}
		if req.Op == wire.Select { // touched once the other one waits, too
			for {
				if b, _ := os.ReadFile(os.Getenv("FAKE_NOTES")); strings.Contains(string(b), "began") {
					break
				}
				time.Sleep(time.Millisecond)
			}
		}
		ok()
	case "environment":
		say(wire.Reply{Error: &wire.Error{Code: wire.Failed, Message: strings.Join(os.Environ(), " ")}})
	case "pin", "pin twice", "wrong pin":
		for range map[string]int{"pin": 1, "pin twice": 2, "wrong pin": 1}[mode] {
			say(wire.Reply{Event: wire.NeedPIN, TriesLeft: 5})
			var pin wire.PIN
			if err := wire.Read(os.Stdin, &pin); err != nil {
				note("no PIN")
				say(wire.Reply{Error: &wire.Error{Code: wire.Cancelled}})
				return
			}
			note(fmt.Sprintf("PIN %s old %s", pin.PIN, pin.Old))
		}
		if mode == "wrong pin" {
			say(wire.Reply{Error: &wire.Error{Code: wire.WrongPIN, TriesLeft: 4}})
			return
		}
		ok()
	case "wrong PIN unasked":
		say(wire.Reply{Error: &wire.Error{Code: wire.WrongPIN, TriesLeft: 1}})
	case "garbage":
		fmt.Print("\x00\x00\x00\x05hello")
	case "text":
		fmt.Print("libfido2: something went wrong\n")
	case "huge frame":
		os.Stdout.Write(binary.BigEndian.AppendUint32(nil, wire.MaxFrame+1))
		time.Sleep(time.Minute)
	case "endless frame":
		os.Stdout.Write(binary.BigEndian.AppendUint32(nil, 0xffffffff))
		for {
			if _, err := os.Stdout.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	case "half a frame":
		os.Stdout.Write([]byte{0, 0, 0, 200, '{'})
	case "newer":
		say(wire.Reply{Version: wire.Version + 1, Result: &wire.Result{}})
	case "older":
		say(wire.Reply{Version: -1, Event: wire.Touch})
		time.Sleep(time.Minute)
	case "silence":
		io.Copy(io.Discard, os.Stdin)
		time.Sleep(time.Minute)
	case "deaf": // to everything but SIGKILL
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		time.Sleep(time.Minute)
	case "dies":
		fmt.Fprintln(os.Stderr, "free(): invalid pointer"+strings.Repeat("x", 1<<20))
		syscall.Kill(os.Getpid(), syscall.SIGABRT)
		time.Sleep(time.Minute)
	case "goes quietly":
	case "two ends":
		ok()
		ok()
	case "an error and more":
		say(wire.Reply{Error: &wire.Error{Code: wire.NotAllowed}})
		ok()
	case "does not leave":
		ok()
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Minute)
	case "leaves a child": // in a session of its own, with its output
		child := exec.Command("/bin/sleep", "30")
		child.Stdout, child.Stderr, child.SysProcAttr = os.Stdout, os.Stderr, &syscall.SysProcAttr{Setsid: true}
		if child.Start() != nil {
			os.Exit(6)
		}
		note(fmt.Sprint(child.Process.Pid))
		ok()
	case "both":
		say(wire.Reply{Result: &wire.Result{}, Error: &wire.Error{Code: wire.NoKey}})
	case "event and end":
		say(wire.Reply{Event: wire.Touch, Result: &wire.Result{}})
	case "unknown event":
		say(wire.Reply{Event: "format_disk"})
		time.Sleep(time.Minute)
	case "nothing":
		say(wire.Reply{})
	case "endless events":
		for {
			say(wire.Reply{Event: wire.Touch})
		}
	case "empty result":
		say(wire.Reply{Result: &wire.Result{}})
	case "not built":
		say(wire.Reply{Error: &wire.Error{Code: wire.NotBuilt}})
	case "unknown code":
		say(wire.Reply{Error: &wire.Error{Code: "\x1b[31mred", Message: "\x1b[31mred"}})
	default:
		os.Exit(5)
	}
}

// world is a fake helper, and what it noted.
type world struct {
	*Keys
	helper, notes string
	log           *bytes.Buffer
}

// fake makes Keys whose helper behaves as the mode says.
func fake(t *testing.T, mode string) *world {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{helper: filepath.Join(t.TempDir(), "countersign-sk"), log: &bytes.Buffer{}}
	w.notes = filepath.Join(t.TempDir(), "notes")
	keep := ""
	if mode != "environment" {
		// Under the race detector a program sleeps for a second before it ends.
		keep = "FAKE_NOTES=" + w.notes + " GORACE=atexit_sleep_ms=0\nexport FAKE_NOTES GORACE\n"
	}
	script := fmt.Sprintf("#!/bin/sh\n%sexec '%s' fake-helper '%s'\n", keep, self, mode)
	program(t, w.helper, []byte(script))
	w.Keys = New(Options{Helper: w.helper, Owner: os.Getuid(), Log: textLog(w.log)})
	t.Cleanup(w.Close)
	return w
}

func (w *world) noted(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(w.notes)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// first is the id of the first key.
func (w *world) first(t *testing.T) string {
	t.Helper()
	keys, err := w.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys[0].ID
}

func soon(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func pinOf(s string) wire.PIN   { return wire.PIN{PIN: []byte(s)} }
func infoRequest() wire.Request { return wire.Request{Op: wire.Inspect} }

// program writes a program, so that no child that is started meanwhile holds it open.
func program(t *testing.T, path string, script []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, script, 0o700); err != nil {
		t.Fatal(err)
	}
}
