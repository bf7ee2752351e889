//go:build linux

package securitykey_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"countersign.dev/authenticators/securitykey/wire"
	"countersign.dev/e2e/softkey"
)

// raw is a helper that a test talks to by itself.
type raw struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   io.Reader
	said  bytes.Buffer
}

// nobody is a user without any rights.
const nobody = 65534

// begin starts a helper with a request, as the user of uid where the tests run as
// root.
func begin(t *testing.T, helper string, uid uint32, req wire.Request) *raw {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	r := &raw{t: t, cmd: exec.CommandContext(ctx, helper)}
	r.cmd.Env, r.cmd.Dir, r.cmd.Stderr = []string{}, "/", &r.said
	if os.Getuid() == 0 && uid != 0 {
		r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if r.out, err = r.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if req.Version == 0 {
		req.Version = wire.Version
	}
	if req.Timeout == 0 {
		req.Timeout = 8000
	}
	if err := wire.Write(r.stdin, &req); err != nil {
		t.Fatal(err)
	}
	return r
}

// next is the next frame.
func (r *raw) next() wire.Reply {
	r.t.Helper()
	var reply wire.Reply
	if err := wire.Read(r.out, &reply); err != nil {
		r.t.Fatalf("%v; it says %q", err, r.said.String())
	}
	return reply
}

// end is the last frame, and the helper's end.
func (r *raw) end() wire.Reply {
	r.t.Helper()
	reply := r.next()
	for reply.Event != "" {
		reply = r.next()
	}
	if n, _ := io.Copy(io.Discard, r.out); n > 0 {
		r.t.Errorf("%d bytes after the end", n)
	}
	var exit *exec.ExitError
	if err := r.cmd.Wait(); (err != nil) != (reply.Error != nil) || err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		r.t.Errorf("%v after %+v; it says %q", err, reply, r.said.String())
	}
	return reply
}

func plug(t *testing.T, o softkey.Options) (*softkey.Key, *softkey.Port) {
	t.Helper()
	k := softkey.New(o)
	p, err := k.Plug()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Unplug)
	return k, p
}

// The helper that a key has taken over can do nothing but talk to that key: as root
// and as a user.
func TestF1SandboxHoldsWhatAKeyMayMakeOfTheHelper(t *testing.T) {
	state, home := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "home")
	vault := filepath.Join(state, "vault.json")
	if err := errors.Join(os.Mkdir(state, 0o755), os.Mkdir(home, 0o777), os.Chmod(home, 0o777), os.WriteFile(vault, []byte("{}"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(state), filepath.Dir(filepath.Dir(state)), filepath.Dir(home)} {
		if err := os.Chmod(dir, 0o755); err != nil { // for nobody
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, uid := range []int{os.Getuid(), nobody} {
		t.Run(fmt.Sprint("uid ", uid), func(t *testing.T) {
			if uid != os.Getuid() && os.Getuid() != 0 {
				uid = os.Getuid() // the tests run as a user: once is enough
			}
			_, p := plug(t, softkey.Options{})
			if os.Getuid() == 0 {
				if err := os.Chown(p.Path, uid, uid); err != nil {
					t.Fatal(err)
				}
			}
			r := begin(t, attacker, uint32(uid), wire.Request{Op: wire.Inspect, Device: p.Path, RPID: vault, RPName: home, Template: port})
			reply := r.end()
			if reply.Result == nil || reply.Result.Info.Firmware != "5.4.3" {
				t.Errorf("it does not work any more: %+v", reply.Error)
			}
			before, after := "", ""
			for line := range strings.Lines(r.said.String()) {
				if could, ok := strings.CutPrefix(line, "before: "); ok {
					before = strings.TrimSpace(could)
				}
				if could, ok := strings.CutPrefix(line, "after: "); ok {
					after = strings.TrimSpace(could)
				}
			}
			// What shows that the attempts are real ones.
			for _, what := range []string{
				"open the vault", "open the vault by a system call", "list the home folder", "create a file", "read the password file", "connect",
				"open a unix socket", "fork", "spawn", "execute", "make code", "become traceable",
				"have another process signalled", "control a device",
			} {
				if !strings.Contains(before+",", what+",") {
					t.Errorf("without the sandbox it cannot %s, either: %q", what, before)
				}
			}
			if !strings.Contains(r.said.String(), "after:") || after != "" {
				t.Errorf("in the sandbox it can: %s", after)
			}
			if reply.Result != nil && reply.Result.Log != "" {
				t.Errorf("this kernel lacks what the test is about: %s", reply.Result.Log)
			}
		})
	}
}

// No core file, and nobody reads its memory: of the helper as it is installed.
func TestF1NoCoreDumps(t *testing.T) {
	finger := softkey.NewFinger()
	_, p := plug(t, softkey.Options{Touch: finger.Touch})
	if os.Getuid() == 0 { // of root's, all is root's
		if err := os.Chown(p.Path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	r := begin(t, product, nobody, wire.Request{Op: wire.Select, Device: p.Path})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ask, err := finger.Wanted(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// What the system shows of it is root's, and not the user's, who would else dump it
	// or attach to it.
	environ, err := os.Stat(fmt.Sprintf("/proc/%d/environ", r.cmd.Process.Pid))
	if err != nil || environ.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("%v, %v", environ, err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", r.cmd.Process.Pid))
	if os.Getuid() == 0 {
		if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0 bytes") {
			t.Errorf("%v\n%s", err, limits)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil || !strings.Contains(string(status), "NoNewPrivs:\t1\n") || !strings.Contains(string(status), "Seccomp:\t2\n") {
		t.Errorf("%v\n%s", err, status)
	}
	// Every thread of it.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", r.cmd.Process.Pid))
	if err != nil || len(tasks) < 2 {
		t.Error(tasks, err)
	}
	for _, task := range tasks {
		if b, err := os.ReadFile(task); err == nil && !strings.Contains(string(b), "Seccomp:\t2\n") {
			t.Errorf("%s\n%s", task, b)
		}
	}
	ask.Touch()
	if reply := r.end(); reply.Result == nil {
		t.Error(reply.Error)
	}
}

// However the agent leaves, the key is told to stop, and the helper ends.
func TestF3HelperEndsWithTheAgent(t *testing.T) {
	for name, leave := range map[string]func(*raw){
		"its input ends": func(r *raw) { r.stdin.Close() },
		"SIGTERM":        func(r *raw) { r.cmd.Process.Signal(syscall.SIGTERM) },
		"garbage": func(r *raw) {
			r.stdin.Write([]byte("\xff\xff\xff\xff"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			finger := softkey.NewFinger()
			_, p := plug(t, softkey.Options{Touch: finger.Touch})
			r := begin(t, product, 0, wire.Request{Op: wire.MakeCredential, Device: p.Path, RPID: rpID, ClientDataHash: make([]byte, 32),
				User: &wire.User{ID: []byte("a"), Name: "a"}, Algorithms: []int{-7}})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			ask, err := finger.Wanted(ctx)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			leave(r)
			if reply := r.end(); reply.Error == nil || reply.Error.Code != wire.Cancelled && reply.Error.Code != wire.BadRequest {
				t.Errorf("%+v", reply)
			}
			<-ask.Over
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// F2: a key of another model than the person was shown gets no PIN and no order,
// also where nothing else tells it apart.
func TestF2OtherModelIsRefused(t *testing.T) {
	k, p := plug(t, softkey.Options{PIN: "1234"})
	shown := wire.Identity{Path: p.Path, AAGUID: "ee882879-721c-4913-9775-3dfcce97072a"}
	for op, req := range map[wire.Op]wire.Request{
		wire.SetPIN: {}, wire.ChangePIN: {}, wire.Reset: {}, wire.Credentials: {}, wire.Fingerprints: {},
		wire.DeleteCredential: {CredentialIDs: [][]byte{{1}}}, wire.EnrolFingerprint: {Name: "x"}, wire.DropFingerprint: {Template: "01"},
		wire.GetAssertion:   {RPID: rpID, ClientDataHash: make([]byte, 32), CredentialIDs: [][]byte{{1}}, Verification: "required"},
		wire.MakeCredential: {RPID: rpID, ClientDataHash: make([]byte, 32), User: &wire.User{ID: []byte("a"), Name: "a"}, Algorithms: []int{-7}},
	} {
		req.Op, req.Device, req.Expect = op, p.Path, &shown
		r := begin(t, product, 0, req)
		reply := r.next()
		r.stdin.Close()
		if reply.Error == nil || reply.Error.Code != wire.OtherKey {
			t.Errorf("%s: %+v", op, reply)
		}
		_ = r.cmd.Wait()
	}
	for _, s := range k.Steps() {
		if s != softkey.StepInit && s != softkey.StepInfo {
			t.Errorf("it was asked %q", s)
		}
	}
}

// What a user may not open is said as that, as is what is no key.
func TestPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("as root a key can be taken from others; here it cannot be taken from oneself")
		return
	}
	_, p := plug(t, softkey.Options{})
	if err := os.Chmod(p.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	if reply := begin(t, product, nobody, wire.Request{Op: wire.Inspect, Device: p.Path}).end(); reply.Error == nil || reply.Error.Code != wire.NoPermission {
		t.Errorf("%+v", reply.Error)
	}
}

// The two sides must be of one version, and the request make sense.
func TestRequestsThatAreRefused(t *testing.T) {
	_, p := plug(t, softkey.Options{})
	for name, req := range map[string]wire.Request{
		"another version":   {Version: wire.Version + 1, Op: wire.Inspect, Device: p.Path},
		"no operation":      {Op: "format", Device: p.Path},
		"no device":         {Op: wire.Inspect},
		"a file":            {Op: wire.Inspect, Device: "/etc/passwd"},
		"a way out":         {Op: wire.Inspect, Device: "/dev/../etc/passwd"},
		"no hash":           {Op: wire.GetAssertion, Device: p.Path, RPID: rpID},
		"a short salt":      {Op: wire.GetAssertion, Device: p.Path, RPID: rpID, ClientDataHash: make([]byte, 32), Salts: [][]byte{{1}}},
		"an empty ID":       {Op: wire.GetAssertion, Device: p.Path, RPID: rpID, ClientDataHash: make([]byte, 32), CredentialIDs: [][]byte{{}}},
		"no user":           {Op: wire.MakeCredential, Device: p.Path, RPID: rpID, ClientDataHash: make([]byte, 32), Algorithms: []int{-7}},
		"nothing to delete": {Op: wire.DeleteCredential, Device: p.Path},
		"endless":           {Op: wire.Inspect, Device: p.Path, Timeout: 1 << 30},
	} {
		if reply := begin(t, product, 0, req).end(); reply.Error == nil || reply.Error.Code != wire.BadRequest {
			t.Errorf("%s: %+v, %+v", name, reply.Error, reply.Result)
		}
	}
	if reply := begin(t, product, 0, wire.Request{Op: wire.Inspect, Device: "/dev/hidraw99"}).end(); reply.Error == nil || reply.Error.Code != wire.Removed {
		t.Errorf("%+v", reply.Error)
	}
	if reply := begin(t, product, 0, wire.Request{Op: wire.List}).end(); reply.Result == nil {
		t.Errorf("%+v", reply.Error)
	}
}
