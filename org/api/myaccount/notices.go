package myaccount

import (
	"net/http"
	"strconv"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
	"countersign.dev/org/store"
)

// notices tells an enrolment what happened to the user's other devices
// (extension). Asking counts as asking for the pending list, which says when
// there is something to ask for.
func (s *server) notices(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	by, err := s.gate.Caller(r, id, pendingScopes...)
	if err != nil {
		s.gate.TurnAway(w, r, err)
		return
	}
	after, err := afterOf(r)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	if _, err := s.Registry.Admit(r.Context(), by, id); err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	if again, ok := s.polls.take(id, s.Now()); !ok {
		tooManyPolls(w, again, s.Now())
		return
	}
	var list []okta.Notice
	err = s.DB.Read(r.Context(), func(tx store.Tx) (err error) {
		list, err = device.Notices(r.Context(), tx, id, after, s.Now())
		return err
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSONAs(w, http.StatusOK, mediaType, list)
}

// afterOf reads the notice after which to list: 0 when none is given.
func afterOf(r *http.Request) (int64, error) {
	given := r.URL.Query().Get("after")
	if given == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(given, 10, 64)
	if err != nil || id < 0 {
		return 0, okta.NewError(okta.CodeValidation, "after: not the id of a notice")
	}
	return id, nil
}
