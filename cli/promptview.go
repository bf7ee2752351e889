package cli

import (
	"strings"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// printPrompt says who asks, what for, from where, and how to answer; saying no
// is as near as saying yes. What is unusual comes first.
func (a *app) printPrompt(p api.Prompt) {
	for _, odd := range describe.Unusual(p) {
		a.out.paragraph(yellow, odd)
	}
	a.out.paragraph(bold, describe.Question(p))
	var fields []string
	for _, f := range describe.Facts(p, a.now()) {
		fields = append(fields, f.Name, f.Value)
	}
	number, numbers := "", clean(strings.Join(p.Numbers, "   "))
	if p.NeedsNumber {
		number = " --number N"
	}
	if numbers != "" {
		numbers += "   (N is the one that the sign-in page shows)"
	}
	if len(p.Choices) > 0 {
		number += " --account ID"
	}
	id, report := clean(p.ID), ""
	if p.Kind == "push" {
		report = "countersign prompt deny " + id + " --report"
	}
	fields = append(fields, "numbers", numbers)
	commands := []string{
		"approve", "countersign prompt approve " + id + number,
		"deny", "countersign prompt deny " + id,
		"not me", report,
	}
	under := max(widest(fields), widest(commands))
	a.out.columns("  ", under, fields)
	whole := a.out
	whole.width = 0 // they are there to be copied
	whole.columns("  ", under, commands)
}
