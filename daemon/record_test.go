package daemon

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"countersign.dev/okta/oktatest"
)

// C4: an agent that cannot write its record refuses, says so, and leaves a note
// about the gap when it can again.
func TestRecordGap(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	a.enrol(t, org)
	for range 3 {
		a.gaps.note(&notRoom{})
	}
	list := a.problems()
	if len(list) != 0 {
		t.Fatalf("there is room, and the agent says %+v", list)
	}
	records := a.audit(t)
	if last := records[len(records)-1]; last.Event != "record_gap" || !strings.HasPrefix(last.Reason, "3 records") {
		t.Fatalf("%+v", last)
	}
	if list = a.problems(); len(list) != 0 || len(a.audit(t)) != len(records) {
		t.Fatalf("said twice: %+v", list)
	}
	if e := notWritten(&notRoom{}); e == nil || e.Code != "state_not_written" || !strings.Contains(e.Message, "no space left") {
		t.Fatalf("%+v", e)
	}
	if got := a.post(t, org.URL, org.Challenge(nil)); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}

	// The journal is closed under it: nothing can be recorded, so nothing is answered.
	if err := a.core.Load().journals[0].Close(); err != nil {
		t.Fatal(err)
	}
	if got, n := a.post(t, org.URL, org.Challenge(nil)), len(org.Answers()); got < 500 || n != 1 {
		t.Fatalf("status %d, %d answers", got, n)
	}
	if list := a.problems(); len(list) != 1 || list[0].Code != "state_not_written" || list[0].Hint == "" {
		t.Fatalf("%+v", list)
	}
}

// notRoom is the error of a full disk as it comes up from below.
type notRoom struct{}

func (*notRoom) Error() string { return "write it down" }
func (*notRoom) Unwrap() error { return syscall.ENOSPC }
