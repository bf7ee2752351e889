package watch

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"countersign.dev/cli/internal/layout"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

var errLeft = errors.New("nobody waited for it")

// decided is what came of the answer that the agent had.
func (m *model) decided(id string, o api.PromptOutcome, err error, now time.Time) effect {
	p := m.pending
	if p == nil || p.prompt.ID != id {
		return effect{}
	}
	m.pending = nil
	if m.stage == sending {
		m.stage, m.answer = choosing, none
		m.changed = now // a key that comes now was meant for the wait
	}
	if err != nil {
		m.undecided(p, err, now)
		return effect{refresh: true}
	}
	m.ended(p.prompt, o, false, now)
	if p.Report && o.Outcome == "denied" {
		m.reported(p.prompt, now)
	}
	m.remove(id, now)
	return effect{refresh: true}
}

// reported says what a report does besides.
func (m *model) reported(p api.Prompt, now time.Time) {
	account := p.Account
	if account == "" {
		account = "ACCOUNT"
	}
	m.record(now, layout.Yellow, "reported:", "further pushes of this account are held back; when it is safe again: countersign prompt resume "+describe.Clean(account, 200))
}

// undecided says why the agent did not take an answer, and asks again for what
// was wrong about it.
func (m *model) undecided(p *pending, err error, now time.Time) {
	var refused *api.Error
	if !errors.As(err, &refused) {
		m.unknown(p, err, now)
		return
	}
	mine := m.selected == p.prompt.ID
	code := refused.Code
	if p.closed != nil {
		code = "prompt_decided" // by whomever: there is nothing to ask again for
	}
	if p.Action != "approve" && code != "prompt_decided" {
		code = "" // nothing is asked for again that an approval takes
	}
	switch code {
	case "prompt_decided":
		m.late(p, refused, now)
	case "wrong_pin":
		m.again(p, proving, mine)
		m.note = sentence(refused.Message)
		if refused.TriesLeft > 0 {
			m.note = "That PIN is wrong; " + describe.Tries(refused.TriesLeft) + "."
		}
	case "key_pin_needed":
		m.again(p, proving, mine)
		m.keyPIN = m.stage == proving
	case "wrong_key_pin":
		m.again(p, proving, mine)
		m.keyPIN = m.stage == proving
		m.note = sentence(refused.Message)
	case "verification_required":
		m.again(p, proving, mine)
	case "wrong_number", "number_required":
		p.Number = ""
		m.again(p, numbering, mine)
		m.note = notShown
	default:
		if refused.Status == http.StatusNotFound || refused.Status == http.StatusGone {
			m.late(p, refused, now)
			return
		}
		if mine {
			m.start()
		}
		m.note, m.hint = sentence(refused.Message), describe.Clean(refused.Hint, 200)
	}
}

// again asks once more for a part of an answer, when its prompt is still the one
// on the screen.
func (m *model) again(p *pending, s stage, mine bool) {
	if !mine || m.hold != nil {
		return
	}
	m.start()
	m.stage, m.answer, m.account, m.number = s, approve, p.Account, p.Number
}

// late is for an answer to a prompt that had ended: it did nothing.
func (m *model) late(p *pending, refused *api.Error, now time.Time) {
	if p.closed != nil {
		m.ended(p.prompt, *p.closed, true, now)
	} else {
		m.record(now, layout.Yellow, "too late:", describe.SignIn(p.prompt)+" ("+describe.Clean(refused.Message, 200)+")")
	}
	m.remove(p.prompt.ID, now)
}

// unknown is for an answer of which nobody said what became of it.
func (m *model) unknown(p *pending, err error, now time.Time) {
	switch {
	case p.closed != nil:
		m.ended(p.prompt, *p.closed, false, now)
		m.remove(p.prompt.ID, now)
	case p.cancellable && errors.Is(err, context.Canceled):
		m.note = "Cancelled; nothing is answered yet."
		if m.selected == p.prompt.ID {
			m.start()
		}
	default:
		m.record(now, layout.Red, "not known:", "what became of the answer to "+describe.SignIn(p.prompt)+" ("+describe.Clean(err.Error(), 200)+"); see: countersign audit")
	}
}

// sentence makes one of what the agent says.
func sentence(s string) string {
	s = strings.TrimSpace(describe.Clean(s, describe.MaxMessage))
	if s == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[size:]
	if !strings.ContainsAny(s[len(s)-1:], ".?") {
		s += "."
	}
	return s
}
