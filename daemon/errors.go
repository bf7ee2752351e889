package daemon

import (
	"errors"
	"net/http"
	"strings"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/journal"
	"countersign.dev/daemon/prompt"
	"countersign.dev/daemon/vault"
	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/daemon/weblogin"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/localapi"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

// reasons turns states that people can do something about into words for them.
// The text of err is added where it says more.
var reasons = []struct {
	is      error
	status  int
	code    string
	message string // "" means the error's own
	hint    string
}{
	{account.ErrUnknown, http.StatusNotFound, "account_unknown", "there is no such account", "countersign account list"},
	{account.ErrBadName, http.StatusBadRequest, "bad_name", "the name is empty", ""},
	{account.ErrTooMany, http.StatusConflict, "too_many_accounts", "", ""},
	{account.ErrBusy, http.StatusServiceUnavailable, "busy", "another change of the accounts is under way", "try again"},
	{account.ErrLinkMismatch, http.StatusConflict, "link_mismatch", "", "ask for a new enrolment link"},
	{account.ErrOtherOrg, http.StatusConflict, "other_org", "", ""},
	{account.ErrMethodNotOffered, http.StatusConflict, "method_not_offered", "", "the org's administrator has to allow push or signed_nonce for this agent"},
	{account.ErrHardwareRequired, http.StatusConflict, "hardware_required", "", ""},
	{account.ErrOtherUser, http.StatusConflict, "other_user", "", "nothing was added; sign out of the org in the browser, and try again"},
	{errWrongUser, http.StatusConflict, "other_user", "", "nothing was added; sign in as that user, or leave --username out"},
	{errTooManyEnrolments, http.StatusTooManyRequests, "too_many_enrolments", "", "finish or cancel one of them, or wait ten minutes"},
	{errEnrolmentUnknown, http.StatusNotFound, "enrolment_unknown", "there is no such enrolment", ""},
	{weblogin.ErrTimedOut, http.StatusGone, "sign_in_timed_out", "", "nothing was added; try again"},
	{weblogin.ErrCancelled, http.StatusGone, "sign_in_cancelled", "", ""},
	{weblogin.ErrIDToken, http.StatusBadGateway, "sign_in_not_proven", "", "nothing was added; the org or something on the way to it is not what it should be"},
	{okta.ErrEnrolmentLink, http.StatusBadRequest, "bad_link", "", "an organisation's address looks like https://id.example.com, a link like oktaverify://LOGIN/?t=…&f=…&s=https://ORG"},
	{client.ErrInsecure, http.StatusBadRequest, "org_insecure", "", "use https, or an org on this machine"},
	{client.ErrURL, http.StatusBadRequest, "bad_org_url", "", "an organisation's address looks like https://id.example.com"},
	{client.ErrForeignURL, http.StatusBadGateway, "org_unexpected_answer", "the org names an address that is not its own", ""},
	{client.ErrSeveralAuthenticators, http.StatusConflict, "several_authenticators", "", "the org's administrator has to leave one of them active"},
	{client.ErrNoAuthenticator, http.StatusConflict, "no_authenticator", "the org offers no authenticator to this agent", "the org's administrator has to add one"},
	{prompt.ErrUnknown, http.StatusNotFound, "prompt_unknown", "there is no such prompt", "countersign prompt list"},
	{prompt.ErrExpired, http.StatusGone, "prompt_expired", "the prompt has expired", "start the sign-in again"},
	{prompt.ErrElsewhere, http.StatusGone, "prompt_withdrawn", "the sign-in was answered on another device, or withdrawn", ""},
	{prompt.ErrSuperseded, http.StatusGone, "prompt_superseded", "a newer request has taken its place", "look at that one: countersign prompt list"},
	{prompt.ErrReported, http.StatusGone, "prompt_held", "the prompt is held back: a sign-in of this account was reported", ""},
	{prompt.ErrWithdrawn, http.StatusGone, "prompt_withdrawn", "the browser has given up the sign-in", "start the sign-in again"},
	{prompt.ErrNoFrontEnd, http.StatusGone, "prompt_expired", "the prompt has expired: nobody was there to show it", "start the sign-in again"},
	{prompt.ErrDecided, http.StatusConflict, "prompt_decided", "the prompt was decided already", ""},
	{prompt.ErrOnHold, http.StatusConflict, "on_hold", "nothing is approved for now: the screen is locked, or the agent is paused", "countersign status"},
	{prompt.ErrUnknownAction, http.StatusBadRequest, "bad_action", `the action must be "approve" or "deny"`, ""},
	{prompt.ErrAccountNeeded, http.StatusBadRequest, "account_needed", "several accounts fit: name one", ""},
	{prompt.ErrWrongAccount, http.StatusBadRequest, "wrong_account", "the prompt is not for that account", ""},
	{prompt.ErrNumberRequired, http.StatusBadRequest, "number_required", "the prompt needs the number shown in the browser", ""},
	{prompt.ErrWrongNumber, http.StatusBadRequest, "wrong_number", "that is not one of the numbers shown", "countersign prompt list shows them; the sign-in page shows the right one"},
	{prompt.ErrVerificationRequired, http.StatusForbidden, "verification_required", "the sign-in needs your verification", "on a terminal countersign prompt approve asks for it; scripts use --pin-stdin"},
	{verification.ErrPIN, http.StatusBadRequest, "bad_pin", "", "choose another one; nothing was changed"},
	{verification.ErrPINSet, http.StatusConflict, "pin_set", "", "countersign pin change"},
	{verification.ErrInUse, http.StatusConflict, "verification_in_use", "keys of accounts are unlocked by it", "countersign pin reset forgets the PIN and those keys; for another way, set a PIN in its place, or remove the accounts: countersign key list"},
	{verification.ErrNoUse, http.StatusConflict, "verification_no_use", "it would unlock no keys", "while there is a PIN, the PIN unlocks them"},
	{verification.ErrNotSetUp, http.StatusConflict, "verification_not_set_up", "", "countersign pin set; other ways: countersign verification list"},
	{verification.ErrCancelled, http.StatusConflict, "verification_cancelled", "the verification was cancelled", "try again"},
	{verification.ErrTimedOut, http.StatusConflict, "verification_timed_out", "nobody showed that it is you", "try again"},
	{verification.ErrAbsent, http.StatusServiceUnavailable, "verification_unavailable", "", "other ways: countersign verification list"},
	{vault.ErrLocked, http.StatusServiceUnavailable, "locked", "the agent's state is locked", ""},
	{devicekey.ErrLocked, http.StatusServiceUnavailable, "locked", "the agent's state is locked", ""},
	// Those with a name of their own come before; what is left is a fault.
	{verification.ErrBroken, http.StatusInternalServerError, "verification_broken", "", "nobody was verified; countersign doctor"},
	{devicekey.ErrTooManyTries, http.StatusLocked, "key_store_locked", "", "wait, and do not try again before"},
	{devicekey.ErrUnavailable, http.StatusServiceUnavailable, "key_store_unavailable", "", "countersign doctor"},
}

// explain turns an error into one for the caller of the local API. What has no
// words stays as it is, and becomes "internal" with a line in the log.
func explain(err error) error {
	var known *api.Error
	var damaged *vault.DamagedError
	var tampered *journal.TamperedError
	var silent *client.Unreachable
	var odd *client.UnexpectedAnswer
	var refusal *okta.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &damaged):
		return &api.Error{Status: http.StatusInternalServerError, Code: "state_damaged", Message: damaged.Error(), Hint: "stop the agent, look at the file, and put its backup in its place if that is right"}
	case errors.As(err, &tampered):
		return &api.Error{Status: http.StatusInternalServerError, Code: "state_damaged", Message: tampered.Error(), Hint: "stop the agent and move the file away; what it proved is lost"}
	case errors.As(err, &silent):
		return &api.Error{Status: http.StatusBadGateway, Code: "org_unreachable", Message: prompt.Clean(silent.Error(), 300), Hint: "check the address and the network, and try again"}
	case errors.As(err, &odd):
		return &api.Error{Status: http.StatusBadGateway, Code: "org_unexpected_answer", Message: prompt.Clean(odd.Error(), 300), Hint: "a proxy or a captive portal may be in between; nothing was changed"}
	case errors.As(err, &refusal):
		return explainRefusal(refusal)
	}
	if e := notWritten(err); e != nil {
		return e
	}
	if e := keyError(err); e != nil {
		return e
	}
	for _, r := range reasons {
		if !errors.Is(err, r.is) {
			continue
		}
		if e := storeError(err, r.is, r.status); e != nil {
			return e
		}
		message := r.message
		if message == "" {
			message = prompt.Clean(err.Error(), 240)
		}
		return &api.Error{Status: r.status, Code: r.code, Message: message, Hint: r.hint}
	}
	return err
}

// storeError is the refusal of a TPM, by the name of its state.
func storeError(err, is error, status int) *api.Error {
	var store *devicekey.StateError
	if is != devicekey.ErrUnavailable && is != devicekey.ErrTooManyTries || !errors.As(err, &store) || tpmWords[store.State.State] == "" {
		return nil
	}
	return &api.Error{Status: status, Code: string(store.State.Kind) + "_" + store.State.State, Message: tpmWords[store.State.State], Hint: store.State.Hint}
}

// explainRefusal says what a refusal of the org means, and what to do about it.
func explainRefusal(e *okta.Error) *api.Error {
	said := prompt.Clean(e.Error(), 200)
	switch account.React(e, account.Using) {
	case account.RetryLater:
		hint := "try again in a minute"
		if !e.RetryAt.IsZero() {
			hint = "try again at " + e.RetryAt.Local().Format("15:04:05")
		}
		return &api.Error{Status: http.StatusBadGateway, Code: "org_busy", Message: "the org cannot do it now: " + said, Hint: hint}
	case account.Suspend:
		return &api.Error{Status: http.StatusConflict, Code: "org_suspended", Message: "the org has suspended the user, the device or the enrolment: " + said, Hint: "ask the org's administrator"}
	case account.Lost:
		return &api.Error{Status: http.StatusConflict, Code: "org_forgot", Message: "the org no longer knows the user, the device or the enrolment: " + said, Hint: "remove the account and enrol again"}
	case account.NeedsUV:
		return &api.Error{Status: http.StatusConflict, Code: "user_verification_needed", Message: "the org wants a key that you unlock by PIN or fingerprint: " + said, Hint: "countersign pin set, then for the account: countersign key verify ACCOUNT"}
	case account.Phishing:
		return &api.Error{Status: http.StatusConflict, Code: "phishing_suspected", Message: "the org says that the page is not its own: " + said, Hint: "leave that page, and tell the org's administrator"}
	}
	return &api.Error{Status: http.StatusConflict, Code: "org_refused", Message: "the org refused: " + said}
}

// explainEnrolment adds what a refusal means to somebody with a link.
func explainEnrolment(err error) error {
	var refusal *okta.Error
	if errors.As(err, &refusal) && account.React(refusal, account.Using) == account.Surface &&
		(refusal.HTTPStatus == http.StatusUnauthorized || refusal.HTTPStatus == http.StatusForbidden) {
		return &api.Error{Status: http.StatusConflict, Code: "link_refused", Message: "the org refused the link: it is used up or too old", Hint: "ask for a new enrolment link"}
	}
	return explain(err)
}

// explainRemoval adds the way out for an org that cannot be asked.
func explainRemoval(err error, id string) error {
	lost := devicekey.Lost(err)
	err = explain(err)
	var known *api.Error
	switch {
	case lost:
		return &api.Error{Status: http.StatusConflict, Code: stateKeysLost, Message: "the keys of the account are lost, so the org cannot be told; the account was kept",
			Hint: "countersign account add again takes its place; or forget it here: countersign account remove " + id + " --local-only"}
	case !errors.As(err, &known):
		return err
	}
	if strings.HasPrefix(known.Code, "tpm_") {
		e := *known
		e.Message += ", so the org cannot be told; the account was kept"
		e.Hint += "; or forget it here: countersign account remove " + id + " --local-only"
		return &e
	}
	switch known.Code {
	case "org_unreachable", "org_unexpected_answer", "org_refused", "org_busy", "org_suspended":
		e := *known
		e.Message += "; the account was kept"
		e.Hint = "to forget it here and leave the org alone: countersign account remove " + id + " --local-only"
		return &e
	}
	return err
}

// Hint says what to do about an error of Open; empty when there is nothing to
// say.
func Hint(err error) string {
	var damaged *vault.DamagedError
	var tampered *journal.TamperedError
	var kind *unlock.KindError
	var store *devicekey.StateError
	switch {
	case errors.Is(err, vault.ErrInUse):
		return "the agent is running already: countersign status"
	case errors.Is(err, localapi.ErrInUse):
		return "the agent is running already: countersign status; to run another beside it give this one a --socket of its own"
	case errors.Is(err, unlock.ErrWrongPassphrase):
		return "the first line of the passphrase file is the passphrase"
	case errors.Is(err, unlock.ErrNoPassphrase):
		return "put the passphrase into the first line of a file and name it with --passphrase-file"
	case errors.Is(err, unlock.ErrKeyringUnavailable), errors.Is(err, unlock.ErrKeyringLocked):
		return "start it in a desktop session with an open keyring, or use --passphrase-file or --vault-key file"
	case errors.As(err, &store) && store.State.Hint != "":
		return store.State.Hint + "; or protect the state in another way: --vault-key keyring, --passphrase-file"
	case errors.Is(err, unlock.ErrNoSealer):
		return "use --vault-key keyring, or --passphrase-file"
	case errors.As(err, &damaged) && damaged.Backup != "":
		return "nothing was written; to go back to the previous state, put " + damaged.Backup + " in the place of " + damaged.File
	case errors.As(err, &damaged):
		return "nothing was written, and there is no backup"
	case errors.As(err, &tampered):
		return "move the file away to go on without what it proves"
	case errors.As(err, &kind):
		return "leave --vault-key and --passphrase-file out, or say what it is protected by; to change that, start the agent so and use: countersign vault rekey"
	}
	return ""
}

// ProtectMemory keeps the process's memory out of core dumps and debuggers, as
// far as the system can.
func ProtectMemory() error { return vault.ProtectMemory() }
