package daemon

import (
	"context"
	"testing"

	"countersign.dev/okta/oktatest"
)

// A14: the lists of pages are asked for once a minute at most, so a page that
// asks and leaves at once must not be able to use that turn up for nothing.
func TestLeavingPageDoesNotSpoilTheRefresh(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	const page = "https://app.example.com"
	org.LoopbackOrigins(page)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if (browsers{a.Daemon}).AllowOrigin(gone, "https://evil.example") {
		t.Fatal("a foreign page is allowed")
	}
	if !(browsers{a.Daemon}).AllowOrigin(t.Context(), page) {
		t.Error("the org's new page is not known")
	}
}
