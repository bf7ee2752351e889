package localapi

import "syscall"

// bornPrivate sets the mode that the socket's file will get from bind.
func bornPrivate(c syscall.RawConn) error {
	var modeErr error
	err := c.Control(func(fd uintptr) { modeErr = syscall.Fchmod(int(fd), 0o600) })
	if err != nil {
		return err
	}
	return modeErr
}
