package cli

import (
	"strings"

	"countersign.dev/ipc/api"
)

// longestMessage bounds what a request may say that it is about. The agent lets
// no longer one through; nobody should approve what is cut off.
const longestMessage = 400

// printPrompt says who asks, what for, from where, and how to answer; saying no
// is as near as saying yes. What is unusual comes first.
func (a *app) printPrompt(p api.Prompt) {
	now := a.now()
	for _, odd := range p.Unusual {
		a.out.line("%s", a.out.paint(yellow, clean(odd)))
	}
	question := "Sign in to " + clean(p.App) + "?"
	if p.TransactionType == "CIBA" {
		question = clean(p.App) + " asks: " + cleanTo(p.BindingMessage, longestMessage)
	}
	a.out.line("%s", a.out.paint(bold, question))
	from := clean(p.Location)
	for _, part := range []string{clean(p.Client), clean(p.IP), clean(p.Origin)} {
		if part != "" && from != "" {
			from += ", "
		}
		from += part
	}
	began := p.CreatedAt
	if !p.RequestedAt.IsZero() && p.RequestedAt.Before(began) {
		began = p.RequestedAt
	}
	when := ago(began, now)
	if left := p.ExpiresAt.Sub(now); !p.ExpiresAt.IsZero() && left > 0 {
		when += "; ends in " + span(left)
	}
	if p.Repeats > 0 {
		when += "; asked " + plural(p.Repeats+1, "time")
	}
	number, numbers := "", clean(strings.Join(p.Numbers, "   "))
	if p.NeedsNumber {
		number = " --number N"
	}
	if numbers != "" {
		numbers += "   (N is the one that the sign-in page shows)"
	}
	report := ""
	if p.Kind == "push" {
		report = "countersign prompt deny " + clean(p.ID) + " --report"
	}
	account := clean(p.User)
	if len(p.Choices) > 0 {
		var names []string
		for _, choice := range p.Choices {
			names = append(names, clean(choice.User)+" ("+clean(choice.Account)+")")
		}
		account, number = strings.Join(names, " or "), number+" --account ID"
	}
	id := clean(p.ID)
	whole := a.out
	whole.width = 0 // the commands are there to be copied
	whole.fields("  ",
		"organisation", orgHost(p.Org, false),
		"account", account,
		"from", from,
		"when", when,
		"needs", a.needsWords(p),
		"numbers", numbers,
		"approve", "countersign prompt approve "+id+number,
		"deny", "countersign prompt deny "+id,
		"not me", report,
	)
}
