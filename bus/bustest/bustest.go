//go:build linux

// Package bustest gives tests a system bus and a session bus of their own,
// services made with python-dbusmock, and strangers.
package bustest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	address := Run(t).Address
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	return address
}

// StartSession runs a bus that counts as the session bus until the test ends,
// and returns its address.
func StartSession(t testing.TB) string {
	t.Helper()
	address := Run(t).Address
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	return address
}

// Daemon is a bus that a test may stop, and start again at the same address.
type Daemon struct {
	Address string
	t       testing.TB
	file    string
	stop    func()
}

// Run runs a bus that counts as nothing yet until the test ends.
func Run(t testing.TB) *Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // a socket's path holds 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, services), 0o700); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{t: t, file: filepath.Join(dir, "config"), Address: "unix:path=" + filepath.Join(dir, "bus")}
	if err := os.WriteFile(d.file, fmt.Appendf(nil, config, filepath.Join(dir, "bus"), filepath.Join(dir, services)), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Start()
	return d
}

// Start starts a bus that was stopped.
func (d *Daemon) Start() {
	d.t.Helper()
	daemon := exec.Command(need(d.t, "dbus-daemon", "dbus"), "--nofork", "--nopidfile", "--print-address", "--config-file="+d.file)
	out, err := daemon.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	d.stop = run(d.t, daemon)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		d.t.Fatalf("dbus-daemon: %v", err)
	}
}

// Stop ends the bus and all connections to it.
func (d *Daemon) Stop() { d.stop() }

func need(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing; install the package %s", program, pkg)
	}
	return path
}

// run starts a program that the end of the test stops, or stop before that.
func run(t testing.TB, c *exec.Cmd) (stop func()) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		c.Process.Kill()
		c.Wait()
	})
	t.Cleanup(stop)
	return stop
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
	stop  func()
}

const mock = "org.freedesktop.DBus.Mock"

// NewMock starts a service with one object of one interface.
func NewMock(t testing.TB, address, name string, path dbus.ObjectPath, iface string) *Mock {
	t.Helper()
	return start(t, address, name, path, name, string(path), iface)
}

// NewTemplate starts one of python-dbusmock's own services; path is that of its
// main object.
func NewTemplate(t testing.TB, address, template, name string, path dbus.ObjectPath) *Mock {
	t.Helper()
	return start(t, address, name, path, "-t", template)
}

func start(t testing.TB, address, name string, path dbus.ObjectPath, args ...string) *Mock {
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
	service := exec.Command(python, append([]string{"-m", "dbusmock", "--system"}, args...)...)
	service.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+address, "DBUS_SESSION_BUS_ADDRESS="+address)
	m.stop = run(t, service)
	for {
		// A service may have its name before its objects are whole.
		if s := m.next(); strings.HasSuffix(s.Name, ".NameOwnerChanged") {
			m.must(m.conn.Object(name, path).Call("org.freedesktop.DBus.Introspectable.Introspect", 0))
			return m
		}
	}
}

// Stop ends the service.
func (m *Mock) Stop() { m.stop() }

// Do calls a method of the service as a stranger.
func (m *Mock) Do(path dbus.ObjectPath, method string, args ...any) {
	m.t.Helper()
	m.must(m.conn.Object(m.name, path).Call(method, 0, args...))
}

// Get asks a method of the service as a stranger.
func (m *Mock) Get(into any, path dbus.ObjectPath, method string, args ...any) {
	m.t.Helper()
	if err := m.conn.Object(m.name, path).Call(method, 0, args...).Store(into); err != nil {
		m.t.Fatal(err)
	}
}

// Set changes properties of an object, which tells of it.
func (m *Mock) Set(path dbus.ObjectPath, iface string, values map[string]any) {
	m.t.Helper()
	to := map[string]dbus.Variant{}
	for name, v := range values {
		to[name] = dbus.MakeVariant(v)
	}
	m.Do(path, mock+".UpdateProperties", iface, to)
}

// Emit has the service send a signal.
func (m *Mock) Emit(path dbus.ObjectPath, iface, name, signature string, args ...any) {
	m.t.Helper()
	values := []dbus.Variant{}
	for _, v := range args {
		values = append(values, dbus.MakeVariant(v))
	}
	m.Do(path, mock+".EmitSignal", iface, name, signature, values)
}

// Forge sends a signal in the place of a service: to everybody, and to each one
// alone, which no rule of theirs keeps away. It returns when the bus has passed
// it on.
func Forge(t testing.TB, stranger *dbus.Conn, path dbus.ObjectPath, iface, member string, body ...any) {
	t.Helper()
	if err := stranger.Emit(path, iface+"."+member, body...); err != nil {
		t.Fatal(err)
	}
	for _, name := range Everybody(t, stranger) {
		m := &dbus.Message{
			Type: dbus.TypeSignal,
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldDestination: dbus.MakeVariant(name), dbus.FieldPath: dbus.MakeVariant(path),
				dbus.FieldInterface: dbus.MakeVariant(iface), dbus.FieldMember: dbus.MakeVariant(member),
			},
			Body: body,
		}
		if len(body) > 0 {
			m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
		}
		stranger.Send(m, nil)
	}
	Everybody(t, stranger)
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
