// Package canary looks at what the real programs leave lying around: secrets in
// what they print, log and store, and files that others could read or have put
// in their way.
package canary

import (
	"context"
	"fmt"
	"os"
	"testing"

	"countersign.dev/e2e/harness"
)

var programs harness.Programs

func TestMain(m *testing.M) {
	var err error
	if programs, err = harness.FindPrograms(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "canary:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
