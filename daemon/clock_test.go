package daemon

import (
	"strings"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// B7: a clock that is off by more than challenges tolerate is a problem with
// words, in the status and in doctor.
func TestWrongClockIsNamed(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for off, want := range map[time.Duration]time.Duration{
		0: 0, okta.DeviceBindLeeway: 0, -okta.DeviceBindLeeway: 0,
		okta.DeviceBindLeeway + time.Second: okta.DeviceBindLeeway + time.Second, -time.Hour: -time.Hour,
	} {
		if got := clockOff(okta.Organization{AnsweredAt: at}, at.Add(off)); got != want {
			t.Errorf("%v: %v, want %v", off, got, want)
		}
	}
	if got := clockOff(okta.Organization{}, at); got != 0 {
		t.Errorf("an org that does not tell the time: %v", got)
	}

	org := oktatest.NewOrg(t)
	c := testConfig(t)
	c.Now = func() time.Time { return time.Now().Add(-2 * time.Hour) }
	a := startAgent(t, c)
	a.enrol(t, org)
	s, err := a.client.Status(t.Context())
	if err != nil || len(s.Problems) != 1 || s.Problems[0].Code != "clock_wrong" || !strings.Contains(s.Problems[0].Message, "behind that of "+org.URL) || s.Problems[0].Hint == "" {
		t.Fatalf("%+v, %v", s.Problems, err)
	}
	report, err := a.client.Doctor(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range report.Checks {
		if check.Name == "clock" && check.State == "failed" && check.Hint != "" {
			return
		}
	}
	t.Fatalf("%+v", report.Checks)
}
