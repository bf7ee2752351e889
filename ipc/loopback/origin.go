package loopback

import "strings"

// validOrigin says whether s is one http or https origin in the only form a
// browser writes: scheme://host or scheme://host:port, lower case, no default
// port, nothing after it. "null", lists and anything a browser would have
// written otherwise are refused before anybody compares them.
func validOrigin(s string) bool {
	const maxOrigin = len("https://") + 253 + len(":65535")
	if len(s) > maxOrigin {
		return false
	}
	host, ok := strings.CutPrefix(s, "https://")
	defaultPort := "443"
	if !ok {
		if host, ok = strings.CutPrefix(s, "http://"); !ok {
			return false
		}
		defaultPort = "80"
	}
	host, port, hasPort := cutPort(host)
	if hasPort && (!validPort(port) || port == defaultPort) {
		return false
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && validBytes(inner, isHexOrColon)
	}
	return validBytes(host, isNameByte) && host[0] != '.' && host[len(host)-1] != '.' && !strings.Contains(host, "..")
}

// cutPort splits at the last colon that is not inside brackets.
func cutPort(s string) (host, port string, found bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.IndexByte(s[i:], ']') >= 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// validPort accepts 1 to 65535 without leading zeros.
func validPort(s string) bool {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n <= 65535
}

func validBytes(s string, valid func(byte) bool) bool {
	for i := range len(s) {
		if !valid(s[i]) {
			return false
		}
	}
	return s != ""
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_'
}

func isHexOrColon(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || c == ':'
}
