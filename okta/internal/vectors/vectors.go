// Package vectors finds the recorded tokens that the tests of several packages
// read. They are not part of the repository.
package vectors

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"countersign.dev/okta/jose"
)

// Env names the file of recorded tokens, or its folder.
const Env = "COUNTERSIGN_VECTORS"

const file = "challenge-tokens.json"

// Set is the file of recorded tokens.
type Set struct {
	JWK    jose.JWK `json:"jwk"`
	Tokens []Token  `json:"tokens"`
}

// Token is one recorded token.
type Token struct {
	Name      string `json:"name"`
	Source    string `json:"source"`
	JWT       string `json:"jwt"`
	Signature string `json:"signature"` // what is known about it
}

// Load reads the recorded tokens: from where Env says, else from the folder
// "shared" beside the repository. A test that cannot read them fails, since a
// skipped one would pass unseen.
func Load(t testing.TB) Set {
	t.Helper()
	data, err := os.ReadFile(path(t))
	if err != nil {
		t.Fatalf("the recorded challenge tokens are needed; name their file or folder in %s: %v", Env, err)
	}
	var set Set
	if err := json.Unmarshal(data, &set); err != nil {
		t.Fatalf("reading the recorded challenge tokens: %v", err)
	}
	return set
}

func path(t testing.TB) string {
	t.Helper()
	name := os.Getenv(Env)
	if name == "" {
		return filepath.Join(repository(t), "..", "shared", "spec", "vectors", file)
	}
	if !filepath.IsAbs(name) { // tests run in their own folder, the variable is set in the root
		name = filepath.Join(repository(t), name)
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return filepath.Join(name, file)
	}
	return name
}

func repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = parent
	}
}
