package localapi

import (
	"context"
	"iter"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
)

// Agent is what the local API serves. Errors that are an *api.Error reach the
// caller as they are, with their Status (0 means 400); every other error is
// logged and answered with 500 "internal".
type Agent interface {
	Status(ctx context.Context) (api.Status, error)

	Accounts(ctx context.Context) (api.AccountList, error)
	Account(ctx context.Context, id string) (api.Account, error)
	AddAccount(ctx context.Context, a api.AddAccount) (api.Account, error)
	// BeginEnrolment makes the address where a person signs in to be enrolled.
	BeginEnrolment(ctx context.Context, b api.BeginEnrolment) (api.Enrolment, error)
	// AwaitEnrolment waits for its end: the account, or why there is none.
	AwaitEnrolment(ctx context.Context, id string) (api.Account, error)
	// CancelEnrolment ends the wait for the person.
	CancelEnrolment(ctx context.Context, id string) error
	RenameAccount(ctx context.Context, id, name string) (api.Account, error)
	// RemoveAccount ends the enrolment at the org and here; localOnly leaves
	// the org alone.
	RemoveAccount(ctx context.Context, id string, localOnly bool) error
	// ResumePushes ends the holding back of an account's pushes.
	ResumePushes(ctx context.Context, id string) (api.Account, error)

	// Acknowledge says that the person has seen an account's notices.
	Acknowledge(ctx context.Context, id string) (api.Account, error)

	// Keys lists the keys of all accounts.
	Keys(ctx context.Context) (api.KeyList, error)
	// ChangeKeys makes the address where a person signs in to change the keys of
	// an account; it ends like an enrolment. The caller clears the PIN that it
	// passed, as with AddAccount and BeginEnrolment.
	ChangeKeys(ctx context.Context, id string, c api.ChangeKeys) (api.Enrolment, error)

	// Prompts lists what waits for the person. A non-empty frontEnd says that
	// somebody is looking, which counts as a front end for these prompts.
	Prompts(ctx context.Context, frontEnd string) (api.PromptList, error)
	// DecidePrompt answers one prompt and reports how it ended.
	DecidePrompt(ctx context.Context, id string, d api.Decision, p peer.Peer) (api.PromptOutcome, error)

	// ShowPrompt opens the dialog of a prompt on the desktop. It does not wait for
	// the person.
	ShowPrompt(ctx context.Context, id string) error
	// ShowDoctor shows the report of Doctor in a window on the desktop.
	ShowDoctor(ctx context.Context) error

	// Pause begins a hold, and Unpause ends it.
	Pause(ctx context.Context, p api.Pause) (api.Hold, error)
	Unpause(ctx context.Context) error

	// Verification is how the person can be verified.
	Verification(ctx context.Context) (api.VerificationList, error)
	// EnableVerification turns a method on or off.
	EnableVerification(ctx context.Context, method string, e api.EnableVerification) (api.VerificationList, error)
	// SetPIN sets or changes the PIN. The caller clears what it passed.
	SetPIN(ctx context.Context, s api.SetPIN) (api.PINSet, error)
	RemovePIN(ctx context.Context, r api.RemovePIN) (api.VerificationList, error)
	// ResetPIN forgets the PIN and deletes the keys that it unlocks.
	ResetPIN(ctx context.Context) (api.PINReset, error)

	// SecurityKeys lists the security keys that are plugged in, and SecurityKey is
	// one of them with all that it says of itself.
	SecurityKeys(ctx context.Context) (api.SecurityKeyList, error)
	SecurityKey(ctx context.Context, id string) (api.SecurityKey, error)
	// SetKeyPIN sets or changes the PIN of a key. The caller clears the PINs that
	// it passed, here and below.
	SetKeyPIN(ctx context.Context, id string, s api.SetKeyPIN) (api.SecurityKey, error)
	KeyCredentials(ctx context.Context, id string, p api.KeyPIN) (api.KeyCredentialList, error)
	// DeleteKeyCredential deletes what the person has named, and lists what is left.
	DeleteKeyCredential(ctx context.Context, id string, d api.DeleteKeyCredential) (api.KeyCredentialList, error)
	KeyFingerprints(ctx context.Context, id string, p api.KeyPIN) (api.FingerprintList, error)
	ChangeFingerprint(ctx context.Context, id string, c api.ChangeFingerprint) (api.FingerprintList, error)
	// ResetKey wipes the key that the person has named.
	ResetKey(ctx context.Context, id string, r api.ResetKey) error
	// VerifyByKey lets a key verify the person to the agent.
	VerifyByKey(ctx context.Context, id string, p api.KeyPIN) (api.VerificationList, error)

	// Codes lists what there are one-time codes for.
	Codes(ctx context.Context) (api.CodeList, error)
	// Code makes the code of this moment. The name is a code's id, or its
	// login, or its account's name, if only one fits.
	Code(ctx context.Context, name string) (api.Code, error)

	// SignInWithKey signs in at an org with a security key. The caller clears the
	// password and the PIN that it passed.
	SignInWithKey(ctx context.Context, k api.KeySignIn) (api.KeySignedIn, error)

	// RekeyVault protects the agent's state in another way.
	RekeyVault(ctx context.Context, r api.Rekey) (api.Rekeyed, error)

	// Device is what orgs can be told of this device.
	Device(ctx context.Context) (api.Device, error)

	// Audit yields the records from sequence number from on, oldest first,
	// and ends after the newest.
	Audit(ctx context.Context, from uint64) (iter.Seq2[api.AuditRecord, error], error)
	// VerifyAudit checks the chain of the whole record.
	VerifyAudit(ctx context.Context) error

	// Doctor examines the agent; an empty topic means everything.
	Doctor(ctx context.Context, topic string) (api.Report, error)

	// Subscribe delivers events from now on. The channel is closed when ctx
	// ends or when the subscriber is too slow. While subscribed, a non-empty
	// frontEnd counts as a front end that can ask the person.
	Subscribe(ctx context.Context, frontEnd string) (<-chan api.Event, error)
}
