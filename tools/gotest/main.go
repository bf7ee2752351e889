// Command gotest runs `go test -json` in one or more modules and prints a line
// a package, the output of what failed, and one closing line with the counts.
//
// With COUNTERSIGN_NO_SKIP=1 a skipped test is a failed one: continuous
// integration has installed everything a test may need, so a skip there means
// that something was not tested.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
	"time"
)

type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

type result struct {
	passed, failed, skipped int
	broken                  bool
}

type dirs []string

func (d *dirs) String() string     { return strings.Join(*d, ",") }
func (d *dirs) Set(s string) error { *d = append(*d, s); return nil }

func main() {
	var modules dirs
	flag.Var(&modules, "dir", "module folder to run in; may be repeated")
	flag.Parse()
	if len(modules) == 0 {
		modules = dirs{"."}
	}
	noSkip := os.Getenv("COUNTERSIGN_NO_SKIP") == "1"
	var total result
	for _, dir := range modules {
		r := run(dir, flag.Args(), noSkip)
		total.passed += r.passed
		total.failed += r.failed
		total.skipped += r.skipped
		total.broken = total.broken || r.broken
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", total.passed, total.failed, total.skipped)
	switch {
	case total.failed > 0 || total.broken:
		os.Exit(1)
	case noSkip && total.skipped > 0:
		fmt.Println("a skipped test counts as a failed one here")
		os.Exit(1)
	case total.passed == 0:
		fmt.Println("no test ran")
		os.Exit(1)
	}
}

func run(dir string, args []string, noSkip bool) (r result) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Println("gotest: starting go test:", err)
		return result{broken: true}
	}
	outputs := map[string]*strings.Builder{} // package/test -> output
	collect := func(key, text string) {
		if outputs[key] == nil {
			outputs[key] = &strings.Builder{}
		}
		outputs[key].WriteString(text)
	}
	scanner := bufio.NewScanner(out)
	scanner.Buffer(make([]byte, 1<<20), 16<<20)
	for scanner.Scan() {
		var e event
		if json.Unmarshal(scanner.Bytes(), &e) != nil {
			fmt.Println(scanner.Text())
			continue
		}
		if e.Package == "" {
			e.Package, _, _ = strings.Cut(e.ImportPath, " ")
		}
		key := e.Package + "\x00" + e.Test
		switch e.Action {
		case "output", "build-output":
			collect(key, e.Output)
		case "build-fail":
			r.broken = true
			fmt.Printf("BUILD FAILED  %s\n%s", e.Package, text(outputs[key]))
		case "pass", "skip", "fail":
			if e.Test != "" {
				r.test(e, text(outputs[key]), noSkip)
				delete(outputs, key)
				continue
			}
			r.pkg(e, outputs)
		}
	}
	if err := cmd.Wait(); err != nil && r.failed == 0 && !r.broken {
		fmt.Printf("gotest: go test in %s: %v\n", dir, err)
		r.broken = true
	}
	return r
}

func (r *result) test(e event, output string, noSkip bool) {
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Printf("--- FAIL  %s  %s\n%s", e.Package, e.Test, output)
	case "skip":
		r.skipped++
		if noSkip {
			fmt.Printf("--- SKIPPED  %s  %s\n%s", e.Package, e.Test, output)
		}
	}
}

func (r *result) pkg(e event, outputs map[string]*strings.Builder) {
	took := time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
	switch e.Action {
	case "pass":
		fmt.Printf("ok     %-52s %8s\n", e.Package, took)
	case "fail":
		fmt.Printf("FAIL   %-52s %8s\n", e.Package, took)
		r.broken = true
		// What belongs to no finished test: a panic, a data race, a hang.
		var keys []string
		for key := range outputs {
			if strings.HasPrefix(key, e.Package+"\x00") {
				keys = append(keys, key)
			}
		}
		sort.Strings(keys)
		for _, key := range keys {
			fmt.Print(outputs[key].String())
		}
	}
	for key := range outputs {
		if strings.HasPrefix(key, e.Package+"\x00") {
			delete(outputs, key)
		}
	}
}

func text(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	return b.String()
}
