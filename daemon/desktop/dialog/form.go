package dialog

import (
	"strings"

	"countersign.dev/daemon/desktop/dialog/winform"
)

// form is a question as parts, from top to bottom; the buttons from left to
// right, first the one that decides nothing.
func form(q Question) []winform.Part {
	var parts []winform.Part
	text := func(k winform.Kind, s string) {
		parts = append(parts, winform.Part{Kind: k, ID: idText + len(parts), Text: s})
	}
	page := newPage(q)
	for _, line := range page.unusual {
		text(winform.Notice, line)
	}
	text(winform.Heading, page.heading)
	for _, fact := range page.facts {
		text(winform.Name, fact.Name)
		text(winform.Value, fact.Value)
	}
	for _, line := range page.advice {
		text(winform.Quiet, line)
	}
	if len(q.Choices) > 0 {
		text(winform.Label, sayAccount)
		parts = append(parts, winform.Part{Kind: winform.List, ID: idChoices, Rows: min(len(q.Choices), 6)})
	}
	for _, line := range page.problem {
		text(winform.Notice, line)
	}
	switch q.Entry {
	case Number:
		text(winform.Label, sayNumber)
		parts = append(parts, winform.Part{Kind: winform.Entry, ID: idEntry})
	case PIN:
		text(winform.Label, sayWhich(q.OfKey))
		parts = append(parts, winform.Part{Kind: winform.Entry, ID: idEntry})
	}
	parts = append(parts,
		winform.Part{Kind: winform.Button, ID: idNotNow, Text: buttonNotNow},
		winform.Part{Kind: winform.Button, ID: idApprove, Text: buttonApprove},
		winform.Part{Kind: winform.Button, ID: idDeny, Text: buttonDeny})
	if q.Report {
		parts = append(parts, winform.Part{Kind: winform.Button, ID: idReport, Text: buttonReport})
	}
	return parts
}

// reading is lines to read, as parts.
func reading(lines []string) []winform.Part {
	var clean []string
	for _, line := range lines {
		clean = append(clean, newPage(Question{Heading: line}).heading)
	}
	return []winform.Part{
		{Kind: winform.Report, ID: idText, Text: strings.Join(clean, "\r\n"), Rows: min(max(len(lines), 4), 24)},
		{Kind: winform.Button, ID: idNotNow, Text: buttonClose},
	}
}
