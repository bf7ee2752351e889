package posture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"strings"
)

// System is what a machine can be asked. Only what the system in OS needs has
// to be there. Local returns the machine at hand.
type System struct {
	OS   string // as runtime.GOOS
	Host string // the machine's name
	// Files is the root of the file system; Linux only.
	Files fs.FS
	// Env reads the environment.
	Env func(name string) string
	// Run runs a program, named by its absolute path, and returns what it
	// prints on both streams. It bounds time and size.
	Run func(ctx context.Context, program string, args ...string) (string, error)
	// Sysctl reads a kernel variable; macOS only.
	Sysctl func(name string) (string, error)
	// Registry reads a value below HKLM\ or HKCU\, numbers in decimal; Windows
	// only. What is not there is fs.ErrNotExist.
	Registry func(key, value string) (string, error)
	// SMBIOS returns the firmware's tables; Windows only.
	SMBIOS func() ([]byte, error)
	// TPM returns the major version of the TPM, 0 without one; Windows only.
	TPM func() (int, error)
	// MachineSID is the security id of this computer; Windows only.
	MachineSID func() (string, error)
}

// probes are how this system finds out its facts, by name of the signal.
func (s System) probes() map[string]probe {
	all := map[string]probe{"displayName": func(context.Context) (string, error) { return s.Host, nil }}
	switch s.OS {
	case "linux":
		maps.Copy(all, linux{s}.probes())
	case "darwin":
		maps.Copy(all, mac{s}.probes())
	case "windows":
		maps.Copy(all, windows{s}.probes())
	}
	return all
}

// direct makes a probe of what needs no context.
func direct(f func() (string, error)) probe {
	return func(context.Context) (string, error) { return f() }
}

// maxFile bounds what is read of one file. A table of mounts may be long.
const maxFile = 1 << 20

var errTooLong = errors.New("too long")

// read returns a file of the machine, whole.
func (s System) read(name string) (string, error) {
	f, err := s.Files.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("read %s: %w", name, errTooLong)
	}
	return string(b), nil
}

// line is read for files of one line; what is absent, or not for this user, is
// not there.
func (s System) line(name string) (string, error) {
	text, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil
	}
	return strings.Trim(text, "\x00 \t\r\n"), err
}
