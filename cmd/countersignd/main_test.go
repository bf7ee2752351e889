package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign.dev/daemon"
	"countersign.dev/program"
)

func TestUsage(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	for _, row := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no command", nil, program.Done, ""},
		{"unknown flag", []string{"run", "--nope"}, program.Usage, "nope"},
		{"unknown key store", []string{"run", "--device-key", "usb"}, program.Usage, "usb"},
		{"unknown vault key", []string{"run", "--vault-key", "none"}, program.Usage, "none"},
		{"unknown screen lock", []string{"run", "--screen-lock", "maybe"}, program.Usage, "\"maybe\", not one of hold, ignore"},
		{"unknown desktop", []string{"run", "--desktop", "kde"}, program.Usage, "kde"},
		{"unknown level", []string{"run", "--log-level", "loud"}, program.Usage, "loud"},
		{"no port", []string{"run", "--loopback-ports", "70000"}, program.Usage, "70000"},
		{"argument", []string{"run", "now"}, program.Usage, "hint: see: countersignd run --help"},
		{"unknown command", []string{"walk"}, program.Usage, "understand the command: "},
		{"ports that are none", []string{"run", "--loopback-ports", "x"}, program.Usage, "\"--loopback-ports\" flag\nhint: "},
		{"socket path too long", []string{"run", "--state", state, "--socket", "/" + strings.Repeat("x", 200)}, program.Usage, "201"},
		{"passphrase file and file key", []string{"run", "--state", state, "--vault-key", "file", "--passphrase-file", "/nope"}, program.Usage, "does not go with"},
		{"grace too long", []string{"run", "--verification-grace", "16m"}, program.Usage, "between 0 and 15m0s"},
		{"grace of the past", []string{"run", "--verification-grace", "-1s"}, program.Usage, "between 0 and 15m0s"},
		{"security key without a path", []string{"run", "--security-key-device", "hidraw0"}, program.Usage, "no absolute path"},
		{"version", []string{"version", "--json"}, program.Done, ""},
		{"completion", []string{"completion", "bash"}, program.Done, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := program.Run(t.Context(), commands(), row.args, &out, &errs); code != row.code {
				t.Fatalf("exit %d, want %d: %s", code, row.code, errs.String())
			}
			if !strings.Contains(errs.String(), row.says) || (row.code != program.Done && !strings.HasPrefix(errs.String(), "countersignd: ")) {
				t.Fatalf("stderr %q", errs.String())
			}
			if row.code != program.Done && out.Len() != 0 {
				t.Fatalf("stdout %q", out.String())
			}
		})
	}
}

// One line on standard output, then the agent serves until it is told to stop.
func TestReadyLine(t *testing.T) {
	dir, err := os.MkdirTemp("", "csd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- program.Run(ctx, commands(), []string{"run", "--state", filepath.Join(dir, "state"), "--socket", filepath.Join(dir, "a.sock"),
			"--loopback-ports", "0", "--vault-key", "file", "--desktop", "off"}, w, io.Discard)
		w.Close()
	}()
	var ready daemon.Ready
	dec := json.NewDecoder(r)
	if err := dec.Decode(&ready); err != nil {
		t.Fatal(err)
	}
	if !ready.Ready || ready.LoopbackPort == 0 || ready.DeviceKey != "software" || ready.VaultKey != "file" || ready.Socket != filepath.Join(dir, "a.sock") {
		t.Fatalf("%+v", ready)
	}
	cancel()
	if rest, _ := io.ReadAll(io.MultiReader(dec.Buffered(), r)); len(bytes.TrimSpace(rest)) != 0 {
		t.Fatalf("more on standard output: %q", rest)
	}
	if code := <-done; code != program.Done {
		t.Fatalf("exit %d", code)
	}
}

// C4: a passphrase that others can read is no secret; the agent says so.
func TestOthersCanRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if othersCanRead(path) || othersCanRead("") || othersCanRead(path+"-missing") {
		t.Error("a private, missing or absent file is said to be readable")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if !othersCanRead(path) {
		t.Error("mode 644 passes")
	}
}
