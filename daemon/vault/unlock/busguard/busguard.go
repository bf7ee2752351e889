// Package busguard hides the D-Bus session bus from package initialisers.
//
// github.com/99designs/keyring connects to the session bus in its init, before
// main, and leaves the connection and its reading goroutine there for good;
// without a bus address its D-Bus library even runs dbus-launch, which leaves
// a bus daemon behind at every start. An agent must be able to start and
// listen without either.
//
// Go initialises packages in the order of their import paths as far as their
// imports allow (language specification, "Program initialization"). This
// package imports os only and its path sorts before github.com/…, so its init
// runs before the initialiser of any D-Bus library. It puts an address of an
// unknown kind into the environment, which makes those initialisers give up
// without a system call. Package unlock, which imports keyring and is therefore
// initialised after it, calls Restore.
//
// In the short-lived helper process that does talk to the keyring the bus stays
// visible, but only one that exists already: nothing is ever launched.
package busguard

import "os"

// HelperCommand as first argument makes any program that links package unlock
// the keyring helper.
const HelperCommand = "keyring-helper"

const (
	variable = "DBUS_SESSION_BUS_ADDRESS"
	nowhere  = "hidden:"
)

var (
	original string
	present  bool
)

func init() {
	original, present = os.LookupEnv(variable)
	if !IsHelper() {
		os.Setenv(variable, nowhere)
		return
	}
	if original == "" || original == "autolaunch:" {
		os.Setenv(variable, userBus())
	}
}

// IsHelper says whether this process was started as the keyring helper.
func IsHelper() bool { return len(os.Args) > 1 && os.Args[1] == HelperCommand }

// Restore puts the environment back as it was when the process started.
func Restore() {
	if present {
		os.Setenv(variable, original)
	} else {
		os.Unsetenv(variable)
	}
}

// userBus is the address of the bus that systemd runs for a user, or nowhere.
func userBus() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		if info, err := os.Stat(dir + "/bus"); err == nil && info.Mode()&os.ModeSocket != 0 {
			return "unix:path=" + dir + "/bus"
		}
	}
	return nowhere
}
