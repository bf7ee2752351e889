package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"time"
)

// browserWait is how long the program that opens the browser may show that it
// cannot. It may also stay for as long as the browser does.
const browserWait = 2 * time.Second

// browserCommand is what opens a page on this system. No shell is between: a
// shell would find more in an address than its characters.
func browserCommand(page string) (*exec.Cmd, error) {
	var name string
	var args []string
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler"}
	default:
		name = "xdg-open"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("there is no %s on this computer", name)
	}
	cmd := exec.Command(path, append(args, page)...)
	cmd.SysProcAttr = apart() // Ctrl-C here is not meant for the browser
	return cmd, nil
}

// openBrowser opens a page in the person's browser. An error says that it did
// not open; no error that it seems to.
func openBrowser(ctx context.Context, page string) error {
	cmd, err := browserCommand(page)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the browser, or with this program
	early := time.NewTimer(browserWait)
	defer early.Stop()
	select {
	case err := <-ended:
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return fmt.Errorf("%s ended with %s", cmd.Args[0], exit)
		}
		return err
	case <-early.C:
	case <-ctx.Done():
	}
	return nil
}
