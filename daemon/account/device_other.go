//go:build !linux

package account

// osFacts knows nothing yet on this system; posture will.
func osFacts() (version, manufacturer, model string) { return "", "", "" }
