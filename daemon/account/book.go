package account

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/vault"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// ClientID is the agent's OAuth client id, and the audience of the challenges
// that it answers.
const ClientID = "countersign-agent"

const (
	room        = "accounts"
	bookVersion = 1
	maxAccounts = 64
)

// Errors for callers to branch on.
var (
	ErrUnknown    = errors.New("no such account")
	ErrBusy       = errors.New("another change of the accounts is under way")
	ErrTooMany    = fmt.Errorf("more than %d accounts", maxAccounts)
	ErrBadName    = errors.New("the name is empty")
	ErrNewerState = errors.New("the accounts were written by a newer version")
)

// Vault is what the book needs of the vault.
type Vault interface {
	Load(room string, dst any) error
	Save(room string, value any) error
	SaveIndex(vault.Index) error
}

// Options of a book.
type Options struct {
	Vault     Vault
	Keys      devicekey.Store
	Device    func(context.Context) okta.Device // what an org is told of this device at enrolment
	UserAgent string                            // told to orgs with every request
	Now       func() time.Time
	Log       *slog.Logger
	Changed   func(*Account) // hears of every change of an account; may be nil
}

// Book is the book of accounts. Use Open.
type Book struct {
	opts Options

	snapshot atomic.Pointer[[]*Account] // what readers see; the slice is never changed

	mu sync.Mutex // guards changes: copy, save, publish

	// changing is held during an enrolment or removal, network and all, so
	// that there is one at a time; a channel so that waiting can be given up.
	changing chan struct{}

	orgsMu sync.Mutex
	orgs   map[string]*client.Org // by URL; one kept connection each

	tokens tokens // maintenance tokens, in memory only

	step  func(name string)                                // test seam: called between the steps of a change
	sleep func(ctx context.Context, d time.Duration) error // test seam: waits
}

type document struct {
	Version  int        `json:"version"`
	Accounts []*Account `json:"accounts"`
}

// Open reads the book from the vault. It does not touch the network: Resume
// finishes what was under way.
func Open(o Options) (*Book, error) {
	b := &Book{opts: o, changing: make(chan struct{}, 1), orgs: map[string]*client.Org{}}
	if o.Now == nil {
		b.opts.Now = time.Now
	}
	if o.Log == nil {
		b.opts.Log = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		b.opts.Changed = func(*Account) {}
	}
	b.step, b.sleep = func(string) {}, sleep
	doc := document{Version: bookVersion}
	if err := o.Vault.Load(room, &doc); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	if doc.Version > bookVersion {
		return nil, ErrNewerState
	}
	b.snapshot.Store(&doc.Accounts)
	return b, nil
}

// All returns every account, oldest first. The accounts are read-only.
func (b *Book) All() []*Account { return *b.snapshot.Load() }

// Get returns the account with that local id.
func (b *Book) Get(id string) (*Account, error) {
	for _, a := range b.All() {
		if a.ID == id {
			return a, nil
		}
	}
	return nil, ErrUnknown
}

// Match returns the accounts a challenge may be meant for, by the claims it
// makes about itself. All of them are enrolled at one org address: the one that
// the challenge names, if there are any. Who only has it as an alternate comes
// second, since every org can claim every address as that (E5).
func (b *Book) Match(c *okta.Challenge) []*Account {
	var list []*Account
	for _, a := range b.All() {
		if !a.fits(c) {
			continue
		}
		if len(list) > 0 && list[0].OrgURL != a.OrgURL {
			if list[0].issues(c) || !a.issues(c) {
				continue
			}
			list = nil
		}
		list = append(list, a)
	}
	return list
}

// AllowsOrigin says whether any account expects challenges from that page.
func (b *Book) AllowsOrigin(origin string) bool {
	for _, a := range b.All() {
		if a.Usable() && a.AllowsOrigin(origin) {
			return true
		}
	}
	return false
}

// Org returns the client of the org at that URL, with its kept connection.
func (b *Book) Org(orgURL string) (*client.Org, error) {
	b.orgsMu.Lock()
	defer b.orgsMu.Unlock()
	if o, ok := b.orgs[orgURL]; ok {
		return o, nil
	}
	o, err := client.New(orgURL, client.Options{ClientID: ClientID, UserAgent: b.opts.UserAgent})
	if err != nil {
		return nil, err
	}
	if len(b.orgs) < maxAccounts {
		b.orgs[o.URL()] = o
	}
	return o, nil
}

// Rename changes the name shown for an account.
func (b *Book) Rename(id, name string) (*Account, error) {
	if name == "" {
		return nil, ErrBadName
	}
	return b.update(id, func(a *Account) { a.Name = name })
}

// SetPushed notes what the org was told of how an account is pushed to.
func (b *Book) SetPushed(id, token string, transactions []string) error {
	_, err := b.update(id, func(a *Account) {
		for i := range a.Methods {
			if a.Methods[i].Type == okta.MethodPush {
				a.Methods[i].PushToken, a.Methods[i].Transactions = token, transactions
			}
		}
	})
	return err
}

// SetPushesHeld holds the pushes of an account back, or lets them through again.
func (b *Book) SetPushesHeld(id string, held bool) error {
	a, err := b.Get(id)
	if err != nil || a.PushesHeld == held {
		return err
	}
	_, err = b.update(id, func(a *Account) { a.PushesHeld = held })
	return err
}

func (b *Book) note(id string, s State) {
	a, err := b.Get(id)
	if err != nil || a.State == s || a.State == Removing {
		return
	}
	if _, err := b.update(id, func(a *Account) { a.State = s }); err != nil {
		b.opts.Log.Warn("account state not saved", "account", id, "state", string(s), "error", err)
	}
}

// update changes one account: on disk first, then for everybody.
func (b *Book) update(id string, change func(*Account)) (*Account, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.Clone(b.All())
	i := slices.IndexFunc(list, func(a *Account) bool { return a.ID == id })
	if i < 0 {
		return nil, ErrUnknown
	}
	list[i] = list[i].clone()
	change(list[i])
	if err := b.publish(list); err != nil {
		return nil, err
	}
	b.opts.Changed(list[i])
	return list[i], nil
}

// insert adds an account.
func (b *Book) insert(a *Account) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.All()
	if len(list) >= maxAccounts {
		return ErrTooMany
	}
	return b.publish(append(slices.Clone(list), a))
}

// drop takes an account out of the book.
func (b *Book) drop(id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(b.All()), func(a *Account) bool { return a.ID == id })
	b.tokens.forget(id)
	return b.publish(list)
}

// publish writes the list and the plain index, and shows the list to readers.
// The caller holds b.mu.
func (b *Book) publish(list []*Account) error {
	if err := b.opts.Vault.Save(room, document{bookVersion, list}); err != nil {
		return fmt.Errorf("save the accounts: %w", err)
	}
	b.snapshot.Store(&list)
	if err := b.opts.Vault.SaveIndex(b.Index()); err != nil {
		// The index only serves a locked agent; the book itself is safe.
		b.opts.Log.Warn("index not saved", "error", err)
	}
	return nil
}

// Index is what a locked agent may know of the accounts.
func (b *Book) Index() vault.Index {
	var index vault.Index
	for _, a := range b.All() {
		if a.Usable() {
			index.Accounts = append(index.Accounts, vault.IndexEntry{OrgURL: a.OrgURL, Origins: a.Origins, EnrolmentID: a.EnrolmentID})
		}
	}
	return index
}

// begin takes the one turn to change accounts with the org; end gives it back.
func (b *Book) begin(ctx context.Context) (end func(), err error) {
	select {
	case b.changing <- struct{}{}:
		return func() { <-b.changing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx))
	}
}

// newID makes a local id: short enough to type.
func newID() string { return strings.ToLower(rand.Text()[:8]) }

// wipe deletes keys. A key that cannot be deleted now is left behind: unused,
// sealed, and without an account that names it.
func (b *Book) wipe(ctx context.Context, refs []devicekey.Ref) {
	for _, ref := range refs {
		if ref.ID == "" {
			continue
		}
		if err := b.opts.Keys.Delete(ctx, ref); err != nil {
			b.opts.Log.Warn("key not deleted", "kid", ref.ID, "error", err)
		}
	}
}
