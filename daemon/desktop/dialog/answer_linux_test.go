package dialog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// script is a shower that answers as it is told, window by window.
type script struct {
	windows []window
	seen    []offer
}

type window struct {
	pressed press
	text    string
	took    time.Duration
	err     error
}

func (s *script) show(_ context.Context, _ []string, o offer) (press, []byte, time.Time, error) {
	w := s.windows[min(len(s.seen), len(s.windows)-1)]
	s.seen = append(s.seen, o)
	return w.pressed, []byte(w.text), time.Unix(0, 0).Add(w.took), w.err
}

func (s *script) tell(context.Context, []string, string, []string) error { return nil }

func (s *script) ask(ctx context.Context, q Question) (Answer, error) {
	a := &asker{name: "script", shower: s, environment: func(context.Context) ([]string, error) { return nil, nil },
		since: func(began time.Time) time.Duration { return began.Sub(time.Unix(0, 0)) }}
	return a.Ask(ctx, q)
}

// TestB3OneAnswerApproves goes through all that may be pressed in each kind of
// question, in time and too soon: one combination each approves.
func TestB3OneAnswerApproves(t *testing.T) {
	texts := []string{"", "42", " 42 ", "4x", "-1", "0", "1", "2", "approve", buttonApprove, strings.Repeat("7", 13), strings.Repeat("x", 257)}
	approves := func(q Question, pressed press, text string, took time.Duration) bool {
		switch {
		case took < soonest:
			return false
		case q.Entry == NoEntry:
			return pressed == pressApprove
		case pressed == pressWithout:
			return q.Optional
		case q.Entry == Number:
			return pressed == pressOK && (text == "42" || text == " 42 " || text == "0" || text == "1" || text == "2")
		default:
			return pressed == pressOK && text != "" && len(text) <= 256
		}
	}
	for _, entry := range []Entry{NoEntry, Number, PIN} {
		for _, optional := range []bool{false, true} {
			for _, report := range []bool{false, true} {
				q := Question{Entry: entry, Optional: optional, Report: report}
				for pressed := pressClosed; pressed <= pressReport+1; pressed++ {
					for _, text := range texts {
						for _, took := range []time.Duration{0, soonest - 1, soonest, time.Hour} {
							s := &script{windows: []window{{pressed, text, took, nil}, {}}} // closed, when asked again
							answer, err := s.ask(t.Context(), q)
							if got, want := answer.Verdict == Approve, approves(q, pressed, text, took); got != want {
								t.Errorf("%+v, press %d, %q after %v: approved %v, want %v", q, pressed, text, took, got, want)
							}
							if err != nil && answer.Verdict != Closed {
								t.Errorf("%+v and %v", answer, err)
							}
							if answer.Verdict == Approve {
								continue
							}
							if answer.Number != "" || answer.PIN != nil || answer.Choice != "" {
								t.Errorf("%+v holds more than no", answer)
							}
							if want := pressed == pressDeny; (answer.Verdict == Deny) != want {
								t.Errorf("press %d: denied %v", pressed, !want)
							}
							if want := pressed == pressReport && report; (answer.Verdict == Report) != want {
								t.Errorf("press %d: reported %v", pressed, !want)
							}
						}
					}
				}
			}
		}
	}
}

func TestChoices(t *testing.T) {
	q := Question{Choices: []Choice{{ID: "a", Name: "ada"}, {ID: "b", Name: "bob"}}, Entry: PIN, Problem: "Wrong."}
	late := time.Hour
	for _, test := range []struct {
		name    string
		windows []window
		want    Answer
		asked   int
		failed  bool
	}{
		{"chosen and approved", []window{{pressOK, "1", 0, nil}, {pressOK, "7351", late, nil}}, Answer{Verdict: Approve, Choice: "b"}, 2, false},
		{"nothing chosen", []window{{pressOK, "", late, nil}, {pressOK, "2", late, nil}, {}}, Answer{}, 3, false},
		{"chosen and closed", []window{{pressOK, "0", 0, nil}, {}}, Answer{}, 2, false},
		{"denied at once", []window{{pressDeny, "", 0, nil}}, Answer{Verdict: Deny}, 1, false},
		{"approved without a choice", []window{{pressApprove, "", late, nil}}, Answer{}, 1, true},
		{"a failure", []window{{pressOK, "0", 0, nil}, {err: errors.New("broken")}}, Answer{}, 2, true},
	} {
		s := &script{windows: test.windows}
		answer, err := s.ask(t.Context(), q)
		if answer.Verdict != test.want.Verdict || answer.Choice != test.want.Choice || errors.Is(err, ErrFailed) != test.failed || len(s.seen) != test.asked {
			t.Errorf("%s: %+v, %v, %d windows", test.name, answer, err, len(s.seen))
		}
		if answer.Verdict == Approve && answer.PIN.Reveal() != "7351" {
			t.Errorf("%s: another PIN", test.name)
		}
	}
}

// TestAskedAgain: the window that comes again says why, and only so often.
func TestAskedAgain(t *testing.T) {
	s := &script{windows: []window{{pressOK, "42", 0, nil}, {pressOK, "", time.Hour, nil}, {pressOK, "x", time.Hour, nil}, {pressOK, "1234567890123", time.Hour, nil}, {}}}
	if _, err := s.ask(t.Context(), Question{Entry: Number, Problem: "First."}); err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, o := range s.seen {
		said = append(said, strings.Join(o.page.problem, "|"))
	}
	if want := "First.\n" + sayTooSoon + "\n" + sayEmpty + "\n" + sayNoNumber + "\n" + sayTooLong; strings.Join(said, "\n") != want {
		t.Errorf("%q", said)
	}
	s = &script{windows: []window{{pressApprove, "", 0, nil}}}
	if answer, err := s.ask(t.Context(), Question{}); !errors.Is(err, ErrFailed) || answer.Verdict != Closed || len(s.seen) != maxWindows {
		t.Errorf("%+v, %v after %d windows", answer, err, len(s.seen))
	}
}

// TestTimeIsUp: what was pressed at the very end of the time is nothing.
func TestTimeIsUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &script{windows: []window{{pressApprove, "", time.Hour, nil}}}
	if answer, err := s.ask(ctx, Question{}); err != nil || answer.Verdict != Closed {
		t.Errorf("cancelled: %+v, %v", answer, err)
	}
	if answer, err := s.ask(t.Context(), Question{Until: time.Now().Add(-time.Second)}); err != nil || answer.Verdict != Closed {
		t.Errorf("late: %+v, %v", answer, err)
	}
}

// TestB3ZenityCodes goes through every exit code with many outputs.
func TestB3ZenityCodes(t *testing.T) {
	texts := []string{"", "\n", "Approve", "Approve\n", "Approve\n\n", "Approve\nDeny\n", " Approve\n", "approve\n", "_Approve\n", "Approve\x00\n",
		"Deny\n", "This wasn't me\n", "Not now\n", "Approve without PIN\n", "42\n", "4\n2\n", "\xff\xfe\n", strings.Repeat("x", maxOutput-1) + "\n"}
	for _, entry := range []Entry{NoEntry, PIN} {
		for _, optional := range []bool{false, true} {
			_, presses := offer{entry: entry, optional: optional}.buttons()
			for code := -1; code <= 255; code++ {
				for _, text := range texts {
					pressed, typed, ok := zenityAnswer(end{code: code, text: []byte(text)}, presses, entry != NoEntry)
					button := code == zenityEscape || code == zenityExtra
					want := pressClosed
					switch {
					case button && text == "Deny\n":
						want = pressDeny
					case button && text == "Approve\n" && entry == NoEntry:
						want = pressApprove
					case button && text == "Approve without PIN\n" && entry == PIN && optional:
						want = pressWithout
					case code == zenityOK && entry == PIN && (text == "" || strings.Count(text, "\n") == 1 && strings.HasSuffix(text, "\n") && !strings.Contains(text, "\x00")):
						want = pressOK
					}
					if pressed != want || !ok && pressed != pressClosed {
						t.Errorf("code %d, %q: press %d, want %d", code, text, pressed, want)
					}
					if pressed == pressOK && string(typed) != strings.TrimSuffix(text, "\n") {
						t.Errorf("%q was read as %q", text, typed)
					}
					closed := (code == zenityCancel || code == zenityEscape) && text == "" || button && text == "Not now\n" && entry == NoEntry
					if want == pressClosed && ok != closed {
						t.Errorf("code %d, %q: ok %v", code, text, ok)
					}
				}
			}
		}
	}
}

// TestB3KdialogCodes does the same for kdialog.
func TestB3KdialogCodes(t *testing.T) {
	words := map[string]press{"not-now": pressClosed, "approve": pressApprove, "deny": pressDeny}
	for code := -1; code <= 255; code++ {
		for _, text := range []string{"", "\n", "approve", "approve\n", "Approve\n", "approve\n\n", "enter\n", "report\n", "deny\n", "not-now\n", "0\n", "1\n", "2\n", "01\n", "-1\n"} {
			for _, took := range []time.Duration{0, time.Hour} {
				pressed, typed, ok := kdialogAnswer(end{code: code, text: []byte(text)}, took, words, 2)
				want, read := pressClosed, code == kdialogCancel && took > hasty && (text == "" || text == "\n")
				if code == kdialogOK {
					switch text {
					case "approve\n":
						want, read = pressApprove, true
					case "deny\n":
						want, read = pressDeny, true
					case "not-now\n":
						read = true
					case "0\n", "1\n":
						want, read = pressOK, true
					}
				}
				if pressed != want || ok != read || pressed == pressOK && string(typed)+"\n" != text {
					t.Errorf("code %d, %q after %v: press %d, %q, %v", code, text, took, pressed, typed, ok)
				}
			}
		}
	}
}

// FuzzAnswers: whatever a program prints and ends with, it approves by one
// exact answer alone.
func FuzzAnswers(f *testing.F) {
	f.Add(zenityExtra, []byte("Approve\n"), uint8(0), true)
	f.Add(zenityOK, []byte("42\n"), uint8(1), false)
	f.Add(zenityOK, []byte("\n"), uint8(2), true)
	f.Add(kdialogOK, []byte("approve\n"), uint8(0), false)
	f.Fuzz(func(t *testing.T, code int, text []byte, kind uint8, optional bool) {
		o := offer{entry: Entry(kind % 3), optional: optional, report: true}
		_, presses := o.buttons()
		pressed, typed, ok := zenityAnswer(end{code: code, text: text}, presses, o.entry != NoEntry)
		said := string(text)
		switch pressed {
		case pressApprove:
			if !ok || o.entry != NoEntry || said != "Approve\n" || code != zenityEscape && code != zenityExtra {
				t.Errorf("zenity: %d %q approves", code, text)
			}
		case pressWithout:
			if !ok || o.entry == NoEntry || !optional || said != sayWithout(o.entry)+"\n" {
				t.Errorf("zenity: %d %q approves", code, text)
			}
		case pressOK:
			if o.entry == NoEntry || ok && (code != zenityOK || strings.ContainsAny(string(typed), "\n\x00")) {
				t.Errorf("zenity: %d %q is typed", code, text)
			}
		}
		words := map[string]press{"approve": pressApprove, "deny": pressDeny, "not-now": pressClosed}
		if pressed, _, ok := kdialogAnswer(end{code: code, text: text}, time.Hour, words, 3); pressed == pressApprove && (!ok || code != kdialogOK || said != "approve\n") {
			t.Errorf("kdialog: %d %q approves", code, text)
		}
		if number, wrong := number(text); wrong == "" && (number == "" || strings.Trim(number, "0123456789") != "") {
			t.Errorf("%q is a number", number)
		}
	})
}
