package aaguid

import (
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	for id, want := range map[string]string{
		"ee882879-721c-4913-9775-3dfcce97072a": "YubiKey 5 Series",
		"EE882879-721C-4913-9775-3DFCCE97072A": "YubiKey 5 Series",
		"ec99db19-cd1f-4c06-a2a9-940f17a6a30b": "Nitrokey 3",
		"00000000-0000-0000-0000-000000000000": "", // of keys that do not say
		"ee882879721c491397753dfcce97072a":     "",
		"":                                     "",
	} {
		if got := Name(id); got != want {
			t.Errorf("%q is %q, want %q", id, got, want)
		}
	}
}

// What the table says can be a model, and is shown as it is: on one line, in a
// column, in a JSON string, in the browser.
func TestModels(t *testing.T) {
	number := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	name := regexp.MustCompile(`^[A-Z][A-Za-z0-9]+([ ,/()-]{1,2}[A-Za-z0-9]+)*\)?$`)
	makers := []string{"YubiKey ", "Security Key ", "Google Titan ", "Solo", "Nitrokey ", "OnlyKey", "Feitian ", "Token2 ", "Arculus ", "Countersign "}
	if len(models) < 40 {
		t.Errorf("only %d models", len(models))
	}
	for id, n := range models {
		if !number.MatchString(id) {
			t.Errorf("%s (%s) is no AAGUID", id, n)
			continue
		}
		b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
		if err != nil || len(b) != 16 || strings.Count(id, "0") > 20 {
			t.Errorf("%s (%s): %v", id, n, err)
		}
		if !name.MatchString(n) || len(n) > 50 {
			t.Errorf("%s: %q cannot be shown", id, n)
		}
		made := false
		for _, m := range makers {
			made = made || strings.HasPrefix(n, m)
		}
		if !made {
			t.Errorf("%s: %q is of no known maker", id, n)
		}
		if strings.HasPrefix(n, "Countersign") && string(b) != "countersign soft" {
			t.Errorf("%s: %q is not ours", id, n)
		}
	}
}
