package challenge

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
)

// subject is what a push is about, as far as its context says (3.2).
type subject struct {
	transaction string   // LOGIN or CIBA
	message     string   // of CIBA, clean
	numbers     []string // to pick from, clean
	items       []string // the same, as the org wrote them
}

// Limits of what a push may have the person read.
const (
	minNumbers = 2
	maxNumbers = 8
	maxDigits  = 4
	maxUnusual = 8
)

// subjectOf reads the context of a push. What the person could not be asked
// about honestly is refused: numbers that cannot be told apart, a request by
// another channel that does not say what it is about.
func subjectOf(c *okta.ChallengeContext) (subject, error) {
	s := subject{transaction: okta.TransactionLogin}
	if n := len(c.ChallengeTextItems); n > 0 && (n < minNumbers || n > maxNumbers) {
		return s, refuse(Malformed, fmt.Errorf("%d numbers to pick from", n))
	}
	for _, item := range c.ChallengeTextItems {
		number := prompt.Clean(item, maxDigits+1)
		if number == "" || len(number) > maxDigits || strings.Trim(number, "0123456789") != "" {
			return s, refuse(Malformed, fmt.Errorf("%.16q is no number to pick", item))
		}
		if slices.Contains(s.numbers, number) {
			return s, refuse(Malformed, errors.New("the same number twice to pick from"))
		}
		s.numbers, s.items = append(s.numbers, number), append(s.items, item)
	}
	if c.TransactionType != okta.TransactionCIBA {
		return s, nil
	}
	s.transaction = okta.TransactionCIBA
	text := c.BindingMessage
	if decoded, err := url.PathUnescape(text); err == nil {
		text = decoded // once: what it says then is what the org meant
	}
	s.message = prompt.Clean(text, 2*prompt.MaxMessage) // enough to see that it is too long
	switch n := utf8.RuneCountInString(s.message); {
	case n == 0:
		return s, refuse(Malformed, errors.New("a CIBA request without a binding message"))
	case n > prompt.MaxMessage:
		return s, refuse(Malformed, errors.New("the binding message is longer than anybody can be shown"))
	}
	return s, nil
}

// item returns the number that the person picked as the org wrote it. Without
// numbers there is none to pick.
func (s subject) item(number string) (item string, ok bool) {
	if len(s.numbers) == 0 {
		return "", true
	}
	i := slices.Index(s.numbers, number)
	if i < 0 {
		return "", false
	}
	return s.items[i], true
}

// pulledFor keeps the one account whose list the push was on. What is on an
// account's list and meant for another is nobody's: lists are not trusted to
// sort themselves (B8).
func pulledFor(c *Challenge) []*account.Account {
	for _, a := range c.accounts {
		if a.ID == c.transport.Account {
			return []*account.Account{a}
		}
	}
	return nil
}

// checkPush is what fits asks besides of a push.
func checkPush(c *Challenge, a *account.Account, m account.Method) error {
	switch {
	case c.subject.transaction == okta.TransactionCIBA && !slices.Contains(m.Transactions, okta.TransactionCIBA):
		return refuse(Unsupported, errors.New("the account is not enrolled for CIBA requests"))
	case a.PushesHeld:
		return refuse(Held, errors.New("the account's pushes are held back since one was reported"))
	}
	return nil
}

// report is "this wasn't me": from now on the account's pushes are held back,
// on disk before the org hears of it, until the person says otherwise.
func (p *Pipeline) report(c *Challenge) {
	c.reported = true
	held := c.accounts
	if c.account != nil {
		held = []*account.Account{c.account}
	}
	for _, a := range held {
		r := audit.Record{Event: "pushes_held", Account: a.ID, Outcome: "held", Reason: "a sign-in was reported", App: prompt.Clean(c.claims.AppInstanceName, 80)}
		if err := p.Accounts.SetPushesHeld(a.ID, true); err != nil {
			r.Outcome, r.Reason = "failed", err.Error()
			p.Log.Error("pushes not held back", "account", a.ID, "error", err)
		}
		_ = p.Record(r)
		p.Prompts.HoldBack(a.ID) // what else of it waits for the person
	}
}

// describe tells the person what a push is about and where it comes from.
func (p *Pipeline) describe(c *Challenge, q *prompt.Prompt) {
	from := c.claims.Context
	q.Pushed, q.IssuedAt = true, c.claims.IssuedAt.Time()
	q.Transaction, q.Message, q.Numbers = c.subject.transaction, c.subject.message, c.subject.numbers
	// showUserLocationInNotification is for notifications, which others may see.
	q.Location, q.IP, q.Client = from.ClientLocation, from.ClientIP, clientName(from.ClientOS)
	q.Unusual = unusual(from)
	if origin, ok := account.OriginOf(c.claims.RequestReferrer); ok {
		q.Origin = origin
	}
	// The org still lists it, so to the org it is alive: our clock is ahead.
	if now := p.Now(); !q.ExpiresAt.After(now) {
		q.ExpiresAt = q.ExpiresAt.Add(okta.PushLeeway)
		if soon := now.Add(time.Minute); q.ExpiresAt.After(soon) {
			q.ExpiresAt = soon
		}
	}
}

// words are what known codes mean to people.
var words = map[string]string{
	"ANOMALOUS_DEVICE": "New device", "ANOMALOUS_LOCATION": "New place",
	"MAC_OS_X": "macOS", "MAC_OS": "macOS", "WINDOWS": "Windows", "LINUX": "Linux", "ANDROID": "Android", "IOS": "iOS",
	"CHROME_OS": "ChromeOS", "CHROMEOS": "ChromeOS",
}

// unusual names what is unusual about a request; a code that is not known says
// as much as it can by itself.
func unusual(c *okta.ChallengeContext) []string {
	var list []string
	if strings.EqualFold(c.RiskLevel, "HIGH") {
		list = append(list, "High risk")
	}
	for _, code := range c.UnusualActivities[:min(len(c.UnusualActivities), maxUnusual)] {
		word, known := words[strings.ToUpper(code)]
		if !known {
			word = strings.ReplaceAll(prompt.Clean(code, 60), "_", " ")
		}
		if word != "" && !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list
}

// clientName is the system that a request comes from, empty when unknown.
func clientName(os string) string {
	if word, known := words[strings.ToUpper(os)]; known {
		return word
	}
	if strings.EqualFold(os, "UNKNOWN") {
		return ""
	}
	return os
}
