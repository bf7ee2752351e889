//go:build linux

package desktoptest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestDesktop(t *testing.T) {
	d := Start(t)
	if err := d.Run(exec.Command("zenity", "--info", "--title=Hello", "--text=Hello")); err != nil {
		t.Fatal(err)
	}
	w := d.Wait(t, "Hello")
	picture := filepath.Join(t.TempDir(), "hello.png")
	d.Screenshot(t, picture)
	if b, err := os.ReadFile(picture); err != nil || !bytes.HasPrefix(b, []byte("\x89PNG")) {
		t.Errorf("no picture: %v", err)
	}
	w.Shut(t)
	w.Gone(t)
	if list := d.Windows("Hello"); len(list) != 0 {
		t.Errorf("left: %v", list)
	}
	d.Close()
	if _, err := os.Stat(d.Home); !os.IsNotExist(err) {
		t.Errorf("the home folder is left: %v", err)
	}
}
