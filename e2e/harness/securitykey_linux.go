package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"countersign.dev/e2e/softkey"
)

// BuildKeyHelper builds countersign-sk into a folder, with build tags; it must be
// able to talk to keys.
//
// Without tags it is what the product has. "umockdev" lets it see a softkey.Hub
// (see WrapKeyHelper), "sandboxtest" has it try its own sandbox.
func BuildKeyHelper(ctx context.Context, folder string, tags ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	folder = filepath.Join(folder, strings.Join(append([]string{"sk"}, tags...), "-"))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "tools/build-sk", folder, strings.Join(tags, ","))
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil || len(out) > 0 {
		return "", fmt.Errorf("building countersign-sk: %w\n%s", err, out)
	}
	return filepath.Join(folder, "countersign-sk"), nil
}

// WrapKeyHelper puts a program countersign-sk into a folder, which runs a helper
// that was built with the tag "umockdev" so that the keys of a hub are its devices.
// The agent gives its helper no environment; so this comes between. An agent whose
// program lies in that folder finds it.
func WrapKeyHelper(folder, helper string, hub *softkey.Hub) (string, error) {
	path := filepath.Join(folder, "countersign-sk")
	script := fmt.Sprintf("#!/bin/sh\n%s exec '%s'\n", strings.Join(hub.Env(), " "), helper)
	syscall.ForkLock.RLock() // no child that starts meanwhile holds it open for writing
	defer syscall.ForkLock.RUnlock()
	return path, os.WriteFile(path, []byte(script), 0o700)
}
