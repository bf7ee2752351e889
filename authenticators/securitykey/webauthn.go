package securitykey

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"
)

// Types of client data.
const (
	typeCreate = "webauthn.create"
	typeGet    = "webauthn.get"
)

// MinChallenge is how long a challenge must be (WebAuthn 13.4.3).
const MinChallenge = 16

// clientData gives the JSON of client data, byte for byte as WebAuthn Level 2
// prescribes (5.8.1.1), so that an org may check it without a parser.
func clientData(kind string, challenge []byte, origin string) []byte {
	var b strings.Builder
	b.WriteString(`{"type":`)
	ccd(&b, kind)
	b.WriteString(`,"challenge":`)
	ccd(&b, base64.RawURLEncoding.EncodeToString(challenge))
	b.WriteString(`,"origin":`)
	ccd(&b, origin)
	b.WriteString(`,"crossOrigin":false}`)
	return []byte(b.String())
}

// ccd is CCDToString of 5.8.1.2.
func ccd(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// OriginError says that an origin may not use an RP ID.
type OriginError struct{ Origin, RPID, Why string }

func (e *OriginError) Error() string {
	return fmt.Sprintf("origin %q may not use the RP ID %q: %s", e.Origin, e.RPID, e.Why)
}

// CheckOrigin holds the rule of WebAuthn 5.1.3 and 5.1.4: the RP ID is the host of
// the origin or a registrable suffix of it, and the origin is secure.
func CheckOrigin(origin, rpID string) error {
	refuse := func(why string) error { return &OriginError{origin, rpID, why} }
	u, err := url.Parse(origin)
	if err != nil || !utf8.ValidString(origin) || len(origin) > 512 {
		return refuse("not an origin")
	}
	host := u.Hostname()
	if whole := u.Scheme + "://" + u.Host; whole != origin || host == "" || u.User != nil || host != strings.ToLower(host) {
		return refuse("not an origin as browsers write it")
	}
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && local:
	default:
		return refuse("not secure")
	}
	if net.ParseIP(host) != nil || strings.Contains(host, ":") {
		return refuse("an address is no domain")
	}
	if rpID == "" || len(rpID) > 253 || rpID != strings.ToLower(rpID) || strings.HasPrefix(rpID, ".") || strings.HasSuffix(rpID, ".") || net.ParseIP(rpID) != nil {
		return refuse("not a domain")
	}
	if rpID == host {
		return nil
	}
	if !strings.HasSuffix(host, "."+rpID) {
		return refuse("not a suffix of the host")
	}
	// A suffix under which anybody may register is nobody's.
	if local && rpID == "localhost" {
		return nil
	}
	if suffix, _ := publicsuffix.PublicSuffix(rpID); suffix == rpID {
		return refuse("a public suffix")
	}
	return nil
}

// hash is SHA-256.
func hash(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}
