package okta

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// EnrolmentLink is what a QR code or an "oktaverify:" link says to an
// authenticator: whom to enrol, where, and a token good for one enrolment.
//
//	oktaverify://LOGIN/?t=TOKEN&f=AUTHENTICATOR_ID&s=ORG_URL&issuer=NAME
type EnrolmentLink struct {
	Login           string
	Token           Secret // travels as "Authorization: OTDT …", once
	AuthenticatorID string
	OrgURL          string // scheme, host and port; whether it may be http is the client's decision
	Issuer          string // for display only; may be empty
}

// LinkScheme is the scheme of enrolment links.
const LinkScheme = "oktaverify"

const (
	maxLink      = 2048
	maxLinkField = 512
)

// ErrEnrolmentLink says that a text is not an enrolment link. The error that
// wraps it names the reason and never the token.
var ErrEnrolmentLink = errors.New("not an enrolment link")

// ParseEnrolmentLink reads an enrolment link. White space around it, as a
// terminal's paste leaves it, is ignored.
func ParseEnrolmentLink(s string) (EnrolmentLink, error) {
	link, err := parseLink(strings.TrimSpace(s))
	if err != nil {
		return EnrolmentLink{}, fmt.Errorf("%w: %w", ErrEnrolmentLink, err)
	}
	return link, nil
}

func parseLink(s string) (EnrolmentLink, error) {
	var link EnrolmentLink
	if len(s) > maxLink {
		return link, fmt.Errorf("longer than %d bytes", maxLink)
	}
	// Split by hand: net/url refuses a login such as "alice@example.com" as a
	// host when it is escaped, and would quote the token in its error.
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !strings.EqualFold(scheme, LinkScheme) {
		return link, errors.New("does not begin with oktaverify://")
	}
	who, rawQuery, ok := strings.Cut(rest, "?")
	if !ok || strings.ContainsRune(rawQuery, '#') {
		return link, errors.New("no query, or a fragment")
	}
	login, err := url.PathUnescape(strings.TrimSuffix(who, "/"))
	if err != nil {
		return link, errors.New("login is not escaped well")
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return link, errors.New("query is not escaped well")
	}
	for _, name := range [...]string{"t", "f", "s", "issuer"} {
		if len(query[name]) > 1 {
			return link, fmt.Errorf("%s appears twice", name)
		}
	}
	link = EnrolmentLink{
		Login:           login,
		Token:           Secret(query.Get("t")),
		AuthenticatorID: query.Get("f"),
		OrgURL:          strings.TrimSuffix(query.Get("s"), "/"),
		Issuer:          query.Get("issuer"),
	}
	return link, link.check()
}

func (l EnrolmentLink) check() error {
	for _, f := range [...]struct{ name, value string }{
		{"login", l.Login}, {"t", l.Token.Reveal()}, {"f", l.AuthenticatorID}, {"s", l.OrgURL}, {"issuer", l.Issuer},
	} {
		if f.value == "" && f.name != "issuer" {
			return fmt.Errorf("%s is missing", f.name)
		}
		if len(f.value) > maxLinkField || !printable(f.value) {
			return fmt.Errorf("%s is too long or not printable", f.name)
		}
	}
	if strings.ContainsAny(l.Login, "/\\") {
		return errors.New("login has a slash")
	}
	if strings.ContainsRune(l.Token.Reveal(), ' ') {
		return errors.New("t has a space")
	}
	u, err := url.Parse(l.OrgURL)
	if err != nil || absoluteURL(l.OrgURL) != nil || u.Hostname() == "" ||
		u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(l.OrgURL, "#") {
		return errors.New("s is not the URL of an org")
	}
	return nil
}

// printable refuses control characters and the ones that reorder text: a link
// is shown to a person who decides by it.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// URL writes the link. It contains the token: hand it to one person only.
func (l EnrolmentLink) URL() string {
	query := "t=" + url.QueryEscape(l.Token.Reveal()) +
		"&f=" + url.QueryEscape(l.AuthenticatorID) +
		"&s=" + url.QueryEscape(l.OrgURL)
	if l.Issuer != "" {
		query += "&issuer=" + url.QueryEscape(l.Issuer)
	}
	return LinkScheme + "://" + url.PathEscape(l.Login) + "/?" + query
}
