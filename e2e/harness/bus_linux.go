package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/godbus/dbus/v5"
)

// Bus is a message bus of the tests' own. It serves at one address for as long
// as the test lasts, whether or not it runs.
type Bus struct {
	Address string

	name, dir string
	env       []string
	daemon    *Process
}

// busConfig lets everybody own and send everything: what a policy forbids must
// not be what makes a test pass. The one service that the bus may start is the
// one that the panel keeps its settings in.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>%s</listen><auth>EXTERNAL</auth><servicedir>%s</servicedir>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

const xfconfService = "/usr/share/dbus-1/services/org.xfce.Xfconf.service"

func newBus(dir, name string, env []string) (*Bus, error) {
	b := &Bus{Address: "unix:path=" + filepath.Join(dir, name), name: name, dir: dir, env: env}
	services := filepath.Join(dir, name+".services")
	if err := os.MkdirAll(services, 0o700); err != nil {
		return nil, err
	}
	if service, err := os.ReadFile(xfconfService); err == nil {
		if err := os.WriteFile(filepath.Join(services, filepath.Base(xfconfService)), service, 0o600); err != nil {
			return nil, err
		}
	}
	return b, os.WriteFile(b.config(), fmt.Appendf(nil, busConfig, b.Address, services), 0o600)
}

func (b *Bus) config() string { return filepath.Join(b.dir, b.name+".conf") }

// Start starts the bus, for the first time or again after Kill.
func (b *Bus) Start(ctx context.Context) error {
	os.Remove(filepath.Join(b.dir, b.name))
	p, err := launch(b.dir, b.name, b.env, "dbus-daemon", "--nofork", "--nopidfile", "--config-file="+b.config())
	if err != nil {
		return err
	}
	b.daemon = p
	up := func() bool {
		c, err := dbus.Connect(b.Address)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	if !await(ctx, up) {
		return fmt.Errorf("starting the bus %s: %w\n%s", b.name, context.Cause(ctx), p.Tail())
	}
	return nil
}

// Kill ends the bus; everybody on it is cut off.
func (b *Bus) Kill() { b.daemon.Kill() }

// Connect is a stranger on the bus. The caller closes it.
func (b *Bus) Connect() (*dbus.Conn, error) { return dbus.Connect(b.Address) }

// Awaits waits until somebody owns a name on the bus.
func (b *Bus) Awaits(ctx context.Context, name string) error {
	c, err := b.Connect()
	if err != nil {
		return err
	}
	defer c.Close()
	owned := func() bool {
		var there bool
		err = c.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&there)
		return err != nil || there
	}
	if !await(ctx, owned) {
		return fmt.Errorf("waiting for %s on the bus: %w", name, context.Cause(ctx))
	}
	return err
}

// launch starts a program that is not ours, in a process group of its own. All
// it says goes to the log.
func launch(dir, name string, env []string, bin string, args ...string) (*Process, error) {
	path, err := exec.LookPath(bin)
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w (run: tools/setup test)", bin, err)
	}
	logPath := filepath.Join(dir, name+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = env, log, log, ownGroup()
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{Name: name, Log: logPath, cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		p.err = cmd.Wait()
		log.Close()
	}()
	return p, nil
}
