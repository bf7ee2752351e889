// Package localapitest holds an agent in memory for tests of everything that
// talks to the local API: it keeps accounts and prompts, tells subscribers, and
// decides nothing by itself.
package localapitest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
)

// Agent implements localapi.Agent. Its exported fields are read and written
// under Lock; the zero Agent has nothing.
type Agent struct {
	sync.Mutex
	StatusReply  api.Status
	AccountsHeld []api.Account
	PromptsHeld  []api.Prompt // newest first
	CodesHeld    []api.CodeEntry
	KeysHeld     []api.Key
	KeyChanges   []api.ChangeKeys // in order
	Digits       []api.Code       // what Code answers, in this order; the last one again and again
	Signals      []api.Signal
	Records      []api.AuditRecord
	Report       api.Report
	AuditErr     error
	PIN          string             // what the person is verified by; "" while none is set
	Tries        int                // wrong PINs that are left
	Methods      map[string]bool    // other methods: whether they are on
	Without      []string           // ids of accounts without a key that the PIN unlocks
	Plugged      []*PluggedKey      // security keys
	Touches      chan struct{}      // what a key that waits for a touch receives from; nil is touched at once
	KeyOrgs      map[string]*KeyOrg // by address
	KeySignIns   []api.KeySignIn    // in order, without secrets
	Fail         error              // every call fails with it
	TooLate      map[string]error   // by prompt: why it cannot be decided any more

	Decided     map[string]api.Decision // by prompt id
	DecidedBy   map[string]peer.Peer
	Outcomes    map[string]api.PromptOutcome // how a decision ends, instead of as asked
	Asked       []string                     // front ends that listed prompts
	Removed     map[string]bool              // id -> local only
	SignInAt    string                       // address of the sign-in, instead of one at the org
	SignsInAs   string                       // who signs in in the browser
	Begun       []api.BeginEnrolment         // enrolments by the browser, in order
	Cancelled   []string                     // ids of those that were cancelled
	Ends        map[string]error             // by org as given: how its enrolment ends instead of well
	Rekeys      []api.Rekey                  // changes of the vault key, in order
	RekeyHints  []string                     // what goes with their answers
	Shown       []string                     // prompts whose dialog was opened, and "doctor", in order
	NoWindow    bool                         // nothing can be shown on a desktop
	hold        *api.Hold
	changing    string                // id of the account that the last enrolment changes; "" for a new one
	waiting     map[string]chan error // by enrolment id
	awaited     map[string]bool       // enrolments that somebody waits for
	subscribers []*subscriber
	lastEvent   uint64
}

type subscriber struct {
	ctx      context.Context
	frontEnd string
	events   chan api.Event
}

func notFound(what string) error {
	return &api.Error{Status: http.StatusNotFound, Code: "not_found", Message: "there is no such " + what}
}

// Status counts what is held.
func (a *Agent) Status(context.Context) (api.Status, error) {
	a.Lock()
	defer a.Unlock()
	s := a.StatusReply
	s.Accounts, s.PendingPrompts, s.Hold = len(a.AccountsHeld), len(a.PromptsHeld), a.hold
	s.FrontEnds, s.Problems = append([]string{}, s.FrontEnds...), append([]api.Problem{}, s.Problems...)
	s.FrontEnds = append(s.FrontEnds, a.frontEnds()...)
	return s, a.Fail
}

// frontEnds lists subscribers that are still there.
func (a *Agent) frontEnds() (names []string) {
	for _, s := range a.subscribers {
		if s.ctx.Err() == nil && s.frontEnd != "" {
			names = append(names, s.frontEnd)
		}
	}
	return names
}

// FrontEnds lists the front ends that are subscribed.
func (a *Agent) FrontEnds() []string {
	a.Lock()
	defer a.Unlock()
	return a.frontEnds()
}

// Subscribers counts the subscriptions that stand.
func (a *Agent) Subscribers() int {
	a.Lock()
	defer a.Unlock()
	return len(a.subscribers)
}

// Accounts lists what is held.
func (a *Agent) Accounts(context.Context) (api.AccountList, error) {
	a.Lock()
	defer a.Unlock()
	return api.AccountList{Accounts: append([]api.Account{}, a.AccountsHeld...)}, a.Fail
}

// account returns the index of an account; the caller holds the lock.
func (a *Agent) account(id string) (int, error) {
	i := slices.IndexFunc(a.AccountsHeld, func(acc api.Account) bool { return acc.ID == id })
	if i < 0 {
		return i, notFound("account")
	}
	return i, a.Fail
}

// Account returns one.
func (a *Agent) Account(_ context.Context, id string) (api.Account, error) {
	a.Lock()
	defer a.Unlock()
	i, err := a.account(id)
	if err != nil {
		return api.Account{}, err
	}
	return a.AccountsHeld[i], nil
}

// AddAccount accepts every oktaverify link and names the account after it.
func (a *Agent) AddAccount(_ context.Context, add api.AddAccount) (api.Account, error) {
	a.Lock()
	defer a.Unlock()
	if a.Fail != nil {
		return api.Account{}, a.Fail
	}
	rest, ok := strings.CutPrefix(add.Link, "oktaverify://")
	if !ok {
		return api.Account{}, &api.Error{Status: http.StatusBadRequest, Code: "bad_link", Message: "this is not an enrolment link", Hint: "it begins with oktaverify://"}
	}
	user, _, _ := strings.Cut(rest, "/")
	name := add.Name
	if name == "" {
		name = user
	}
	acc := api.Account{ID: "acc-new", Name: name, Org: "http://localhost:8080", User: user, UserID: "00u9", Methods: []string{"signed_nonce"},
		Protection: "software", State: "active", Development: true}
	if len(add.PIN) > 0 {
		if err := a.checkPIN(add.PIN); err != nil {
			return api.Account{}, err
		}
		acc.Verification = []string{"userVerificationBioOrPin"}
	}
	a.AccountsHeld = append(a.AccountsHeld, acc)
	return acc, nil
}

// BeginEnrolment accepts every org and waits for End or CancelEnrolment; one
// that Ends names ends at once.
func (a *Agent) BeginEnrolment(_ context.Context, b api.BeginEnrolment) (api.Enrolment, error) {
	return a.begin(b, "")
}

// begin waits for the person, for a new account or a change of one.
func (a *Agent) begin(b api.BeginEnrolment, account string) (api.Enrolment, error) {
	a.Lock()
	defer a.Unlock()
	if a.Fail != nil {
		return api.Enrolment{}, a.Fail
	}
	if len(b.PIN) > 0 {
		if err := a.checkPIN(b.PIN); err != nil {
			return api.Enrolment{}, err
		}
		b.PIN = slices.Clone(b.PIN) // the server clears its own
	}
	a.changing = account
	a.Begun = append(a.Begun, b)
	org := b.Org
	if !strings.Contains(org, "://") {
		org = "https://" + org
	}
	e := api.Enrolment{ID: fmt.Sprintf("enr-%d", len(a.Begun)), Org: org, URL: org + "/oauth2/v1/authorize?state=abc", ExpiresAt: time.Now().Add(10 * time.Minute)}
	if a.SignInAt != "" {
		e.URL = a.SignInAt
	}
	if a.waiting == nil {
		a.waiting = map[string]chan error{}
	}
	ended := make(chan error, 1)
	a.waiting[e.ID] = ended
	if err, ok := a.Ends[b.Org]; ok {
		ended <- err
	}
	return e, nil
}

// End is the person: the enrolment ends as err says.
func (a *Agent) End(id string, err error) {
	a.Lock()
	defer a.Unlock()
	if ended, ok := a.waiting[id]; ok {
		ended <- err
	}
}

// Awaits says how many enrolments have begun.
func (a *Agent) Awaits() int {
	a.Lock()
	defer a.Unlock()
	return len(a.Begun)
}

// Waits says whether somebody waits for the end of an enrolment.
func (a *Agent) Waits(id string) bool {
	a.Lock()
	defer a.Unlock()
	return a.awaited[id]
}

// AwaitEnrolment waits for the end.
func (a *Agent) AwaitEnrolment(ctx context.Context, id string) (api.Account, error) {
	a.Lock()
	ended, ok := a.waiting[id]
	if a.awaited == nil {
		a.awaited = map[string]bool{}
	}
	a.awaited[id] = true
	a.Unlock()
	if !ok {
		return api.Account{}, notFound("enrolment")
	}
	select {
	case err := <-ended:
		if err != nil {
			return api.Account{}, err
		}
	case <-ctx.Done():
		return api.Account{}, ctx.Err()
	}
	a.Lock()
	defer a.Unlock()
	if i, err := a.account(a.changing); err == nil {
		return a.AccountsHeld[i], nil
	}
	begun := a.Begun[len(a.Begun)-1]
	user := begun.Username
	if user == "" || a.SignsInAs != "" {
		user = a.SignsInAs
	}
	acc := api.Account{ID: "acc-new", Name: begun.Name, Org: begun.Org, User: user, UserID: "00u9", Methods: []string{"push", "signed_nonce", "totp"},
		Protection: "software", State: "active", Development: strings.HasPrefix(begun.Org, "http://")}
	if len(begun.PIN) > 0 {
		acc.Verification = []string{"userVerificationBioOrPin"}
	}
	if acc.Name == "" {
		acc.Name = user
	}
	a.AccountsHeld = append(a.AccountsHeld, acc)
	return acc, nil
}

// CancelEnrolment ends the wait.
func (a *Agent) CancelEnrolment(_ context.Context, id string) error {
	a.Lock()
	defer a.Unlock()
	ended, ok := a.waiting[id]
	if !ok {
		return notFound("enrolment")
	}
	a.Cancelled = append(a.Cancelled, id)
	select {
	case ended <- &api.Error{Status: http.StatusGone, Code: "sign_in_cancelled", Message: "the sign-in was cancelled"}:
	default:
	}
	return nil
}

// RenameAccount renames.
func (a *Agent) RenameAccount(_ context.Context, id, name string) (api.Account, error) {
	a.Lock()
	defer a.Unlock()
	i, err := a.account(id)
	if err != nil {
		return api.Account{}, err
	}
	a.AccountsHeld[i].Name = name
	return a.AccountsHeld[i], nil
}

// RemoveAccount removes.
func (a *Agent) RemoveAccount(_ context.Context, id string, localOnly bool) error {
	a.Lock()
	defer a.Unlock()
	i, err := a.account(id)
	if err != nil {
		return err
	}
	a.AccountsHeld = slices.Delete(a.AccountsHeld, i, i+1)
	if a.Removed == nil {
		a.Removed = map[string]bool{}
	}
	a.Removed[id] = localOnly
	return nil
}

// ResumePushes lets pushes through again.
func (a *Agent) ResumePushes(_ context.Context, id string) (api.Account, error) {
	a.Lock()
	defer a.Unlock()
	i, err := a.account(id)
	if err != nil {
		return api.Account{}, err
	}
	a.AccountsHeld[i].PushesHeld = false
	return a.AccountsHeld[i], nil
}

// Codes lists what is held.
func (a *Agent) Codes(context.Context) (api.CodeList, error) {
	a.Lock()
	defer a.Unlock()
	return api.CodeList{Codes: append([]api.CodeEntry{}, a.CodesHeld...)}, a.Fail
}

// Code answers the next of Digits for the code of that id or name.
func (a *Agent) Code(_ context.Context, name string) (api.Code, error) {
	a.Lock()
	defer a.Unlock()
	i := slices.IndexFunc(a.CodesHeld, func(c api.CodeEntry) bool { return c.ID == name || c.Name == name })
	if a.Fail != nil {
		return api.Code{}, a.Fail
	}
	if i < 0 || len(a.Digits) == 0 {
		return api.Code{}, notFound("code")
	}
	code := a.Digits[0]
	if len(a.Digits) > 1 {
		a.Digits = a.Digits[1:]
	}
	code.Name, code.Issuer = a.CodesHeld[i].Name, a.CodesHeld[i].Issuer
	return code, nil
}

// RekeyVault remembers what was asked, and takes every kind.
func (a *Agent) RekeyVault(_ context.Context, r api.Rekey) (api.Rekeyed, error) {
	a.Lock()
	defer a.Unlock()
	if a.Fail != nil {
		return api.Rekeyed{}, a.Fail
	}
	a.Rekeys = append(a.Rekeys, r)
	a.StatusReply.VaultKey = api.Component{Kind: r.Kind, State: "ready"}
	return api.Rekeyed{VaultKey: a.StatusReply.VaultKey, Hints: a.RekeyHints}, nil
}

// Device tells Signals.
func (a *Agent) Device(context.Context) (api.Device, error) {
	a.Lock()
	defer a.Unlock()
	return api.Device{Signals: append([]api.Signal{}, a.Signals...)}, a.Fail
}

// Record appends to the audit and tells the subscribers.
func (a *Agent) Record(r api.AuditRecord) {
	a.Lock()
	defer a.Unlock()
	a.Records = append(a.Records, r)
	a.tell(api.Event{Type: "audit", Audit: &r})
}

// Audit yields the records.
func (a *Agent) Audit(_ context.Context, from uint64) (iter.Seq2[api.AuditRecord, error], error) {
	a.Lock()
	defer a.Unlock()
	records := slices.Clone(a.Records)
	return func(yield func(api.AuditRecord, error) bool) {
		for _, r := range records {
			if r.Seq >= from && !yield(r, nil) {
				return
			}
		}
	}, a.Fail
}

// VerifyAudit returns AuditErr.
func (a *Agent) VerifyAudit(context.Context) error {
	a.Lock()
	defer a.Unlock()
	return a.AuditErr
}

// Doctor returns Report.
func (a *Agent) Doctor(context.Context, string) (api.Report, error) {
	a.Lock()
	defer a.Unlock()
	return api.Report{Checks: append([]api.Check{}, a.Report.Checks...)}, a.Fail
}

// Subscribe delivers events; a subscriber that does not keep up is dropped.
func (a *Agent) Subscribe(ctx context.Context, frontEnd string) (<-chan api.Event, error) {
	a.Lock()
	defer a.Unlock()
	if a.Fail != nil {
		return nil, a.Fail
	}
	s := &subscriber{ctx: ctx, frontEnd: frontEnd, events: make(chan api.Event, 64)}
	a.subscribers = append(a.subscribers, s)
	context.AfterFunc(ctx, func() { a.drop(s) })
	return s.events, nil
}

func (a *Agent) drop(s *subscriber) {
	a.Lock()
	defer a.Unlock()
	a.remove(s)
}

func (a *Agent) remove(s *subscriber) {
	if i := slices.Index(a.subscribers, s); i >= 0 {
		a.subscribers = slices.Delete(a.subscribers, i, i+1)
		close(s.events)
	}
}

// Tell sends an event to every subscriber.
func (a *Agent) Tell(e api.Event) {
	a.Lock()
	defer a.Unlock()
	a.tell(e)
}

func (a *Agent) tell(e api.Event) {
	a.lastEvent++
	e.ID = a.lastEvent
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	for _, s := range slices.Clone(a.subscribers) {
		select {
		case s.events <- e:
		default:
			a.remove(s)
		}
	}
}

// DropSubscribers ends every subscription, as for one that is too slow.
func (a *Agent) DropSubscribers() {
	a.Lock()
	defer a.Unlock()
	for _, s := range slices.Clone(a.subscribers) {
		a.remove(s)
	}
}

// ErrBroken is an error that is not meant for callers.
var ErrBroken = errors.New("disk on fire at /home/alice")
