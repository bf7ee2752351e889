package describe

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// clean is Clean with the usual bound.
func clean(s string) string { return Clean(s, maxName) }

// Clean makes text from outside safe to show: one line, no control characters,
// nothing that turns the direction of writing, at most limit characters. An org,
// an app or a page must not be able to draw on the person's screen (B9).
func Clean(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s { // invalid UTF-8 arrives as U+FFFD
		if n++; n > limit {
			b.WriteRune('…')
			break
		}
		if Unsafe(r) {
			r = utf8.RuneError
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Unsafe is a control character (C0, DEL, C1), a mark that changes the
// direction of writing, a line separator, or one that cannot be seen at all.
func Unsafe(r rune) bool {
	switch {
	case r < 0x20, 0x7f <= r && r <= 0x9f:
		return true
	case r == 0x061c, 0x200b <= r && r <= 0x200f, 0x2028 <= r && r <= 0x202e, 0x2060 <= r && r <= 0x206f:
		return true
	case r == 0xfeff, 0xfff9 <= r && r <= 0xfffb, 0xe0000 <= r && r <= 0xe0fff:
		return true
	}
	return false
}

// Org is the name of an organisation for people: the host of its URL. One that
// is reached in the clear, on this machine, is a development org.
func Org(org string, development bool) string {
	name := clean(org)
	if u, err := url.Parse(org); err == nil && u.Host != "" {
		name = clean(u.Host)
		development = development || u.Scheme == "http"
	}
	if development {
		name += " (development)"
	}
	return name
}

// methods are the ways to verify a person, in their words.
var methods = map[string]string{
	"pin": "PIN", "fingerprint": "fingerprint", "password": "password on this computer", "security_key": "security key",
}

// Method is a way to verify a person, in their words.
func Method(name string) string { return cmp.Or(methods[name], clean(name)) }

// Tries says how many tries are left.
func Tries(n int) string {
	if n == 1 {
		return "1 try left"
	}
	return fmt.Sprintf("%d tries left", n)
}

// Plural counts things: "no accounts", "1 account", "2 accounts".
func Plural(n int, thing string) string {
	switch n {
	case 0:
		return "no " + thing + "s"
	case 1:
		return "1 " + thing
	default:
		return fmt.Sprintf("%d %ss", n, thing)
	}
}

// Ago says when something was, both ways: "2 minutes ago, 14:03".
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	exact := t.Local().Format("15:04")
	if y, m, d := t.Local().Date(); now.Local().Year() != y || now.Local().Month() != m || now.Local().Day() != d {
		exact = t.Local().Format("2 Jan 2006 15:04")
	}
	switch d := now.Sub(t); {
	case d < 2*time.Second:
		return "now, " + exact
	default:
		return Span(d) + " ago, " + exact
	}
}

// Until says when something will be, both ways: "14:03, in 2 minutes".
func Until(t, now time.Time) string {
	exact := t.Local().Format("15:04")
	left := t.Sub(now)
	switch {
	case left <= 0:
		return exact + ", now"
	case left >= 24*time.Hour:
		exact = t.Local().Format("2 Jan 2006 15:04")
	case left < time.Minute:
		exact = t.Local().Format("15:04:05")
	}
	return exact + ", in " + Span(left+time.Second-1)
}

// Span writes a duration in its largest unit.
func Span(d time.Duration) string {
	count := func(n int, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return fmt.Sprintf("%d %ss", n, unit)
	}
	switch {
	case d < time.Minute:
		return count(int(d/time.Second), "second")
	case d < time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < 24*time.Hour:
		return count(int(d/time.Hour), "hour")
	default:
		return count(int(d/(24*time.Hour)), "day")
	}
}

// What only Windows does to a security key, and where.
const (
	KeyBySystem     = "only Windows itself does this to a security key"
	KeyBySystemHint = "Settings, Accounts, Sign-in options, Security key"
)
