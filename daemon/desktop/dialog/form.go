package dialog

import (
	"strings"

	"countersign.dev/daemon/desktop/dialog/winform"
)

// What a window of our own says around what it was given.
const (
	labelNumber  = "Number on the sign-in page"
	labelPIN     = "PIN"
	labelAccount = "Account"

	buttonApprove = "Approve"
	buttonDeny    = "Deny"
	buttonReport  = "This wasn't me"
	buttonNotNow  = "Not now"
	buttonClose   = "Close"
)

// form is a question as parts, from top to bottom; the buttons from left to
// right, first the one that decides nothing.
func form(q Question) []winform.Part {
	var parts []winform.Part
	text := func(k winform.Kind, s string) {
		parts = append(parts, winform.Part{Kind: k, ID: idText + len(parts), Text: s})
	}
	for _, line := range q.Unusual {
		text(winform.Notice, line)
	}
	text(winform.Heading, q.Heading)
	for _, fact := range q.Facts {
		text(winform.Name, fact.Name)
		text(winform.Value, fact.Value)
	}
	if len(q.Choices) > 0 {
		text(winform.Label, labelAccount)
		parts = append(parts, winform.Part{Kind: winform.List, ID: idChoices, Rows: min(len(q.Choices), 6)})
	}
	if q.Problem != "" {
		text(winform.Notice, q.Problem)
	}
	switch q.Entry {
	case Number:
		text(winform.Label, labelNumber)
		parts = append(parts, winform.Part{Kind: winform.Entry, ID: idEntry})
	case PIN:
		text(winform.Label, labelPIN)
		parts = append(parts, winform.Part{Kind: winform.Entry, ID: idEntry})
	}
	parts = append(parts, winform.Part{Kind: winform.Button, ID: idNotNow, Text: buttonNotNow})
	if q.Report {
		parts = append(parts, winform.Part{Kind: winform.Button, ID: idReport, Text: buttonReport})
	}
	return append(parts,
		winform.Part{Kind: winform.Button, ID: idDeny, Text: buttonDeny},
		winform.Part{Kind: winform.Button, ID: idApprove, Text: buttonApprove})
}

// reading is lines to read, as parts.
func reading(lines []string) []winform.Part {
	return []winform.Part{
		{Kind: winform.Report, ID: idText, Text: strings.Join(lines, "\r\n"), Rows: min(max(len(lines), 4), 24)},
		{Kind: winform.Button, ID: idNotNow, Text: buttonClose},
	}
}
