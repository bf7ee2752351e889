// Package idx serves the Identity Engine's sign-in API, as far as the Okta
// Sign-In Widget and pages like it use it, and the two paths on which
// authenticators deliver their answers.
//
// It is a facade: it reads requests strictly, hands them to the sign-in engine
// and draws the step the engine comes back with. It decides nothing. Errors that
// a person can do something about are IDX documents with a message and, where
// there is a way on, the forms for it; a request that no page would send gets
// the error object of the other APIs.
package idx

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/factor"
	"countersign.dev/org/signin"
)

// Engine is the sign-in engine; *signin.Engine is one.
type Engine interface {
	Introspect(ctx context.Context, entry okta.Secret, page string) (signin.View, error)
	Identify(ctx context.Context, handle okta.Secret, identifier string) (signin.View, error)
	Password(ctx context.Context, handle, password okta.Secret) (signin.View, error)
	Code(ctx context.Context, handle, code okta.Secret) (signin.View, error)
	Select(ctx context.Context, handle okta.Secret, authenticatorID, method string) (signin.View, error)
	Key(ctx context.Context, handle okta.Secret, a factor.KeyAssertion) (signin.View, error)
	SetUp(ctx context.Context, handle okta.Secret, authenticatorID string) (signin.View, error)
	EnrolKey(ctx context.Context, handle okta.Secret, a factor.KeyAttestation) (signin.View, error)
	Skip(ctx context.Context, handle okta.Secret) (signin.View, error)
	Resend(ctx context.Context, handle okta.Secret) (signin.View, error)
	SetAutoPush(ctx context.Context, handle okta.Secret, on bool) error
	Launch(ctx context.Context, handle okta.Secret) (signin.View, error)
	Poll(ctx context.Context, handle okta.Secret) (signin.View, error)
	CancelPoll(ctx context.Context, handle okta.Secret, reason signin.CancelReason) (signin.View, error)
	Cancel(ctx context.Context, handle okta.Secret) (signin.View, error)
	AnswerChallenge(ctx context.Context, id string, req okta.AnswerRequest) (approved bool, err error)
}

// maxBody bounds the bodies of this API: an answer with all its signals is the
// largest and stays below the largest token plus its wrapping.
const maxBody = okta.MaxChallengeTokenSize + 1<<10

// maxKeyBody bounds an answer to a challenge: a new security key may bring the
// certificates of its maker.
const maxKeyBody = 64 << 10

// contentType is what IDX documents travel as.
const contentType = produces

type server struct {
	engine Engine
	render renderer
	log    *slog.Logger
}

// New makes the handler of /idp/idx/ and of the paths that end a challenge.
func New(engine Engine, baseURL string, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &server{engine: engine, render: renderer{strings.TrimSuffix(baseURL, "/")}, log: log}
	mux := http.NewServeMux()
	for path, do := range map[string]func(context.Context, *request) (signin.View, error){
		"introspect": s.introspect,
		"identify": func(ctx context.Context, q *request) (signin.View, error) {
			return engine.Identify(ctx, q.StateHandle, q.Identifier)
		},
		"challenge":                         s.choose,
		"credential/enroll":                 s.enrol,
		"skip":                              func(ctx context.Context, q *request) (signin.View, error) { return engine.Skip(ctx, q.StateHandle) },
		"challenge/answer":                  s.answer,
		"challenge/poll":                    s.poll,
		"challenge/resend":                  func(ctx context.Context, q *request) (signin.View, error) { return engine.Resend(ctx, q.StateHandle) },
		"authenticators/poll":               s.poll,
		"authenticators/poll/cancel":        s.cancelPoll,
		"authenticators/okta-verify/launch": func(ctx context.Context, q *request) (signin.View, error) { return engine.Launch(ctx, q.StateHandle) },
		"cancel":                            func(ctx context.Context, q *request) (signin.View, error) { return engine.Cancel(ctx, q.StateHandle) },
	} {
		mux.Handle("/idp/idx/"+path, httpx.Methods{http.MethodPost: s.step(do)})
	}
	verify := httpx.Methods{http.MethodPost: s.verify}
	mux.Handle("/idp/authenticators/{authenticator}/transactions/{challenge}/verify", verify)
	mux.Handle("/idp/myaccount/app-authenticators/challenge/{challenge}/verify", verify)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { httpx.NotFound(w, r) })
	return mux
}

// request is what any step may bring. Members that a step does not know are
// left alone: the widget sends what the person typed besides.
type request struct {
	StateHandle       okta.Secret `json:"stateHandle"`
	StateToken        okta.Secret `json:"stateToken"`
	InteractionHandle okta.Secret `json:"interactionHandle"`
	Identifier        string      `json:"identifier"`
	Credentials       struct {
		Passcode okta.Secret  `json:"passcode"`
		TOTP     *okta.Secret `json:"totp"`
		keyAnswer
	} `json:"credentials"`
	Authenticator struct {
		ID            string `json:"id"`
		MethodType    string `json:"methodType"`
		AutoChallenge *bool  `json:"autoChallenge"`
	} `json:"authenticator"`
	AutoChallenge *bool               `json:"autoChallenge"` // of a poll
	Reason        signin.CancelReason `json:"reason"`
	StatusCode    *int                `json:"statusCode"`

	polled bool // the step is a poll, see status
}

func (s *server) step(do func(context.Context, *request) (signin.View, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache, no-store")
		var q request
		limit := maxBody
		if strings.HasSuffix(r.URL.Path, "/challenge/answer") {
			limit = maxKeyBody
		}
		if err := httpx.ReadJSON(w, r, &q, limit); err != nil {
			httpx.Fail(w, r, s.log, err)
			return
		}
		v, err := do(r.Context(), &q)
		switch {
		case errors.Is(err, signin.ErrSessionExpired):
			httpx.WriteJSONAs(w, http.StatusUnauthorized, contentType, expired)
		case errors.Is(err, signin.ErrRequest):
			httpx.WriteError(w, okta.NewError(okta.CodeValidation, "the request does not fit the step"))
		case err != nil:
			httpx.Fail(w, r, s.log, err)
		default:
			httpx.WriteJSONAs(w, status(&v, q.polled), contentType, s.render.document(&v))
		}
	}
}

// expired ends a sign-in that is not there (any more): no forms, so the page
// starts over.
var expired = document{
	Version: "1.0.0", Intent: "LOGIN",
	Messages: arrayOf(message{
		Message: "You have been logged out due to inactivity. Refresh or return to the sign in screen.",
		I18n:    i18n{Key: "idx.session.expired", Params: []string{}}, Class: string(signin.ClassError),
	}),
}

// status is what a step is answered with. A poll is never at fault: an answer
// that did not work out is told beside the way on, with 200, because the widget
// gives up at a poll that fails and hides the way on.
func status(v *signin.View, polled bool) int {
	m := v.Message
	if m == nil || polled && v.Step != signin.StepFailed {
		return http.StatusOK
	}
	switch m.Kind {
	case signin.KindNotice:
		return http.StatusOK
	case signin.KindUnauthorized:
		return http.StatusUnauthorized
	case signin.KindForbidden:
		return http.StatusForbidden
	default:
		return http.StatusBadRequest
	}
}

// introspect takes the state token of a page, the interaction handle of an
// embedded one, or the state handle that either has kept over a reload (which
// auth-js sends as a state token).
func (s *server) introspect(ctx context.Context, q *request) (signin.View, error) {
	page, _ := httpx.TrustedOrigin(ctx)
	for _, entry := range [...]okta.Secret{q.StateToken, q.InteractionHandle, q.StateHandle} {
		if entry != "" {
			return s.engine.Introspect(ctx, entry, page)
		}
	}
	return signin.View{}, signin.ErrRequest
}

func (s *server) poll(ctx context.Context, q *request) (signin.View, error) {
	q.polled = true
	if err := s.autoPush(ctx, q, q.AutoChallenge); err != nil {
		return signin.View{}, err
	}
	return s.engine.Poll(ctx, q.StateHandle)
}

// autoPush remembers the person's choice to have pushes sent, if there is one.
func (s *server) autoPush(ctx context.Context, q *request, on *bool) error {
	if on == nil {
		return nil
	}
	return s.engine.SetAutoPush(ctx, q.StateHandle, *on)
}

func (s *server) choose(ctx context.Context, q *request) (signin.View, error) {
	if err := s.autoPush(ctx, q, q.Authenticator.AutoChallenge); err != nil {
		return signin.View{}, err
	}
	return s.engine.Select(ctx, q.StateHandle, q.Authenticator.ID, q.Authenticator.MethodType)
}

func (s *server) answer(ctx context.Context, q *request) (signin.View, error) {
	if code := q.Credentials.TOTP; code != nil {
		return s.engine.Code(ctx, q.StateHandle, *code)
	}
	if key := &q.Credentials.keyAnswer; key.ClientData != "" {
		return s.answerKey(ctx, q.StateHandle, key)
	}
	return s.engine.Password(ctx, q.StateHandle, q.Credentials.Passcode)
}

func (s *server) cancelPoll(ctx context.Context, q *request) (signin.View, error) {
	if q.Reason != signin.UserCanceled {
		code := -1 // none: the agent was not reached
		if q.StatusCode != nil {
			code = *q.StatusCode
		}
		s.log.InfoContext(ctx, "challenge not delivered", "reason", string(q.Reason[:min(len(q.Reason), 64)]), "status", code)
	}
	return s.engine.CancelPoll(ctx, q.StateHandle, q.Reason)
}

// verify takes an authenticator's answer: 200 approved, 204 denial recorded.
func (s *server) verify(w http.ResponseWriter, r *http.Request) {
	if !httpx.Acceptable(r) {
		httpx.WriteError(w, okta.NewError(okta.CodeNotAcceptable))
		return
	}
	var req okta.AnswerRequest
	if err := httpx.ReadJSON(w, r, &req, maxBody); err != nil {
		httpx.Fail(w, r, s.log, err)
		return
	}
	approved, err := s.engine.AnswerChallenge(r.Context(), r.PathValue("challenge"), req)
	switch {
	case err != nil:
		httpx.Fail(w, r, s.log, err)
	case approved:
		httpx.WriteJSON(w, http.StatusOK, struct{}{})
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
