//go:build !linux

package softkey

import (
	"errors"
	"os"
)

type pty struct {
	path   string
	master *os.File
}

func openPTY() (*pty, error) { return nil, errors.New("softkey: keys can be plugged in on Linux only") }

func (*pty) write([]byte) {}
func (*pty) flush()       {}
func (*pty) drained()     {}
func (*pty) close()       {}
