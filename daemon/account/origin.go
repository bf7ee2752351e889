package account

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	maxOrigins = 64
	maxOrigin  = 256
)

// OriginOf returns the origin of an absolute http(s) URL as a browser writes
// it: lower case, no default port. ok is false for anything else, and for
// plain http to another machine.
func OriginOf(s string) (origin string, ok bool) {
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.User != nil || u.Hostname() == "" || len(s) > 8<<10 {
		return "", false
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	for _, r := range host {
		// A browser writes names in ASCII (punycode) and addresses in digits;
		// what has other characters cannot be compared with its Origin.
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_' || r == ':') {
			return "", false
		}
	}
	switch u.Scheme {
	case "https":
		if port == "443" {
			port = ""
		}
	case "http":
		if !isLoopback(host) {
			return "", false
		}
		if port == "80" {
			port = ""
		}
	default:
		return "", false
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return "", false
		}
		return u.Scheme + "://" + net.JoinHostPort(host, port), true
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return u.Scheme + "://" + host, true
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// wildcards are the only patterns an org may publish: a development page's
// port changes.
var wildcards = []string{"http://localhost:*", "https://localhost:*"}

// allowedOrigins collects the origins of an org: its own addresses and the
// list it publishes. What is not an origin is left out.
func allowedOrigins(orgURL, alternate string, published []string) []string {
	list := []string{orgURL}
	if alternate != "" {
		list = append(list, alternate)
	}
	for _, s := range published {
		o, ok := OriginOf(s)
		if slices.Contains(wildcards, s) {
			o, ok = s, true
		}
		if ok && o == s && len(o) <= maxOrigin && len(list) < maxOrigins && !slices.Contains(list, o) {
			list = append(list, o)
		}
	}
	return list
}

// OriginAllowed says whether origin, as a browser sent it, is in the list. A
// missing or "null" origin never is.
func OriginAllowed(list []string, origin string) bool {
	if origin == "" || origin == "null" || origin == "*" || len(origin) > maxOrigin {
		return false
	}
	for _, o := range list {
		if o == origin {
			return !strings.HasSuffix(o, "*")
		}
		if prefix, ok := strings.CutSuffix(o, "*"); ok && slices.Contains(wildcards, o) {
			if port, ok := strings.CutPrefix(origin, prefix); ok {
				n, err := strconv.ParseUint(port, 10, 16)
				if err == nil && n > 0 && strconv.FormatUint(n, 10) == port {
					return true
				}
			}
		}
	}
	return false
}
