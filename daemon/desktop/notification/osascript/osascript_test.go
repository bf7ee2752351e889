package osascript

import (
	"slices"
	"testing"
)

// TestB9NotificationScript: whatever an org says is an argument, and the script
// is always the same.
func TestB9NotificationScript(t *testing.T) {
	same := Args("", "")[:6]
	for _, text := range []string{
		"Sign in to Payroll?", `"`, `" & (do shell script "id") & "`, "-e", "--", "-l JavaScript", "\\", "end run\ndo shell script \"id\"",
	} {
		args := Args(text, text)
		if len(args) != 9 || !slices.Equal(args[:6], same) || args[7] != text || args[8] != text {
			t.Errorf("%q gives %q", text, args)
		}
		// The runner takes options up to the first argument that is none.
		if args[6] != "note" {
			t.Errorf("%q: what ends the options is %q", text, args[6])
		}
		for i, arg := range args[:6] {
			if (arg == "-e") != (i%2 == 0) {
				t.Errorf("%q: argument %d is %q", text, i, arg)
			}
		}
	}
}
