package loopback

import (
	"context"
	"net/http"

	"countersign.dev/ipc/peer"
)

// Agent decides. The server asks it only about requests that are well formed
// and come from this machine's own user.
type Agent interface {
	// AllowOrigin says whether pages of this origin may talk to the agent at
	// all: the origin belongs to an account. It is asked on every request
	// and must be fast for origins it knows; for one it does not know it may
	// ask the orgs anew, at most once a minute.
	AllowOrigin(ctx context.Context, origin string) bool
	// Challenge runs one challenge to its end and says how it ended. The
	// context ends when the browser goes away; whether that stops an answer
	// that is already being given is the agent's decision.
	Challenge(ctx context.Context, c Request) Reply
}

// Request is a challenge that a page handed over.
type Request struct {
	Token  string    // the challenge as it came, unverified
	Origin string    // the page's origin as the browser said it, allowed by AllowOrigin
	Peer   peer.Peer // owner of the browser's connection; zero where the system cannot tell
}

// Reply is how a challenge ended, as far as the browser may know.
type Reply int

// The replies and their HTTP status. The browser asks another port on 503 and
// gives up on every other status that is not 200.
const (
	Refused         Reply = iota // 500: no decision was made; what an unset Reply means
	Accepted                     // 200: the org has an answer, approval or denial
	NotMine                      // 503: no account of this user fits
	Locked                       // 503: the vault is locked
	ForeignOrigin                // 403: the page is not the one the challenge was made for
	Malformed                    // 400: not a challenge, or a forged one
	AlreadyAnswered              // 409: this transaction has had its answer
	Expired                      // 504: nobody answered in time
	NoFrontEnd                   // 504: nobody could be asked; nothing was sent to the org
	OrgUnreachable               // 502: the org could not be reached
	OrgRefused                   // 502: the org refused the answer
)

var replies = [...]struct {
	status int
	code   string
}{
	Refused:         {http.StatusInternalServerError, "refused"},
	Accepted:        {http.StatusOK, "accepted"},
	NotMine:         {http.StatusServiceUnavailable, "not_mine"},
	Locked:          {http.StatusServiceUnavailable, "locked"},
	ForeignOrigin:   {http.StatusForbidden, "foreign_origin"},
	Malformed:       {http.StatusBadRequest, "malformed"},
	AlreadyAnswered: {http.StatusConflict, "already_answered"},
	Expired:         {http.StatusGatewayTimeout, "expired"},
	NoFrontEnd:      {http.StatusGatewayTimeout, "no_front_end"},
	OrgUnreachable:  {http.StatusBadGateway, "org_unreachable"},
	OrgRefused:      {http.StatusBadGateway, "org_refused"},
}

// known maps every value outside the list to Refused.
func (r Reply) known() Reply {
	if r < 0 || int(r) >= len(replies) {
		return Refused
	}
	return r
}

// Status is the HTTP status of the reply.
func (r Reply) Status() int { return replies[r.known()].status }

// String is the code that the reply's body carries.
func (r Reply) String() string { return replies[r.known()].code }
