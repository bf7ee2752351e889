package dialog

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"countersign.dev/ipc/describe"
)

// What the windows say around what they are given.
const (
	buttonApprove = "Approve"
	buttonDeny    = "Deny"
	buttonReport  = "This wasn't me"
	buttonNotNow  = "Not now"
	buttonClose   = "Close"

	sayGoOn = "Continue"

	sayAdvice  = "Approve only what you started yourself."
	saySafe    = "Closing this window decides nothing."
	sayNumber  = "To approve, type the number that the sign-in page shows:"
	sayPIN     = "To approve, type the PIN that you set on this device:"
	sayKeyPIN  = "To approve, type the PIN of your security key, and then touch it:"
	sayAccount = "Which account is it for?"

	sayTooSoon   = "That came before the question could be read, so it was not taken. Please answer again."
	sayEmpty     = "Nothing was typed, so nothing was approved."
	sayNoNumber  = "That was no number, so nothing was approved."
	sayTooLong   = "That was too long, so nothing was approved."
	sayNoAccount = "No account was chosen."
)

// sayWithout is the button that approves without what could be typed.
func sayWithout(e Entry) string {
	if e == PIN {
		return "Approve without PIN"
	}
	return "Approve without number"
}

// sayWhich asks for a PIN.
func sayWhich(ofKey bool) string {
	if ofKey {
		return sayKeyPIN
	}
	return sayPIN
}

// page is what a window says, from top to bottom.
type page struct {
	title   string
	unusual []string
	heading string
	facts   []describe.Fact
	advice  []string
	problem []string
	last    string // what is to do here
}

// longest bounds a text. The agent lets through shorter ones only; this holds
// whoever calls.
const longest = 1000

func newPage(q Question) page {
	p := page{title: describe.Clean(q.Title, longest), heading: describe.Clean(q.Heading, longest), advice: []string{sayAdvice, saySafe}}
	for _, line := range q.Unusual {
		p.unusual = append(p.unusual, describe.Clean(line, longest))
	}
	for _, f := range q.Facts {
		first, size := utf8.DecodeRuneInString(f.Name)
		name := f.Name
		if size > 0 {
			name = string(unicode.ToUpper(first)) + f.Name[size:]
		}
		p.facts = append(p.facts, describe.Fact{Name: describe.Clean(name, longest), Value: describe.Clean(f.Value, longest)})
	}
	if q.Problem != "" {
		p.problem = []string{describe.Clean(q.Problem, longest)}
	}
	return p
}

// with is the page with one more problem, in the place of those before.
func (p page) with(problem string) page {
	p.problem = []string{problem}
	return p
}

// of is the page about one of the accounts.
func (p page) of(account string) page {
	facts := append([]describe.Fact(nil), p.facts...)
	for i, f := range facts {
		if f.Name == "Account" {
			facts[i].Value = account
			p.facts = facts
			return p
		}
	}
	p.facts = append(facts, describe.Fact{Name: "Account", Value: account})
	return p
}

// width is how many columns a page's lines take: few, and more where the window
// would get too high for a screen.
func (p page) width() int {
	const narrow, wide, many = 70, 100, 18
	n := len(wrap(p.heading, narrow))
	for _, line := range p.unusual {
		n += len(wrap(line, narrow))
	}
	for _, f := range p.facts {
		n += len(wrap(f.Name+": "+f.Value, narrow))
	}
	if n > many {
		return wide
	}
	return narrow
}

// wrap breaks text into lines of so many columns, between words where it can.
// All of it is seen: a word that is too long is broken as well.
func wrap(text string, width int) []string {
	var lines []string
	line, used := "", 0
	flush := func() { lines, line, used = append(lines, line), "", 0 }
	for _, word := range strings.Split(text, " ") {
		n := columns(word)
		if line != "" && used+1+n <= width {
			line, used = line+" "+word, used+1+n
			continue
		}
		if line != "" {
			flush()
		}
		for _, r := range word {
			if n := columns(string(r)); used+n > width {
				flush()
			}
			line, used = line+string(r), used+columns(string(r))
		}
	}
	return append(lines, line)
}

// columns is about how wide text is: what is written from U+1100 on is mostly
// twice as wide.
func columns(text string) int {
	n := 0
	for _, r := range text {
		if n++; r >= 0x1100 {
			n++
		}
	}
	return n
}
