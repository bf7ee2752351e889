//go:build linux

package softkey

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// bench is where the unmodified tools of libfido2 meet a key.
type bench struct {
	t      *testing.T
	device string
	env    []string
	dir    string
}

// onPTY gives a tool the key's own path; inHub lets it look for the key.
func onPTY(t *testing.T, k *Key) *bench {
	t.Helper()
	return &bench{t: t, device: plug(t, k).Path, dir: t.TempDir()}
}

func newHub(t *testing.T, n int) *Hub {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	h, err := NewHub(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func inHub(t *testing.T, k *Key) *bench {
	t.Helper()
	h := newHub(t, 1)
	if _, err := h.Plug(0, k); err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, device: h.Device(0), env: h.Env(), dir: t.TempDir()}
}

// start prepares a tool. It has no terminal: PINs come from its input.
func (b *bench) start(input, tool string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	b.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, tool, args...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "LC_ALL=C"}, b.env...)
	c.Stdin = strings.NewReader(input)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var said bytes.Buffer
	c.Stderr = &said
	return c, &said
}

func (b *bench) try(input, tool string, args ...string) (out, said string, err error) {
	b.t.Helper()
	c, stderr := b.start(input, tool, args...)
	o, err := c.Output()
	return string(o), stderr.String(), err
}

func (b *bench) run(input, tool string, args ...string) string {
	b.t.Helper()
	out, said, err := b.try(input, tool, args...)
	if err != nil {
		b.t.Fatalf("%s %q: %v\n%s", tool, args, err, said)
	}
	return out
}

// fails expects that the tool says so.
func (b *bench) fails(word, input, tool string, args ...string) {
	b.t.Helper()
	if out, said, err := b.try(input, tool, args...); err == nil || !strings.Contains(said, word) {
		b.t.Fatalf("%s %q: %v, want %q\n%s%s", tool, args, err, word, out, said)
	}
}

func (b *bench) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// make makes a credential and has fido2-cred verify it. It gives the ID and the
// path of the public key.
func (b *bench) make(pin, user string, flags ...string) (id, key string) {
	b.t.Helper()
	param := b.file("make", fmt.Sprintf("%s\n%s\n%s\n%s\n", b64(clientData[:]), rpID, user, b64([]byte(user))))
	made := b.run(pin+"\n", "fido2-cred", append(append([]string{"-M", "-i", param}, flags...), b.device)...)
	var check []string
	for i, f := range flags {
		if f == "-h" || f == "-v" {
			check = append(check, f)
		}
		if f == "-c" {
			check = append(check, flags[i:i+2]...)
		}
	}
	out := b.run(made, "fido2-cred", append([]string{"-V"}, check...)...)
	id, pem, _ := strings.Cut(out, "\n")
	return id, b.file("key-"+user, pem)
}

// assert gets an assertion and has fido2-assert verify it. It gives the lines.
func (b *bench) assert(pin, id, key, salt string, flags ...string) []string {
	b.t.Helper()
	text := fmt.Sprintf("%s\n%s\n", b64(clientData[:]), rpID)
	for _, line := range []string{id, salt} {
		if line != "" {
			text += line + "\n"
		}
	}
	out := b.run(pin+"\n", "fido2-assert", append(append([]string{"-G", "-i", b.file("assert", text)}, flags...), b.device)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var check []string
	for _, f := range flags {
		if f == "-h" || f == "-v" || f == "-p" {
			check = append(check, f)
		}
	}
	verify := append(append([]string{"-V"}, check...), key, "es256")
	b.run(strings.Join(lines[:4], "\n")+"\n", "fido2-assert", verify...)
	return lines
}

// ways are both ways to a key, for the same story.
var ways = map[string]func(*testing.T, *Key) *bench{"pty": onPTY, "enumerated": inHub}

func TestToolsPIN(t *testing.T) {
	for way, open := range ways {
		for _, protocol := range []int{1, 2} {
			for _, kind := range []Kind{FIDO20, FIDO21} {
				t.Run(fmt.Sprint(way, " protocol ", protocol, " kind ", kind), func(t *testing.T) {
					k := New(Options{Kind: kind, PINProtocols: []int{protocol}})
					b := open(t, k)
					if way != "pty" {
						if out := b.run("", "fido2-token", "-L"); out != "/dev/hidraw0: vendor=0x1209, product=0xf1d0 (Countersign Soft Key)\n" {
							t.Fatalf("%q", out)
						}
					}
					if out := b.run("", "fido2-token", "-I", b.device); !strings.Contains(out, "noclientPin") ||
						!strings.Contains(out, fmt.Sprintf("pin protocols: %d\n", protocol)) {
						t.Fatal(out)
					}
					b.run("1234\n1234\n", "fido2-token", "-S", b.device)
					b.fails("FIDO_ERR_PIN_AUTH_INVALID", "1234\n1234\n", "fido2-token", "-S", b.device)
					b.run("1234\nabcdef\nabcdef\n", "fido2-token", "-C", b.device)
					b.fails("FIDO_ERR_PIN_INVALID", "1234\nxyzxyz\nxyzxyz\n", "fido2-token", "-C", b.device)
					if out := b.run("", "fido2-token", "-I", b.device); !strings.Contains(out, "pin retries: 7\n") {
						t.Fatal(out)
					}
					id, key := b.make("abcdef", "alice", "-h")
					b.assert("abcdef", id, key, "", "-v", "-p")
					salt := b64(bytes.Repeat([]byte{7}, 32))
					one := b.assert("", id, key, salt, "-h", "-p")
					two := b.assert("", id, key, salt, "-h", "-p")
					verified := b.assert("abcdef", id, key, salt, "-h", "-v")
					other := b.assert("", id, key, b64(bytes.Repeat([]byte{8}, 32)), "-h")
					secret := func(l []string) string { return l[len(l)-1] }
					if secret(one) != secret(two) || secret(one) == secret(verified) || secret(one) == secret(other) {
						t.Errorf("secrets %q, %q, verified %q, another salt %q", secret(one), secret(two), secret(verified), secret(other))
					}
					if k.PINRetries() != maxPINRetries {
						t.Errorf("%d tries are left", k.PINRetries())
					}
				})
			}
		}
	}
}

func TestToolsResident(t *testing.T) {
	for way, open := range ways {
		t.Run(way, func(t *testing.T) {
			k := New(Options{PIN: "1234", Attestation: BasicAttestation})
			b := open(t, k)
			_, alice := b.make("1234", "alice", "-r")
			bobID, _ := b.make("1234", "bob", "-r", "-c", "3")
			if out := b.run("1234\n", "fido2-token", "-I", "-c", b.device); out != "existing rk(s): 2\nremaining rk(s): 23\n" {
				t.Errorf("%q", out)
			}
			if out := b.run("1234\n", "fido2-token", "-L", "-r", b.device); strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, " "+rpID+"\n") {
				t.Errorf("%q", out)
			}
			out := b.run("1234\n", "fido2-token", "-L", "-k", rpID, b.device)
			if strings.Count(out, "\n") != 2 || !strings.Contains(out, bobID) || !strings.Contains(out, b64([]byte("bob"))+" es256 uvreq") {
				t.Errorf("%q", out)
			}
			// Without a PIN only that of alice can be seen.
			if lines := b.assert("", "", alice, "", "-r"); lines[4] != b64([]byte("alice")) || len(lines) != 5 {
				t.Errorf("%q", lines)
			}
			param := b.file("both", fmt.Sprintf("%s\n%s\n", b64(clientData[:]), rpID))
			both := b.run("1234\n", "fido2-assert", "-G", "-r", "-v", "-i", param, b.device)
			if n := strings.Count(both, "\n"); n != 10 {
				t.Errorf("two assertions in %d lines: %q", n, both)
			}
			b.run("1234\n", "fido2-token", "-S", "-c", "-i", bobID, "-k", b64([]byte("bob")), "-n", "robert", "-p", "Robert", b.device)
			if got := k.Credentials()[1].User.DisplayName; got != "Robert" {
				t.Errorf("bob is called %q", got)
			}
			b.run("1234\n", "fido2-token", "-D", "-i", bobID, b.device)
			b.fails("FIDO_ERR_NO_CREDENTIALS", "1234\n", "fido2-token", "-D", "-i", bobID, b.device)
			b.fails("FIDO_ERR_PIN_INVALID", "4321\n", "fido2-token", "-D", "-i", bobID, b.device)
			if len(k.Credentials()) != 1 {
				t.Errorf("%d credentials", len(k.Credentials()))
			}
			b.run("", "fido2-token", "-R", b.device)
			if k.HasPIN() || len(k.Credentials()) != 0 {
				t.Error("a reset forgets")
			}
		})
	}
}

func TestToolsRefused(t *testing.T) {
	var ahead atomic.Int64
	k := New(Options{PIN: "1234", Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	b := onPTY(t, k)
	param := b.file("make", fmt.Sprintf("%s\n%s\nu\n%s\n", b64(clientData[:]), rpID, b64([]byte("u"))))
	b.fails("FIDO_ERR_PIN_REQUIRED", "", "fido2-cred", "-M", "-q", "-i", param, b.device)
	for _, word := range []string{"FIDO_ERR_PIN_INVALID", "FIDO_ERR_PIN_INVALID", "FIDO_ERR_PIN_AUTH_BLOCKED"} {
		b.fails(word, "4321\n", "fido2-cred", "-M", "-i", param, b.device)
	}
	k.SetPINRetries(0)
	b.fails("FIDO_ERR_PIN_BLOCKED", "4321\n", "fido2-cred", "-M", "-i", param, b.device)
	ahead.Store(int64(resetTime + 1))
	b.fails("FIDO_ERR_NOT_ALLOWED", "", "fido2-token", "-R", b.device)
	b = onPTY(t, k)
	b.run("", "fido2-token", "-R", b.device)
}

func TestToolsU2F(t *testing.T) {
	for way, open := range ways {
		t.Run(way, func(t *testing.T) {
			b := open(t, New(Options{Kind: U2FOnly}))
			if out := b.run("", "fido2-token", "-I", b.device); !strings.Contains(out, "(wink, nocbor, msg)") {
				t.Error(out)
			}
			id, key := b.make("", "alice")
			b.assert("", id, key, "", "-p")
		})
	}
	// The older way of a current key; and what it makes that way, the newer.
	k := New(Options{})
	b := onPTY(t, k)
	id, key := b.make("", "alice", "-u")
	b.assert("", id, key, "", "-u", "-p")
	b.assert("", id, key, "", "-p")
	if k.Credentials()[0].RP.ID != "" {
		t.Error("not made by U2F")
	}
}

func TestToolsFingerprints(t *testing.T) {
	k := New(Options{PIN: "1234", Fingerprints: true})
	b := onPTY(t, k)
	out := b.run("1234\n", "fido2-token", "-S", "-e", b.device)
	if n := strings.Count(out, "Sample ok."); n != fingerSamples {
		t.Errorf("%q", out)
	}
	out = b.run("1234\n", "fido2-token", "-L", "-e", b.device)
	fields := strings.Fields(out)
	if len(fields) < 2 {
		t.Fatalf("%q", out)
	}
	b.run("1234\n", "fido2-token", "-S", "-e", "-i", fields[1], "-n", "thumb", b.device)
	if got := k.Fingerprints(); len(got) != 1 || got[0] != "thumb" {
		t.Errorf("%q", got)
	}
	b.run("1234\n", "fido2-token", "-D", "-e", "-i", fields[1], b.device)
	if len(k.Fingerprints()) != 0 {
		t.Error("still there")
	}
}

// Several keys on a hub: each is found under its name, and not once it is pulled
// out.
func TestToolsSeveralKeys(t *testing.T) {
	h := newHub(t, 3)
	b := &bench{t: t, env: h.Env(), dir: t.TempDir()}
	list := func(want string) {
		t.Helper()
		if out := b.run("", "fido2-token", "-L"); out != want {
			t.Fatalf("%q, want %q", out, want)
		}
	}
	list("")
	one, two := New(Options{Name: "One"}), New(Options{Manufacturer: "Old Keys", Name: "Two", Kind: U2FOnly, Vendor: 0x1050, Product: 0x0407})
	for i, k := range map[int]*Key{0: one, 2: two} {
		if _, err := h.Plug(i, k); err != nil {
			t.Fatal(err)
		}
	}
	list("/dev/hidraw0: vendor=0x1209, product=0xf1d0 (Countersign One)\n/dev/hidraw2: vendor=0x1050, product=0x0407 (Old Keys Two)\n")
	if err := h.Unplug(0); err != nil {
		t.Fatal(err)
	}
	b.fails("fido_dev_open", "", "fido2-token", "-I", h.Device(0))
	list("/dev/hidraw2: vendor=0x1050, product=0x0407 (Old Keys Two)\n")
	if _, err := h.Plug(1, one); err != nil {
		t.Fatal(err)
	}
	b.run("", "fido2-token", "-I", h.Device(1))
}

// A tool that waits for a touch gets it, and says so when the key is pulled out
// instead. Whatever a key does to a tool, the next one finds it as it was.
func TestToolsAndFaults(t *testing.T) {
	finger := NewFinger()
	k := New(Options{Touch: finger.Touch})
	b := onPTY(t, k)
	param := b.file("make", fmt.Sprintf("%s\n%s\nu\n%s\n", b64(clientData[:]), rpID, b64([]byte("u"))))
	begun := func() (*exec.Cmd, *bytes.Buffer, *Wanted) {
		t.Helper()
		c, said := b.start("", "fido2-cred", "-M", "-i", param, b.device)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c, said, wanted(t, finger)
	}
	c, said, w := begun()
	w.Touch()
	if err := c.Wait(); err != nil {
		t.Fatal(err, said)
	}
	c, said, w = begun()
	w.TimeOut()
	if err := c.Wait(); err == nil || !strings.Contains(said.String(), "FIDO_ERR_USER_ACTION_TIMEOUT") {
		t.Fatal(err, said)
	}
	c, said, _ = begun()
	k.mu.Lock()
	p := k.port
	k.mu.Unlock()
	p.Unplug()
	if err := c.Wait(); err == nil || !strings.Contains(said.String(), "FIDO_ERR_RX") {
		t.Fatal(err, said)
	}

	k = New(Options{})
	b = onPTY(t, k)
	for _, f := range append(append([]Fault{}, WireFaults...), ContentFaults...) {
		t.Run(f.Name, func(t *testing.T) {
			b.t = t
			k.Break(f, When{Step: StepMake, Times: 1})
			c, said := b.start("", "fido2-cred", "-M", "-i", param, b.device)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.Wait() }()
			switch f.Name {
			case WrongChannel.Name, ByteCountBeyond.Name, LastReportMissing.Name:
				// The tool has no deadline, and waits for ever: it is told to stop once the
				// key has answered.
				for k.Happened() == 0 {
					select {
					case err := <-ended:
						t.Fatal("ended early:", err, said)
					case <-time.After(time.Millisecond):
					}
				}
				_ = c.Process.Signal(syscall.SIGTERM)
			}
			err := <-ended
			// What libfido2 does not mind.
			fine := map[string]bool{NoiseBefore.Name: true, GarbageAfter.Name: true, AnswerTwice.Name: true, TrailingBytes.Name: true}
			if fine[f.Name] != (err == nil) {
				t.Errorf("%v: %s", err, said)
			}
			if n := k.Mend(); n != 1 {
				t.Errorf("it happened %d times", n)
			}
			b.make("", "alice")
		})
	}
}
