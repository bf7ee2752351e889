//go:build linux

// Package keysignin holds the stories of a person who signs in at the real org
// with a security key and without a browser: `countersign securitykey signin`, the
// agent, countersign-sk and libfido2 as the product has them, and the security key
// in software, found by enumeration.
package keysignin

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/e2e/softkey"
	"countersign.dev/ipc/api"
)

var (
	programs harness.Programs
	helper   string // countersign-sk, as it sees a hub
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // mostly waiting
		panic(err)
	}
	os.Exit(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		dir, err := os.MkdirTemp("", "cs-keysignin-")
		if err == nil {
			defer os.RemoveAll(dir)
			programs, err = harness.FindPrograms(ctx)
		}
		if err == nil {
			helper, err = harness.BuildKeyHelper(ctx, dir, "umockdev")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "keysignin:", err)
			return 1
		}
		return m.Run()
	}())
}

const (
	storyTime = time.Minute
	keyPIN    = "314159"
)

// world is an org, a person's agent, and a hub for keys.
type world struct {
	t     *testing.T
	ctx   context.Context
	stage *harness.Stage
	agent *harness.Agent
	hub   *softkey.Hub
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeoutCause(t.Context(), storyTime, fmt.Errorf("the story took longer than %v", storyTime))
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx}
	var err error
	w.hub, err = softkey.NewHub(ctx, 2)
	w.must(err)
	t.Cleanup(func() {
		if err := w.hub.Close(); err != nil {
			t.Error(err)
		}
	})
	// An agent of its own, since its helper is what lies beside it.
	own := programs
	bin := t.TempDir()
	own.Agent = filepath.Join(bin, "countersignd")
	w.must(copyProgram(own.Agent, programs.Agent))
	_, err = harness.WrapKeyHelper(bin, helper, w.hub)
	w.must(err)
	w.stage, err = harness.NewStage(ctx, own, harness.StageOptions{})
	w.must(err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.stage.Org.Tail())
			for _, a := range w.stage.Agents {
				t.Log(a.Tail())
			}
		}
		if err := w.stage.Close(); err != nil {
			t.Error(err)
		}
	})
	w.agent, err = w.stage.StartAgent(ctx)
	w.must(err)
	return w
}

func copyProgram(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// plug plugs a key with a PIN in, whose owner is the test.
func (w *world) plug(socket int, name string) (*softkey.Key, *softkey.Finger) {
	w.t.Helper()
	finger := softkey.NewFinger()
	key := softkey.New(softkey.Options{Name: name, PIN: keyPIN, Touch: finger.Touch})
	_, err := w.hub.Plug(socket, key)
	w.must(err)
	return key, finger
}

// signing is a `countersign securitykey signin` that is under way.
type signing struct {
	w      *world
	cmd    *exec.Cmd
	out    said
	errs   said
	ended  chan struct{}
	failed error
}

// said is what a program has said so far.
type said struct {
	mu    sync.Mutex
	text  strings.Builder
	lines chan struct{} // told of each write
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.lines <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// told waits until the person has been told to touch the key.
func (s *signing) told(product string) {
	s.w.t.Helper()
	for !strings.Contains(s.errs.String(), "touch your security key now: "+product+"\n") {
		select {
		case <-s.errs.lines:
		case <-s.w.ctx.Done():
			s.w.t.Fatalf("nobody was told to touch the key:\n%s", s.errs.String())
		}
	}
}

// signIn starts it; lines are what it is told on standard input, by flags of the
// same names.
func (w *world) signIn(orgURL string, password, pin string, args ...string) *signing {
	w.t.Helper()
	args = append([]string{"securitykey", "signin", orgURL, "--username", harness.Bob}, args...)
	in := ""
	if password != "" {
		args, in = append(args, "--password-stdin"), password+"\n"
	}
	if pin != "" {
		args, in = append(args, "--pin-stdin"), in+pin+"\n"
	}
	s := &signing{w: w, cmd: w.agent.Command(w.ctx, args...), ended: make(chan struct{})}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = strings.NewReader(in), &s.out, &s.errs
	s.errs.lines = make(chan struct{}, 1)
	w.must(s.cmd.Start())
	go func() {
		defer close(s.ended)
		s.failed = s.cmd.Wait()
	}()
	w.t.Cleanup(func() { s.cmd.Process.Kill(); <-s.ended })
	return s
}

// end waits for it, and returns what it said.
func (s *signing) end() (out, errs string, err error) {
	s.w.t.Helper()
	select {
	case <-s.ended:
	case <-s.w.ctx.Done():
		s.w.t.Fatal(context.Cause(s.w.ctx))
	}
	return s.out.String(), s.errs.String(), s.failed
}

// refused waits for its end, which is a refusal of one sentence and a hint.
func (s *signing) refused(sentence string) {
	s.w.t.Helper()
	out, errs, err := s.end()
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	var said []string
	for _, l := range lines {
		if !strings.HasPrefix(l, "touch your security key now") && !strings.HasPrefix(l, "hint: ") {
			said = append(said, l)
		}
	}
	if err == nil || out != "" || len(said) != 1 || said[0] != "countersign: sign in with a security key: "+sentence {
		s.w.t.Fatalf("%v: %q\n%s", err, out, errs)
	}
}

// touch touches the key once it blinks.
func (w *world) touch(f *softkey.Finger) {
	w.t.Helper()
	ask, err := f.Wanted(w.ctx)
	w.must(err)
	ask.Touch()
}

// enrol enrols bob's key from the terminal.
func (w *world) enrol(f *softkey.Finger) {
	w.t.Helper()
	s := w.signIn(w.stage.Org.URL, harness.Password, keyPIN)
	w.touch(f)
	out, errs, err := s.end()
	if err != nil || !strings.Contains(out, "signed in: bob@example.com at localhost") || !strings.Contains(out, "the key was enrolled there on the way") {
		w.t.Fatalf("%v: %s\n%s", err, out, errs)
	}
}

// says runs a command that takes the key's PIN, and reads what it says.
func (w *world) says(into any, args ...string) {
	w.t.Helper()
	out, err := w.agent.Tell(w.ctx, keyPIN+"\n", append(args, "--json")...)
	w.must(err)
	w.must(json.Unmarshal(out, into))
}

// outcomes are those of sign-ins with a key that are on record.
func (w *world) outcomes() (list []api.AuditRecord) {
	w.t.Helper()
	records, err := w.agent.Audit(w.ctx)
	w.must(err)
	for _, r := range records {
		if r.Event == "key_sign_in" {
			list = append(list, r)
		}
	}
	return list
}
