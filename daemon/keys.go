package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
)

const (
	stateKeysLost  = "keys_lost" // of an account, as front ends see it
	roleOfTheAgent = "clientInstance"
)

// view is an account as front ends see it, with what its key store says.
func (c *core) view(ctx context.Context, a *account.Account) *api.Account {
	v := accountView(a)
	if a.Usable() && devicekey.Lost(c.book.KeyError(ctx, a)) {
		v.State = stateKeysLost
	}
	lost := c.book.LostRoles(ctx, a)
	v.Verification = slices.DeleteFunc(v.Verification, func(role string) bool { return slices.Contains(lost, okta.KeyType(role)) })
	for _, n := range c.book.Unacknowledged(a) {
		v.Notices = append(v.Notices, noticeView(a, n))
	}
	return v
}

// lostWords says where keys went.
func lostWords(err error) string {
	var state *devicekey.StateError
	if errors.As(err, &state) {
		if state.State.State == devicekey.Cleared {
			return " are lost: the TPM was cleared"
		}
		return " are on another computer, or this one has another TPM now"
	}
	return " are not on this computer any more"
}

// Keys lists the keys of all accounts.
func (f front) Keys(ctx context.Context) (api.KeyList, error) {
	c, err := f.open(ctx)
	if err != nil {
		return api.KeyList{}, err
	}
	sealedBy, _ := f.d.vault.State()
	list := api.KeyList{Keys: []api.Key{}}
	for _, a := range c.book.All() {
		add := func(method okta.Method, role string, ref devicekey.Ref, isNew bool) {
			if ref.ID == "" || slices.ContainsFunc(list.Keys, func(k api.Key) bool { return k.ID == ref.ID && k.Kind == string(ref.Kind) }) {
				return // several accounts of an org share the device's own
			}
			k := api.Key{ID: ref.ID, Account: a.ID, Name: accountView(a).Name, Method: string(method), Role: role,
				Kind: string(ref.Kind), Protection: "hardware", State: devicekey.Ready}
			if ref.Kind == devicekey.KindSoftware {
				k.Protection, k.SealedBy = "software", string(sealedBy)
			}
			k.State, k.Hint = c.keyState(ctx, a, ref)
			if isNew && k.State == devicekey.Ready {
				k.State, k.Hint = "new", unsettledHint(a.Rekeying.Action, a.ID)
			}
			list.Keys = append(list.Keys, k)
		}
		add("", roleOfTheAgent, a.Device.Key, false)
		for _, m := range a.Methods {
			m.Keys(func(role okta.KeyType, ref devicekey.Ref) { add(m.Type, string(role), ref, false) })
		}
		if a.Rekeying == nil {
			continue
		}
		for _, k := range a.Rekeying.New {
			role := string(k.Role)
			if k.Method == "" {
				role = roleOfTheAgent
			}
			add(k.Method, role, k.Ref, true)
		}
	}
	return list, nil
}

// keyState says how a key is doing, without using it.
func (c *core) keyState(ctx context.Context, a *account.Account, ref devicekey.Ref) (state, hint string) {
	_, err := c.store.Open(ctx, ref)
	var named *devicekey.StateError
	switch {
	case err == nil:
		// What opened may lie in a store that signs nothing now. A lockout is no
		// matter of silent keys, and says so where PINs are asked for.
		if s := c.store.StateOf(ctx, ref.Kind); s.State != devicekey.Ready && s.State != devicekey.Lockout {
			return s.State, s.Hint
		}
		return devicekey.Ready, ""
	case devicekey.Lost(err) && !devicekey.Lost(c.book.KeyError(ctx, a)):
		return "lost", "countersign key verify " + a.ID
	case devicekey.Lost(err):
		return "lost", "countersign account add " + prompt.Clean(a.OrgURL, maxShown)
	case errors.As(err, &named):
		return named.State.State, named.State.Hint
	case errors.Is(err, devicekey.ErrLocked):
		return devicekey.Locked, "unlock the vault"
	}
	return devicekey.Unavailable, prompt.Clean(err.Error(), 160)
}

// unsettledHint says how it is found out which keys the org has.
func unsettledHint(action account.Action, id string) string {
	if action == account.AddVerification {
		return "countersign key verify " + id + " finds out and finishes it"
	}
	return "the agent finds out by itself when the org answers"
}

// ChangeKeys begins a change of an account's keys: who asks is verified, and
// then signs in at the org. Nothing is made before both.
func (f front) ChangeKeys(caller context.Context, id string, in api.ChangeKeys) (api.Enrolment, error) {
	change := account.Change{Action: account.Action(in.Action), To: devicekey.Kind(in.To)}
	return f.beginSignIn(caller, "keys", id, func(ctx context.Context, c *core, purpose string) (errand, error) {
		a, err := c.book.CheckChange(ctx, id, change)
		if err != nil {
			return errand{}, explainKeys(err, a)
		}
		e := errand{event: "keys", done: in.Action, account: a, login: a.Username}
		if e.prospect, err = c.book.Return(ctx, a); err != nil {
			return errand{}, explainKeys(err, a)
		}
		about := audit.Record{Account: id}
		if e.present, err = f.present(caller, c, purpose, "Change the keys of "+accountView(a).Name, about, in.PIN, in.Verification); err != nil {
			return errand{}, err
		}
		if err := a.Allows(change, e.present.held); err != nil {
			e.present.done()
			return errand{}, explainKeys(err, a)
		}
		e.do = func(ctx context.Context, who account.Person) (*account.Account, error) {
			changed, err := c.book.Rekey(ctx, id, change, who)
			if err != nil {
				return nil, explainKeys(err, a)
			}
			c.push.Changed()
			return changed, nil
		}
		return e, nil
	})
}

// explainKeys puts what keeps keys from being changed into words; a may be nil.
func explainKeys(err error, a *account.Account) error {
	if err == nil || a == nil {
		return err
	}
	again := "enrol again: countersign account remove " + a.ID + ", then countersign account add " + prompt.Clean(a.OrgURL, maxShown)
	say := func(status int, code, message, hint string) error {
		return &saidError{api.Error{Status: status, Code: code, Message: message, Hint: hint}, err}
	}
	var refusal *okta.Error
	switch {
	case errors.Is(err, account.ErrAction):
		return say(http.StatusBadRequest, "bad_action", "there is no such change of keys", "the changes are: "+strings.Join(api.KeyActions, ", "))
	case errors.Is(err, account.ErrKind):
		return say(http.StatusBadRequest, "bad_key_store", "only migrate goes to another key store, to tpm or to software", "")
	case errors.Is(err, account.ErrNothingToDo):
		return say(http.StatusConflict, "nothing_to_do", prompt.Clean(err.Error(), 160), "countersign key list")
	case errors.Is(err, account.ErrNotUsable):
		return say(http.StatusConflict, "account_not_ready", "the account is "+string(a.State)+": its keys cannot be changed", "countersign account list")
	case errors.Is(err, account.ErrKeysLost):
		return say(http.StatusConflict, stateKeysLost, "the keys of the account"+lostWords(err)+", and cannot agree to new ones", "countersign account add "+prompt.Clean(a.OrgURL, maxShown)+", which replaces it")
	case errors.Is(err, account.ErrNotVerified):
		message := "this takes your verification"
		if _, roles, ok := strings.Cut(err.Error(), ", for: "); ok {
			message += ", for: " + prompt.Clean(roles, 100)
		}
		return say(http.StatusForbidden, "verification_required", message, "give the PIN (countersign pin set, if there is none yet), or --by another way: countersign verification list")
	case errors.Is(err, account.ErrOtherUser):
		return say(http.StatusConflict, "other_user", "another user signed in than the account is for", "nothing was changed; sign out of the org in the browser, and try again")
	case errors.Is(err, account.ErrNoExchange):
		return say(http.StatusConflict, "keys_not_exchanged", "this organisation does not let keys be exchanged", again)
	case errors.Is(err, account.ErrUnsettled):
		hint := unsettledHint(account.Rotate, a.ID)
		return say(http.StatusBadGateway, "keys_unsettled", "it is not known yet whether the org has the new keys: both sets are kept, and the old ones used until then", hint)
	case errors.As(err, &refusal) && refusal.Code == okta.CodeForbidden:
		return say(http.StatusForbidden, "recent_sign_in_needed", "the org did not let this sign-in change keys: "+prompt.Clean(refusal.Error(), 200), "it wants a sign-in of the last minutes, with two factors: try again, and sign in without a break")
	case errors.As(err, &refusal) && account.React(refusal, account.Using) == account.NeedsUV:
		return say(http.StatusConflict, "keys_refused", "the org wants the key that verifies you to agree, and knows another than this computer has: "+prompt.Clean(refusal.Error(), 200), again)
	case errors.As(err, &refusal) && refusal.Code == okta.CodeValidation:
		return say(http.StatusConflict, "keys_refused", "the org did not take the new keys: "+prompt.Clean(refusal.Error(), 200), "nothing was changed; if it does not let keys be exchanged, "+again)
	}
	return err
}

// saidError is an error with words for the person.
type saidError struct {
	words api.Error
	err   error
}

func (e *saidError) Error() string   { return fmt.Sprintf("%s: %v", e.words.Message, e.err) }
func (e *saidError) Unwrap() []error { return []error{&e.words, e.err} }
