package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"countersign.dev/authenticators/totp"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
)

// One-time codes. The seed of a code stays in the book of accounts: what comes
// out of here is digits, one time step at a time, and each handing-out is on
// record.
//
// A suspended account still gets its codes: whether they count is the org's to
// say, as it is for the account's other answers. One that the org has deleted
// gets none, since nobody would know what they are for.

// seed returns what the account's codes are made from.
func seed(a *account.Account) *totp.Parameters {
	for _, m := range a.Methods {
		if m.TOTP != nil {
			return m.TOTP
		}
	}
	return nil
}

// withCodes lists the accounts that have codes. An enrolment that is not
// finished has none yet.
func withCodes(c *core) []*account.Account {
	var list []*account.Account
	for _, a := range c.book.All() {
		if seed(a) != nil && a.State != account.Enrolling {
			list = append(list, a)
		}
	}
	return list
}

func codeView(a *account.Account) api.CodeEntry {
	return api.CodeEntry{
		ID: a.ID, Name: prompt.Clean(a.Username, maxShown), Issuer: issuerName(a),
		Account: a.ID, State: string(a.State),
	}
}

// issuerName is the org as people know it: its host.
func issuerName(a *account.Account) string {
	if u, err := url.Parse(a.OrgURL); err == nil && u.Host != "" {
		return prompt.Clean(u.Host, maxShown)
	}
	return prompt.Clean(a.OrgURL, maxShown)
}

func (f front) Codes(ctx context.Context) (api.CodeList, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.CodeList{}, err
	}
	list := api.CodeList{Codes: []api.CodeEntry{}}
	for _, a := range withCodes(c) {
		list.Codes = append(list.Codes, codeView(a))
	}
	return list, nil
}

func (f front) Code(ctx context.Context, name string) (api.Code, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.Code{}, err
	}
	a, err := findCode(withCodes(c), name)
	if err != nil {
		return api.Code{}, err // names nobody's code: nothing was done
	}
	now := f.d.now()
	code, err := codeOf(a, now)
	outcome, reason := "given", ""
	if err != nil {
		outcome, reason = "refused", err.Error()
	}
	if f.d.codes.first(a.ID, outcome, now) {
		_ = f.d.record(c, audit.Record{Event: "code", Outcome: outcome, Account: a.ID, Reason: reason})
	}
	return code, err
}

// findCode finds the code that a person means: by id, else by the login or the
// name of the account. Accounts that the org has deleted stand back, and of two
// enrolments of one user at one org the newer one speaks, as it does for
// challenges. What then still fits several is an error: a code for the wrong
// org is a code given away.
func findCode(list []*account.Account, name string) (*account.Account, error) {
	var live, gone []*account.Account
	if name == "" {
		list = nil
	}
	for _, a := range list {
		if a.ID == name {
			return a, nil
		}
		if !strings.EqualFold(a.Username, name) && !strings.EqualFold(prompt.Clean(a.Username, maxShown), name) && a.Name != name {
			continue
		}
		fits := &live
		if !a.Usable() {
			fits = &gone
		}
		again := false
		for i, b := range *fits {
			if b.OrgURL == a.OrgURL && b.UserID == a.UserID {
				(*fits)[i], again = a, true
			}
		}
		if !again {
			*fits = append(*fits, a)
		}
	}
	if len(live) == 0 {
		live = gone
	}
	switch len(live) {
	case 0:
		return nil, &api.Error{Status: http.StatusNotFound, Code: "code_unknown", Message: "there is no one-time code of that name", Hint: "countersign code list"}
	case 1:
		return live[0], nil
	}
	var ids []string
	for _, a := range live {
		ids = append(ids, a.ID+" ("+issuerName(a)+")")
	}
	return nil, &api.Error{Status: http.StatusConflict, Code: "code_ambiguous",
		Message: "several one-time codes have that name: " + strings.Join(ids, ", "), Hint: "name one of them by its id: countersign code get " + live[0].ID}
}

// codeOf makes the code of a moment, or the refusal. Neither the seed nor the
// digits are part of any error.
func codeOf(a *account.Account, now time.Time) (api.Code, error) {
	switch a.State {
	case account.Gone:
		return api.Code{}, &api.Error{Status: http.StatusGone, Code: "account_gone", Message: "the org no longer knows this enrolment",
			Hint: "countersign account remove " + a.ID + ", then enrol again"}
	case account.Removing:
		return api.Code{}, &api.Error{Status: http.StatusConflict, Code: "removal_pending", Message: "the account is being removed",
			Hint: "countersign account remove " + a.ID}
	case account.Active, account.Suspended:
	default:
		return api.Code{}, &api.Error{Status: http.StatusConflict, Code: "account_not_ready", Message: "the enrolment is not finished"}
	}
	digits, left, err := seed(a).Code(now)
	switch {
	case errors.Is(err, totp.ErrClock):
		return api.Code{}, &api.Error{Status: http.StatusConflict, Code: "clock_wrong", Message: "the clock of this computer is before 1970", Hint: "set the clock"}
	case errors.Is(err, totp.ErrParameters):
		return api.Code{}, &api.Error{Status: http.StatusConflict, Code: "code_unusable", Message: err.Error(),
			Hint: "countersign account remove " + a.ID + ", then enrol again"}
	case err != nil:
		return api.Code{}, fmt.Errorf("make the code: %w", err)
	}
	return api.Code{Name: prompt.Clean(a.Username, maxShown), Issuer: issuerName(a), Code: digits, ExpiresInSeconds: int(left / time.Second)}, nil
}

// codesGiven keeps the record of decisions from being filled by a program that
// asks for codes in a loop: mostly it gets the same code again, and there is
// one line for each account, outcome and half minute in which it asked.
type codesGiven struct {
	mu   sync.Mutex
	last map[string]int64 // account and outcome: its half minute; at most two an account
}

const codesWindow = 30 // seconds

// first says whether this is the first of its kind in this half minute.
func (g *codesGiven) first(account, outcome string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil {
		g.last = map[string]int64{}
	}
	key, window := account+" "+outcome, now.Unix()/codesWindow
	if at, ok := g.last[key]; ok && at == window {
		return false
	}
	g.last[key] = window
	return true
}
