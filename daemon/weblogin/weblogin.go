// Package weblogin signs a person in at an org with their own browser, for one
// enrolment: OpenID Connect code flow with PKCE, whose answer comes back to a
// listener on 127.0.0.1 that exists for this sign-in alone (RFC 8252).
//
// Whoever else is on this machine or in this browser can reach that listener,
// and an org's answer passes through the browser's address bar. So what comes
// in counts only once, only from a program of this user, only with the state
// that this sign-in made, only as the navigation that the org's redirect is, and
// only under the very name the org was told; the code in it is good only with
// the verifier that never left this process. What is anything else is told so and changes nothing, so that nobody
// can end another's sign-in by guessing (A11).
//
// The token that comes of it lives in memory until the enrolment is done, and
// is then revoked.
package weblogin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"countersign.dev/daemon/idtoken"
	"countersign.dev/ipc/loopback"
	"countersign.dev/ipc/peer"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// Lifetime is how long a person has for the sign-in.
const Lifetime = 10 * time.Minute

const (
	callbackPath = "/callback"
	stopWait     = time.Second // for the page that is being written
	revokeWait   = 5 * time.Second
)

// How a sign-in ends when it is not the org's doing.
var (
	ErrTimedOut  = errors.New("nobody signed in within ten minutes")
	ErrCancelled = errors.New("the sign-in was cancelled")
	ErrIDToken   = idtoken.ErrInvalid
)

// RefusedError is the org's refusal, as its redirect said it (RFC 6749, 4.1.2.1).
type RefusedError struct {
	Code        string // access_denied, login_required, …
	Description string // for people, as the org wrote it
}

func (e *RefusedError) Error() string {
	if e.Description == "" {
		return "the org refused the sign-in: " + e.Code
	}
	return fmt.Sprintf("the org refused the sign-in: %s (%s)", e.Code, e.Description)
}

// Options of a sign-in; Org, Metadata, ClientID and Scopes are required.
type Options struct {
	Org      *client.Org
	Metadata client.Metadata
	ClientID string
	Scopes   string           // separated by spaces
	Login    string           // who is expected, for the org's form; "" for anybody
	Proof    *client.ProofKey // what the token is bound to; nil for a bearer token
	Now      func() time.Time
	Log      *slog.Logger

	owner func(local, remote netip.AddrPort) (peer.Peer, error) // test seam: whose connection it is
}

// SignIn is one sign-in that is under way. Wait gets its outcome; Finish must
// be called in any case.
type SignIn struct {
	options  Options
	url      string
	redirect string
	host     string
	state    string
	nonce    string
	verifier string
	expires  time.Time

	listener  net.Listener
	server    http.Server
	served    chan struct{} // closed when the server has ended
	crowd     atomic.Int64  // connections of this user
	own       sync.Map      // the same, by net.Conn
	strangers atomic.Int64  // those of others, or of nobody knows whom

	used     atomic.Bool   // the one answer has come
	answered chan callback // the one answer; buffered
	ended    chan struct{} // closed by Finish
	ending   Ending        // read after ended is closed
	finish   sync.Once
}

// Grant is what a sign-in brings: who it was, and a token for the enrolment.
type Grant struct {
	UserID        string
	Username      string // "" when the org does not say
	Authorization client.Authorization

	org      *client.Org
	endpoint string
	token    okta.Secret
}

// String implements fmt.Stringer without the token.
func (g Grant) String() string { return "grant for " + g.UserID }

// GoString implements fmt.GoStringer without the token.
func (g Grant) GoString() string { return g.String() }

// String implements fmt.Stringer without the secrets.
func (s *SignIn) String() string { return "sign-in at " + s.host }

// GoString implements fmt.GoStringer without the secrets.
func (s *SignIn) GoString() string { return s.String() }

// Begin opens the listener and makes the address for the browser.
func Begin(o Options) (*SignIn, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.owner == nil {
		o.owner = peer.OfTCP
	}
	s := &SignIn{
		options: o, state: secret(), nonce: secret(), verifier: secret(), expires: o.Now().Add(Lifetime),
		served: make(chan struct{}), answered: make(chan callback, 1), ended: make(chan struct{}),
	}
	// A port that the system picks cannot be taken in advance, as a fixed one can.
	var err error
	if s.listener, err = loopback.Listen([]int{0}); err != nil {
		return nil, err
	}
	s.host = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.listener.Addr().(*net.TCPAddr).Port))
	s.redirect = "http://" + s.host + callbackPath
	if s.url, err = s.address(); err != nil {
		s.listener.Close()
		return nil, err
	}
	s.server = http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      pageWait + 10*time.Second,
		IdleTimeout:       5 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnState:         s.connState,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:          log.New(quiet{o.Log}, "", 0),

		DisableGeneralOptionsHandler: true,
	}
	go func() {
		defer close(s.served)
		_ = s.server.Serve(s.listener)
	}()
	return s, nil
}

// secret makes 256 random bits in letters that need no escaping.
func secret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// address is where the browser goes. The org asks for the sign-in anew even if
// the browser has a session: a device is added by a person who is there, not by
// a link that somebody followed.
func (s *SignIn) address() (string, error) {
	u, err := url.Parse(s.options.Metadata.AuthorizationEndpoint)
	if err != nil || u.Fragment != "" {
		return "", fmt.Errorf("%w: authorization_endpoint", client.ErrURL)
	}
	digest := sha256.Sum256([]byte(s.verifier))
	q := u.Query()
	for name, value := range map[string]string{
		"client_id": s.options.ClientID, "redirect_uri": s.redirect, "response_type": "code", "response_mode": "query",
		"scope": s.options.Scopes, "state": s.state, "nonce": s.nonce, "prompt": "login",
		"code_challenge": base64.RawURLEncoding.EncodeToString(digest[:]), "code_challenge_method": "S256",
		"login_hint": s.options.Login,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// URL is the address to open in the browser. It holds the state, and whatever
// else binds the org's answer to this sign-in: a program of this user that has
// it can end the sign-in, or finish it as somebody else. To others it is of no
// use by itself: their answers do not count.
func (s *SignIn) URL() string { return s.url }

// ExpiresAt is when Wait gives up.
func (s *SignIn) ExpiresAt() time.Time { return s.expires }

// Wait waits for the person, and gets the token. It fails with ErrTimedOut,
// ErrCancelled when ctx ends, a *RefusedError, ErrIDToken, or an error of the
// call to the org.
func (s *SignIn) Wait(ctx context.Context) (Grant, error) {
	late := time.NewTimer(s.expires.Sub(s.options.Now()))
	defer late.Stop()
	var c callback
	select {
	case c = <-s.answered:
	case <-late.C:
		return Grant{}, ErrTimedOut
	case <-ctx.Done():
		return Grant{}, ErrCancelled
	}
	if c.refusal != nil {
		return Grant{}, c.refusal
	}
	g, err := s.redeem(ctx, c.code)
	if err != nil && ctx.Err() != nil {
		return Grant{}, ErrCancelled
	}
	return g, err
}

// redeem turns the code into a token and checks who signed in.
func (s *SignIn) redeem(ctx context.Context, code okta.Secret) (Grant, error) {
	o := s.options
	t, auth, err := o.Org.BoundToken(ctx, url.Values{
		"grant_type": {"authorization_code"}, "client_id": {o.ClientID}, "redirect_uri": {s.redirect},
		"code": {code.Reveal()}, "code_verifier": {s.verifier},
	}, o.Proof)
	if err != nil {
		return Grant{}, fmt.Errorf("redeem the code: %w", err)
	}
	g := Grant{Authorization: auth, org: o.Org, endpoint: o.Metadata.RevocationEndpoint, token: t.AccessToken}
	who, err := idtoken.Check(ctx, t.IDToken, idtoken.Expected{Org: o.Org, ClientID: o.ClientID, Nonce: s.nonce, Now: o.Now()})
	if err != nil {
		_ = g.Revoke(context.WithoutCancel(ctx))
		return Grant{}, err
	}
	g.UserID, g.Username = who.UserID, who.Username
	return g, nil
}

// Revoke ends the token at the org, before its time.
func (g Grant) Revoke(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, revokeWait)
	defer cancel()
	return g.org.Revoke(ctx, g.endpoint, g.token)
}

// Finish tells the person, whose browser waits at the callback, how it ended,
// and closes everything. Calls after the first do nothing.
func (s *SignIn) Finish(e Ending) {
	s.finish.Do(func() {
		s.ending = e
		close(s.ended)
		ctx, cancel := context.WithTimeout(context.Background(), stopWait)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			_ = s.server.Close()
		}
		<-s.served
	})
}

// quiet takes net/http's own complaints: about clients, so never louder than
// debug.
type quiet struct{ log *slog.Logger }

func (q quiet) Write(p []byte) (int, error) {
	q.log.Debug("callback http server", "complaint", string(p))
	return len(p), nil
}
