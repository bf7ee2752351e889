package daemon

import (
	"context"
	"iter"
	"net/http"
	"strconv"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/localapi"
	"countersign.dev/ipc/peer"
	"countersign.dev/okta"
)

// orgWait bounds what the local API does at an org.
const orgWait = 45 * time.Second

// front is the agent as the local API sees it.
type front struct{ d *Daemon }

var _ localapi.Agent = front{}

// open returns the core, or the refusal of a locked agent.
func (f front) open(ctx context.Context) (*core, error) {
	if c := f.d.core.Load(); c != nil {
		return c, nil
	}
	f.d.askForUnlock()
	f.d.awaitUnlock(ctx)
	if c := f.d.core.Load(); c != nil {
		return c, nil
	}
	if err := f.d.hub.failure(); err != nil {
		return nil, explain(err)
	}
	return nil, &api.Error{Status: http.StatusServiceUnavailable, Code: "locked", Message: "the agent's state is locked", Hint: f.d.unlockHint()}
}

func (f front) Accounts(ctx context.Context) (api.AccountList, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.AccountList{}, err
	}
	list := api.AccountList{Accounts: []api.Account{}}
	for _, a := range c.book.All() {
		list.Accounts = append(list.Accounts, *c.view(ctx, a))
	}
	return list, nil
}

func (f front) Account(ctx context.Context, id string) (api.Account, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.Account{}, err
	}
	a, err := c.book.Get(id)
	if err != nil {
		return api.Account{}, explain(err)
	}
	return *c.view(ctx, a), nil
}

func (f front) AddAccount(caller context.Context, in api.AddAccount) (api.Account, error) {
	c, err := f.open(caller)
	if err != nil {
		return api.Account{}, err
	}
	link, err := okta.ParseEnrolmentLink(in.Link)
	if err != nil {
		return api.Account{}, explain(err)
	}
	about := audit.Record{Reason: prompt.Clean(link.OrgURL, maxShown)}
	present, err := f.present(caller, c, "link "+account.UUID(), "Add an account", about, in.PIN, in.Verification)
	if err != nil {
		return api.Account{}, explain(err)
	}
	defer present.done()
	// Not the caller's context: a command line that is killed must not leave
	// the enrolment half done.
	ctx, cancel := context.WithTimeout(f.d.ctx, orgWait)
	defer cancel()
	defer f.d.quiet.Reset(quietAfter)
	defer f.d.reach.forget()
	a, err := c.book.EnrolByLink(ctx, link, prompt.Clean(in.Name, maxShown), present.presence())
	if err != nil {
		_ = f.d.record(c, audit.Record{Event: "enrolment", Outcome: "failed", Reason: err.Error()})
		return api.Account{}, explainEnrolment(err)
	}
	_ = f.d.record(c, audit.Record{Event: "enrolment", Outcome: "done", Account: a.ID, Reason: a.OrgURL})
	return *accountView(a), nil
}

func (f front) RenameAccount(ctx context.Context, id, name string) (api.Account, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.Account{}, err
	}
	a, err := c.book.Rename(id, prompt.Clean(name, maxShown))
	if err != nil {
		return api.Account{}, explain(err)
	}
	return *accountView(a), nil
}

func (f front) RemoveAccount(caller context.Context, id string, localOnly bool) error {
	c, err := f.open(caller)
	if err != nil {
		return err
	}
	a, err := c.book.Get(id)
	if err != nil {
		return explain(err)
	}
	ctx, cancel := context.WithTimeout(f.d.ctx, orgWait)
	defer cancel()
	defer f.d.reach.forget()
	if err := c.book.Remove(ctx, id, localOnly); err != nil {
		_ = f.d.record(c, audit.Record{Event: "removal", Outcome: "failed", Account: id, Reason: err.Error()})
		return explainRemoval(err, id)
	}
	reason := a.OrgURL
	if localOnly {
		reason += ", here only"
	}
	_ = f.d.record(c, audit.Record{Event: "removal", Outcome: "done", Account: id, Reason: reason})
	c.push.Changed()
	gone := accountView(a)
	gone.State = "removed"
	f.d.hub.publish(api.Event{Type: "account", Account: gone})
	return nil
}

// ResumePushes lets the pushes of an account through again.
func (f front) ResumePushes(ctx context.Context, id string) (api.Account, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.Account{}, err
	}
	a, err := c.book.Get(id)
	if err != nil {
		return api.Account{}, explain(err)
	}
	f.d.prompts.LetThrough(id)
	if a.PushesHeld {
		if err := c.book.SetPushesHeld(id, false); err != nil {
			return api.Account{}, explain(err)
		}
		_ = f.d.record(c, audit.Record{Event: "pushes_resumed", Outcome: "done", Account: id})
		if a, err = c.book.Get(id); err != nil {
			return api.Account{}, explain(err)
		}
	}
	return *accountView(a), nil
}

// Acknowledge says that the person has seen an account's notices.
func (f front) Acknowledge(ctx context.Context, id string) (api.Account, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.Account{}, err
	}
	before, err := c.book.Get(id)
	if err != nil {
		return api.Account{}, explain(err)
	}
	a, err := c.book.Acknowledge(id)
	if err != nil {
		return api.Account{}, explain(err)
	}
	if n := len(before.Notices); n > 0 {
		_ = f.d.record(c, audit.Record{Event: "notices_acknowledged", Outcome: "done", Account: id, Reason: strconv.Itoa(n)})
	}
	return *c.view(ctx, a), nil
}

// Prompts lists what waits for the person. Whoever gives a name is a front end.
func (f front) Prompts(ctx context.Context, frontEnd string) (api.PromptList, error) {
	f.d.nudge()
	f.d.lookAround()
	list, waiting := api.PromptList{Prompts: []api.Prompt{}, Hold: holdView(f.d.prompts.Held())}, f.d.prompts.Waiting
	if frontEnd != "" {
		waiting = f.d.prompts.List
	}
	for _, p := range waiting() {
		list.Prompts = append(list.Prompts, promptView(p))
	}
	f.promptsNow(ctx, list.Prompts)
	return list, nil
}

// DecidePrompt answers a prompt, and says what became of it.
func (f front) DecidePrompt(ctx context.Context, id string, d api.Decision, p peer.Peer) (api.PromptOutcome, error) {
	f.d.lookAround()
	o, err := f.decide(ctx, id, d)
	if err != nil {
		return api.PromptOutcome{}, explain(err)
	}
	// Which program it was is as claimed; the user is certain.
	f.d.log.Info("prompt decided", "prompt", id, "outcome", o.Outcome, "pid", p.PID, "executable", p.Executable)
	return api.PromptOutcome(o), nil
}

// Device says what an org can be told of this device. That is no secret from
// the person, whether the vault is open or not.
func (f front) Device(ctx context.Context) (api.Device, error) {
	d := api.Device{Signals: []api.Signal{}}
	for _, r := range f.d.posture.Readings(ctx) {
		d.Signals = append(d.Signals, api.Signal{Name: r.Name, Value: r.Value, Known: r.Value != ""})
	}
	return d, nil
}

func (f front) Audit(ctx context.Context, from uint64) (iter.Seq2[api.AuditRecord, error], error) {
	c, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	return func(yield func(api.AuditRecord, error) bool) {
		for r, err := range c.audit.Records(from) {
			if !yield(recordView(r), err) {
				return
			}
		}
	}, nil
}

func (f front) VerifyAudit(ctx context.Context) error {
	c, err := f.open(ctx)
	if err != nil {
		return err
	}
	return c.audit.Verify()
}

func (f front) Subscribe(ctx context.Context, frontEnd string) (<-chan api.Event, error) {
	detach := func() {}
	if frontEnd != "" {
		detach = f.d.prompts.Attach(frontEnd)
		f.d.nudge()
	}
	return f.d.hub.subscribe(ctx, detach), nil
}

// usableAccounts are the accounts that can answer challenges.
func usableAccounts(c *core) []*account.Account {
	var list []*account.Account
	for _, a := range c.book.All() {
		if a.Usable() {
			list = append(list, a)
		}
	}
	return list
}
