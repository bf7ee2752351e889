package api

import "time"

// Why nothing is asked and nothing is signed for the moment.
const (
	HoldScreenLocked = "screen_locked"
	HoldPaused       = "paused"
	HoldAsleep       = "asleep" // the computer is about to sleep
)

// Hold says that for now no prompt is shown, no decision is taken and nothing is
// signed: sign-ins that come meanwhile wait, or expire.
type Hold struct {
	Reason string    `json:"reason"` // HoldScreenLocked, …; the strongest if there are several
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // of a pause
}

// MaxPause bounds a pause.
const MaxPause = 24 * time.Hour

// Pause asks for a hold that ends by itself, at most MaxPause long.
type Pause struct {
	Seconds int `json:"seconds"`
}

// Session is what the agent knows of the person's session on this desktop.
type Session struct {
	Screen string `json:"screen"` // "locked", "unlocked", or "unknown": nobody tells
	// Sources are who tells: "logind", "screensaver", …
	Sources []string `json:"sources,omitempty"`
}

// PromptKey is the key that an approval is signed with.
type PromptKey struct {
	Kind       string `json:"kind"`       // "tpm", "software"
	Protection string `json:"protection"` // "hardware" or "software"
	// Demands says that the key does nothing before the person was verified.
	Demands bool `json:"demandsVerification,omitempty"`
}

// ShowOnDesktop asks for a window on the desktop. It says nothing yet; a body is
// asked for because opening a window is an act.
type ShowOnDesktop struct{}
