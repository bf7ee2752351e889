package dialog

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// kde is a script that does what kdialog 22.12 was seen to do: it shows a list
// (--menu TEXT WORD LABEL…) and prints the word, or an entry (--inputbox,
// --password TEXT) and prints what was typed; closing ends it with 1 and an
// empty line, or nothing for a list; what it does not know ends it with 1 at
// once. The steps that a person takes come from a file, one a line: "=" and a
// word or a text, or "close".
const kde = `
step=$(head -n 1 "$0.steps"); sed -i 1d "$0.steps"
case $1 in --title=*) shift ;; *) exit 1 ;; esac
kind=$1 text=$2
case $kind in
--menu) [ $# -ge 4 ] && [ $(($# % 2)) = 0 ] || exit 1; shift 2 ;;
--inputbox | --password) [ $# = 2 ] || exit 1 ;;
*) echo "kdialog: Unknown option" >&2; exit 1 ;;
esac
case $text in '<qt>'*'</qt>') ;; *) exit 1 ;; esac
if [ "$step" = close ]; then
	sleep 0.3 # nobody is faster, and the program is not up before
	[ $kind = --menu ] || echo
	exit 1
fi
step=${step#=}
[ $kind = --menu ] || { printf '%s\n' "$step"; exit 0; }
while [ $# -gt 0 ]; do
	[ "$1" != "$step" ] || { echo "$1"; exit 0; }
	shift 2
done
exit 99`

// TestB3KdialogFlow: the answers are lines of a list, of which the first decides
// nothing, and what is typed is asked for in a second window that leads back.
// The real kdialog is not part of the tests; what is held here was seen there.
func TestB3KdialogFlow(t *testing.T) {
	plain, noReport, number, pin, optional, wrong, choices := question(), question(), question(), question(), question(), question(), question()
	noReport.Report = false
	number.Entry, pin.Entry, optional.Entry, wrong.Entry = Number, PIN, PIN, PIN
	optional.Optional = true
	wrong.Problem = "That was not the PIN."
	choices.Choices = []Choice{{"a", "--ada"}, {"b", "bob"}}
	for _, test := range []struct {
		name  string
		q     Question
		steps string
		want  Answer
		typed string // the PIN
		shown string // kinds of windows
	}{
		{"approve", plain, "=approve", Answer{Verdict: Approve}, "", "menu"},
		{"deny", plain, "=deny", Answer{Verdict: Deny}, "", "menu"},
		{"report", plain, "=report", Answer{Verdict: Report}, "", "menu"},
		{"not now", plain, "=not-now", Answer{}, "", "menu"},
		{"closed", plain, "close", Answer{}, "", "menu"},
		{"number", number, "=enter\n=42", Answer{Verdict: Approve, Number: "42"}, "", "menu inputbox"},
		{"deny with a number", number, "=deny", Answer{Verdict: Deny}, "", "menu"},
		{"back", number, "=enter\nclose\n=report", Answer{Verdict: Report}, "", "menu inputbox menu"},
		{"closed twice", number, "=enter\nclose\nclose", Answer{}, "", "menu inputbox menu"},
		{"empty", number, "=enter\n=\n=7", Answer{Verdict: Approve, Number: "7"}, "", "menu inputbox inputbox"},
		{"PIN", pin, "=enter\n=73 51", Answer{Verdict: Approve}, "73 51", "menu password"},
		{"wrong PIN", wrong, "=7351", Answer{Verdict: Approve}, "7351", "password"},
		{"no PIN after a wrong one", wrong, "close\n=deny", Answer{Verdict: Deny}, "", "password menu"},
		{"without", optional, "=without", Answer{Verdict: Approve}, "", "menu"},
		{"account", choices, "=1\n=approve", Answer{Verdict: Approve, Choice: "b"}, "", "menu menu"},
		{"account and no", choices, "=0\n=deny", Answer{Verdict: Deny}, "", "menu menu"},
		{"no account", choices, "=deny", Answer{Verdict: Deny}, "", "menu"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, args := fake(t, "kdialog", kde)
			if err := os.WriteFile(p.path+".steps", []byte(test.steps+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			answer, err := by(p).Ask(t.Context(), test.q)
			if err != nil || answer.Verdict != test.want.Verdict || answer.Number != test.want.Number || answer.Choice != test.want.Choice || answer.PIN.Reveal() != test.typed {
				t.Errorf("%+v, %v", answer, err)
			}
			b, err := os.ReadFile(args)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for _, one := range strings.Split(strings.TrimSuffix(string(b), "--\n"), "--\n") {
				lines := strings.Split(strings.TrimSuffix(one, "\n"), "\n")
				kinds = append(kinds, strings.TrimPrefix(lines[1], "--"))
				if lines[1] == "--menu" && (lines[3] != "not-now" || lines[4] != buttonNotNow || !slices.Contains(lines, "deny") || slices.Contains(lines[3:], "report") != test.q.Report) {
					t.Errorf("%q", lines)
				}
				for _, l := range lines[3:] {
					if strings.HasPrefix(l, "-") {
						t.Errorf("%q is an option", l)
					}
				}
			}
			if got := strings.Join(kinds, " "); got != test.shown {
				t.Errorf("windows: %s, want %s", got, test.shown)
			}
			if test.typed != "" && strings.Contains(string(b), test.typed) {
				t.Error("the PIN is in the arguments")
			}
		})
	}

	p, _ := fake(t, "kdialog", kde)
	if err := os.WriteFile(p.path+".steps", []byte("=report\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if answer, err := by(p).Ask(t.Context(), noReport); !errors.Is(err, ErrFailed) || answer.Verdict != Closed {
		t.Errorf("a report that was not offered: %+v, %v", answer, err)
	}
}

// TestKdialogTell: a few lines in a box, many by its input.
func TestKdialogTell(t *testing.T) {
	p, args := fake(t, "kdialog", `case $2 in --msgbox) exit 0 ;; --textbox) grep -q '^<qt>many &lt;b&gt;<br/>' && exit 0 ;; esac; exit 3`)
	if err := by(p).Tell(t.Context(), "Report", []string{`One <b>line</b>`}); err != nil {
		t.Error(err)
	}
	if err := by(p).Tell(t.Context(), "Report", slices.Repeat([]string{"many <b>"}, 60)); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(args)
	if err != nil || !strings.Contains(string(b), "<qt>One &lt;b&gt;line&lt;/b&gt;</qt>") || strings.Contains(string(b), "many") {
		t.Errorf("%q, %v", b, err)
	}
	p, _ = fake(t, "kdialog", "exit 1")
	if err := by(p).Tell(t.Context(), "Report", nil); !errors.Is(err, ErrFailed) {
		t.Errorf("an unknown option: %v", err)
	}
}
