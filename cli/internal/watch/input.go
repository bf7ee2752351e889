package watch

import (
	"slices"
	"time"
	"unicode/utf8"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

const (
	maxPIN    = 256 // bytes; what a PIN may be is for the agent to say
	maxNumber = 16  // digits
)

// What is said about a key that did nothing.
const (
	tooSoon      = "That came too soon to be meant: press again."
	readFirst    = "There is more to read first: Space shows it."
	stillSending = "Your answer before this one is still on its way."
	notShown     = "That is not the number. The sign-in page shows it; type that one."
)

// keys is what was pressed, all of it at once. A key that decides must be the
// only one: several at once are a paste, or a terminal that answers.
func (m *model) keys(list []key, now time.Time) effect {
	for _, k := range list {
		if e := m.key(k, len(list) == 1 && !k.pasted, now); e != (effect{}) {
			return e
		}
	}
	return effect{}
}

func (m *model) key(k key, alone bool, now time.Time) effect {
	since := now.Sub(m.pressed)
	quick := !m.pressed.IsZero() && since < apart
	m.pressed = now
	switch k.kind {
	case interrupt, endOfFile:
		return effect{quit: true}
	case suspend:
		return effect{suspend: true}
	case redraw:
		return effect{redraw: true}
	}
	// What the person was typing is gone: the rest of it is nobody's answer.
	if m.taken && since < settle {
		return effect{}
	}
	m.taken, m.note, m.hint = false, "", ""
	deliberate := alone && !quick
	switch p := m.current(); {
	case m.stage == sending:
		return effect{cancel: k.kind == escape && alone && m.pending != nil && m.pending.cancellable}
	case p == nil:
		return m.keyBetween(k, deliberate)
	case m.stage == naming:
		return m.keyOfAccount(k, deliberate, now)
	case m.stage == numbering:
		return m.keyOfNumber(k, alone, now)
	case m.stage == proving:
		return m.keyOfPIN(k, alone, now)
	default:
		return m.keyOfChoice(k, deliberate, now)
	}
}

// keyBetween is a key while no prompt is on the screen.
func (m *model) keyBetween(k key, deliberate bool) effect {
	switch {
	case k.kind == text && k.char == 'q':
		return effect{quit: deliberate}
	case k.kind == down, k.kind == text && k.char == 'j' && !k.pasted, k.kind == enter && deliberate:
		m.move(1)
	case k.kind == up, k.kind == text && k.char == 'k' && !k.pasted:
		m.move(-1)
	}
	return effect{}
}

// keyOfChoice is a key while an answer is chosen.
func (m *model) keyOfChoice(k key, deliberate bool, now time.Time) effect {
	letter := rune(0)
	if k.kind == text && !k.pasted {
		letter = k.char
	}
	switch {
	case letter == 'q':
		return effect{quit: deliberate}
	case k.kind == down, letter == 'j':
		m.move(1)
	case k.kind == up, letter == 'k':
		m.move(-1)
	case k.kind == right, k.kind == tab:
		m.step(1)
	case k.kind == left, k.kind == backTab:
		m.step(-1)
	case k.kind == escape:
		m.answer = none
	case letter == ' ', k.kind == pageDown:
		m.page(1)
	case letter == 'b', k.kind == pageUp:
		m.page(-1)
	case letter == 'a':
		m.answer = approve
	case letter == 'r' && slices.Contains(offered(m.current()), report):
		m.answer = report
	case letter == 'd':
		return m.act(deny, deliberate, now)
	case letter == 'l':
		return m.act(later, deliberate, now)
	case k.kind == enter:
		return m.act(m.answer, deliberate, now)
	}
	return effect{}
}

// step goes to another answer, round and round.
func (m *model) step(by int) {
	list := offered(m.current())
	i := slices.Index(list, m.answer)
	if i < 0 && by < 0 {
		i = 0
	}
	m.answer = list[(i+by+len(list))%len(list)]
}

// move goes to another prompt of the list.
func (m *model) move(by int) {
	if len(m.prompts) == 0 {
		return
	}
	i := m.index(m.selected)
	switch {
	case i < 0 && by < 0:
		i = len(m.prompts) - 1
	case i < 0:
		i = 0
	default:
		i = min(max(i+by, 0), len(m.prompts)-1)
	}
	if id := m.prompts[i].ID; id != m.selected {
		m.look(id)
	}
}

// act does what the person has decided, if they can have.
func (m *model) act(c choice, deliberate bool, now time.Time) effect {
	p := m.current()
	switch {
	case c == none:
		return effect{} // Enter by itself answers nothing
	case !deliberate, now.Sub(m.changed) < settle:
		m.note = tooSoon
		return effect{}
	case m.pending != nil:
		m.note = stillSending
		return effect{}
	case c == later:
		m.put[p.ID] = true
		m.look(m.newest())
		return effect{}
	case c == deny, c == report:
		return m.send(*p, api.Decision{Action: "deny", Report: c == report})
	case c == approve && !m.read:
		m.note = readFirst
		return effect{}
	case c == approve:
		return m.advance(now)
	}
	return effect{}
}

// advance asks for what an approval still takes, or sends it.
func (m *model) advance(now time.Time) effect {
	p := m.current()
	if m.account == "" && len(p.Choices) > 0 {
		m.stage, m.row = naming, 0
		return effect{}
	}
	if p.NeedsNumber && m.number == "" {
		m.stage = numbering
		return effect{}
	}
	d := api.Decision{Action: "approve", Account: m.account, Number: m.number}
	need, second := needOf(p, m.account), p.VerificationMethods
	if p.Verified || need != "required" && need != "preferred" {
		return m.send(*p, d)
	}
	byPIN := len(second) == 0 || slices.Contains(second, "pin")
	instead := methodBesidePIN(p)
	locked := byPIN && p.LockedUntil.After(now)
	switch {
	case byPIN && !locked:
		m.stage = proving
		return effect{}
	case need == "preferred":
		return m.send(*p, d)
	case instead != "":
		d.Verification = instead
		return m.send(*p, d)
	}
	m.start()
	m.note = "The PIN is locked until " + describe.Until(p.LockedUntil, now) + "."
	return effect{}
}

// needOf is what an approval for that account takes of verification.
func needOf(p *api.Prompt, account string) string {
	for _, c := range p.Choices {
		if c.Account == account && c.UserVerification != "" {
			return c.UserVerification
		}
	}
	return p.UserVerification
}

// methodBesidePIN is the usual way to be verified that is not the PIN; "" when
// there is none.
func methodBesidePIN(p *api.Prompt) string {
	for _, method := range p.VerificationMethods {
		if method != "pin" {
			return method
		}
	}
	return ""
}

func (m *model) keyOfAccount(k key, deliberate bool, now time.Time) effect {
	choices := m.current().Choices
	switch {
	case k.pasted:
	case k.kind == escape:
		m.start()
	case k.kind == down, k.kind == tab, k.kind == text && k.char == 'j':
		m.row = min(m.row+1, len(choices))
	case k.kind == up, k.kind == backTab, k.kind == text && k.char == 'k':
		m.row = max(m.row-1, 1)
	case k.kind == text && '1' <= k.char && k.char <= '9' && int(k.char-'0') <= len(choices):
		m.row = int(k.char - '0')
	case k.kind == enter && m.row > 0 && deliberate:
		m.account = choices[m.row-1].Account
		return m.advance(now)
	}
	return effect{}
}

func (m *model) keyOfNumber(k key, alone bool, now time.Time) effect {
	switch {
	case k.kind == escape:
		m.start()
	case k.kind == text && '0' <= k.char && k.char <= '9' && len(m.number) < maxNumber:
		m.number += string(k.char)
	case k.kind == backspace && m.number != "":
		m.number = m.number[:len(m.number)-1]
	case k.kind == erase:
		m.number = ""
	case k.kind != enter || !alone || m.number == "":
	case len(m.current().Numbers) > 0 && !slices.Contains(m.current().Numbers, m.number):
		m.number, m.note = "", notShown
	default:
		return m.advance(now)
	}
	return effect{}
}

func (m *model) keyOfPIN(k key, alone bool, now time.Time) effect {
	p := m.current()
	d := api.Decision{Action: "approve", Account: m.account, Number: m.number}
	switch {
	case k.kind == escape:
		m.start()
	case k.kind == text && len(m.pin)+utf8.RuneLen(k.char) <= maxPIN:
		m.pin = utf8.AppendRune(m.pin, k.char)
	case k.kind == backspace:
		_, size := utf8.DecodeLastRune(m.pin)
		clear(m.pin[len(m.pin)-size:])
		m.pin = m.pin[:len(m.pin)-size]
	case k.kind == erase:
		m.forget()
	case k.kind != enter || !alone:
	case m.keyPIN && len(m.pin) > 0:
		d.PIN, d.Verification = slices.Clone(api.PIN(m.pin)), "security_key"
		return m.send(*p, d)
	case m.keyPIN:
		m.note = "No PIN was typed. Esc goes back."
	case len(m.pin) > 0:
		d.PIN = slices.Clone(api.PIN(m.pin)) // who sends it wipes it
		return m.send(*p, d)
	case needOf(p, m.account) == "preferred":
		return m.send(*p, d)
	case methodBesidePIN(p) != "":
		d.Verification = methodBesidePIN(p)
		return m.send(*p, d)
	default:
		m.note = "No PIN was typed. Esc goes back."
	}
	return effect{}
}

// touches is what the person does for a way to be verified.
func touches(method string) string {
	switch method {
	case "fingerprint":
		return "Touch the fingerprint reader…"
	case "security_key":
		return "Touch your security key…"
	}
	return "Show that it is you, by your " + describe.Method(method) + "…"
}

// send hands an answer to the agent.
func (m *model) send(p api.Prompt, d api.Decision) effect {
	words := "Denying…"
	if d.Action == "approve" {
		words = "Approving…"
	}
	if d.Verification != "" {
		words = touches(d.Verification)
	}
	m.forget()
	m.stage = sending
	sent := decision{p, d}
	m.pending = &pending{decision: sent, words: words, cancellable: d.Verification != ""}
	return effect{decide: &sent}
}
