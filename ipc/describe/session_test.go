package describe

import (
	"runtime"
	"testing"

	"countersign.dev/ipc/api"
)

func TestScreen(t *testing.T) {
	for _, row := range []struct {
		session api.Session
		want    string
	}{
		{api.Session{}, "nobody tells whether it is locked"},
		{api.Session{Screen: "unknown"}, "nobody tells whether it is locked"},
		{api.Session{Screen: "off\x1b"}, "nobody tells whether it is locked"},
		{api.Session{Screen: "unlocked", Sources: []string{"logind"}}, "unlocked, says logind"},
		{api.Session{Screen: "locked", Sources: []string{"logind", "screensaver"}}, "locked, says logind and the screen saver"},
		{api.Session{Screen: "locked", Sources: []string{"new\x1b"}}, "locked, says new\ufffd"},
		{api.Session{Screen: "locked"}, "locked"},
	} {
		if got := Screen(row.session); got != row.want {
			t.Errorf("%+v: %q, want %q", row.session, got, row.want)
		}
	}
}

func TestHoldHint(t *testing.T) {
	for _, reason := range []string{api.HoldAsleep, api.HoldPaused, api.HoldScreenLocked} {
		if reason == api.HoldScreenLocked && runtime.GOOS != "linux" {
			continue
		}
		if HoldHint(&api.Hold{Reason: reason}) == "" {
			t.Errorf("%s: nothing to do", reason)
		}
	}
	if HoldHint(nil) != "" || HoldHint(&api.Hold{Reason: "new"}) != "" {
		t.Error("a hint for nothing")
	}
}
