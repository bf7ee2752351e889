//go:build unix

package securitykey

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// touchTime is how long an operation may take that waits for a touch.
const touchTime = 45 * time.Second

// helper gives the path of the helper, after a look at who could have put it there.
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
	// Links are followed here and not again when it is started.
	folder, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", &HelperError{path, missing}
	}
	path = filepath.Join(folder, filepath.Base(path))
	info, err := os.Lstat(path)
	if err != nil {
		return "", &HelperError{path, missing}
	}
	if why := ks.foreign(info); why != "" {
		return "", &HelperError{path, why}
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", &HelperError{path, "is no program"}
	}
	if info.Mode()&0o022 != 0 {
		return "", &HelperError{path, fmt.Sprintf("may be changed by others (mode %04o)", info.Mode().Perm())}
	}
	// Who may write to a folder on the way puts another one in the place of what was
	// looked at here.
	for dir := folder; ; dir = filepath.Dir(dir) {
		if info, err = os.Lstat(dir); err != nil {
			return "", &HelperError{path, missing}
		}
		if why := ks.foreign(info); why != "" {
			return "", &HelperError{path, fmt.Sprintf("is in a folder, %s, that %s", dir, why)}
		}
		sticky := dir != folder && info.Mode()&os.ModeSticky != 0 // what is in it, its owner alone replaces
		if othersWrite(info) && !sticky {
			return "", &HelperError{path, fmt.Sprintf("is in a folder, %s, that others may change (mode %04o)", dir, info.Mode().Perm())}
		}
		if dir == filepath.Dir(dir) {
			return path, nil
		}
	}
}

// othersWrite says whether others than its owner may write to a folder. The group
// that a user has alone has the user's own number, and on macOS administrators are
// root.
func othersWrite(info os.FileInfo) bool {
	st := info.Sys().(*syscall.Stat_t)
	own := st.Gid == st.Uid || runtime.GOOS == "darwin" && st.Gid == 80
	return info.Mode()&0o002 != 0 || info.Mode()&0o020 != 0 && !own
}

// foreign says who owns a file that neither root nor the owner does.
func (ks *Keys) foreign(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "has no known owner"
	}
	if st.Uid != 0 && int(st.Uid) != ks.o.Owner {
		return fmt.Sprintf("belongs to another user (uid %d)", st.Uid)
	}
	return ""
}

// environment of the helper: nothing that could change what it loads or does.
func environment() []string { return []string{} }

// apart puts the helper into a group of its own: what is typed at a terminal does
// not reach it, and all of it can be ended.
func apart(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func terminate(c *exec.Cmd) { _ = c.Process.Signal(syscall.SIGTERM) }

// destroy kills the helper with its group, unless it was collected already.
func destroy(c *exec.Cmd) {
	if c.Process.Signal(syscall.SIGKILL) == nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	}
}
