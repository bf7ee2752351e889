// Command bench measures Countersign against floors and peers in the same run
// and prints each figure as a ratio, so that the machine and its other load
// cancel out.
//
//	bench [-bin DIR] [-only PART] [-rounds N] [-n N] [-check]
//
// Gated rows (steady figures: processor time, rates, memory, wake-ups, size)
// make it exit 1 with -check when they miss their goal; the others are printed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

type row struct {
	what   string
	ours   string
	floor  string
	ratio  float64
	goal   float64
	atMost bool // ratio must be at most (or at least) the goal
	gate   bool
}

func (r row) ok() bool {
	if r.atMost {
		return r.ratio <= r.goal
	}
	return r.ratio >= r.goal
}

func main() {
	bin := flag.String("bin", "bin", "folder of the programs")
	rounds := flag.Int("rounds", 3, "interleaved rounds; medians count")
	n := flag.Int("n", 500, "answers a round and contender")
	only := flag.String("only", "", "measure this part alone: challenge, probe, start, desktop-start, idle, size, code, tpm, key, touch, push, desktop, listeners")
	check := flag.Bool("check", false, "exit 1 when a gated row misses its goal")
	flag.Parse()

	rows, err := measure(*bin, *only, *rounds, *n)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	missed := 0
	fmt.Printf("\n%-58s %14s %14s %8s  %s\n", "WHAT", "OURS", "FLOOR", "RATIO", "GOAL")
	for _, r := range rows {
		sign, mark := "<=", "ok"
		if !r.atMost {
			sign = ">="
		}
		if !r.ok() {
			mark = "missed"
			if r.gate {
				missed++
			}
		}
		fmt.Printf("%-58s %14s %14s %7.2fx  %s %.2fx %s\n", r.what, r.ours, r.floor, r.ratio, sign, r.goal, mark)
	}
	if *check && missed > 0 {
		os.Exit(1)
	}
}

func measure(bin, only string, rounds, n int) ([]row, error) {
	floors, err := os.MkdirTemp("", "countersign-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(floors)
	bin, err = filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	fmt.Println("building the floors…")
	for _, name := range []string{"barepath", "dbare", "ddeps", "hijack", "ccobra", "dtray"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(floors, name), "countersign.dev/e2e/bench/"+name)
		build.Dir = sourceFolder()
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	b := &bench{bin: bin, floors: floors, work: floors, rounds: rounds, n: n}
	var rows []row
	for _, part := range []struct {
		name string
		run  func() ([]row, error)
	}{
		{"challenge", b.challenges},
		{"probe", b.probes},
		{"start", b.starts},
		{"desktop-start", b.desktopStarts},
		{"idle", b.idle},
		{"size", b.sizes},
		{"code", b.codes},
		{"tpm", b.tpmSigns},
		{"key", b.securityKeys},
		{"touch", b.touches},
		{"push", b.pushes},
		{"desktop", b.desktop},
		{"listeners", b.listeners},
	} {
		if only != "" && only != part.name {
			continue
		}
		fmt.Printf("measuring: %s…\n", part.name)
		began := time.Now()
		more, err := part.run()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Printf("  %.0f s\n", time.Since(began).Seconds())
		rows = append(rows, more...)
	}
	return rows, nil
}

// sourceFolder is where the e2e module lies: the working folder or below it.
func sourceFolder() string {
	for _, dir := range []string{"e2e", "."} {
		if _, err := os.Stat(filepath.Join(dir, "bench")); !errors.Is(err, os.ErrNotExist) {
			return dir
		}
	}
	return "."
}
