//go:build !windows

package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// dial opens the socket when it belongs to this user. A socket in a folder that
// is not ours may be anybody's (D2).
func dial(ctx context.Context, path string) (net.Conn, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return nil, errors.New("it is not a socket")
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New("its owner cannot be read")
	}
	if int(stat.Uid) != os.Getuid() {
		return nil, &ForeignError{Detail: fmt.Sprintf("it belongs to user %d", stat.Uid)}
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
