package dialog

import (
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/ipc/describe"
)

// TestB3MacAnswers: one button approves, and neither the one that Return presses
// nor the one that Escape may press is it.
func TestB3MacAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		offer offer
		other press
	}{
		"plain":    {offer{}, pressApprove},
		"number":   {offer{entry: Number}, pressOK},
		"PIN":      {offer{entry: PIN}, pressOK},
		"optional": {offer{entry: PIN, optional: true}, pressWithout},
		"accounts": {offer{accounts: []string{"one", "two"}}, pressOK},
	} {
		for flags := range uint64(1 << 12) {
			for _, high := range []uint64{0, 1 << cfPlace, 2 << cfPlace, 0xff << cfPlace, 1 << 40} {
				want := map[uint64]press{1: pressDeny, 2: c.other}[flags&3]
				if got, _ := alertPress(c.offer, flags|high, nil); got != want {
					t.Fatalf("%s: answer %#x is %d, want %d", name, flags|high, got, want)
				}
			}
		}
		a := alert(c.offer)
		if a.Default != buttonNotNow || a.Alternate != buttonDeny || a.Other == buttonNotNow || a.Other == buttonDeny || a.Other == "" {
			t.Errorf("%s: buttons %q, %q and %q", name, a.Default, a.Alternate, a.Other)
		}
	}
}

// A denial never becomes anything but a denial or a report.
func TestB3MacSecondWindow(t *testing.T) {
	for flags := range uint64(1 << 12) {
		want := pressDeny
		if flags&3 == 2 {
			want = pressReport
		}
		if got := secondPress(flags); got != want {
			t.Fatalf("answer %#x is %d, want %d", flags, got, want)
		}
	}
	a := second(offer{page: newPage(Question{Heading: "Sign in to Payroll?"})})
	if a.Default == buttonReport || a.Other != buttonReport || a.Alternate != "" || !strings.Contains(a.Message, "Payroll") {
		t.Errorf("%+v", a)
	}
}

func TestMacText(t *testing.T) {
	o := offer{accounts: []string{"one", "two"}}
	for n, want := range []string{"", "0", "1", "", ""} {
		if _, text := alertPress(o, uint64(n)<<cfPlace|cfOther, nil); string(text) != want {
			t.Errorf("entry %d is %q, want %q", n, text, want)
		}
	}
	if _, text := alertPress(o, 0xff<<cfPlace|cfOther, nil); len(text) != 0 {
		t.Errorf("no entry is %q", text)
	}
	for flags, want := range map[uint64]string{0: "", 1: "", 2: "1234", 3: ""} {
		if _, text := alertPress(offer{entry: PIN}, flags, []byte("1234")); string(text) != want {
			t.Errorf("answer %d carries %q, want %q", flags, text, want)
		}
	}
}

// A window says all that a question says.
func TestMacAlert(t *testing.T) {
	q := Question{
		Unusual: []string{"New place: Lisbon", "New browser"}, Heading: "Sign in to Payroll?", Problem: "That PIN was wrong.",
		Facts: []describe.Fact{{Name: "account", Value: "alice"}, {Name: "from", Value: "Lisbon"}},
	}
	a := alert(offer{page: newPage(q), entry: PIN})
	if a.Header != "New place: Lisbon\nNew browser\nSign in to Payroll?" {
		t.Errorf("header %q", a.Header)
	}
	want := "Account: alice\nFrom: Lisbon\n\n" + strings.Join(newPage(q).advice, "\n") + "\n\nThat PIN was wrong."
	if a.Message != want {
		t.Errorf("it says\n%q, want\n%q", a.Message, want)
	}
	if a.Field != sayPIN || !a.Secure || a.MaxTyped == 0 {
		t.Errorf("a PIN is typed into %q, hidden: %v, at most %d", a.Field, a.Secure, a.MaxTyped)
	}
	if a := alert(offer{page: newPage(q), entry: PIN, ofKey: true}); a.Field != sayKeyPIN || !a.Secure {
		t.Errorf("the PIN of a key is typed into %q, hidden: %v", a.Field, a.Secure)
	}
	if a := alert(offer{page: newPage(q), entry: Number}); a.Field != sayNumber || a.Secure {
		t.Errorf("a number is typed into %q, hidden: %v", a.Field, a.Secure)
	}
	a = alert(offer{page: newPage(q), accounts: []string{"one", "two"}, entry: PIN})
	if !slices.Equal(a.Choices, []string{sayPick, "one", "two"}) || a.Field != "" || a.Other != sayGoOn || !strings.HasSuffix(a.Message, sayAccount) {
		t.Errorf("accounts: %+v", a)
	}
	if !a.Until.Equal(time.Time{}) {
		t.Errorf("ends at %v", a.Until)
	}
}
