// Package account keeps the book of accounts: which user at which org this
// agent is enrolled for, and which keys prove it.
//
// The book is one sealed room of the vault. Readers get an immutable snapshot
// without a lock; a change is written to disk before anybody sees it. Keys and
// a pending record are written before the org hears of an enrolment, so that a
// crash at any moment leaves either the old or the new state, and the next
// start can finish or undo what was under way.
//
// An account is never deleted on the word of anything but its own org: a
// specific "gone" code with status 410. A 404, a proxy's page or a server
// error erases nothing.
package account

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/totp"
	"countersign.dev/okta"
)

// State is how an account is doing.
type State string

// The states of an account.
const (
	Enrolling State = "enrolling" // the org may or may not know of it yet
	Active    State = "active"
	Suspended State = "suspended" // the org said so; cleared by the next success
	Gone      State = "gone"      // the org said that the enrolment no longer exists
	Removing  State = "removing"  // being deleted at the org
)

// Account is one enrolment of one user at one org. It is read-only once it is
// in the book.
type Account struct {
	ID              string    `json:"id"` // local
	Name            string    `json:"name"`
	State           State     `json:"state"`
	CreatedAt       time.Time `json:"createdAt"`
	OrgID           string    `json:"orgId"`
	OrgURL          string    `json:"orgUrl"`              // scheme, host, port
	Alternate       string    `json:"alternate,omitempty"` // the org's other address
	ClientID        string    `json:"clientId"`            // audience of challenges
	AuthenticatorID string    `json:"authenticatorId"`
	EnrolmentID     string    `json:"enrolmentId,omitempty"`
	UserID          string    `json:"userId,omitempty"`
	Username        string    `json:"username,omitempty"`
	Device          Device    `json:"device"`
	Methods         []Method  `json:"methods,omitempty"`
	Origins         []string  `json:"origins,omitempty"` // pages that may hand over challenges
	Dialect         Dialect   `json:"dialect,omitempty"` // how the org is spoken to
	Protection      string    `json:"protection"`        // "hardware" or "software"
	Attested        bool      `json:"attested,omitempty"`

	Pending *pending `json:"pending,omitempty"` // set while Enrolling
	// OrgDone says that the org has deleted the enrolment and only local
	// clean-up is left.
	OrgDone bool `json:"orgDone,omitempty"`
	// PushesHeld says that the person has reported a sign-in: pushes are neither
	// shown nor answered until they say otherwise.
	PushesHeld bool `json:"pushesHeld,omitempty"`
	// Unused are keys that the org did not want after all, until they are deleted.
	Unused []devicekey.Ref `json:"unused,omitempty"`
	// Rekeying is an exchange of keys that the org may or may not know of yet.
	Rekeying *Rekeying `json:"rekeying,omitempty"`
	// Replaces are accounts whose keys are lost and that this one stands in for,
	// until they are gone from the book.
	Replaces []string `json:"replaces,omitempty"`

	NoticeSeen int64    `json:"noticeSeen,omitempty"` // id of the newest notice of the org that was fetched
	Notices    []Notice `json:"notices,omitempty"`    // what the person has not acknowledged; the newest last

	// Notes are what the person should know of how the account came about. They
	// stand in what an enrolment returns, and nowhere else.
	Notes []string `json:"-"`
}

// Device is this device as one org knows it.
type Device struct {
	ID               string        `json:"id,omitempty"`
	ClientInstanceID string        `json:"clientInstanceId,omitempty"`
	Key              devicekey.Ref `json:"key"` // client instance key
}

// Method is one enrolled method and its keys, which codes (totp) have none of.
// UV keys are absent until enrolled.
type Method struct {
	Type              okta.Method    `json:"type"`
	ID                string         `json:"id,omitempty"`
	ProofOfPossession devicekey.Ref  `json:"proofOfPossession"`
	UserVerification  *devicekey.Ref `json:"userVerification,omitempty"` // released by biometrics
	// UserVerificationBioOrPIN is released by the PIN, or by what counts as one.
	UserVerificationBioOrPIN *devicekey.Ref `json:"userVerificationBioOrPin,omitempty"`
	PendingURL               string         `json:"pendingUrl,omitempty"`   // where push challenges wait
	Transactions             []string       `json:"transactions,omitempty"` // what the org was told that a push may be about
	PushToken                string         `json:"pushToken,omitempty"`    // what the org was told that pushes go to
	// TOTP is what one-time codes are made from; nil for other methods.
	TOTP *totp.Parameters `json:"totp,omitempty"`
}

// Method returns the enrolled method of that type.
func (a *Account) Method(t okta.Method) (Method, bool) {
	for _, m := range a.Methods {
		if m.Type == t && m.ID != "" {
			return m, true
		}
	}
	return Method{}, false
}

// Usable says whether the account can answer challenges. A suspended one may
// try: its success is what clears the state.
func (a *Account) Usable() bool { return a.State == Active || a.State == Suspended }

// Development says whether the org is reached by plain http on this machine.
func (a *Account) Development() bool { return strings.HasPrefix(a.OrgURL, "http://") }

// AllowsOrigin says whether pages of that origin may hand this account a
// challenge.
func (a *Account) AllowsOrigin(origin string) bool { return OriginAllowed(a.Origins, origin) }

// OwnsURL says whether u belongs to the account's org: same scheme, host and
// port as one of its addresses.
func (a *Account) OwnsURL(u string) bool {
	o, ok := OriginOf(u)
	return ok && (o == a.OrgURL || a.Alternate != "" && o == a.Alternate)
}

// atHome returns a URL of the org at the address that the account is enrolled
// at: the org may name its other one, but tokens go to this one only.
func (a *Account) atHome(u string) string {
	if o, ok := OriginOf(u); ok && a.Alternate != "" && o == a.Alternate {
		if parsed, err := url.Parse(u); err == nil {
			return a.OrgURL + parsed.RequestURI()
		}
	}
	return u
}

// Issuer returns the issuer whose keys sign a challenge with these claims, if
// it is this account's org or one of its authorization servers. Keys are
// always looked for at the enrolled address, whatever the challenge says.
func (a *Account) Issuer(c *okta.Challenge) (issuer string, ok bool) {
	path := ""
	if c.AuthorizationServerID != "" {
		if !plainID(c.AuthorizationServerID) {
			return "", false
		}
		path = "/oauth2/" + c.AuthorizationServerID
	}
	for _, base := range [...]string{a.OrgURL, a.Alternate} {
		if base != "" && (c.Issuer == base || path != "" && c.Issuer == base+path) {
			return a.OrgURL + path, true
		}
	}
	return "", false
}

// issues says whether a challenge names the very address the account is
// enrolled at, or one of its authorization servers.
func (a *Account) issues(c *okta.Challenge) bool {
	return c.Issuer == a.OrgURL || strings.HasPrefix(c.Issuer, a.OrgURL+"/")
}

// fits says whether a challenge may be meant for this account.
func (a *Account) fits(c *okta.Challenge) bool {
	if !a.Usable() || a.OrgID != c.OrgID {
		return false
	}
	if _, ok := a.Issuer(c); !ok {
		return false
	}
	switch {
	case c.AuthenticatorEnrolmentID != "" && c.AuthenticatorEnrolmentID != a.EnrolmentID:
		return false
	case c.UserID != "":
		return c.UserID == a.UserID
	case c.AuthenticatorEnrolmentID == "" && c.LoginHint != "":
		return strings.EqualFold(c.LoginHint, a.Username)
	}
	return true
}

// refs lists all keys that only this account uses, the client instance key
// aside.
func (a *Account) refs() []devicekey.Ref {
	refs := slices.Clone(a.Unused)
	for _, m := range a.Methods {
		refs = append(refs, m.refs()...)
	}
	if a.Rekeying != nil {
		refs = append(refs, a.Rekeying.refs()...)
	}
	return refs
}

// clone copies a so that the copy may be changed.
func (a *Account) clone() *Account {
	c := *a
	c.Methods = slices.Clone(a.Methods)
	c.Origins = slices.Clone(a.Origins)
	if a.Pending != nil {
		p := *a.Pending
		c.Pending = &p
	}
	if a.Rekeying != nil {
		r := *a.Rekeying
		r.New = slices.Clone(r.New)
		c.Rekeying = &r
	}
	return &c
}

// plainID accepts what ids of authorization servers look like: it becomes part
// of a path.
func plainID(s string) bool {
	if len(s) > 64 {
		return false
	}
	for _, r := range s {
		if !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' || r == '-') {
			return false
		}
	}
	return s != ""
}
