package localapi

import (
	"net/http"
	"strings"

	"countersign.dev/ipc/api"
)

// route is one operation: what it takes, what it gives, and who does it.
type route struct {
	method, path string
	summary      string
	query        []parameter
	in           any    // a zero value of the body's type; nil: no body
	out          any    // a zero value of the answer's type; nil: none
	stream       string // media type when the answer is a stream of out
	status       int    // of success; 0 means 200
	serve        func(s *Server, c *call) (any, error)
}

// parameter is a query parameter.
type parameter struct {
	name    string
	kind    string // "string", "boolean", "integer"
	summary string
}

const (
	jsonType   = "application/json"
	ndjsonType = "application/x-ndjson"
	eventType  = "text/event-stream"
)

var frontEndParameter = parameter{"front_end", "string", "who is looking, e.g. cli or tray; counts as a front end that can ask the person"}

// routes is filled in init because the handlers refer to it.
var routes []route

func init() {
	routes = []route{
		{method: http.MethodGet, path: api.PathStatus, summary: "The agent at a glance",
			out: api.Status{}, serve: (*Server).status},
		{method: http.MethodGet, path: api.PathAccounts, summary: "All accounts",
			out: api.AccountList{}, serve: (*Server).accounts},
		{method: http.MethodPost, path: api.PathAccounts, summary: "Enrol with an enrolment link",
			in: api.AddAccount{}, out: api.Account{}, status: http.StatusCreated, serve: (*Server).addAccount},
		{method: http.MethodPost, path: api.PathEnrolments, summary: "Begin an enrolment by a sign-in in the browser",
			in: api.BeginEnrolment{}, out: api.Enrolment{}, status: http.StatusCreated, serve: (*Server).beginEnrolment},
		{method: http.MethodGet, path: api.PathEnrolment, summary: "Wait for the end of an enrolment",
			out: api.Account{}, serve: (*Server).awaitEnrolment},
		{method: http.MethodDelete, path: api.PathEnrolment, summary: "Cancel an enrolment",
			status: http.StatusNoContent, serve: (*Server).cancelEnrolment},
		{method: http.MethodGet, path: api.PathAccount, summary: "One account",
			out: api.Account{}, serve: (*Server).account},
		{method: http.MethodPatch, path: api.PathAccount, summary: "Rename an account",
			in: api.RenameAccount{}, out: api.Account{}, serve: (*Server).renameAccount},
		{method: http.MethodDelete, path: api.PathAccount, summary: "End an enrolment",
			query:  []parameter{{"local_only", "boolean", "forget the account here and leave the organisation alone"}},
			status: http.StatusNoContent, serve: (*Server).removeAccount},
		{method: http.MethodPost, path: api.PathResume, summary: "Let the pushes of an account through again, after one was reported",
			out: api.Account{}, serve: (*Server).resume},
		{method: http.MethodPost, path: api.PathAcknowledge, summary: "Say that the notices of an account have been seen",
			out: api.Account{}, serve: (*Server).acknowledge},
		{method: http.MethodPost, path: api.PathAccountKeys, summary: "Begin a change of an account's keys by a sign-in in the browser; it ends like an enrolment",
			in: api.ChangeKeys{}, out: api.Enrolment{}, status: http.StatusCreated, serve: (*Server).changeKeys},
		{method: http.MethodGet, path: api.PathKeys, summary: "The keys of all accounts",
			out: api.KeyList{}, serve: (*Server).keys},
		{method: http.MethodGet, path: api.PathPrompts, summary: "What waits for the person, newest first",
			query: []parameter{frontEndParameter}, out: api.PromptList{}, serve: (*Server).prompts},
		{method: http.MethodPost, path: api.PathDecision, summary: "Answer a prompt",
			in: api.Decision{}, out: api.PromptOutcome{}, serve: (*Server).decide},
		{method: http.MethodPost, path: api.PathShowPrompt, summary: "Open the dialog of a prompt on the desktop",
			in: api.ShowOnDesktop{}, status: http.StatusNoContent, serve: (*Server).showPrompt},
		{method: http.MethodPost, path: api.PathPause, summary: "Ask nothing and sign nothing for a while",
			in: api.Pause{}, out: api.Hold{}, serve: (*Server).pause},
		{method: http.MethodDelete, path: api.PathPause, summary: "End the pause",
			status: http.StatusNoContent, serve: (*Server).unpause},
		{method: http.MethodPost, path: api.PathShowDoctor, summary: "Show the report of a self-examination in a window on the desktop",
			in: api.ShowOnDesktop{}, status: http.StatusNoContent, serve: (*Server).showDoctor},
		{method: http.MethodGet, path: api.PathVerification, summary: "How the person can be verified",
			out: api.VerificationList{}, serve: (*Server).verification},
		{method: http.MethodPost, path: api.PathMethod, summary: "Turn a way to verify the person on or off; the id is the method",
			in: api.EnableVerification{}, out: api.VerificationList{}, serve: (*Server).enableVerification},
		{method: http.MethodPost, path: api.PathPIN, summary: "Set the PIN, or change it",
			in: api.SetPIN{}, out: api.PINSet{}, serve: (*Server).setPIN},
		{method: http.MethodDelete, path: api.PathPIN, summary: "Remove the PIN",
			in: api.RemovePIN{}, out: api.VerificationList{}, serve: (*Server).removePIN},
		{method: http.MethodPost, path: api.PathResetPIN, summary: "Forget a PIN that nobody knows any more, and delete the keys that it unlocks",
			in: api.ResetPIN{}, out: api.PINReset{}, serve: (*Server).resetPIN},
		{method: http.MethodGet, path: api.PathCodes, summary: "What there are one-time codes for",
			out: api.CodeList{}, serve: (*Server).codes},
		{method: http.MethodPost, path: api.PathCode, summary: "The one-time code of this moment; the id may be the login or the account's name, if only one fits",
			in: api.GetCode{}, out: api.Code{}, serve: (*Server).code},
		{method: http.MethodPost, path: api.PathKeySignIn, summary: "Sign in at an organisation with a security key, without a browser; what is missing is refused by name",
			in: api.KeySignIn{}, out: api.KeySignedIn{}, serve: (*Server).signInWithKey},
		{method: http.MethodPost, path: api.PathRekey, summary: "Protect the agent's state in another way",
			in: api.Rekey{}, out: api.Rekeyed{}, serve: (*Server).rekey},
		{method: http.MethodGet, path: api.PathDevice, summary: "What organisations can be told of this device",
			out: api.Device{}, serve: (*Server).device},
		{method: http.MethodGet, path: api.PathAudit, summary: "The record of decisions, oldest first",
			query: []parameter{
				{"from", "integer", "first sequence number"},
				{"follow", "boolean", "go on with new records"},
				{"verify", "boolean", "check the chain first; 409 when it is broken"},
			},
			out: api.AuditRecord{}, stream: ndjsonType, serve: (*Server).audit},
		{method: http.MethodGet, path: api.PathEvents, summary: "What happens from now on; the first event is hello",
			query: []parameter{frontEndParameter}, out: api.Event{}, stream: eventType, serve: (*Server).events},
		{method: http.MethodGet, path: api.PathDoctor, summary: "A self-examination",
			query: []parameter{{"topic", "string", "examine only this, e.g. loopback"}}, out: api.Report{}, serve: (*Server).doctor},
		{method: http.MethodGet, path: api.PathOpenAPI, summary: "This description",
			out: map[string]any{}, serve: (*Server).describe},
	}
	routes = append(routes, keyRoutes()...)
}

// find returns the route for a path and method. Without one, allow lists the
// methods that the path has; empty means that there is no such path.
func find(method, escapedPath string) (r *route, id string, allow string) {
	var methods []string
	for i := range routes {
		candidate, ok := match(routes[i].path, escapedPath)
		if !ok {
			continue
		}
		if routes[i].method == method {
			return &routes[i], candidate, ""
		}
		methods = append(methods, routes[i].method)
	}
	return nil, "", strings.Join(methods, ", ")
}

// match compares segment by segment; "{id}" takes one that is not empty.
func match(pattern, path string) (id string, ok bool) {
	for {
		want, wantRest, more := strings.Cut(pattern, "/")
		got, gotRest, gotMore := strings.Cut(path, "/")
		if more != gotMore {
			return "", false
		}
		switch {
		case want == "{id}" && got != "":
			id = got
		case want != got:
			return "", false
		}
		if !more {
			return id, true
		}
		pattern, path = wantRest, gotRest
	}
}
