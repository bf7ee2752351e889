package describe

import (
	"runtime"
	"strings"

	"countersign.dev/ipc/api"
)

// sources are who tells of the screen, in words.
var sources = map[string]string{"screensaver": "the screen saver"}

// Sources names who tells of the screen: "logind and the screen saver".
func Sources(s api.Session) string {
	var names []string
	for _, source := range s.Sources {
		name := sources[source]
		if name == "" {
			name = clean(source)
		}
		names = append(names, name)
	}
	return strings.Join(names, " and ")
}

// Screen says what is known of the screen: "unlocked, says logind".
func Screen(s api.Session) string {
	who := Sources(s)
	switch {
	case s.Screen != "locked" && s.Screen != "unlocked":
		return "nobody tells whether it is locked"
	case who == "":
		return s.Screen // whoever said so is gone
	}
	return s.Screen + ", says " + who
}

// HoldHint says how a hold is ended that should not be; empty for none.
func HoldHint(h *api.Hold) string {
	if h == nil {
		return ""
	}
	switch h.Reason {
	case api.HoldScreenLocked:
		if runtime.GOOS != "linux" {
			return "" // there the system itself says so
		}
		return "if it is not locked: loginctl unlock-session"
	case api.HoldAsleep:
		return "if it stays awake: start the agent again"
	case api.HoldPaused:
		return "to end that: countersign resume"
	}
	return ""
}
