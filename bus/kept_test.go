//go:build linux

package bus_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"countersign.dev/bus"
	"countersign.dev/bus/bustest"
)

const (
	service  = "test.Service"
	path     = dbus.ObjectPath("/test")
	patience = 20 * time.Second
)

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("waited in vain for " + what)
	}
}

// serve gives c the name of the service.
func serve(t *testing.T, c *dbus.Conn) {
	t.Helper()
	if _, err := c.RequestName(service, dbus.NameFlagReplaceExisting|dbus.NameFlagAllowReplacement|dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
}

func follow(t *testing.T, matches ...bus.Match) *bus.Kept {
	t.Helper()
	k, err := bus.KeepSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	if err := k.Follow(t.Context(), service, matches...); err != nil {
		t.Fatal(err)
	}
	return k
}

func next(t *testing.T, k *bus.Kept) bus.News {
	t.Helper()
	select {
	case n := <-k.News():
		return n
	case <-time.After(patience):
		t.Fatal("no news")
		return bus.News{}
	}
}

// A service comes, speaks, changes hands and goes; in between nobody else is
// believed (B4).
func TestB4ServicesComeAndGo(t *testing.T) {
	address := bustest.StartSession(t)
	k := follow(t, bus.Match{Path: path, Interface: service, Member: "Said", Arg0: "it's"})
	if k.There(service) || k.Call(t.Context(), service, path, service+".Ask").Err != bus.ErrNoService {
		t.Fatal("a service that is not there")
	}
	says := func(want string) {
		t.Helper()
		n := next(t, k)
		if n.Service != service || n.Signal == nil || len(n.Signal.Body) != 2 || n.Signal.Body[1] != want {
			t.Fatalf("%+v, want %q", n, want)
		}
	}
	changes := func(there bool) {
		t.Helper()
		if n := next(t, k); n != (bus.News{Service: service}) || k.There(service) != there {
			t.Fatalf("%+v, there: %v", n, k.There(service))
		}
	}
	first, second := bustest.Conn(t, address), bustest.Conn(t, address)
	bustest.Forge(t, first, path, service, "Said", "it's", "before")
	serve(t, first)
	changes(true)
	bustest.Forge(t, second, path, service, "Said", "it's", "forged")
	for _, other := range []struct{ member, arg string }{{"Other", "it's"}, {"Said", "other"}} {
		if err := first.Emit(path, service+"."+other.member, other.arg, "unwanted"); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Emit(path, service+".Said", "it's", "one"); err != nil {
		t.Fatal(err)
	}
	says("one")
	// A question that is open when the service changes hands has no answer.
	asked, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	if err := first.ExportMethodTable(map[string]any{"Ask": func() *dbus.Error { close(asked); <-end; return nil }}, path, service); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() { answer <- k.Call(context.Background(), service, path, service+".Ask").Err }()
	within(t, "the question", asked)
	serve(t, second)
	changes(true)
	if err := <-answer; !errors.Is(err, bus.ErrReplaced) {
		t.Errorf("a question to a service that is gone: %v", err)
	}
	bustest.Forge(t, first, path, service, "Said", "it's", "afterwards")
	if err := second.Emit(path, service+".Said", "it's", "two"); err != nil {
		t.Fatal(err)
	}
	says("two")
	second.Close()
	changes(false)
}

// Somebody who waits is told when the bus ends.
func TestEndOfABus(t *testing.T) {
	d := bustest.Run(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", d.Address)
	serve(t, bustest.Conn(t, d.Address))
	k := follow(t)
	b, err := bus.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Find(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	d.Stop()
	within(t, "the end of a Kept", k.Done())
	within(t, "the end of a Bus", b.Done())
	within(t, "the end of the service", b.Gone())
	if err := k.Call(t.Context(), service, path, service+".Ask").Err; err == nil {
		t.Error("a call without a bus")
	}
	if k.Follow(t.Context(), "test.Other") == nil {
		t.Error("followed without a bus")
	}
}

// A service that floods is cut off, which is told; nothing piles up.
func TestFloodEndsTheConnection(t *testing.T) {
	c := bustest.Conn(t, bustest.StartSession(t))
	serve(t, c)
	k := follow(t, bus.Match{})
	for range 2000 {
		if err := c.Emit(path, service+".Said", "again"); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "the end", k.Done())
}

// A kept connection outlives the time that connecting was given.
func TestKeptOutlivesItsConnecting(t *testing.T) {
	c := bustest.Conn(t, bustest.StartSession(t))
	ctx, cancel := context.WithCancel(t.Context())
	k, err := bus.KeepSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	cancel()
	if err := k.Follow(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	serve(t, c)
	if n := next(t, k); n.Service != service {
		t.Fatalf("%+v", n)
	}
}

func TestFile(t *testing.T) {
	c := bustest.Conn(t, bustest.StartSession(t))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd := dbus.UnixFD(w.Fd())
	if err := c.ExportMethodTable(map[string]any{"Open": func() (dbus.UnixFD, *dbus.Error) { return fd, nil }}, path, service); err != nil {
		t.Fatal(err)
	}
	serve(t, c)
	k := follow(t)
	f, err := k.File(t.Context(), service, path, service+".Open")
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := f.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	buf := make([]byte, 8)
	if n, err := r.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if n, err := r.Read(buf); n != 0 || err == nil {
		t.Errorf("the file is still open somewhere: %q, %v", buf[:n], err)
	}
	if _, err := k.File(t.Context(), service, path, service+".Nothing"); err == nil {
		t.Error("a method that does not exist")
	}
}
