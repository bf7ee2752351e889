package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/securitykey"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/idtoken"
	"countersign.dev/daemon/keysignin"
	"countersign.dev/daemon/prompt"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

const (
	maxKeySignIns = 4   // at once
	maxLogin      = 256 // bytes of a username, as orgs have it

	// Nothing is ever sent to these: they name the client's registration.
	ownRedirect   = "http://127.0.0.1:1/callback"
	otherRedirect = "http://localhost:8080/callback"
)

var errTooManyKeySignIns = &api.Error{Status: http.StatusTooManyRequests, Code: "too_many_sign_ins", Message: "too many sign-ins wait for a security key", Hint: "finish or end one of them"}

// SignInWithKey signs the person in at an org with a security key. A locked
// screen does not hold it back: it is the person's own act from beginning to
// end, and takes their touch.
func (f front) SignInWithKey(caller context.Context, in api.KeySignIn) (api.KeySignedIn, error) {
	none := api.KeySignedIn{}
	c, err := f.open(caller)
	if err != nil {
		return none, err
	}
	if in.Username == "" || len(in.Username) > maxLogin || prompt.Clean(in.Username, maxLogin) != in.Username {
		return none, &api.Error{Status: http.StatusBadRequest, Code: "username_needed", Message: "say who signs in"}
	}
	if f.d.keySignIns.Add(1) > maxKeySignIns {
		f.d.keySignIns.Add(-1)
		return none, errTooManyKeySignIns
	}
	defer f.d.keySignIns.Add(-1)
	defer f.d.quiet.Reset(quietAfter)
	ctx, cancel := context.WithCancel(f.d.ctx)
	defer cancel()
	defer context.AfterFunc(caller, cancel)() // who has gone is not signed in
	o, err := f.keySignIn(ctx, in)
	if err != nil {
		return none, explainKeySignIn(err)
	}
	progress, done := f.d.watchKey()
	defer done()
	o.Progress = progress
	r, err := keysignin.Run(ctx, o)
	f.recordKeySignIn(c, o, r, err)
	if err != nil {
		return none, explainKeySignIn(err)
	}
	return api.KeySignedIn{
		Org: o.Org.URL(), User: cmp.Or(r.Username, in.Username), UserID: prompt.Clean(r.UserID, maxShown), AMR: append([]string{}, r.Methods...),
		At: r.At, Enrolled: r.Enrolled, Key: productOf(r.Key),
	}, nil
}

// keySignIn prepares a sign-in: it asks the org how it signs people in.
func (f front) keySignIn(ctx context.Context, in api.KeySignIn) (keysignin.Options, error) {
	o := keysignin.Options{
		ClientID: cmp.Or(in.Client, account.ClientID), RedirectURI: in.RedirectURI, Username: in.Username,
		Password: devicekey.Secret(in.Password), Key: in.Key, PIN: devicekey.Secret(in.PIN), Enrol: in.Enrol,
		Keys: f.d.keys, Now: f.d.now, Log: f.d.log,
	}
	if o.RedirectURI == "" {
		if o.RedirectURI = otherRedirect; o.ClientID == account.ClientID {
			o.RedirectURI = ownRedirect
		}
	}
	var err error
	if o.Org, err = client.New(account.OrgAddress(in.Org), client.Options{ClientID: o.ClientID, UserAgent: f.d.posture.UserAgent()}); err != nil {
		return o, err
	}
	if err := securitykey.CheckOrigin(o.Org.URL(), o.Org.Host()); err != nil {
		return o, fmt.Errorf("%w: %w", keysignin.ErrInsecure, err)
	}
	ctx, cancel := context.WithTimeout(ctx, orgWait)
	defer cancel()
	if o.Metadata, err = o.Org.Metadata(ctx); err != nil {
		return o, err
	}
	if o.Metadata.BindsTokens() {
		o.Proof, err = client.NewProofKey()
	}
	return o, err
}

// asksBack are the errors that are questions to the person: nothing has happened.
var asksBack = []error{keysignin.ErrPasswordNeeded, keysignin.ErrEnrolmentNeeded, keysignin.ErrNotAsked, keysignin.ErrWhichKey, securitykey.ErrPINNeeded}

func (f front) recordKeySignIn(c *core, o keysignin.Options, r keysignin.Result, err error) {
	about := audit.Record{Event: "key_sign_in", Outcome: "done", Reason: o.Username + " at " + o.Org.URL(), Origin: o.Org.URL(), App: o.ClientID}
	var refused *keysignin.RefusedError
	switch {
	case err == nil && r.Enrolled:
		about.Reason += ", by " + productOf(r.Key) + ", which was enrolled"
	case err == nil:
		about.Reason += ", by " + productOf(r.Key)
	default:
		for _, question := range asksBack {
			if errors.Is(err, question) && !r.Enrolled {
				return
			}
		}
		about.Outcome = "failed"
		if errors.Is(err, securitykey.ErrPIN) || errors.As(err, &refused) && refused.Password {
			about.Outcome = "wrong"
		}
		if r.Enrolled {
			about.Reason += ", by " + productOf(r.Key) + ", which was enrolled"
		}
		about.Reason += ": " + prompt.Clean(err.Error(), 160)
		if !r.Enrolled && !f.d.lately.mayRecord(f.d.now()) {
			return
		}
	}
	_ = f.d.record(c, about)
}

// explainKeySignIn says what became of a sign-in with a key.
func explainKeySignIn(err error) error {
	var of *keysignin.KeyError
	var refused *keysignin.RefusedError
	var step *keysignin.StepError
	var origin *securitykey.OriginError
	var oauth *okta.TokenError
	say := func(status int, code, hint string, words ...any) error {
		return &api.Error{Status: status, Code: code, Message: prompt.Clean(fmt.Sprint(words...), 400), Hint: hint}
	}
	switch {
	case errors.As(err, &of):
		e := keyError(of.Err)
		if e == nil {
			break
		}
		e.Key, e.Product = of.Key.ID, productOf(of.Key)
		if e.Code == "key_not_enrolled" {
			e.Message = "this security key is not enrolled for you at the org"
		}
		return e
	case errors.Is(err, keysignin.ErrPasswordNeeded):
		return say(http.StatusForbidden, "password_needed", "on a terminal it is asked for; scripts use --password-stdin", err)
	case errors.Is(err, keysignin.ErrEnrolmentNeeded), errors.Is(err, keysignin.ErrNotAsked):
		return say(http.StatusConflict, "enrolment_needed", "to enrol one, leave --no-enrol out", err)
	case errors.Is(err, keysignin.ErrWhichKey):
		return say(http.StatusConflict, "key_needed", "name it with --key: countersign securitykey list", err)
	case errors.As(err, &refused) && refused.Password:
		return say(http.StatusForbidden, "wrong_password", "", err)
	case errors.As(err, &refused) && refused.Key:
		return say(http.StatusForbidden, "key_not_accepted", "", "the org does not accept the security key: ", cmp.Or(refused.Text, "it does not say why"))
	case errors.As(err, &refused):
		return say(http.StatusForbidden, "sign_in_refused", "", err)
	case errors.As(err, &step):
		return say(http.StatusConflict, "sign_in_not_possible", "sign in there with a browser", err)
	case errors.Is(err, keysignin.ErrInsecure):
		return say(http.StatusBadRequest, "org_insecure", "a browser would not use a key there either", keysignin.ErrInsecure)
	case errors.As(err, &origin):
		return say(http.StatusBadGateway, "wrong_origin", "nothing was signed; what answers there may be a copy of your organisation", "it wants a key for ", fmt.Sprintf("%q", prompt.Clean(origin.RPID, 100)), ", which ", host(origin.Origin), " is not")
	case errors.Is(err, keysignin.ErrNoneEnrolled):
		return say(http.StatusConflict, "key_not_enrolled", "plug in the one that is", err)
	case errors.Is(err, keysignin.ErrNoKeyWanted):
		return say(http.StatusConflict, "key_not_wanted", "its rules ask for none of this app, or its administrator has not switched security keys on; another app can be named with --client", err)
	case errors.Is(err, keysignin.ErrBuiltIn):
		return say(http.StatusConflict, "key_not_wanted", "its administrator can allow security keys", err)
	case errors.Is(err, keysignin.ErrTooManySteps), errors.Is(err, client.ErrWebAuthn):
		return say(http.StatusBadGateway, "org_unexpected_answer", "", err)
	case errors.Is(err, keysignin.ErrTimedOut):
		return say(http.StatusGone, "sign_in_timed_out", "try again", err)
	case errors.Is(err, keysignin.ErrCancelled):
		return say(http.StatusGone, "sign_in_cancelled", "", err)
	case errors.Is(err, idtoken.ErrInvalid):
		return say(http.StatusBadGateway, "sign_in_not_proven", "the org or something on the way to it is not what it should be", err)
	case errors.As(err, &oauth):
		return say(http.StatusConflict, "client_refused", "its administrator has to allow this client the grant interaction_code, and this redirect URI", "the org does not sign this client in without a browser: ", oauth)
	}
	return explain(err)
}
