//go:build linux

// Package bustest gives tests a system bus of their own, services on it made
// with python-dbusmock, and strangers.
package bustest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience is for programs that start.
const patience = 20 * time.Second

// config lets everybody own and send everything: what root's policy forbids on
// a real system bus must not be what makes a test pass.
const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><servicedir>%s</servicedir><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

// services is the folder of the services that the bus can start.
const services = "services"

// Startable tells a bus of a service that it can start with a command.
func Startable(t testing.TB, address, name, command string) {
	t.Helper()
	path, _, _ := strings.Cut(strings.TrimPrefix(address, "unix:path="), ",")
	text := fmt.Sprintf("[D-BUS Service]\nName=%s\nExec=%s\n", name, command)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), services, name+".service"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Conn(t, address).BusObject().Call("org.freedesktop.DBus.ReloadConfig", 0).Err; err != nil {
		t.Fatal(err)
	}
}

// Start runs a bus that counts as the system bus until the test ends, and
// returns its address.
func Start(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // a socket's path holds 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "config")
	if err := os.Mkdir(filepath.Join(dir, services), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, config, filepath.Join(dir, "bus"), filepath.Join(dir, services)), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(need(t, "dbus-daemon", "dbus"), "--nofork", "--nopidfile", "--print-address", "--config-file="+file)
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	run(t, daemon)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon: %v", err)
	}
	address = strings.TrimSpace(address)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	return address
}

func need(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing; install the package %s", program, pkg)
	}
	return path
}

func run(t testing.TB, c *exec.Cmd) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
}

// Conn is a stranger on the bus.
func Conn(t testing.TB, address string) *dbus.Conn {
	t.Helper()
	c, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Mock is a service made with python-dbusmock.
type Mock struct {
	t     testing.TB
	conn  *dbus.Conn
	name  string
	path  dbus.ObjectPath
	calls chan *dbus.Signal
}

const mock = "org.freedesktop.DBus.Mock"

// NewMock starts a service with one object of one interface.
func NewMock(t testing.TB, address, name string, path dbus.ObjectPath, iface string) *Mock {
	t.Helper()
	m := &Mock{t: t, conn: Conn(t, address), name: name, path: path, calls: make(chan *dbus.Signal, 256)}
	m.conn.Signal(m.calls)
	err := m.conn.AddMatchSignal(dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name))
	if err == nil {
		err = m.conn.AddMatchSignal(dbus.WithMatchInterface(mock), dbus.WithMatchMember("MethodCalled"))
	}
	if err != nil {
		t.Fatal(err)
	}
	const python = "/usr/bin/python3" // the one that the package is for
	if out, err := exec.Command(python, "-c", "import dbusmock").CombinedOutput(); err != nil {
		t.Fatalf("python-dbusmock is missing; install the package python3-dbusmock: %s", out)
	}
	run(t, exec.Command(python, "-m", "dbusmock", "--system", name, string(path), iface))
	for {
		if s := m.next(); strings.HasSuffix(s.Name, ".NameOwnerChanged") {
			return m
		}
	}
}

func (m *Mock) next() *dbus.Signal {
	m.t.Helper()
	select {
	case s := <-m.calls:
		return s
	case <-time.After(patience):
		m.t.Fatalf("%s does nothing", m.name)
		return nil
	}
}

// AddObject adds another object.
func (m *Mock) AddObject(path dbus.ObjectPath, iface string) {
	m.t.Helper()
	type method struct{ Name, In, Out, Code string }
	m.must(m.conn.Object(m.name, m.path).Call(mock+".AddObject", 0, path, iface, map[string]dbus.Variant{}, []method{}))
}

// Method makes a method of an object run Python code, which has args and sets
// ret. It replaces one of that name.
func (m *Mock) Method(path dbus.ObjectPath, iface, name, in, out, code string) {
	m.t.Helper()
	m.must(m.conn.Object(m.name, path).Call(mock+".AddMethod", 0, iface, name, in, out, code))
}

// Await waits until methods of these names were called, in this order, others
// in between.
func (m *Mock) Await(names ...string) {
	m.t.Helper()
	for len(names) > 0 {
		if s := m.next(); s.Name == mock+".MethodCalled" && s.Body[0] == names[0] {
			names = names[1:]
		}
	}
}

// Calls lists the names of the methods that an object was asked for since the
// last time.
func (m *Mock) Calls(path dbus.ObjectPath) []string {
	m.t.Helper()
	var calls []struct {
		At   uint64
		Name string
		Args []dbus.Variant
	}
	object := m.conn.Object(m.name, path)
	if err := object.Call(mock+".GetCalls", 0).Store(&calls); err != nil {
		m.t.Fatal(err)
	}
	m.must(object.Call(mock+".ClearCalls", 0))
	var names []string
	for _, c := range calls {
		names = append(names, c.Name)
	}
	return names
}

func (m *Mock) must(c *dbus.Call) {
	m.t.Helper()
	if c.Err != nil {
		m.t.Fatal(c.Err)
	}
}

// Everybody lists the unique names on the bus.
func Everybody(t testing.TB, c *dbus.Conn) []string {
	t.Helper()
	var names []string
	if err := c.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&names); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, ":") })
}

// Raise is Python code that answers with an error.
func Raise(name string) string {
	return fmt.Sprintf("raise dbus.exceptions.DBusException('no', name=%q)", name)
}
