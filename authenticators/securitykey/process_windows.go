package securitykey

import (
	"os"
	"os/exec"
	"path/filepath"
)

// helper gives the path of the helper. Who may write into the folder of installed
// programs is the installer's business here.
func (ks *Keys) helper() (string, error) {
	path := ks.o.Helper
	if path == "" {
		var err error
		if path, err = Beside(); err != nil {
			return "", &HelperError{Why: "cannot be found: " + err.Error()}
		}
	}
	if !filepath.IsAbs(path) {
		return "", &HelperError{path, "is not named by an absolute path"}
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return "", &HelperError{path, missing}
	}
	return path, nil
}

// environment of the helper: what Windows cannot do without is added by os/exec.
func environment() []string { return []string{} }

func apart(*exec.Cmd) {}

func terminate(c *exec.Cmd) { _ = c.Process.Kill() }

func destroy(c *exec.Cmd) { _ = c.Process.Kill() }
