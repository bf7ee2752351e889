package posture

import (
	"context"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// probe finds out one fact. No value and no error means that there is none; an
// error, that it could not be found out now.
type probe func(ctx context.Context) (string, error)

// fact is one signal of this device. At most one look-up of it runs at a time.
type fact struct {
	signal *signal
	probe  probe // nil: never known here

	mu      sync.Mutex
	value   string
	since   time.Time     // of the last look-up; zero before the first
	failed  bool          // the last look-up
	looking chan struct{} // closed when the running look-up has ended; nil without one
}

// current returns the value, and whether it needs no new look-up.
func (f *fact) current() (value string, fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fresh()
}

// fresh is current for who holds the lock. A value that is too old is no value.
func (f *fact) fresh() (string, bool) {
	lasts := f.signal.lasts
	if f.failed {
		lasts = refresh
	}
	switch {
	case f.probe == nil:
		return "", true
	case f.since.IsZero(), lasts != 0 && time.Since(f.since) >= lasts:
		return "", false
	}
	return f.value, true
}

// look finds the fact out and keeps it.
func (f *fact) look(ctx context.Context) {
	value, err := "", error(nil)
	if f.probe != nil {
		value, err = f.probe(ctx)
	}
	if err != nil {
		value = ""
	}
	value = fit(value, f.signal)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value, f.failed, f.since = value, err != nil, time.Now()
	if f.looking != nil {
		close(f.looking)
		f.looking = nil
	}
}

// refresh starts a look-up if one is needed, and returns what ends with it; nil
// means that the fact is at hand.
func (p *Posture) refresh(f *fact) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, fresh := f.fresh(); fresh {
		return nil
	}
	if f.looking != nil {
		return f.looking
	}
	p.working.Lock()
	defer p.working.Unlock()
	if p.ctx.Err() != nil {
		return nil
	}
	f.looking = make(chan struct{})
	p.work.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, probeTimeout)
		defer cancel()
		f.look(ctx)
	})
	return f.looking
}

// fit makes a value one that orgs take, or none.
func fit(value string, s *signal) string {
	cleaned := clean(value, s.max+1)
	if utf8.RuneCountInString(cleaned) <= s.max {
		return cleaned
	}
	if !s.cut {
		return ""
	}
	return strings.TrimSpace(string([]rune(cleaned)[:s.max]))
}

// clean keeps the printable characters of a text about the machine, at most
// limit of them, and none that begin or end markup.
func clean(s string, limit int) string {
	if len(s) > 16*limit {
		s = s[:16*limit]
	}
	n := 0
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r == '<' || r == '>' || !unicode.IsPrint(r) || n >= limit {
			return -1
		}
		n++
		return r
	}, strings.TrimSpace(s)))
}

// placeholders are what makers write where they know nothing, in lower case.
var placeholders = map[string]bool{
	"to be filled by o.e.m.": true, "to be filled by o.e.m": true, "default string": true, "o.e.m.": true, "oem": true,
	"system manufacturer": true, "system product name": true, "system serial number": true, "chassis serial number": true,
	"not specified": true, "not applicable": true, "not available": true, "none": true, "n/a": true, "unknown": true,
	"invalid": true, "empty": true, "undefined": true, "0123456789": true, "123456789": true, "1234567890": true,
}

// genuine drops what says nothing about this machine.
func genuine(s string) string {
	s = clean(s, 256)
	_, first := utf8.DecodeRuneInString(s)
	if placeholders[strings.ToLower(s)] || strings.Trim(s, s[:first]) == "" {
		return "" // 00000000 is one, too
	}
	return s
}
