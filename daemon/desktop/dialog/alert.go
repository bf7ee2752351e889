package dialog

import (
	"strconv"
	"strings"

	"countersign.dev/daemon/desktop/macos"
)

// A window of macOS' CFUserNotification has three buttons. Return presses the
// default one, and Escape may press the alternate one, so neither approves; what
// is missing is asked in a second window, after the denial.

// What only those windows say.
const (
	sayWasIt    = "Was it you who tried to sign in?"
	sayWasItNot = "You have said no. If it was not you, say so, and your organisation will hear of it."
	sayWasMe    = "It was me"
	sayPick     = "Choose an account"
)

// The answers of a CFUserNotification, in the lowest two bits of what it gives
// back; its fourth is that it was taken away, by time or by us. The pop-up's
// place is in the highest of its 32.
const (
	cfAnswer    = 3
	cfAlternate = 1
	cfOther     = 2
	cfPlace     = 24
)

// maxEntry bounds what is typed, in UTF-16 units.
const maxEntry = 256

// alert is an offer as one such window.
func alert(o offer) macos.Alert {
	a := macos.Alert{
		Default: buttonNotNow, Alternate: buttonDeny, Other: buttonApprove,
		Header: strings.Join(append(append([]string(nil), o.page.unusual...), o.page.heading), "\n"), MaxTyped: maxEntry,
	}
	var lines []string
	for _, f := range o.page.facts {
		lines = append(lines, f.Name+": "+f.Value)
	}
	blocks := [][]string{lines, o.page.advice, o.page.problem}
	switch {
	case len(o.accounts) > 0:
		a.Other, a.Choices = sayGoOn, append([]string{sayPick}, o.accounts...)
		blocks = append(blocks, []string{sayAccount})
	case o.entry == Number:
		a.Field = sayNumber
	case o.entry == PIN:
		a.Field, a.Secure = sayWhich(o.ofKey), true
	}
	var text []string
	for _, block := range blocks {
		if len(block) > 0 {
			text = append(text, strings.Join(block, "\n"))
		}
	}
	a.Message = strings.Join(text, "\n\n")
	return a
}

// alertPress is what was pressed in the window of an offer, and the text that
// goes with it.
func alertPress(o offer, flags uint64, typed []byte) (press, []byte) {
	switch flags & cfAnswer {
	case cfAlternate:
		return pressDeny, nil
	case cfOther:
	default:
		return pressClosed, nil
	}
	switch {
	case len(o.accounts) > 0:
		place := flags >> cfPlace & 0xff // its first entry is no account
		if place == 0 || place > uint64(len(o.accounts)) {
			return pressOK, nil
		}
		return pressOK, []byte(strconv.FormatUint(place-1, 10))
	case o.entry == NoEntry:
		return pressApprove, nil
	case len(typed) == 0 && o.optional:
		return pressWithout, nil
	}
	return pressOK, typed
}

// second is the window after a denial.
func second(o offer) macos.Alert {
	return macos.Alert{Header: sayWasIt, Message: sayWasItNot + "\n\n" + o.page.heading, Default: sayWasMe, Other: buttonReport}
}

// secondPress is what a denial comes to: whatever is not said in the second
// window, it stays one.
func secondPress(flags uint64) press {
	if flags&cfAnswer == cfOther {
		return pressReport
	}
	return pressDeny
}
