package dialog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"countersign.dev/ipc/api"
)

const (
	// soonest is when an approval counts, from the start of the program: a second
	// for the person, and half of one for the program to show its window. Nothing
	// tells on every desktop when a window is seen.
	soonest = 1500 * time.Millisecond
	// maxWindows bounds how often one question is asked again because the answer
	// was none; a person gives up before.
	maxWindows = 20
)

// press is what was pressed in one window. The zero value is nothing.
type press uint8

const (
	pressClosed press = iota
	pressOK           // of an entry or a list; what goes with it is in the text
	pressApprove
	pressWithout // approve, without what could be typed
	pressDeny
	pressReport
)

// offer is what one window asks for.
type offer struct {
	page     page
	entry    Entry
	ofKey    bool // the PIN
	optional bool
	report   bool
	accounts []string // to choose from, before anything else
}

// shower shows one window at a time by one program.
type shower interface {
	// show shows a window until something is pressed. The text is what was typed,
	// or the place in accounts, from 0; whoever gets it clears it. began is when
	// the window that was answered began to come up.
	show(ctx context.Context, env []string, o offer) (pressed press, text []byte, began time.Time, err error)
	// tell shows lines until they are closed.
	tell(ctx context.Context, env []string, title string, lines []string) error
}

// asker is a Window by a program, or by a system that shows simple windows alone.
type asker struct {
	name string
	shower
	environment func(context.Context) ([]string, error)
	since       func(time.Time) time.Duration // time.Since but in tests
}

// Name is that of the program or system.
func (a *asker) Name() string { return a.name }

// Ask shows a question in one window, or in several: one for the account, and
// again one where the answer was none.
func (a *asker) Ask(ctx context.Context, q Question) (Answer, error) {
	if !q.Until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.Until)
		defer cancel()
	}
	env, err := a.environment(ctx)
	if err != nil {
		return none(ctx, err)
	}
	var answer Answer
	o := offer{page: newPage(q), entry: q.Entry, ofKey: q.OfKey, optional: q.Optional, report: q.Report}
	for _, c := range q.Choices {
		o.accounts = append(o.accounts, newPage(Question{Heading: c.Name}).heading)
	}
	for range maxWindows {
		pressed, text, began, err := a.show(ctx, env, o)
		took := a.since(began)
		if err != nil || ctx.Err() != nil {
			clear(text)
			return none(ctx, err)
		}
		again := ""
		switch {
		case pressed == pressDeny:
			answer = Answer{Verdict: Deny}
		case pressed == pressReport && q.Report:
			answer = Answer{Verdict: Report}
		case pressed == pressOK && len(o.accounts) > 0:
			i, ok := place(text, len(o.accounts))
			if again = sayNoAccount; ok {
				again, answer.Choice = "-", q.Choices[i].ID
				o.page, o.accounts = newPage(q).of(o.accounts[i]), nil
			}
		case pressed == pressClosed:
			answer = Answer{}
		case len(o.accounts) > 0:
			err = fmt.Errorf("%w: an approval before an account was chosen", ErrFailed)
		case took < soonest:
			again = sayTooSoon
		case pressed == pressApprove && q.Entry == NoEntry, pressed == pressWithout && q.Entry != NoEntry && q.Optional:
			answer.Verdict = Approve
		case pressed == pressOK && q.Entry == Number:
			if answer.Number, again = number(text); again == "" {
				answer.Verdict = Approve
			}
		case pressed == pressOK && q.Entry == PIN:
			if again = wanting(text); again == "" {
				answer.Verdict, answer.PIN = Approve, api.PIN(bytes.Clone(text))
			}
		default:
			err = fmt.Errorf("%w: an answer that was not offered", ErrFailed)
		}
		clear(text)
		switch again {
		case "":
			if err != nil {
				return Answer{}, err
			}
			return answer, nil
		case "-":
		default:
			o.page = o.page.with(again)
		}
	}
	return Answer{}, fmt.Errorf("%w: no answer after %d windows", ErrFailed, maxWindows)
}

// Tell shows lines to read.
func (a *asker) Tell(ctx context.Context, title string, lines []string) error {
	env, err := a.environment(ctx)
	if err == nil {
		var clean []string
		for _, line := range lines {
			clean = append(clean, newPage(Question{Heading: line}).heading)
		}
		err = a.tell(ctx, env, newPage(Question{Title: title}).title, clean)
	}
	_, err = none(ctx, err)
	return err
}

// none is no answer: by time, which is no error, or by a failure.
func none(ctx context.Context, err error) (Answer, error) {
	if ctx.Err() != nil {
		return Answer{}, nil
	}
	if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrFailed) {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return Answer{}, err
}

// place reads a place in a list of n, and nothing else.
func place(text []byte, n int) (int, bool) {
	for i := range n {
		if string(text) == fmt.Sprint(i) {
			return i, true
		}
	}
	return 0, false
}

// number reads the number that a page shows; else it says what is wrong.
func number(text []byte) (number, wrong string) {
	number = strings.TrimSpace(string(text))
	switch {
	case number == "":
		return "", sayEmpty
	case strings.Trim(number, "0123456789") != "":
		return "", sayNoNumber
	case len(number) > 12:
		return "", sayTooLong
	}
	return number, ""
}

// wanting says what is wrong with a PIN before anybody looks at it.
func wanting(pin []byte) string {
	switch {
	case len(pin) == 0:
		return sayEmpty
	case len(pin) > 256:
		return sayTooLong
	}
	return ""
}
