package countersign_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityPageIsTrue holds docs/security.md: each test it names exists.
func TestSecurityPageIsTrue(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/-]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 60 {
		t.Fatalf("the page names %d tests only", len(named))
	}
	known := map[string]map[string]bool{}
	for _, n := range named {
		folder, test := n[1], n[2]
		if known[folder] == nil {
			known[folder] = testsIn(t, folder)
		}
		if !known[folder][test] {
			t.Errorf("%s has no %s", folder, test)
		}
	}
}

// TestThreatsAreOnTheSecurityPage holds the other direction: an id that a
// test's name carries is explained on the page.
func TestThreatsAreOnTheSecurityPage(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`^Test([A-F][0-9]{1,2})[A-Z]`)
	err = filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if base := d.Name(); path != "." && (strings.HasPrefix(base, ".") || base == "node_modules" || base == "bin") {
			return filepath.SkipDir
		}
		for test := range testsIn(t, path) {
			if m := id.FindStringSubmatch(test); m != nil && !strings.Contains(string(page), "| "+m[1]+" |") {
				t.Errorf("%s.%s: docs/security.md does not explain %s", path, test, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// testsIn lists the test and fuzz functions of a folder.
func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
				tests[fn.Name.Name] = true
			}
		}
	}
	return tests
}
