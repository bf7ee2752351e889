package device_test

import (
	"sync"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/org/device"
	"countersign.dev/org/device/devicetest"
	"countersign.dev/org/store"
	"countersign.dev/org/store/storetest"
)

// However many administrators do the same at once, one does it.
func TestTransitionsDoNotRace(t *testing.T) {
	h := newHouse(t)
	a := devicetest.New(t)
	e, err := h.Create(t.Context(), device.ByUser(h.alice.ID), h.withCodes(a))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 20 {
		wg.Go(func() {
			ids, err := h.Change(t.Context(), e.Device.ID, device.Deactivate)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
				if len(ids) != 1 || ids[0] != e.ID {
					t.Errorf("enrolments %v", ids)
				}
			} else {
				h.wantCode("the others", err, okta.CodeValidation)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d deactivated it", won)
	}
	if n := h.seeds(e, secret(e)); n != 0 {
		t.Errorf("%d secrets are left", n)
	}
	_, err = h.Change(t.Context(), e.Device.ID, "")
	h.wantCode("no transition", err, okta.CodePathNotFound)
	// The keys are free; the device that comes back enrols anew.
	if _, err := h.Change(t.Context(), e.Device.ID, device.Activate); err != nil {
		t.Fatal(err)
	}
	again := a.OnDevice(h.request(a), e.Device.ID, e.Device.ClientInstanceID, a.Client.Sign(t, "JWT", h.attestation(a, e)))
	n, err := h.Create(t.Context(), device.ByUser(h.alice.ID), again)
	if err != nil || n.ID == e.ID || n.Device.ID != e.Device.ID {
		t.Errorf("%v", err)
	}
}

// What is gone for good is said before what may come back.
func TestGoneBeforeSuspended(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		enrolment, device string
		want              okta.ErrorCode
	}{
		{device.StatusActive, device.StatusActive, ""},
		{device.StatusSuspended, device.StatusActive, okta.CodeEnrolmentSuspended},
		{device.StatusActive, device.StatusSuspended, okta.CodeDeviceSuspended},
		{device.StatusSuspended, device.StatusDeactivated, okta.CodeDeviceSuspended},
		{device.StatusDeleted, device.StatusActive, okta.CodeEnrolmentDeleted},
		{device.StatusDeleted, device.StatusSuspended, okta.CodeEnrolmentDeleted},
		{device.StatusDeleted, device.StatusDeactivated, okta.CodeEnrolmentDeleted},
		{device.StatusActive, device.StatusDeleted, okta.CodeDeviceDeleted},
		{device.StatusDeleted, device.StatusDeleted, okta.CodeDeviceDeleted},
	} {
		e := h.enrol(devicetest.New(t), h.alice)
		storetest.Write(t, h.db, func(tx store.Tx) error {
			if err := device.SetStatus(t.Context(), tx, e.ID, c.enrolment, h.clock()); err != nil {
				return err
			}
			return device.SetDeviceStatus(t.Context(), tx, e.Device.ID, c.device, h.clock())
		})
		_, err := h.Admit(t.Context(), device.AsUser(h.alice.ID), e.ID)
		h.wantCode(c.enrolment+" on "+c.device, err, c.want)
	}
	e := device.Enrolment{}
	if e.Active() || e.Refusal() == nil {
		t.Error("the zero enrolment is active")
	}
}
