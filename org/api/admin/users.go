package admin

import (
	"context"
	"errors"
	"net/http"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/session"
	"countersign.dev/org/store"
	"countersign.dev/org/token"
)

// findUser finds a user by login or id.
func findUser(ctx context.Context, tx store.Tx, login string) (directory.User, error) {
	user, err := directory.UserByLogin(ctx, tx, login)
	if errors.Is(err, store.ErrNotFound) {
		user, err = directory.UserByID(ctx, tx, login)
	}
	if errors.Is(err, store.ErrNotFound) {
		return user, okta.NewError(okta.CodeNotFound, "there is no such user")
	}
	return user, err
}

// userObject is a user in the shape of Okta's Users API.
type userObject struct {
	ID          string              `json:"id"`
	Status      string              `json:"status"`
	Created     string              `json:"created"`
	LastUpdated string              `json:"lastUpdated"`
	Profile     userProfile         `json:"profile"`
	Links       map[string]userLink `json:"_links"`
}

type userProfile struct {
	Login     string `json:"login"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
	Email     string `json:"email"`
}

// userLink has its method beside it: users are older than hints.
type userLink struct {
	Href   string `json:"href"`
	Method string `json:"method,omitempty"`
}

func (s *server) userObject(u directory.User) userObject {
	self := s.BaseURL + "/api/v1/users/" + u.ID
	o := userObject{
		ID: u.ID, Status: u.Status, Created: okta.Timestamp(u.CreatedAt), LastUpdated: okta.Timestamp(u.UpdatedAt),
		Profile: userProfile{u.Login, u.FirstName, u.LastName, u.Email}, Links: map[string]userLink{"self": {Href: self}},
	}
	switch u.Status {
	case directory.StatusActive:
		o.Links["suspend"] = userLink{self + "/lifecycle/suspend", http.MethodPost}
	case directory.StatusSuspended:
		o.Links["unsuspend"] = userLink{self + "/lifecycle/unsuspend", http.MethodPost}
	}
	return o
}

func (s *server) getUser(w http.ResponseWriter, r *http.Request) {
	var user directory.User
	err := s.DB.Read(r.Context(), func(tx store.Tx) (err error) {
		user, err = findUser(r.Context(), tx, r.PathValue("login"))
		return err
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, s.userObject(user))
}

// userDevice is one element of the list of a user's devices.
type userDevice struct {
	Created      string       `json:"created"`
	DeviceUserID string       `json:"deviceUserId"`
	Device       deviceObject `json:"device"`
}

func (s *server) userDevices(w http.ResponseWriter, r *http.Request) {
	list := []userDevice{}
	err := s.DB.Read(r.Context(), func(tx store.Tx) error {
		user, err := findUser(r.Context(), tx, r.PathValue("login"))
		if err != nil {
			return err
		}
		devices, err := device.DevicesOfUser(r.Context(), tx, user.ID)
		for _, d := range devices {
			list = append(list, userDevice{okta.Timestamp(d.Since), d.LinkID, s.deviceObject(d.Device)})
		}
		return err
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, list)
}

// changeUser suspends a user or ends that. What was signed in before does not
// come back with the user: it may be what they were suspended for.
func (s *server) changeUser(w http.ResponseWriter, r *http.Request) {
	steps := map[string]struct{ from, to string }{
		"suspend":   {directory.StatusActive, directory.StatusSuspended},
		"unsuspend": {directory.StatusSuspended, directory.StatusActive},
	}
	step, ok := steps[r.PathValue("transition")]
	if !ok {
		httpx.NotFound(w, r)
		return
	}
	var user directory.User
	var enrolments []string
	err := s.DB.Write(r.Context(), func(tx store.Tx) (err error) {
		if user, err = findUser(r.Context(), tx, r.PathValue("login")); err != nil {
			return err
		}
		if user.Status != step.from {
			return okta.NewError(okta.CodeValidation, "status: the user is "+user.Status)
		}
		list, err := device.OfUser(r.Context(), tx, user.ID)
		for _, e := range list {
			enrolments = append(enrolments, e.ID)
		}
		if err = errors.Join(err, directory.SetUserStatus(r.Context(), tx, user.ID, step.to, s.Now())); err != nil || step.to == directory.StatusActive {
			return err
		}
		return errors.Join(session.EndAll(r.Context(), tx, user.ID), token.RevokeAll(r.Context(), tx, user.ID, s.Now()))
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.tell(r.Context(), "user changed", enrolments, "user", user.ID, "status", step.to)
	httpx.WriteJSON(w, http.StatusOK, struct{}{})
}
