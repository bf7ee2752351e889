// Package crash kills agent and org with SIGKILL, again and again and at
// random, while people enrol, sign in, approve, deny and say nothing, and then
// looks at what both have kept.
//
// COUNTERSIGN_SLOW=1 kills 200 times instead of 10. CRASH_SEED repeats a run,
// as far as two programs that are killed can be made to repeat one.
package crash

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"countersign.dev/e2e/harness"
)

var programs harness.Programs

func TestMain(m *testing.M) {
	var err error
	if programs, err = harness.FindPrograms(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// size says how often is killed, and by what dice.
func size(t *testing.T) (kills int, seed uint64) {
	t.Helper()
	kills, seed = 10, 3
	if os.Getenv("COUNTERSIGN_SLOW") == "1" {
		kills = 200
	}
	if s := os.Getenv("CRASH_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return kills, seed
}
