// Package ids makes the names and secrets that the org hands out.
//
// Ids look like Okta's: a short prefix that says what the thing is, then
// random letters and digits. They are hard to guess but not secret; what must
// be secret comes from Secret, and is stored only as its Digest.
package ids

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// Prefixes of ids. Not every kind of id is made by every room.
const (
	Org             = "00o"
	User            = "00u"
	Group           = "00g"
	App             = "0oa"
	Authenticator   = "aut"
	Enrolment       = "pfd"
	MethodEnrolment = "opf"
	Device          = "guo"
	SecurityKey     = "fwf"
	ClientInstance  = "cli"
	Policy          = "rst"
	Rule            = "0pr"
	Session         = "102"
)

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// length is that of Okta's ids, prefix included. 17 random characters are 101
// bits: no two are ever equal.
const length = 20

// New makes an id: prefix and random letters and digits, 20 characters in all.
func New(prefix string) string { return prefix + random(length-len(prefix)) }

// Transaction makes the id of a challenge: "ft" and 32 characters.
func Transaction() string { return "ft" + random(32) }

// Secret makes a bearer secret of 256 bits, base64url.
func Secret() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails: the process ends instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// Digest is what is stored of a secret, so that a copy of the database opens
// nothing, and that a look-up by it leaks nothing through its timing. Secrets
// have full entropy, hence no salt and no slow hash.
func Digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func random(n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		rand.Read(buf[:])
		for _, b := range buf {
			// 248 is the largest multiple of 62 in a byte: above it the first
			// letters would come up more often.
			if b < 248 && len(out) < n {
				out = append(out, alphabet[b%62])
			}
		}
	}
	return string(out)
}
