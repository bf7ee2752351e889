package canary

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/client"
)

// C6: both programs under an open umask, through enrolment and sign-in and with
// a log beside them: whatever they make is theirs alone from its first moment.
func TestC6ModesUnderOpenUmask(t *testing.T) {
	dir := t.TempDir()
	old := syscall.Umask(0) // inherited by the programs; nothing else runs here
	stage, err := harness.NewStage(t.Context(), programs, harness.StageOptions{Dir: dir})
	if err == nil {
		_, err = stage.StartAgent(t.Context())
	}
	syscall.Umask(old)
	must(t, err)
	defer func() { must(t, stage.Stop()) }()
	agent := stage.Agents[0]
	must(t, stage.Enrol(t.Context(), agent, harness.Alice))
	if _, err := client.New(agent.Socket).Code(t.Context(), harness.Alice); err != nil {
		t.Error(err)
	}
	// Files change while the programs run, so it is looked while they do.
	seen := 0
	for _, root := range []string{agent.State, filepath.Dir(agent.Socket), filepath.Join(dir, "org")} {
		seen += private(t, root)
	}
	if seen < 10 {
		t.Errorf("only %d files and folders", seen)
	}
}

// trap is something that somebody has put in the way of a program.
type trap struct {
	name string
	lay  func(t *testing.T, state, victim string)
	says string // part of what the program says
	// replaced: at the first start, when nothing can be lost, the program may
	// make its own in place of it.
	replaced bool
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(content), mode))
	must(t, os.Chmod(path, mode)) // whatever the umask
}

// common traps are about the state folder as a whole.
var commonTraps = []trap{
	{"the folder is a link", func(t *testing.T, state, victim string) {
		must(t, os.Mkdir(victim+".d", 0o700))
		must(t, os.Symlink(victim+".d", state))
	}, "", false},
	{"the folder is open to others", func(t *testing.T, state, _ string) {
		write(t, filepath.Join(state, "planted"), "", 0o600)
		must(t, os.Chmod(state, 0o777))
	}, "state", false},
	{"the folder is a file", func(t *testing.T, state, _ string) { write(t, state, "", 0o600) }, "state", false},
	{"the folder is somebody else's", func(t *testing.T, state, _ string) {
		write(t, filepath.Join(state, "planted"), "", 0o600)
		if os.Geteuid() == 0 {
			must(t, os.Chown(state, 12345, 12345))
			return
		}
		must(t, os.RemoveAll(state))
		must(t, os.Symlink("/usr", state)) // root's, and a link
	}, "", false},
}

// leaves plants a file of the state folder as a link to the victim, or with a
// mode that lets others in.
func leaves(name string) []trap {
	return []trap{
		{name + " is a link", func(t *testing.T, state, victim string) {
			must(t, os.MkdirAll(state, 0o700))
			must(t, os.Symlink(victim, filepath.Join(state, name)))
		}, name, name == "vault.key"},
		{name + " is open to others", func(t *testing.T, state, _ string) {
			write(t, filepath.Join(state, name), "planted planted planted planted planted", 0o666)
		}, name, name == "vault.key"},
		{name + " is a folder", func(t *testing.T, state, _ string) {
			must(t, os.MkdirAll(filepath.Join(state, name), 0o700))
		}, name, name == "vault.key"},
		{name + " is a pipe", func(t *testing.T, state, _ string) {
			must(t, os.MkdirAll(state, 0o700))
			must(t, syscall.Mkfifo(filepath.Join(state, name), 0o600))
		}, name, name == "vault.key"},
	}
}

// C6, C7: what others have put in the way is refused by name, at once, and left
// as it is.
func TestC6HostilePaths(t *testing.T) {
	agentTraps, orgTraps := commonTraps, commonTraps
	for _, name := range []string{"vault.key", "accounts.sealed", "keys.sealed", "claims.log", "audit.log"} {
		agentTraps = append(agentTraps[:len(agentTraps):len(agentTraps)], leaves(name)...)
	}
	for _, name := range []string{"org.db", "admin-token"} {
		orgTraps = append(orgTraps[:len(orgTraps):len(orgTraps)], leaves(name)...)
	}
	for program, traps := range map[string][]trap{"agent": agentTraps, "org": orgTraps} {
		for _, trap := range traps {
			t.Run(program+", "+trap.name, func(t *testing.T) {
				dir := t.TempDir()
				state, victim := filepath.Join(dir, "state"), filepath.Join(dir, "victim")
				write(t, victim, "mine", 0o600)
				trap.lay(t, state, victim)
				refused(t, program, dir, state, trap)
				if content, err := os.ReadFile(victim); err != nil || string(content) != "mine" {
					t.Errorf("the victim is %q, %v", content, err)
				}
				if list, err := os.ReadDir(victim + ".d"); err == nil && len(list) != 0 {
					t.Errorf("written through the link: %v", list)
				}
			})
		}
	}
}

// C6: the socket's place is refused when it is not the agent's own.
func TestC6HostileSocket(t *testing.T) {
	for _, trap := range []trap{
		{"a file is there", func(t *testing.T, socket, _ string) { write(t, socket, "planted", 0o600) }, "", false},
		{"a link is there", func(t *testing.T, socket, victim string) {
			must(t, os.MkdirAll(filepath.Dir(socket), 0o700))
			must(t, os.Symlink(victim, socket))
		}, "", false},
		{"its folder is open to others", func(t *testing.T, socket, _ string) {
			must(t, os.MkdirAll(filepath.Dir(socket), 0o700))
			must(t, os.Chmod(filepath.Dir(socket), 0o777))
		}, "", false},
		{"its folder is a link", func(t *testing.T, socket, victim string) {
			must(t, os.Mkdir(victim+".d", 0o777))
			must(t, os.Chmod(victim+".d", 0o777))
			must(t, os.Symlink(victim+".d", filepath.Dir(socket)))
		}, "", false},
	} {
		t.Run(trap.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "cs-canary-") // a socket's path is short
			must(t, err)
			defer os.RemoveAll(dir)
			victim := filepath.Join(dir, "victim")
			write(t, victim, "mine", 0o600)
			trap.lay(t, filepath.Join(dir, "run", "s"), victim)
			refused(t, "agent", dir, filepath.Join(dir, "state"), trap)
			if content, err := os.ReadFile(victim); err != nil || string(content) != "mine" {
				t.Errorf("the victim is %q, %v", content, err)
			}
		})
	}
}

// refused runs a program that has to end at once, with one line that says why.
func refused(t *testing.T, program, dir, state string, trap trap) {
	t.Helper()
	ports, err := harness.FreePorts(1)
	must(t, err)
	path, args := programs.Agent, []string{"run", "--state", state, "--socket", filepath.Join(dir, "run", "s"), "--vault-key", "file", "--loopback-ports", strconv.Itoa(ports[0]), "--desktop", "off"}
	if program == "org" {
		path, args = programs.Org, []string{"serve", "--state", state, "--listen", "127.0.0.1:0"}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"HOME=" + dir, "GORACE=exitcode=66 atexit_sleep_ms=10"}
	var errs strings.Builder
	cmd.Stderr = &errs
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	ready, _ := bufio.NewReader(stdout).ReadString('\n')
	if ready != "" {
		must(t, cmd.Process.Kill())
	}
	err = cmd.Wait()
	if trap.replaced && ready != "" {
		// It is the first start: what was planted has been put aside.
		private(t, state)
		return
	}
	var exit *exec.ExitError
	if ready != "" || ctx.Err() != nil || !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it does not refuse: %v %s%s", err, ready, errs.String())
	}
	if !strings.Contains(errs.String(), trap.says) || strings.Contains(errs.String(), "goroutine") || strings.Count(strings.TrimSpace(errs.String()), "\n") > 3 {
		t.Errorf("it says %q, which should speak of %q", errs.String(), trap.says)
	}
}

// private checks that everything in a folder is for its owner alone, while
// programs may be changing it. It returns how much there is.
func private(t *testing.T, root string) (seen int) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary file
		}
		if err != nil {
			return err
		}
		seen++
		if info.Mode().Perm()&0o077 != 0 || info.Mode()&(fs.ModeSymlink|fs.ModeNamedPipe) != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	}))
	return seen
}
