package desktop

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

const (
	decideWithin = 3 * time.Minute  // a finger may take two
	tellFor      = time.Minute      // a sentence in a window
	afterwards   = 20 * time.Second // for the org's word on a prompt that is decided
)

// show opens the dialog of a prompt for somebody who asks for it.
func (s *screen) show(id string) error {
	s.catchUp()
	if s.hold != nil {
		return ErrHeld
	}
	if s.window == nil {
		s.findWindow()
	}
	it := s.items[id]
	switch {
	case s.window == nil:
		return ErrNoWindow
	case it == nil:
		return ErrUnknown
	case it.dialog != nil:
		return nil
	case len(s.dialogs) >= maxDialogs:
		return ErrTooManyWindows
	}
	s.open(it)
	return nil
}

// open opens the dialog of a prompt, if that can be. Its note goes meanwhile, and
// comes again when the dialog was closed.
func (s *screen) open(it *item) {
	if s.window == nil {
		s.findWindow()
	}
	if s.window == nil || s.hold != nil || it.dialog != nil || len(s.dialogs) >= maxDialogs || s.items[it.prompt.ID] != it {
		return
	}
	s.takeAway(&it.note)
	it.opened, it.dismissed = true, false
	c := &conversation{agent: s.o.Agent, window: s.window, now: s.o.Now, prompt: it.prompt, life: s.life}
	c.ask, c.cancel = context.WithCancel(s.life)
	if it.replaces {
		it.replaces, c.problem = false, "This is another sign-in, which has taken the place of the one before. Read it anew."
	}
	it.dialog = c
	s.dialogs[c] = it
	s.work.Go(func() {
		defer c.cancel()
		err := c.run()
		s.post(func() { s.finished(c, err) })
	})
}

// finished puts a conversation away.
func (s *screen) finished(c *conversation, err error) {
	it := s.dialogs[c]
	delete(s.dialogs, c)
	it.dialog, it.refused = nil, false
	if err != nil {
		s.log.Warn("dialog", "error", err)
	}
	if errors.Is(err, dialog.ErrNone) {
		s.window = nil
		s.attach(Dialog, false, err.Error())
	}
}

// openNext opens the dialog of the oldest prompt that nobody can click on, if
// none is open.
func (s *screen) openNext() {
	if s.window == nil || len(s.dialogs) > 0 {
		return
	}
	clicks := s.server != nil && s.server.Buttons()
	var next *item
	for _, it := range s.items {
		if it.opened || it.deciding || clicks && !it.refused {
			continue
		}
		if next == nil || it.age(next) < 0 {
			next = it
		}
	}
	if next != nil {
		s.open(next)
	}
}

// report shows lines to read.
func (s *screen) report(title string, lines []string) error {
	if s.hold != nil && s.hold.Reason != api.HoldPaused {
		return ErrHeld
	}
	if s.window == nil {
		s.findWindow()
	}
	if s.window == nil {
		return ErrNoWindow
	}
	if s.shut != nil {
		s.shut()
	}
	ctx, shut := context.WithCancel(s.life)
	s.shut = shut
	w := s.window
	s.work.Go(func() {
		defer shut()
		if err := w.Tell(ctx, title, lines); err != nil && ctx.Err() == nil {
			s.log.Warn("report not shown", "error", err)
		}
	})
	return nil
}

// tell shows lines for as long as it takes to read them.
func tell(ctx context.Context, w dialog.Window, lines []string) {
	ctx, cancel := context.WithTimeout(ctx, tellFor)
	defer cancel()
	_ = w.Tell(ctx, title, lines) // there is no other place to say it
}

// conversation asks about one prompt until there is a decision, or none.
type conversation struct {
	agent  Agent
	window dialog.Window
	now    func() time.Time
	life   context.Context    // ends with a hold and with the agent
	ask    context.Context    // ends with the prompt, too
	cancel context.CancelFunc // of ask

	prompt  api.Prompt
	account string // of the choices
	number  string
	problem string          // to be said with the next question
	failed  map[string]bool // ways to be verified that did not work
	without bool            // a verification that is preferred was tried in vain
	keyPIN  bool            // the security key has asked for its own PIN

	mu     sync.Mutex
	decide context.CancelFunc // of the decision that is under way; nil when none is
}

// close ends the conversation because the prompt has ended so. A decision that
// may be the one that ended it is left to hear what became of it.
func (c *conversation) close(o api.PromptOutcome) {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.decide == nil:
	case o.Outcome == "approved", o.Outcome == "denied", o.Outcome == "refused":
		time.AfterFunc(afterwards, c.decide)
	default:
		c.decide()
	}
}

// run asks. An error is one of the window.
func (c *conversation) run() error {
	for c.ask.Err() == nil {
		c.refresh()
		q := c.question()
		answer, err := c.window.Ask(c.ask, q)
		if err != nil {
			if c.ask.Err() != nil {
				return nil
			}
			return err
		}
		if c.ask.Err() != nil {
			clear(answer.PIN)
			return nil // what comes with the end comes too late
		}
		c.problem = ""
		over := true
		switch answer.Verdict {
		case dialog.Deny:
			over = c.settle(api.Decision{Action: "deny"})
		case dialog.Report:
			over = c.settle(api.Decision{Action: "deny", Report: q.Report})
		case dialog.Approve:
			over = c.approve(q, answer)
		}
		clear(answer.PIN)
		if over {
			return nil
		}
	}
	return nil
}

// refresh brings up to date what the prompt says of verification.
func (c *conversation) refresh() {
	if c.prompt.UserVerification == "none" {
		return
	}
	list, err := c.agent.Prompts(c.ask)
	if err != nil {
		return // what is known has to do; the decision is checked anyway
	}
	for _, p := range list.Prompts {
		if p.ID == c.prompt.ID {
			c.prompt = p
		}
	}
}

// need is what an approval takes of verification: what is not known to need none
// or little needs all.
func (c *conversation) need() string {
	need := c.prompt.UserVerification
	for _, choice := range c.prompt.Choices {
		if choice.Account == c.account {
			need = choice.UserVerification
		}
	}
	if need == "none" || need == "preferred" {
		return need
	}
	return "required"
}

// method is the way in which the person is to be verified; empty for none.
func (c *conversation) method() string {
	if c.need() == "none" || c.prompt.Verified || c.without {
		return ""
	}
	for _, m := range c.prompt.VerificationMethods {
		if !c.failed[m] && (m != "pin" || !c.prompt.LockedUntil.After(c.now())) {
			return m
		}
	}
	return ""
}

// question is what is to be asked next: first which account and the number, then
// the PIN.
func (c *conversation) question() dialog.Question {
	p := c.prompt
	q := dialog.Question{
		Title: title, Unusual: describe.Unusual(p), Heading: describe.Question(p), Facts: describe.Facts(p, c.now()),
		Problem: c.problem, Report: p.Kind == "push", Until: p.ExpiresAt,
	}
	if c.account == "" {
		for _, choice := range p.Choices {
			q.Choices = append(q.Choices, dialog.Choice{ID: choice.Account, Name: describe.Clean(choice.User, 80) + " (" + describe.Clean(choice.Account, 40) + ")"})
		}
	}
	switch {
	case p.NeedsNumber && c.number == "":
		q.Entry = dialog.Number
	case len(q.Choices) > 0:
	case c.keyPIN && c.method() == "security_key":
		q.Entry, q.OfKey = dialog.PIN, true
	case c.method() == "pin":
		q.Entry, q.Optional = dialog.PIN, c.need() == "preferred"
	}
	return q
}

// approve takes in what the person gave with a yes, and decides when nothing is
// left to ask. It says whether the conversation is over.
func (c *conversation) approve(q dialog.Question, a dialog.Answer) (over bool) {
	if len(q.Choices) > 0 {
		if !slices.ContainsFunc(q.Choices, func(o dialog.Choice) bool { return o.ID == a.Choice }) {
			c.problem = "Choose the account."
			return false
		}
		c.account = a.Choice
	}
	d := api.Decision{Action: "approve", Account: c.account}
	switch q.Entry {
	case dialog.Number:
		number := strings.Join(strings.FieldsFunc(a.Number, unicode.IsSpace), "")
		if number == "" {
			c.problem = "Type the number that the page shows."
			return false
		}
		c.number = number
	case dialog.PIN:
		if len(a.PIN) == 0 && !q.Optional {
			c.problem = "Type your PIN."
			return false
		}
		d.PIN = a.PIN
	}
	d.Number = c.number
	switch m := c.method(); {
	case m == "pin" && q.Entry != dialog.PIN:
		return false // that is the next question
	case m != "pin":
		d.Verification = m
	}
	return c.settle(d)
}

// settle hands a decision over. It says whether that was the end of it.
func (c *conversation) settle(d api.Decision) (over bool) {
	ctx, cancel := context.WithTimeout(c.life, decideWithin)
	defer cancel()
	c.mu.Lock()
	c.decide = cancel
	c.mu.Unlock()
	left := c.showHow(d.Verification, cancel)
	o, err := c.agent.Decide(ctx, c.prompt.ID, d)
	gone := left()
	c.mu.Lock()
	c.decide = nil
	c.mu.Unlock()

	var refused *api.Error
	if errors.As(err, &refused) && c.ask.Err() == nil && !gone {
		if again, known := c.again(refused); known {
			return !again
		}
	}
	if gone && err != nil && c.ask.Err() == nil && c.need() == "preferred" {
		c.without, c.problem = true, "You have not shown that it is you. You may go on without."
		return false
	}
	unverified := refused != nil && (strings.HasPrefix(refused.Code, "verification_") || d.Verification != "" && strings.HasPrefix(refused.Code, "prompt_"))
	if err != nil && (gone || unverified && c.ask.Err() != nil) {
		return true // they closed the window, or the prompt has gone: nothing is decided
	}
	if sentence := failure(c.prompt, d, o, err); sentence != "" && c.life.Err() == nil {
		tell(c.life, c.window, []string{sentence})
	}
	return true
}

// again is for refusals that another answer may mend.
func (c *conversation) again(e *api.Error) (again, known bool) {
	c.problem = sentence(e.Message)
	method := c.method()
	switch e.Code {
	case "wrong_number", "number_required":
		c.number = ""
	case "account_needed", "wrong_account":
		c.account = ""
	case "wrong_pin", "not_verified", "bad_pin":
	case "key_pin_needed", "wrong_key_pin":
		c.keyPIN = true // that it is needed is said by the question
		if e.Code == "key_pin_needed" {
			c.problem = ""
		}
	case "verification_required":
		graced := c.prompt.Verified
		c.prompt.Verified, c.without = false, false
		if !graced && method == "" {
			return false, false // there is no way
		}
	case "verification_cancelled", "verification_timed_out", "no_key", "key_removed", "key_not_enrolled", "key_timed_out", "key_in_use":
		// Plugged in, touched or let go of, a key may do yet.
		c.without = c.need() == "preferred"
	case "pin_locked", "verification_locked", "verification_unavailable", "verification_not_possible", "verification_not_set_up", "pin_lost",
		"key_pin_blocked", "key_pin_pause", "key_no_permission", "key_not_built", "key_helper_unusable", "key_misbehaves":
		if c.failed == nil {
			c.failed = map[string]bool{}
		}
		c.failed[method] = true
		if c.without = c.need() == "preferred"; !c.without && c.method() == "" {
			return false, false // no other way
		}
	default:
		return false, false
	}
	return true, true
}

// how says what to do, for ways that take no typing here.
var how = map[string]string{
	"fingerprint":  "Touch the fingerprint reader to approve.",
	"security_key": "Touch your security key to approve.",
	"password":     "The system asks for your password, to approve.",
}

// showHow says what to do while the person is verified, until done is called.
// Whoever closes the window cancels; done says whether they have.
func (c *conversation) showHow(method string, cancel context.CancelFunc) (done func() bool) {
	if method == "" {
		return func() bool { return false }
	}
	line := how[method]
	if line == "" {
		line = "Show that it is you: " + describe.Method(method) + "."
	}
	ctx, stop := context.WithCancel(c.ask)
	var gone bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.window.Tell(ctx, title, []string{describe.Question(c.prompt), line}); err == nil && ctx.Err() == nil {
			gone = true
			cancel()
		}
	}()
	return func() bool {
		stop()
		<-ended
		return gone
	}
}

// sentence makes one of an error's words.
func sentence(s string) string {
	if s = describe.Clean(s, 300); s == "" {
		return ""
	}
	return upper(strings.TrimRight(s, ".")) + "."
}

// upper begins a line as a line begins.
func upper(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(first)) + s[size:]
}

// failure says what became of a decision that did not count; empty when there is
// nothing to say. The person sees that a prompt has gone: what went well needs no
// words.
func failure(p api.Prompt, d api.Decision, o api.PromptOutcome, err error) string {
	what := "The " + describe.SignIn(p) + " was not approved"
	if d.Action == "deny" {
		what = "Your no to the " + describe.SignIn(p) + " did not count"
	}
	var refused *api.Error
	if errors.As(err, &refused) && refused.Code == "prompt_decided" {
		what = "Your answer to the " + describe.SignIn(p) + " did not count" // another one did
	}
	switch {
	case err == nil && (o.Outcome == "approved" || o.Outcome == "denied"):
		return ""
	case err == nil:
		word, why := describe.Ended(o)
		if why == "" {
			why = word
		}
		return what + ": " + why + "."
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ""
	case !errors.As(err, &refused):
		return what + ": the agent could not do that; its log says why."
	case refused.Code == "on_hold":
		return "" // everything is put away for it
	}
	words := what + ": " + strings.TrimRight(describe.Clean(refused.Message, 300), ".") + "."
	if hint := refused.Hint; hint != "" && !strings.Contains(hint, "countersign ") {
		words += " " + sentence(hint)
	}
	return words
}
