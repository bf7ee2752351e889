package localapi

import (
	"errors"
	"net"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// listen opens a pipe that only this user and the system may open; go-winio
// asks for the first instance, so a name that is taken is an error, and
// refuses remote clients.
func listen(path string) (net.Listener, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, err
	}
	sid := user.User.Sid.String()
	l, err := winio.ListenPipe(path, &winio.PipeConfig{
		SecurityDescriptor: "O:" + sid + "D:P(A;;GA;;;" + sid + ")(A;;GA;;;SY)",
	})
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return nil, errors.Join(ErrInUse, err)
	}
	return l, err
}
