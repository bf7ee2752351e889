package admin

import (
	"errors"
	"net/http"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/directory"
	"countersign.dev/org/factor"
	"countersign.dev/org/store"
)

// factorObject is a person's security key in the shape of Okta's Factors API.
// Devices with Okta Verify are listed as devices.
type factorObject struct {
	ID          string               `json:"id"`
	FactorType  string               `json:"factorType"`
	Provider    string               `json:"provider"`
	VendorName  string               `json:"vendorName"`
	Status      string               `json:"status"`
	Created     string               `json:"created"`
	LastUpdated string               `json:"lastUpdated"`
	Profile     factorProfile        `json:"profile"`
	Links       map[string]okta.Link `json:"_links"`
}

type factorProfile struct {
	CredentialID      string `json:"credentialId"`
	AuthenticatorName string `json:"authenticatorName"`
	// The rest are extensions.
	AAGUID      string `json:"aaguid"`
	Attestation string `json:"attestation"`
	// SuspectedCopy is when the key counted backwards, as a copy would.
	SuspectedCopy string `json:"suspectedCopy,omitempty"`
}

func (s *server) factorObject(k factor.SecurityKey) factorObject {
	user := s.BaseURL + "/api/v1/users/" + k.UserID
	o := factorObject{
		ID: k.ID, FactorType: string(factor.MethodWebAuthn), Provider: "FIDO", VendorName: "FIDO", Status: directory.AuthenticatorActive,
		Created: okta.Timestamp(k.CreatedAt), LastUpdated: okta.Timestamp(k.LastUsedAt),
		Profile: factorProfile{CredentialID: k.CredentialID, AuthenticatorName: k.Name(), AAGUID: k.AAGUID, Attestation: k.Attestation},
		Links: map[string]okta.Link{
			"self": {Href: user + "/factors/" + k.ID, Hints: &okta.LinkHints{Allow: []string{http.MethodGet, http.MethodDelete}}},
			"user": {Href: user, Hints: &okta.LinkHints{Allow: []string{http.MethodGet}}},
		},
	}
	if !k.SuspectAt.IsZero() {
		o.Profile.SuspectedCopy = okta.Timestamp(k.SuspectAt)
	}
	return o
}

func (s *server) keysOf(r *http.Request) (list []factorObject, err error) {
	list = []factorObject{}
	err = s.DB.Read(r.Context(), func(tx store.Tx) error {
		user, err := findUser(r.Context(), tx, r.PathValue("login"))
		if err != nil {
			return err
		}
		keys, err := factor.KeysOfUser(r.Context(), tx, user.ID)
		for _, k := range keys {
			list = append(list, s.factorObject(k))
		}
		return err
	})
	return list, err
}

func (s *server) userFactors(w http.ResponseWriter, r *http.Request) {
	list, err := s.keysOf(r)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, list)
}

func (s *server) getFactor(w http.ResponseWriter, r *http.Request) {
	list, err := s.keysOf(r)
	for _, o := range list {
		if err == nil && o.ID == r.PathValue("id") {
			httpx.WriteJSON(w, http.StatusOK, o)
			return
		}
	}
	if err == nil {
		err = okta.NewError(okta.CodeNotFound, "there is no such factor")
	}
	httpx.Fail(w, r, s.Log, err)
}

// deleteFactor takes a security key from a person: one that is lost, or that
// may have been copied. Who has no other factor enrols the next one with the
// password.
func (s *server) deleteFactor(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	var userID string
	err := s.DB.Write(ctx, func(tx store.Tx) error {
		user, err := findUser(ctx, tx, r.PathValue("login"))
		if err != nil {
			return err
		}
		userID = user.ID
		return factor.RemoveKey(ctx, tx, user.ID, r.PathValue("id"))
	})
	if errors.Is(err, store.ErrNotFound) {
		err = okta.NewError(okta.CodeNotFound, "there is no such factor")
	}
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.Log.InfoContext(ctx, "security key removed", "user_id", userID, "security_key", r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}
