package admin

import (
	"context"
	"net/http"

	"countersign.dev/okta"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
	"countersign.dev/org/store"
)

// deviceObject is a device in the shape of Okta's Devices API.
type deviceObject struct {
	ID                  string               `json:"id"`
	Status              string               `json:"status"`
	Created             string               `json:"created"`
	LastUpdated         string               `json:"lastUpdated"`
	Profile             deviceProfile        `json:"profile"`
	ResourceType        string               `json:"resourceType"`
	ResourceDisplayName resourceName         `json:"resourceDisplayName"`
	ResourceAlternateID *string              `json:"resourceAlternateId"` // null
	ResourceID          string               `json:"resourceId"`
	Links               map[string]okta.Link `json:"_links"`
}

type resourceName struct {
	Value     string `json:"value"`
	Sensitive bool   `json:"sensitive"`
}

// deviceProfile is what the device says of itself.
type deviceProfile struct {
	DisplayName           string `json:"displayName"`
	Platform              string `json:"platform"`
	Manufacturer          string `json:"manufacturer,omitempty"`
	Model                 string `json:"model,omitempty"`
	OSVersion             string `json:"osVersion"`
	SerialNumber          string `json:"serialNumber,omitempty"`
	UDID                  string `json:"udid,omitempty"`
	DiskEncryptionType    string `json:"diskEncryptionType,omitempty"`
	SecureHardwarePresent bool   `json:"secureHardwarePresent"`
	Registered            bool   `json:"registered"`
}

func (s *server) deviceObject(d device.Device) deviceObject {
	p := d.Profile
	self := s.BaseURL + "/api/v1/devices/" + d.ID
	o := deviceObject{
		ID: d.ID, Status: d.Status, Created: okta.Timestamp(d.CreatedAt), LastUpdated: okta.Timestamp(d.UpdatedAt),
		Profile: deviceProfile{
			DisplayName: p.DisplayName, Platform: p.Platform, Manufacturer: p.Manufacturer, Model: p.Model, OSVersion: p.OSVersion,
			SerialNumber: p.SerialNumber, UDID: p.UDID, DiskEncryptionType: p.DiskEncryptionType,
			SecureHardwarePresent: p.SecureHardwarePresent != nil && *p.SecureHardwarePresent, Registered: true,
		},
		ResourceType: "UDDevice", ResourceDisplayName: resourceName{Value: p.DisplayName}, ResourceID: d.ID,
	}
	// Only what may be done now.
	allow, transitions := []string{http.MethodGet}, []device.Transition{}
	switch d.Status {
	case device.StatusActive:
		transitions = append(transitions, device.Suspend, device.Deactivate)
	case device.StatusSuspended:
		transitions = append(transitions, device.Unsuspend, device.Deactivate)
	case device.StatusDeactivated:
		allow = append(allow, http.MethodDelete)
		transitions = append(transitions, device.Activate)
	}
	o.Links = map[string]okta.Link{"self": {Href: self, Hints: &okta.LinkHints{Allow: allow}}}
	for _, t := range transitions {
		o.Links[string(t)] = okta.Link{Href: self + "/lifecycle/" + string(t), Hints: &okta.LinkHints{Allow: []string{http.MethodPost}}}
	}
	return o
}

func (s *server) getDevice(w http.ResponseWriter, r *http.Request) {
	var d device.Device
	err := s.DB.Read(r.Context(), func(tx store.Tx) (err error) {
		d, err = device.DeviceByID(r.Context(), tx, r.PathValue("id"))
		return err
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	httpx.WriteJSON(w, http.StatusOK, s.deviceObject(d))
}

func (s *server) deleteDevice(w http.ResponseWriter, r *http.Request) { s.change(w, r, device.Remove) }

func (s *server) changeDevice(w http.ResponseWriter, r *http.Request) {
	t := device.Transition(r.PathValue("transition"))
	if t == device.Remove { // which is not done by POST
		t = ""
	}
	s.change(w, r, t)
}

func (s *server) change(w http.ResponseWriter, r *http.Request, t device.Transition) {
	id := r.PathValue("id")
	enrolments, err := s.Registry.Change(r.Context(), id, t)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	s.tell(r.Context(), "device changed", enrolments, "device", id, "transition", string(t))
	w.WriteHeader(http.StatusNoContent)
}

// tell logs a change, and lets those who wait for the enrolments look again.
func (s *server) tell(ctx context.Context, what string, enrolments []string, args ...any) {
	if s.Notify != nil {
		s.Notify(enrolments)
	}
	s.Log.InfoContext(ctx, what, append(args, "enrolments", len(enrolments))...)
}
