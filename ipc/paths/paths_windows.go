package paths

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

func defaultStateDir() (string, error) {
	base := os.Getenv("LOCALAPPDATA")
	if base == "" {
		return "", errors.New("%LOCALAPPDATA% is not set")
	}
	return filepath.Join(base, "Countersign"), nil
}

// The pipe carries the user's SID, so that two users of one machine do not
// meet on one name.
func defaultSocket(func() (string, error)) (string, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", err
	}
	return `\\.\pipe\countersign-` + user.User.Sid.String(), nil
}
