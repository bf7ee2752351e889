//go:build unix

package app

import (
	"os"
	"strings"
	"syscall"
)

// restart makes this process start anew, as what is installed now.
func restart() error {
	path, err := os.Executable()
	if err == nil {
		err = syscall.Exec(strings.TrimSuffix(path, " (deleted)"), os.Args, os.Environ())
	}
	return err
}
