package daemon

import (
	"slices"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
)

const maxShown = 128 // characters of a name shown to people

// accountView is an account as front ends see it.
func accountView(a *account.Account) *api.Account {
	v := &api.Account{
		ID: a.ID, Name: prompt.Clean(a.Name, maxShown), Org: a.OrgURL,
		User: prompt.Clean(a.Username, maxShown), UserID: prompt.Clean(a.UserID, maxShown),
		Methods: []string{}, Protection: a.Protection, Attested: a.Attested,
		State: string(a.State), CreatedAt: a.CreatedAt, Development: a.Development(),
		EnrolmentID: prompt.Clean(a.EnrolmentID, maxShown), LoopbackOrigins: a.Origins, PushesHeld: a.PushesHeld,
	}
	if v.Name == "" {
		v.Name = v.User
	}
	for _, m := range a.Methods {
		v.Methods = append(v.Methods, string(m.Type))
		m.Keys(func(role okta.KeyType, _ devicekey.Ref) {
			if role != okta.KeyProofOfPossession && !slices.Contains(v.Verification, string(role)) {
				v.Verification = append(v.Verification, string(role))
			}
		})
	}
	if a.Rekeying != nil {
		v.KeyChange = string(a.Rekeying.Action)
	}
	for _, note := range a.Notes {
		v.Notes = append(v.Notes, prompt.Clean(note, 300))
	}
	return v
}

func promptView(p prompt.Pending) api.Prompt {
	v := api.Prompt{
		ID: p.ID, Account: p.Account, Kind: p.Kind, App: p.App, Org: p.Org, User: p.User,
		Origin: p.Origin, Location: p.Location, IP: p.IP,
		CreatedAt: p.CreatedAt, ExpiresAt: p.ExpiresAt,
		NeedsNumber: p.NeedsNumber, UserVerification: p.UserVerification,
		Numbers: p.Numbers, TransactionType: p.Transaction, BindingMessage: p.Message,
		Unusual: p.Unusual, Client: p.Client, Repeats: p.Repeats, RequestedAt: p.IssuedAt,
		VerificationMethods: p.Methods, TriesLeft: p.TriesLeft, LockedUntil: p.LockedUntil,
	}
	if p.Key.Kind != "" {
		v.Key = &api.PromptKey{Kind: p.Key.Kind, Protection: "software", Demands: p.Key.Demands}
		if p.Key.Hardware {
			v.Key.Protection = "hardware"
		}
	}
	for _, c := range p.Choices {
		v.Choices = append(v.Choices, api.Choice(c))
	}
	return v
}

func recordView(r audit.Record) api.AuditRecord {
	return api.AuditRecord{
		Seq: r.Seq, Time: r.Time, Event: r.Event, Account: r.Account, Outcome: r.Outcome, Reason: r.Reason,
		Prev: r.Prev, Hash: r.Hash, Origin: r.Origin, App: r.App, Transaction: r.Transaction, KeyType: r.KeyType,
	}
}
