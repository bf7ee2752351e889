package watch

import "unicode/utf8"

// kind is what a key means.
type kind uint8

// The kinds. The zero kind means nothing here, and does nothing.
const (
	other kind = iota
	text
	enter
	escape
	backspace
	erase // the whole line
	tab
	backTab
	up
	down
	left
	right
	pageUp
	pageDown
	interrupt // Ctrl-C
	endOfFile // Ctrl-D
	suspend   // Ctrl-Z
	redraw    // Ctrl-L
)

// key is one key that was pressed.
type key struct {
	kind   kind
	char   rune // of text
	pasted bool // nobody pressed it: it is part of a paste
}

// controls are the keys below the space. Whatever is not here means nothing.
var controls = [0x20]kind{
	0x03: interrupt, 0x04: endOfFile, 0x08: backspace, '\t': tab, '\n': enter, 0x0c: redraw, '\r': enter, 0x15: erase, 0x1a: suspend,
}

const (
	maxParameters = 32   // bytes of a sequence that are looked at
	maxString     = 4096 // bytes of a terminal's answer that are passed over
)

// parser turns the bytes of a terminal into keys. What it does not know it passes
// over whole, so that no part of it is taken for a key.
type parser struct {
	state      state
	parameters []byte // of a sequence
	skip       int    // bytes that belong to it still, or that were passed over
	char       []byte // of a character that is not whole yet
	paste      bool
}

type state uint8

const (
	ground    state = iota
	escaped         // after ESC
	sequence        // after ESC [
	single          // after ESC O
	passing         // so many more bytes
	command         // after ESC ] and the like, up to its end
	endOfText       // after ESC in a command
)

// feed takes what was read.
func (p *parser) feed(chunk []byte) (keys []key) {
	for _, b := range chunk {
		keys = append(keys, p.next(b)...)
	}
	return keys
}

// waits says whether what was read so far may go on.
func (p *parser) waits() bool { return p.state != ground }

// flush is called when nothing more came: an escape was the key of that name.
func (p *parser) flush() []key {
	was := p.state
	p.state = ground
	switch {
	case was == escaped && !p.paste:
		return []key{{kind: escape}}
	case was != ground:
		return []key{{pasted: p.paste}}
	}
	return nil
}

func (p *parser) next(b byte) []key {
	// Ctrl-C always works, wherever the parser believes to be.
	if b == 0x03 {
		*p = parser{}
		return []key{{kind: interrupt}}
	}
	switch p.state {
	case escaped:
		return p.afterEscape(b)
	case sequence:
		return p.inSequence(b)
	case single:
		p.state = ground
		if b < 0x20 {
			return append([]key{{pasted: p.paste}}, p.next(b)...)
		}
		return p.known(final(b))
	case passing:
		if p.skip--; p.skip == 0 {
			return p.known(other)
		}
		return nil
	case command, endOfText:
		return p.inCommand(b)
	}
	return p.plain(b)
}

// plain is a byte outside of all sequences.
func (p *parser) plain(b byte) []key {
	if len(p.char) > 0 || b >= utf8.RuneSelf {
		return p.inCharacter(b)
	}
	switch {
	case b == 0x1b:
		p.state = escaped
		return nil
	case b == 0x7f:
		return p.pressed(backspace)
	case b < 0x20:
		return p.pressed(controls[b])
	}
	return []key{{kind: text, char: rune(b), pasted: p.paste}}
}

// pressed is a key that does something; in a paste it does nothing.
func (p *parser) pressed(k kind) []key {
	if p.paste {
		k = other
	}
	return []key{{kind: k, pasted: p.paste}}
}

// known ends a sequence.
func (p *parser) known(k kind) []key {
	p.state = ground
	return p.pressed(k)
}

// inCharacter is a byte of a character of several bytes.
func (p *parser) inCharacter(b byte) []key {
	if len(p.char) > 0 && utf8.RuneStart(b) { // the one before was never whole
		p.char = p.char[:0]
		return append([]key{{pasted: p.paste}}, p.plain(b)...)
	}
	p.char = append(p.char, b)
	if !utf8.FullRune(p.char) {
		return nil
	}
	r, _ := utf8.DecodeRune(p.char)
	p.char = p.char[:0]
	if r == utf8.RuneError || r < 0xa0 { // C1 controls are keys of nobody
		return []key{{pasted: p.paste}}
	}
	return []key{{kind: text, char: r, pasted: p.paste}}
}

func (p *parser) afterEscape(b byte) []key {
	p.state = ground
	switch {
	case b == '[':
		p.state, p.parameters = sequence, p.parameters[:0]
		return nil
	case b == 'O':
		p.state = single
		return nil
	case b == ']', b == 'P', b == 'X', b == '^', b == '_':
		p.state, p.skip = command, 0
		return nil
	case b == 0x1b:
		p.state = escaped
		return p.pressed(escape)
	case b < 0x20:
		return append(p.pressed(escape), p.plain(b)...)
	}
	return []key{{pasted: p.paste}} // with Alt
}

func (p *parser) inSequence(b byte) []key {
	switch {
	case b < 0x20, b >= 0x7f: // broken off
		p.state = ground
		return append([]key{{pasted: p.paste}}, p.plain(b)...)
	case b < 0x40:
		if len(p.parameters) < maxParameters {
			p.parameters = append(p.parameters, b)
		}
		return nil
	}
	parameters := string(p.parameters)
	switch {
	case b == '~' && parameters == "200":
		p.state, p.paste = ground, true
		return []key{{pasted: true}}
	case b == '~' && parameters == "201":
		p.state, p.paste = ground, false
		return []key{{pasted: true}}
	case b == '[' && parameters == "": // function keys of the Linux console
		p.state, p.skip = passing, 1
		return nil
	case b == 'M' && parameters == "": // a mouse that another program has left on
		p.state, p.skip = passing, 3
		return nil
	case b == '~' && parameters == "5":
		return p.known(pageUp)
	case b == '~' && parameters == "6":
		return p.known(pageDown)
	case b == 'M', parameters != "" && parameters != "1":
		return p.known(other)
	}
	return p.known(final(b))
}

// final is what the last byte of a sequence without parameters means.
func final(b byte) kind {
	switch b {
	case 'A':
		return up
	case 'B':
		return down
	case 'C':
		return right
	case 'D':
		return left
	case 'Z':
		return backTab
	case 'M': // of the keypad
		return enter
	}
	return other
}

func (p *parser) inCommand(b byte) []key {
	p.skip++
	switch {
	case b == 0x07, p.state == endOfText && b == '\\', p.skip > maxString:
		return p.known(other)
	case b == 0x1b:
		p.state = endOfText
	default:
		p.state = command
	}
	return nil
}
