package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Programs are the paths of the product's programs.
type Programs struct {
	Org   string // countersign-org
	Agent string // countersignd
	CLI   string // countersign
	Tray  string // countersign-tray
}

var programNames = []string{"countersign-org", "countersignd", "countersign", trayName}

const trayName = "countersign-tray"

// FindPrograms returns the programs to run. COUNTERSIGN_BIN names their
// folder; all of them must be there then. Without it they are those beside this
// program, as make puts them; a test, which has none beside it, builds them
// from this checkout, with the race detector when it has it too, so that what
// it tests is never older than the source.
func FindPrograms(ctx context.Context) (Programs, error) {
	if dir := os.Getenv("COUNTERSIGN_BIN"); dir != "" {
		return programsIn(dir)
	}
	if exe, err := os.Executable(); err == nil {
		if beside, err := programsIn(filepath.Dir(exe)); err == nil {
			return beside, nil
		}
	}
	root, err := Root()
	if err != nil {
		return Programs{}, err
	}
	dir, args, cgo := filepath.Join(root, "e2e", "bin", "plain"), []string{"build"}, "CGO_ENABLED=0"
	if raceEnabled {
		dir, args, cgo = filepath.Join(root, "e2e", "bin", "race"), append(args, "-race"), "CGO_ENABLED=1"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Programs{}, err
	}
	// Packages are tested side by side: the first one builds, the others find
	// everything up to date.
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return Programs{}, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return Programs{}, fmt.Errorf("waiting for somebody else's build: %w", err)
	}
	build := func(cgo string, args ...string) error {
		b := exec.CommandContext(ctx, "go", args...)
		b.Dir, b.Env = root, append(os.Environ(), cgo)
		out, err := b.CombinedOutput()
		if err != nil {
			return fmt.Errorf("building the programs: %w\n%s", err, out)
		}
		return nil
	}
	out := dir + string(filepath.Separator)
	args = append(args, "-o", out)
	for _, name := range programNames {
		if name != trayName {
			args = append(args, "./cmd/"+name)
		}
	}
	if err := build(cgo, args...); err != nil {
		return Programs{}, err
	}
	// The library that the tray is made with writes a new icon over the old one
	// while that may be on its way to a panel, which the race detector sees and
	// nobody else: package panel says why. These flags are those of make build,
	// which has compiled it already.
	if err := build("CGO_ENABLED=0", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./cmd/"+trayName); err != nil {
		return Programs{}, err
	}
	return programsIn(dir)
}

func programsIn(dir string) (Programs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Programs{}, err
	}
	for _, name := range programNames {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return Programs{}, fmt.Errorf("looking for the programs: %w (run: make build)", err)
		}
	}
	return Programs{
		Org:   filepath.Join(dir, programNames[0]),
		Agent: filepath.Join(dir, programNames[1]),
		CLI:   filepath.Join(dir, programNames[2]),
		Tray:  filepath.Join(dir, programNames[3]),
	}, nil
}

// Root returns the folder of this checkout, looked for upwards from the
// working folder and from the running program.
func Root() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for {
			mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && strings.HasPrefix(string(mod), "module countersign.dev\n") {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", errors.New("looking for the checkout of countersign.dev: run this from inside it")
}

// WidgetDir returns the dist folder of the published sign-in widget.
func WidgetDir() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "e2e", "node_modules", "@okta", "okta-signin-widget", "dist")
	for _, f := range []string{"js/okta-sign-in.min.js", "js/okta-sign-in.next.js"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			return "", fmt.Errorf("looking for the sign-in widget: %w (run: e2e/fetch-widget)", err)
		}
	}
	return dir, nil
}

// Chromium returns the browser to drive: CHROMIUM, or the first one in PATH.
func Chromium() (string, error) {
	names := []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"}
	for _, name := range names {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("looking for a browser: no chromium, chromium-browser or google-chrome in PATH; CHROMIUM may name one")
}
