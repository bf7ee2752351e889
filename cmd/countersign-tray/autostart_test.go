package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The autostart entry starts this program on every desktop (XDG Autostart, and
// the Desktop Entry Specification).
func TestAutostartEntry(t *testing.T) {
	const path = "../../packaging/desktop/countersign-tray.desktop"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if lines[0] != "[Desktop Entry]" {
		t.Errorf("it begins with %q", lines[0])
	}
	keys := map[string]string{}
	for _, line := range lines[1:] {
		key, value, ok := strings.Cut(line, "=")
		if _, twice := keys[key]; !ok || twice {
			t.Errorf("%q", line)
		}
		keys[key] = value
	}
	for key, want := range map[string]string{"Type": "Application", "Name": "Countersign", "Exec": commands().Name(), "TryExec": commands().Name(),
		"Terminal": "false", "X-GNOME-Autostart-enabled": "true", "OnlyShowIn": "", "NotShowIn": "", "Hidden": ""} {
		if keys[key] != want {
			t.Errorf("%s is %q, want %q", key, keys[key], want)
		}
	}
	if validate, err := exec.LookPath("desktop-file-validate"); err == nil {
		if out, err := exec.Command(validate, path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: %s", err, out)
		}
	}

	icon, err := os.Open("../../packaging/desktop/" + keys["Icon"] + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	defer icon.Close()
	dec := xml.NewDecoder(icon)
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
