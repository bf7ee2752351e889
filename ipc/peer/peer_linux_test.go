package peer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// TestMain lets the test binary be the other user's client: it connects, says
// so, and stays until its input ends.
func TestMain(m *testing.M) {
	if network := os.Getenv("PEER_TEST_DIAL"); network != "" {
		c, err := net.Dial(network, os.Getenv("PEER_TEST_ADDR"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		defer c.Close()
		fmt.Println("connected")
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func pair(t *testing.T, network, addr string) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	client, err = net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

func ends(c net.Conn) (local, remote netip.AddrPort) {
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
}

func TestUnixPeer(t *testing.T) {
	_, server := pair(t, "unix", filepath.Join(t.TempDir(), "s"))
	p, err := OfConn(server)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Mine() || p.PID != os.Getpid() {
		t.Errorf("got %+v, want this process", p)
	}
	if exe, _ := os.Executable(); p.Executable != "" && p.Executable != exe {
		t.Errorf("executable %q, want %q", p.Executable, exe)
	}
}

func TestTCPPeer(t *testing.T) {
	_, server := pair(t, "tcp4", "127.0.0.1:0")
	local, remote := ends(server)
	if p, err := OfTCP(local, remote); err != nil || !p.Mine() {
		t.Errorf("got %+v, %v; want this user", p, err)
	}
	// Both ways of asking agree.
	if uid, err := readTable(remote, local); err != nil || uid != os.Getuid() {
		t.Errorf("table: %d, %v", uid, err)
	}
}

// Browsers connect through IPv6 sockets that speak IPv4.
func TestMappedTCPPeer(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Logf("no IPv6 here: %v", err)
		return
	}
	defer unix.Close(fd)
	port := l.Addr().(*net.TCPAddr).Port
	addr := netip.MustParseAddr("::ffff:127.0.0.1").As16()
	if err := unix.Connect(fd, &unix.SockaddrInet6{Port: port, Addr: addr}); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	local, remote := ends(server)
	if p, err := OfTCP(local, remote); err != nil || !p.Mine() {
		t.Errorf("got %+v, %v; want this user", p, err)
	}
	if uid, err := readTable(remote, local); err != nil || uid != os.Getuid() {
		t.Errorf("table: %d, %v", uid, err)
	}
}

// A10: a client that is gone has no owner; it must not read as root (uid 0).
func TestClosedTCPPeerIsUnknown(t *testing.T) {
	client, server := pair(t, "tcp4", "127.0.0.1:0")
	client.Close()
	if p, err := OfTCP(ends(server)); !errors.Is(err, ErrUnknown) || p.Known || p.Mine() {
		t.Errorf("got %+v, %v; want ErrUnknown", p, err)
	}
}

func TestForeignTuplesAreUnknown(t *testing.T) {
	_, server := pair(t, "tcp4", "127.0.0.1:0")
	local, remote := ends(server)
	other := netip.AddrPortFrom(remote.Addr(), remote.Port()^1)
	if p, err := OfTCP(local, other); err == nil {
		t.Errorf("got %+v for a connection that is not there", p)
	}
	// A listener on the client's port must not answer for the client.
	if p, err := OfTCP(netip.MustParseAddrPort("127.0.0.1:1"), local); err == nil {
		t.Errorf("got %+v from a listener", p)
	}
}

// A9: whoever took a port can be named.
func TestListener(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err) // a machine without IPv6
			continue
		}
		defer l.Close()
		at := l.Addr().(*net.TCPAddr).AddrPort()
		if at.Addr().IsUnspecified() {
			at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
		}
		p, err := OfListener(at)
		if err != nil || !p.Mine() || p.PID != os.Getpid() || p.Executable == "" {
			t.Errorf("%s: %+v, %v; want this process", addr, p, err)
		}
	}
	if p, err := OfListener(netip.MustParseAddrPort("127.0.0.1:1")); !errors.Is(err, ErrUnknown) {
		t.Errorf("nobody: %+v, %v", p, err)
	}
}

func TestZeroPeerIsNobody(t *testing.T) {
	if (Peer{}).Mine() {
		t.Error("the zero Peer passes for the own user")
	}
	if !Self().Mine() {
		t.Error("this process does not pass for its own user")
	}
}

// A10, D1: a process of another user is told apart on both kinds of connection.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: cannot become another user; the refusals are tested where the servers are")
		return
	}
	for _, network := range []string{"unix", "tcp4"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = "@countersign-peer-test-" + fmt.Sprint(os.Getpid())
			}
			l, err := net.Listen(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			stop := dialAs(t, nobody, network, l.Addr().String())
			defer stop()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var p Peer
			if network == "unix" {
				p, err = OfConn(c)
			} else {
				p, err = OfTCP(ends(c))
				if uid, err := readTable(c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort()); uid != nobody {
					t.Errorf("table: %d, %v", uid, err)
				}
			}
			if err != nil || !p.Known || p.UID != nobody || p.Mine() {
				t.Errorf("got %+v, %v; want user %d", p, err, nobody)
			}
		})
	}
}

// dialAs connects from a process of another user. That user may not be allowed
// to read the test binary, so it runs a copy.
func dialAs(t *testing.T, uid uint32, network, addr string) (stop func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "client")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied)
	cmd.Dir = "/"
	cmd.Env = []string{"PEER_TEST_DIAL=" + network, "PEER_TEST_ADDR=" + addr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil || string(line[:n]) != "connected\n" {
		t.Fatalf("client as user %d: %q, %v", uid, line[:n], err)
	}
	return func() {
		in.Close()
		_ = cmd.Wait()
	}
}

func FuzzParseReply(f *testing.F) {
	src, dst := netip.MustParseAddrPort("127.0.0.1:4000"), netip.MustParseAddrPort("127.0.0.1:8769")
	f.Add(make([]byte, headerSize+replySize))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseReply(b, src, dst); err == nil && len(b) < headerSize+replySize {
			t.Error("believed a short answer")
		}
	})
}

func BenchmarkOfTCP(b *testing.B) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	local, remote := ends(c)
	for b.Loop() {
		if _, err := OfTCP(remote, local); err != nil {
			b.Fatal(err)
		}
	}
}
