package securitykey

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// touchTime is how long an operation may take that waits for a touch. The window
// of Windows asks for more: which key, its PIN, and a touch.
const touchTime = 2 * time.Minute

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
	// Links and junctions are followed here and not again when it is started.
	folder, err := final(filepath.Dir(path))
	if err != nil {
		return "", &HelperError{path, missing}
	}
	path = filepath.Join(folder, filepath.Base(path))
	info, err := os.Lstat(path)
	if err != nil {
		return "", &HelperError{path, missing}
	}
	if !info.Mode().IsRegular() {
		return "", &HelperError{path, "is no program"}
	}
	if strings.HasPrefix(folder, `\\`) {
		return "", &HelperError{path, "is on no drive of this computer"}
	}
	if why := foreign(path, changing); why != "" {
		return "", &HelperError{path, why}
	}
	// Who may rename a folder on the way puts another one in the place of what was
	// looked at here.
	for dir, rights := folder, changing|deleteChild; ; dir, rights = filepath.Dir(dir), replacing|deleteChild {
		if why := foreign(dir, rights); why != "" {
			return "", &HelperError{path, fmt.Sprintf("is in a folder, %s, that %s", dir, why)}
		}
		if dir == filepath.Dir(dir) {
			return path, nil
		}
	}
}

// final is where a folder is, after all links.
func final(folder string) (string, error) {
	f, err := os.Open(folder)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]uint16, windows.MAX_LONG_PATH)
	n, err := windows.GetFinalPathNameByHandle(windows.Handle(f.Fd()), &b[0], uint32(len(b)), 0)
	if err != nil {
		return "", err
	}
	path := windows.UTF16ToString(b[:min(int(n), len(b))])
	if drive, ok := strings.CutPrefix(path, `\\?\`); ok && len(drive) > 2 && drive[1:3] == `:\` {
		return drive, nil
	}
	return path, nil
}

// foreign says why others than this user and the system have one of the rights.
func foreign(path string, rights windows.ACCESS_MASK) string {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return "does not say who may change it: " + err.Error()
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "cannot be compared with this user: " + err.Error()
	}
	return changeable(sd, me.User.Sid, rights)
}

// trusted are those who can change everything anyway: the system, its
// administrators, and what installs its own files.
var trusted = []string{"S-1-5-18", "S-1-5-32-544", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"}

// The rights by which a file or folder itself is replaced, and those by which it is
// changed: in a folder the same bits are those by which something is put there.
const (
	replacing = windows.ACCESS_MASK(windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER | windows.GENERIC_ALL)
	changing  = replacing | windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | windows.FILE_WRITE_EA | windows.GENERIC_WRITE
	// deleteChild is FILE_DELETE_CHILD, of folders.
	deleteChild = windows.ACCESS_MASK(0x40)
)

// changeable says who, besides the trusted and the user, owns something or has one
// of the rights. What a list denies is not reckoned with: it only takes away.
func changeable(sd *windows.SECURITY_DESCRIPTOR, me *windows.SID, rights windows.ACCESS_MASK) string {
	ours := func(sid *windows.SID) bool { return sid.Equals(me) || slices.Contains(trusted, sid.String()) }
	owner, _, err := sd.Owner()
	if err != nil || owner == nil {
		return "has no known owner"
	}
	if !ours(owner) {
		return "belongs to another user (" + owner.String() + ")"
	}
	list, _, err := sd.DACL()
	if err != nil || list == nil { // no list lets everybody do everything
		return "may be changed by others (no list of rights)"
	}
	for i := range uint32(list.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &ace); err != nil {
			return "may be changed by others (" + err.Error() + ")"
		}
		if ace.Header.AceType == windows.ACCESS_DENIED_ACE_TYPE || ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 {
			continue
		}
		if ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE {
			return fmt.Sprintf("may be changed by others (rights of kind %d)", ace.Header.AceType)
		}
		if sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart)); ace.Mask&rights != 0 && !ours(sid) {
			return "may be changed by others (" + sid.String() + ")"
		}
	}
	return ""
}

// environment of the helper: what Windows cannot do without is added by os/exec.
func environment() []string { return []string{} }

// apart keeps what is typed at a terminal from the helper, and a terminal from
// coming up with it.
func apart(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP}
}

// terminate has nothing to add: the helper's input has ended, which tells it to stop.
func terminate(*exec.Cmd) {}

func destroy(c *exec.Cmd) { _ = c.Process.Kill() }
