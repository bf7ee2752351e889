// Package osascript says how macOS's own script runner is told to show a
// notification. Text stays text: it is an argument of a script that never
// changes.
package osascript

// Program is the script runner. It is part of the sealed system volume.
const Program = "/usr/bin/osascript"

// script shows its second argument as the title of its third. Its first is a
// word that is no option, so that what follows cannot be taken for one.
var script = []string{
	"on run {mark, noteTitle, noteBody}",
	"display notification noteBody with title noteTitle",
	"end run",
}

// Args are the arguments that show a note.
func Args(title, body string) []string {
	var args []string
	for _, line := range script {
		args = append(args, "-e", line)
	}
	return append(args, "note", title, body)
}
