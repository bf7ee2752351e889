// Package client speaks to an org over HTTP: discovery, enrolment, pending
// challenges, answers and tokens.
//
// The org is a party that may be down, slow, compromised, or replaced by the
// page of a proxy. So every call has a deadline and a size limit, credentials
// go to the org's own origin only, redirects are not followed, and what is not
// the expected document becomes a typed error that says what came instead:
// [*Unreachable], [*UnexpectedAnswer], or the org's own [*okta.Error] and
// [*okta.TokenError].
package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"countersign.dev/okta"
)

// Errors of New and of calls that are refused before anything is sent.
var (
	ErrURL             = errors.New("not the URL of an org")
	ErrInsecure        = errors.New("plain http is for development orgs on this machine only")
	ErrForeignURL      = errors.New("URL is not at the org's origin")
	ErrNoAuthenticator = errors.New("the org offers no authenticator to this app")
)

// DefaultTimeout bounds a call from the first byte sent to the last received.
const DefaultTimeout = 10 * time.Second

// Options are the optional parts of an Org.
type Options struct {
	ClientID  string // OAuth client id of the agent
	UserAgent string
	// HTTP is used instead of a transport shared by all orgs. Its redirect
	// policy and cookie jar are not used.
	HTTP    *http.Client
	Timeout time.Duration // 0: DefaultTimeout
}

// Org is a client of one org. It is safe for concurrent use.
type Org struct {
	url       string // scheme, host and port, without a trailing slash
	dev       bool
	clientID  string
	userAgent string
	http      *http.Client
	timeout   time.Duration
}

// New returns a client of the org at orgURL, which is https, or http on this
// machine, and has neither path nor query.
func New(orgURL string, o Options) (*Org, error) {
	u, err := url.Parse(orgURL)
	if err != nil || u.Opaque != "" || u.Hostname() == "" {
		return nil, ErrURL
	}
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(orgURL, "#") {
		return nil, fmt.Errorf("%w: only scheme, host and port", ErrURL)
	}
	if err := secure(u); err != nil {
		return nil, err
	}
	c := &Org{
		url:       Origin(u),
		dev:       strings.EqualFold(u.Scheme, "http"),
		clientID:  o.ClientID,
		userAgent: o.UserAgent,
		timeout:   o.Timeout,
		http:      &http.Client{Transport: sharedTransport(), CheckRedirect: noRedirect},
	}
	if o.HTTP != nil && o.HTTP.Transport != nil {
		c.http.Transport = o.HTTP.Transport
	}
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	return c, nil
}

// URL returns scheme, host and port of the org, in normal form.
func (o *Org) URL() string { return o.url }

// Development says whether the org is reached by plain http on this machine.
func (o *Org) Development() bool { return o.dev }

// Origin returns scheme, host and port of u in the form of a browser's Origin
// header: lower case, without a default port.
func Origin(u *url.URL) string {
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if port == "443" && scheme == "https" || port == "80" && scheme == "http" {
		port = ""
	}
	switch {
	case port != "":
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return scheme + "://" + host
}

// secure accepts https, and http to this machine.
func secure(u *url.URL) error {
	switch strings.ToLower(u.Scheme) {
	case "https":
		return nil
	case "http":
		if !loopback(u.Hostname()) {
			return ErrInsecure
		}
		return nil
	}
	return fmt.Errorf("%w: scheme %.16q", ErrURL, u.Scheme)
}

// loopback says whether host is this machine by its name alone, without
// asking a resolver.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() && addr.Zone() == ""
}

// Authorization is the value of an Authorization header. The zero value sends
// none. It prints as its scheme only.
type Authorization struct {
	scheme string
	value  okta.Secret
	proof  *ProofKey // signs a proof for each request; nil: none goes along
}

// Bearer authorises by an access token.
func Bearer(token okta.Secret) Authorization { return Authorization{scheme: "Bearer", value: token} }

// SSWS authorises by a token signed with an enrolment key.
func SSWS(token okta.Secret) Authorization { return Authorization{scheme: "SSWS", value: token} }

// OTDT authorises by the one-time token of an enrolment link.
func OTDT(token okta.Secret) Authorization { return Authorization{scheme: "OTDT", value: token} }

// String implements fmt.Stringer without the value.
func (a Authorization) String() string { return strings.TrimSpace(a.scheme + " " + a.value.String()) }

// GoString implements fmt.GoStringer: fmt does not call the methods of
// unexported fields, so the Secret inside cannot protect itself.
func (a Authorization) GoString() string { return a.String() }

// Unreachable says that no answer came: refused, cut off, not found, not
// trusted, or too slow.
type Unreachable struct {
	Host string
	Slow bool // the time ran out
	Err  error
}

func (e *Unreachable) Error() string {
	if e.Slow {
		return e.Host + " did not answer in time"
	}
	return fmt.Sprintf("%s cannot be reached: %v", e.Host, e.Err)
}

// Unwrap returns the cause.
func (e *Unreachable) Unwrap() error { return e.Err }

// The kinds of unexpected answers.
const (
	KindHTML       = "html"       // a web page, as a proxy or a captive portal sends it
	KindRedirect   = "redirect"   // a redirect, which is never followed
	KindTooLarge   = "too_large"  // more than the call allows
	KindNotJSON    = "not_json"   // not the JSON that was expected
	KindIncomplete = "incomplete" // JSON without what the call needs
)

// UnexpectedAnswer says that something answered, but not as an org does.
type UnexpectedAnswer struct {
	Host   string
	Status int
	Kind   string // one of the Kind constants
	Detail string // for people; may be empty
}

func (e *UnexpectedAnswer) Error() string {
	what := map[string]string{
		KindHTML:       "with a web page instead of JSON",
		KindRedirect:   "with a redirect",
		KindTooLarge:   "with more than is allowed",
		KindNotJSON:    "with something else than the expected JSON",
		KindIncomplete: "with an incomplete document",
	}[e.Kind]
	s := fmt.Sprintf("%s answered %d %s", e.Host, e.Status, what)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}
