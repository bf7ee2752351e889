//go:build !gtktray

package desktop

import "testing"

// One icon, however the panel writes it down; another program's is not ours.
func TestListed(t *testing.T) {
	const unique, ours = ":1.4", "org.kde.StatusNotifierItem-12-1"
	for item, want := range map[string]bool{
		"": false, ":1.4": true, ":1.4/StatusNotifierItem": true, ":1.4@/StatusNotifierItem": true,
		ours: true, ours + "/StatusNotifierItem": true,
		":1.42": false, ":1.42/StatusNotifierItem": false, ours + "2": false, "x:1.4": false,
	} {
		if got := listed([]string{":1.9/Other", item}, unique, ours); got != want {
			t.Errorf("%q: %t", item, got)
		}
	}
	if listed(nil, unique, ours) {
		t.Error("an empty list has it")
	}
}
