package countersign_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "countersign.dev/"

// arrows says, for each room, which other rooms of the house it may import;
// the longest matching prefix decides. Imports inside the same room are free.
// See docs/architecture.md, "Who may call whom".
var arrows = map[string][]string{
	"cmd/countersign":      {"cli", "version"},
	"program":              {"version"},
	"cmd/countersignd":     {"daemon", "ipc/paths", "program", "version"},
	"cmd/countersign-org":  {"org", "program"},
	"cmd/countersign-tray": {"tray", "program", "version"},
	"cmd/countersign-sk":   {"authenticators/securitykey/helper", "version"},
	"cli":                  {"ipc/client", "ipc/api", "ipc/describe", "ipc/paths", "ipc/peer", "program", "version"},
	"ipc/api":              {},
	"ipc/describe":         {"ipc/api"},
	"tray":                 {"ipc/client", "ipc/api", "ipc/describe", "ipc/paths", "bus", "program", "version"},
	"ipc/paths":            {},
	"ipc/peer":             {},
	"ipc/client":           {"ipc/api", "ipc/peer", "ipc/paths"},
	"ipc/localapi":         {"ipc/api", "ipc/peer", "ipc/paths"},
	"ipc/loopback":         {"ipc/peer"},
	"daemon":               {"ipc", "authenticators", "okta", "version", "bus"},
	"daemon/vault":         {"daemon/internal"},
	"daemon/journal":       {"daemon/internal"},
	"daemon/internal":      {},
	"daemon/audit":         {"daemon/journal"},
	"daemon/prompt":        {},
	"daemon/desktop":       {"ipc/api", "ipc/describe", "bus"},
	"authenticators":       {"okta", "bus"},

	"authenticators/securitykey":        {"authenticators/devicekey", "aaguid"},
	"authenticators/securitykey/wire":   {},
	"authenticators/securitykey/helper": {"authenticators/securitykey/wire"},

	"aaguid":    {},
	"bus":       {},
	"okta":      {},
	"org":       {"okta", "program", "aaguid"},
	"org/store": {},
	"version":   {},
}

// onlyIn names third-party modules that one room alone may import, and why.
var onlyIn = map[string]string{
	"github.com/99designs/keyring":    "daemon/vault/unlock", // connects to the session bus in its init
	"github.com/godbus/dbus/v5":       "bus",
	"github.com/keys-pub/go-libfido2": "authenticators/securitykey/helper", // cgo; leaks and races stay in a child process

	"github.com/landlock-lsm/go-landlock": "authenticators/securitykey/helper", // shuts the whole process in
	"github.com/elastic/go-seccomp-bpf":   "authenticators/securitykey/helper", // likewise

	"github.com/google/go-tpm":      "authenticators/devicekey/tpm",
	"github.com/ebitengine/purego":  "daemon/desktop/macos", // calls what the compiler has not checked
	"github.com/getlantern/systray": "tray",
	"fyne.io/systray":               "tray",
	"modernc.org/sqlite":            "org/store",

	"github.com/go-webauthn/webauthn": "org/factor", // many dependencies, and for servers

	"github.com/pressly/goose/v3": "org/store",
	"github.com/spf13/cobra":      "", // any command, checked below
}

type pkg struct {
	ImportPath   string
	Imports      []string
	Deps         []string
	TestImports  []string
	XTestImports []string
	Doc          string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps,Doc"}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// room finds the entry of arrows that governs a package.
func room(path string) (string, bool) {
	for p := path; p != ""; {
		if _, ok := arrows[p]; ok {
			return p, true
		}
		cut := strings.LastIndexByte(p, '/')
		if cut < 0 {
			return "", false
		}
		p = p[:cut]
	}
	return "", false
}

func inside(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// TestArrowsPointDown holds the house's structure: who may import whom.
func TestArrowsPointDown(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 10 {
		t.Fatalf("only %d packages found", len(packages))
	}
	for _, p := range packages {
		from, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue // the root package holds this test only
		}
		if strings.TrimSpace(p.Doc) == "" {
			t.Errorf("%s has no package comment", from)
		}
		home, ok := room(from)
		if !ok {
			t.Errorf("%s belongs to no room: add it to the table with what it may import", from)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				for dep, owner := range onlyIn {
					if owner != "" && inside(imported, dep) && !inside(from, owner) {
						t.Errorf("%s imports %s, which only %s may", from, imported, owner)
					}
				}
				continue
			}
			if inside(to, home) {
				continue
			}
			allowed := false
			for _, folder := range arrows[home] {
				allowed = allowed || inside(to, folder)
			}
			if !allowed {
				t.Errorf("%s imports %s: that arrow points the wrong way", from, to)
			}
		}
	}
}

// TestProgramsStayLight holds what must never be linked into a program, not
// even through others.
func TestProgramsStayLight(t *testing.T) {
	never := map[string][]string{
		"cmd/countersignd":   {"modernc.org/sqlite", "github.com/go-webauthn/webauthn", module + "org", module + "cli", "github.com/keys-pub/go-libfido2"},
		"cmd/countersign-sk": {"net", "log/slog", module + "daemon", module + "ipc", module + "okta", "github.com/fxamacker/cbor/v2", "github.com/spf13/cobra"},
		"cmd/countersign":    {"modernc.org/sqlite", module + "org", module + "daemon", module + "okta", "github.com/99designs/keyring", "github.com/go-jose/go-jose/v4"},
		"cmd/countersign-tray": {"modernc.org/sqlite", module + "org", module + "daemon", module + "okta", module + "authenticators", module + "cli",
			"github.com/99designs/keyring", "github.com/go-jose/go-jose/v4", "github.com/google/go-tpm"},
	}
	for program, forbidden := range never {
		for _, p := range list(t, module+program) {
			for _, dep := range p.Deps {
				for _, f := range forbidden {
					if inside(dep, f) {
						t.Errorf("%s links %s", program, dep)
					}
				}
			}
		}
	}
}
