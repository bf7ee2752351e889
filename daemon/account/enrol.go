package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
)

// Errors of an enrolment, for callers to branch on.
var (
	ErrOtherOrg         = errors.New("the org is not the one it was before")
	ErrLinkMismatch     = errors.New("the link is for another authenticator than the org's")
	ErrMethodNotOffered = errors.New("the org offers neither push nor signed_nonce with ES256 keys")
	ErrHardwareRequired = errors.New("the org accepts hardware-protected keys only")
	ErrOtherUser        = errors.New("another user signed in than the account is for")
)

// errUnsent says that the org has not heard of it.
var errUnsent = errors.New("nothing was sent")

// pending is what an enrolment under way needs to be finished after a crash.
type pending struct {
	Token    sealedToken           `json:"token,omitempty"` // of the link; none after a sign-in, whose token is never written
	User     string                `json:"user,omitempty"`  // who signed in for it
	Endpoint string                `json:"endpoint"`
	Request  okta.EnrolmentRequest `json:"request"` // without the attestation, which is made anew each time
	// Ready says that all keys exist and the request is complete.
	Ready bool `json:"ready"`
}

// sealedToken is the one-time token of an enrolment link. It is written into
// the sealed room and nowhere else, so it prints as nothing.
type sealedToken string

func (sealedToken) String() string       { return "[redacted]" }
func (sealedToken) GoString() string     { return "[redacted]" }
func (sealedToken) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// credential is what lets this device be enrolled.
type credential struct {
	auth client.Authorization
	link okta.Secret // the one-time token of a link; "" when a person signed in
	user string      // the id of who signed in; "" with a link
	// authenticator is the one that the link is for; "" after a sign-in.
	authenticator string
	username      string
	presence      Presence // lets keys be made that demand the person's verification; may be nil
}

// fits says whether an enrolment under way was begun with the same credential,
// or by the same person, and so can be brought to its end with it.
func (c credential) fits(a *Account) bool {
	if a.Pending == nil {
		return false
	}
	if c.link != "" {
		return string(a.Pending.Token) == c.link.Reveal()
	}
	return a.Pending.Token == "" && c.user != "" && a.Pending.User == c.user
}

// EnrolByLink enrols with an enrolment link. After an error that leaves open
// whether the org took the request, the enrolment stays pending: the same link
// again, or the next start, finishes or drops it. presence, which may be nil,
// lets keys be made that demand the person's verification.
func (b *Book) EnrolByLink(ctx context.Context, link okta.EnrolmentLink, name string, presence Presence) (*Account, error) {
	org, err := b.plainOrg(link.OrgURL)
	if err != nil {
		return nil, err
	}
	return b.enrol(ctx, org, credential{
		auth: client.OTDT(link.Token), link: link.Token, authenticator: link.AuthenticatorID, username: link.Login, presence: presence,
	}, name)
}

// plainOrg is the client of an org whose name is what it looks like. A name in
// other letters than a browser writes could look like another's, and no page's
// origin would ever equal it (E6).
func (b *Book) plainOrg(orgURL string) (*client.Org, error) {
	org, err := b.Org(orgURL)
	if err != nil {
		return nil, err
	}
	if _, ok := OriginOf(org.URL()); !ok {
		return nil, fmt.Errorf("%w: its host has other than plain ASCII letters", client.ErrURL)
	}
	return org, nil
}

func (b *Book) enrol(ctx context.Context, org *client.Org, by credential, name string) (*Account, error) {
	end, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	// What an earlier try at this org left open is settled first, so that it
	// can never stand in the way of this one.
	for _, a := range b.All() {
		if a.Usable() && a.OrgURL == org.URL() && a.Rekeying != nil && a.Rekeying.Sent {
			b.settle(ctx, a, nil, false) // which key is the device's, if it changes
		}
		if a.State != Enrolling || a.OrgURL != org.URL() {
			continue
		}
		same := by.fits(a)
		auth := client.Authorization{}
		if same {
			auth = by.auth
		}
		done, err := b.resume(ctx, a, auth)
		if same && done != nil {
			return done, nil
		}
		if same && err != nil && !definite(err) {
			return nil, err
		}
	}
	a, err := b.prepare(ctx, org, by, name)
	if err != nil {
		return nil, err
	}
	done, err := b.post(ctx, org, a, by.auth)
	if errors.Is(err, errUnsent) {
		b.abandon(ctx, a.ID)
	}
	return done, err
}

// prepare checks what the org offers, makes the keys and writes them down. The
// org hears nothing of it yet.
func (b *Book) prepare(ctx context.Context, org *client.Org, by credential, name string) (*Account, error) {
	who, err := org.Organization(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask %s who it is: %w", org.URL(), err)
	}
	config, dialect, err := discover(ctx, org, by.auth)
	if err != nil {
		return nil, fmt.Errorf("ask %s what it offers: %w", org.URL(), err)
	}
	switch {
	case config.OrgID != "" && config.OrgID != who.ID:
		return nil, ErrOtherOrg
	case by.link != "" && config.AuthenticatorID != by.authenticator:
		return nil, ErrLinkMismatch
	}
	methods, err := offered(config, b.inHardware(ctx))
	if err != nil {
		return nil, err
	}
	a := &Account{
		ID: newID(), Name: name, State: Enrolling, CreatedAt: b.opts.Now().UTC(), Dialect: dialect,
		OrgID: who.ID, OrgURL: org.URL(), ClientID: ClientID, AuthenticatorID: config.AuthenticatorID,
		Username: by.username,
		Pending:  &pending{Token: sealedToken(by.link.Reveal()), User: by.user, Endpoint: config.EnrolEndpoint},
	}
	if a.Alternate, err = b.alternate(ctx, org, who); err != nil {
		b.opts.Log.Warn("the org's other address is not used", "org", a.OrgURL, "error", err)
	}
	a.Origins = allowedOrigins(a.OrgURL, a.Alternate, config.LoopbackOrigins)
	if known, ok := b.knownDevice(ctx, org.URL(), who.ID); ok {
		a.Device = known
	}
	if err := b.insert(a); err != nil {
		return nil, err
	}
	b.step("recorded")
	ready, err := b.makeKeys(ctx, a, methods, by.presence)
	if err != nil {
		b.abandon(ctx, a.ID)
		return nil, fmt.Errorf("make the keys: %w", err)
	}
	b.step("prepared")
	return ready, nil
}

// alternate returns the other address of an org, "" when it has none. An org can
// name any address, and answers would be sent there: so the address has to say
// of itself that it is this org, and that it is reached here too (E12).
func (b *Book) alternate(ctx context.Context, org *client.Org, who okta.Organization) (string, error) {
	links := func(o okta.Organization) (list []string) {
		for _, l := range []*okta.Link{o.Links.Organization, o.Links.Alternate} {
			if l == nil {
				continue
			}
			if origin, ok := OriginOf(l.Href); ok {
				list = append(list, origin)
			}
		}
		return list
	}
	for _, origin := range links(who) {
		if origin == org.URL() {
			continue
		}
		other, err := client.New(origin, client.Options{UserAgent: b.opts.UserAgent})
		if err != nil {
			return "", err
		}
		if other.Development() != org.Development() {
			return "", fmt.Errorf("%s: %w", origin, client.ErrInsecure)
		}
		said, err := other.Organization(ctx)
		if err != nil {
			return "", fmt.Errorf("ask %s who it is: %w", origin, err)
		}
		if said.ID != who.ID || !slices.Contains(links(said), org.URL()) {
			return "", fmt.Errorf("%s: %w", origin, ErrOtherOrg)
		}
		return origin, nil
	}
	return "", nil
}

// knownDevice returns this device as the org knows it from another account. The
// address counts too: any org can claim any id (E5). A device whose key is lost
// is another one by now; so is one whose key is in a store that is out of use,
// or may have been exchanged: nothing may rest on a key that is about to go.
func (b *Book) knownDevice(ctx context.Context, orgURL, orgID string) (Device, bool) {
	for _, a := range slices.Backward(b.All()) {
		if a.OrgURL == orgURL && a.OrgID == orgID && a.Usable() && a.Device.ID != "" && (a.Rekeying == nil || !a.Rekeying.Sent) && !b.outOfUse(ctx, a.Device.Key) {
			return a.Device, true
		}
	}
	return Device{}, false
}

// makeKeys makes the keys of a pending account, each written down before the
// next, and completes the request. An account that has its methods already
// keeps them.
func (b *Book) makeKeys(ctx context.Context, a *Account, methods []okta.SupportedMethod, presence Presence) (*Account, error) {
	request := okta.EnrolmentRequest{AuthenticatorID: a.AuthenticatorID, Device: b.opts.Device(ctx)}
	by, err := presence.verify(ctx)
	if err != nil {
		return nil, err
	}
	defer by.wipe()
	if a.Device.ID == "" {
		k, jwk, err := b.newKey(ctx, "", devicekey.Spec{})
		if err != nil {
			return nil, err
		}
		if a, err = b.update(a.ID, func(a *Account) { a.Device = Device{Key: k.Ref()} }); err != nil {
			return nil, err
		}
		request.Device.ClientInstanceKey = &jwk
		b.step("client key")
	} else {
		request.Device.ID, request.Device.ClientInstanceID = a.Device.ID, a.Device.ClientInstanceID
	}
	request.Methods = a.Pending.Request.Methods
	if len(a.Methods) == 0 {
		if a, request.Methods, err = b.makeMethods(ctx, a, methods, by); err != nil {
			return nil, err
		}
	}
	return b.update(a.ID, func(a *Account) { a.Pending.Request, a.Pending.Ready = request, true })
}

func protection(p jose.Protection) string {
	if p == jose.ProtectionHardware {
		return "hardware"
	}
	return "software"
}

// post sends the request of a pending account and acts on the answer. A
// refusal undoes the enrolment; an answer that is none leaves it pending.
func (b *Book) post(ctx context.Context, org *client.Org, a *Account, auth client.Authorization) (*Account, error) {
	enrolment, err := b.send(ctx, org, a, auth)
	for wait := registrationWait; comeAgain(a, err, wait); wait *= 2 {
		if b.sleep(ctx, wait) != nil {
			break // what the org said last stands
		}
		e, again := b.send(ctx, org, a, auth)
		if errors.Is(again, errUnsent) {
			break // the same
		}
		enrolment, err = e, again
	}
	var refusal *okta.Error
	if a.Device.ID != "" && (devicekey.Lost(err) || errors.As(err, &refusal) && React(refusal, Creating) == NewDevice) {
		enrolment, err = b.sendAsNewDevice(ctx, org, a.ID, auth)
	}
	var notes []string
	if a.Verifies() && errors.As(err, &refusal) && refusal.Code == okta.CodeValidation && refusal.HTTPStatus == http.StatusBadRequest {
		notes = append(notes, "the organisation takes no key from this computer that demands your verification: "+refusal.Error())
		a, enrolment, err = b.sendUnverified(ctx, org, a, auth)
	}
	b.step("posted")
	if err == nil {
		a, err = b.activate(ctx, a, enrolment)
	}
	if err != nil {
		if definite(err) {
			b.abandon(ctx, a.ID)
		}
		return nil, fmt.Errorf("enrol at %s: %w", org.URL(), err)
	}
	a, more := b.replace(ctx, a, auth)
	if notes = append(notes, more...); len(notes) > 0 {
		a = a.clone()
		a.Notes = notes
	}
	return a, nil
}

// sendUnverified tries once more without the keys that demand verification, for
// an org that does not know what they are (2.1: they are optional). One that
// insists on them says so in another way, and gets its way.
func (b *Book) sendUnverified(ctx context.Context, org *client.Org, a *Account, auth client.Authorization) (*Account, okta.Enrolment, error) {
	plain, err := b.update(a.ID, func(a *Account) {
		for i := range a.Methods {
			m := &a.Methods[i]
			a.Unused = append(a.Unused, m.verifying()...)
			m.UserVerification, m.UserVerificationBioOrPIN = nil, nil
			if told := *request(&a.Pending.Request.Methods, m.Type); told != nil && told.Keys != nil {
				plain := *told
				plain.Keys = &okta.MethodKeys{ProofOfPossession: told.Keys.ProofOfPossession}
				*request(&a.Pending.Request.Methods, m.Type) = &plain
			}
		}
	})
	if err != nil {
		return a, okta.Enrolment{}, err
	}
	b.step("without verification")
	e, err := b.send(ctx, org, plain, auth)
	return plain, e, err
}

// How long a registration that is under way is waited for, at first and at most.
const (
	registrationWait    = time.Second
	maxRegistrationWait = 4 * time.Second
	maxLostWait         = 16 * time.Second // for an answer that was lost
)

// comeAgain says whether the request is worth sending once more after a wait.
func comeAgain(a *Account, err error, wait time.Duration) bool {
	// Another registration of this device is under way, perhaps our own of a
	// moment ago: the org asks to come again.
	if registrationPending(err) {
		return wait <= maxRegistrationWait
	}
	// Who signed in has this one chance: their token goes with the call, and an
	// org that took the request asks for the device at their next sign-in, which
	// this agent could not prove. A link is kept, and can wait.
	var silent *client.Unreachable
	var odd *client.UnexpectedAnswer
	lost := errors.As(err, &silent) || errors.As(err, &odd)
	return lost && a.Pending.Token == "" && wait <= maxLostWait
}

func registrationPending(err error) bool {
	return errors.Is(err, okta.NewError(okta.CodeRegistrationPending))
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sendAsNewDevice tries once more when the org no longer knows this device
// (2.7): with a new client instance key, and without the ids of old.
func (b *Book) sendAsNewDevice(ctx context.Context, org *client.Org, id string, auth client.Authorization) (okta.Enrolment, error) {
	a, err := b.update(id, func(a *Account) { a.Device, a.Pending.Ready = Device{}, false })
	if err != nil {
		return okta.Enrolment{}, err
	}
	b.step("device forgotten")
	if a, err = b.makeKeys(ctx, a, nil, nil); err != nil {
		return okta.Enrolment{}, err
	}
	return b.send(ctx, org, a, auth)
}

func (b *Book) send(ctx context.Context, org *client.Org, a *Account, auth client.Authorization) (okta.Enrolment, error) {
	speak, err := a.Dialect.protocol()
	if err != nil {
		return okta.Enrolment{}, err
	}
	request := a.Pending.Request
	if a.Device.ID != "" {
		attestation, err := b.attest(ctx, a)
		if err != nil {
			return okta.Enrolment{}, fmt.Errorf("%w: sign with the client instance key: %w", errUnsent, err)
		}
		request.Device.Attestation = &okta.DeviceAttestation{ClientInstanceKeyAttestation: attestation}
	}
	b.step("before post")
	return speak.create(ctx, org, auth, a.Pending.Endpoint, request)
}

// definite says whether an error proves that the org has not enrolled this
// device, or not as what it was asked for. Everything else leaves that open.
func definite(err error) bool {
	var refusal *okta.Error
	if errors.As(err, &refusal) {
		return refusal.HTTPStatus/100 == 4 && refusal.HTTPStatus != http.StatusConflict && React(refusal, Creating) != RetryLater
	}
	return errors.Is(err, client.ErrURL) || errors.Is(err, client.ErrInsecure) || errors.Is(err, client.ErrForeignURL) || errors.Is(err, ErrOtherUser)
}

// activate makes a pending account usable with the org's answer. Keys of
// methods that the org left out are written down as unused first, so that a
// crash does not leave them behind.
func (b *Book) activate(ctx context.Context, a *Account, e okta.Enrolment) (*Account, error) {
	if !okIDs(e.ID, e.User.ID, e.Device.ID, e.Device.ClientInstanceID) {
		return a, &client.UnexpectedAnswer{Host: a.OrgURL, Status: 200, Kind: client.KindIncomplete, Detail: "enrolment with odd ids"}
	}
	if a.Pending.User != "" && e.User.ID != a.Pending.User {
		return a, ErrOtherUser
	}
	methods, unused, err := enrolled(a, e)
	if err != nil {
		return a, err
	}
	active, err := b.update(a.ID, func(a *Account) {
		a.State, a.Pending = Active, nil
		a.EnrolmentID, a.UserID = e.ID, e.User.ID
		if e.User.Username != "" && len(e.User.Username) <= 256 {
			a.Username = e.User.Username
		}
		if a.Name == "" {
			a.Name = a.Username
		}
		a.Device.ID, a.Device.ClientInstanceID = e.Device.ID, e.Device.ClientInstanceID
		a.Methods, a.Unused = methods, append(a.Unused, unused...)
		a.Replaces = b.lostBefore(ctx, a)
	})
	if err != nil {
		return a, err
	}
	b.step("active")
	return b.discard(ctx, active), nil
}

// discard deletes the keys that an account has no use for.
func (b *Book) discard(ctx context.Context, a *Account) *Account {
	if len(a.Unused) == 0 {
		return a
	}
	b.wipe(context.WithoutCancel(ctx), a.Unused)
	b.step("unused keys wiped")
	clean, err := b.update(a.ID, func(a *Account) { a.Unused = nil })
	if err != nil {
		b.opts.Log.Warn("account not tidied", "account", a.ID, "error", err)
		return a
	}
	return clean
}

func okIDs(ids ...string) bool {
	for _, id := range ids {
		if id == "" || len(id) > 128 {
			return false
		}
	}
	return true
}
