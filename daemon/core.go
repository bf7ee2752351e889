package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"countersign.dev/authenticators/verification/fido"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/challenge"
	"countersign.dev/daemon/journal"
	"countersign.dev/daemon/push"
	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/keys"
)

const (
	unlockEvery  = 5 * time.Second  // at most, however many challenges come
	unlockWait   = 60 * time.Second // the desktop may be asking for a password
	unlockMoment = 2 * time.Second  // what a caller of the local API waits for it
	catchUpWait  = time.Minute      // for what was under way, at start
	refreshWait  = 2 * time.Second  // a browser waits for it
	refreshEvery = time.Minute
)

// core is the part of the agent that exists only while the vault is open.
type core struct {
	store        keyStore
	book         *account.Book
	orgKeys      *keys.Cache
	audit        *audit.Log
	pipeline     *challenge.Pipeline
	verification verifier
	fido         *fido.Verifier // the security key that verifies the person
	push         *push.Poller
	journals     []*journal.Journal
}

// openCore reads the sealed state. What is damaged is refused, by name.
func (d *Daemon) openCore() (_ *core, err error) {
	c := &core{store: d.newKeyStore()}
	defer func() {
		if err != nil {
			_ = c.close()
		}
	}()
	if c.book, err = account.Open(account.Options{
		Vault: d.vault, Keys: c.store, Device: d.posture.Device, UserAgent: d.posture.UserAgent(), Now: d.now, Log: d.log,
		Changed: func(a *account.Account) {
			d.hub.publish(api.Event{Type: "account", Account: accountView(a)})
			c.push.Changed()
		},
	}); err != nil {
		return nil, err
	}
	c.push = d.newPoller(c)
	if err := c.store.check(d.ctx); err != nil {
		return nil, err
	}
	if err := d.openVerification(c); err != nil {
		return nil, err
	}
	if index := c.book.Index(); !reflect.DeepEqual(index, d.index) {
		// Lost, damaged, or left behind by a crash: the sealed book is the truth.
		if err := d.vault.SaveIndex(index); err != nil {
			d.log.Warn("index not saved", "error", err)
		}
	}
	records, err := c.journal(d, "audit")
	if err != nil {
		return nil, err
	}
	if c.audit, err = audit.Open(records); err != nil {
		return nil, err
	}
	claimed, err := c.journal(d, "claims")
	if err != nil {
		return nil, err
	}
	claims, err := challenge.OpenClaims(claimed, d.now)
	if err != nil {
		return nil, err
	}
	c.orgKeys = keys.New(c.fetchKeys)
	c.pipeline = challenge.New(challenge.Config{
		Accounts: c.book, Posture: d.posture, OrgKeys: c.orgKeys, Keys: c.store, Verification: c.verification, Prompts: d.prompts, Claims: claims,
		Held: d.held, Deliver: c.deliver, Now: d.now, Log: d.log,
		Record: func(r audit.Record) error { return d.record(c, r) },
	})
	return c, nil
}

// listen waits for pushes until the agent stops.
func (d *Daemon) listen(c *core) { d.spawn(func() { c.push.Run(d.ctx) }) }

func (c *core) journal(d *Daemon, name string) (*journal.Journal, error) {
	j, err := journal.Open(filepath.Join(d.vault.Dir(), name+".log"), d.vault.MACKey(name))
	if err != nil {
		return nil, fmt.Errorf("open the journal of %s: %w", name, err)
	}
	c.journals = append(c.journals, j)
	return j, nil
}

func (c *core) close() error {
	if c.pipeline != nil {
		c.pipeline.Close()
	}
	if c.audit != nil {
		c.audit.Close()
	}
	if c.verification != nil {
		c.verification.Forget()
	}
	c.store.lock()
	var errs []error
	for _, j := range c.journals {
		errs = append(errs, j.Close())
	}
	return errors.Join(errs...)
}

// fetchKeys gets the signing keys of an issuer that one of the accounts trusts.
func (c *core) fetchKeys(ctx context.Context, issuer string) ([]jose.JWK, time.Duration, error) {
	for _, a := range c.book.All() {
		if issuer != a.OrgURL && !strings.HasPrefix(issuer, a.OrgURL+"/oauth2/") {
			continue
		}
		org, err := c.book.Org(a.OrgURL)
		if err != nil {
			return nil, 0, err
		}
		return org.SigningKeys(ctx, issuer)
	}
	return nil, 0, fmt.Errorf("%s is not the org of an account", issuer)
}

// deliver hands a signed answer to the account's org.
func (c *core) deliver(ctx context.Context, a *account.Account, uri string, r okta.AnswerRequest) error {
	org, err := c.book.Org(a.OrgURL)
	if err != nil {
		return err
	}
	return org.Answer(ctx, uri, r)
}

// unlockAtStart opens the core of a vault that needs nobody: its key is in a
// file, or wrapped by the passphrase at hand. A keyring and a TPM are asked
// later, in the background.
func (d *Daemon) unlockAtStart(ctx context.Context) error {
	kind, _ := d.vault.State()
	if d.vault.Locked() && kind == unlock.Passphrase && d.config.PassphraseFile != "" {
		if err := d.vault.Unlock(ctx); err != nil {
			return fmt.Errorf("unlock the state: %w", err)
		}
	}
	if d.vault.Locked() {
		return nil
	}
	c, err := d.openCore()
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	d.core.Store(c)
	return nil
}

// askForUnlock tries to open a locked vault in the background, which may make
// the desktop ask for a password: at most one try in a while, and only when
// there is a reason. There is never a second one beside it, however long a
// person takes for their password: both would open the state.
func (d *Daemon) askForUnlock() {
	d.asking.Lock()
	defer d.asking.Unlock()
	if before := d.trying.Load(); before != nil {
		select {
		case <-*before:
		default:
			return
		}
	}
	if time.Now().UnixNano()-d.unlocking.Load() < int64(unlockEvery) {
		return
	}
	trying := make(chan struct{})
	d.trying.Store(&trying)
	started := d.spawn(func() {
		ctx, cancel := context.WithTimeout(d.ctx, unlockWait)
		defer cancel()
		defer close(trying)
		defer func() { d.unlocking.Store(time.Now().UnixNano()) }()
		if err := d.vault.Unlock(ctx); err != nil {
			d.log.Warn("vault stays locked", "error", err)
			return
		}
		if d.core.Load() != nil {
			return
		}
		c, err := d.openCore()
		if err != nil {
			d.log.Error("state not usable", "error", err)
			d.hub.fail(err)
			return
		}
		d.core.Store(c)
		d.hub.fail(nil)
		d.hub.publish(api.Event{Type: "status"})
		d.listen(c)
		d.spawn(func() { d.catchUp(c) }) // by itself: who waits for the unlock does not wait for orgs
	})
	if !started {
		close(trying) // the agent stops
	}
}

// awaitUnlock gives an unlock that is under way a moment: a keyring that is
// open answers at once, and who asks right after the ready line is not told
// that the state is locked. One that asks the person is not waited for.
func (d *Daemon) awaitUnlock(ctx context.Context) {
	trying := d.trying.Load()
	if trying == nil {
		return
	}
	moment := time.NewTimer(unlockMoment)
	defer moment.Stop()
	select {
	case <-*trying:
	case <-moment.C:
	case <-ctx.Done():
	case <-d.ctx.Done():
	}
}

// catchUp finishes what was under way when the agent stopped, and asks the
// orgs for their pages.
func (d *Daemon) catchUp(c *core) {
	ctx, cancel := context.WithTimeout(d.ctx, catchUpWait)
	defer cancel()
	d.settleVault(ctx)
	c.book.Resume(ctx)
	if err := c.book.RefreshOrigins(ctx); err != nil {
		d.log.Info("pages of an org not refreshed", "error", err)
	}
}
