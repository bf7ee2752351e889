package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/store"
)

// Transition is what an administrator does to a device.
type Transition string

// The transitions. Deactivating ends the enrolments on the device for good;
// the device itself may be activated again, to enrol anew.
const (
	Suspend    Transition = "suspend"
	Unsuspend  Transition = "unsuspend"
	Activate   Transition = "activate"
	Deactivate Transition = "deactivate"
	Remove     Transition = "delete"
)

// transitions says from which status to which each leads.
var transitions = map[Transition]struct {
	from []string
	to   string
}{
	Suspend:    {[]string{StatusActive}, StatusSuspended},
	Unsuspend:  {[]string{StatusSuspended}, StatusActive},
	Activate:   {[]string{StatusDeactivated, StatusActive}, StatusActive}, // of an active one it is no error
	Deactivate: {[]string{StatusActive, StatusSuspended}, StatusDeactivated},
	Remove:     {[]string{StatusDeactivated}, StatusDeleted},
}

// Change takes a device through its life. It returns the enrolments on it, for
// whoever waits for one of them.
func (r *Registry) Change(ctx context.Context, deviceID string, t Transition) (enrolmentIDs []string, err error) {
	step, ok := transitions[t]
	if !ok {
		return nil, okta.NewError(okta.CodePathNotFound)
	}
	err = r.db.Write(ctx, func(tx store.Tx) error {
		d, err := DeviceByID(ctx, tx, deviceID)
		if err != nil {
			return err
		}
		if !slices.Contains(step.from, d.Status) {
			if t == Remove {
				return okta.NewError(okta.CodeDeviceSuspended, "only a deactivated device can be deleted")
			}
			return invalid("status: a device that is %s cannot be changed by %s", d.Status, t)
		}
		now := r.now()
		list, err := load(ctx, tx, `WHERE e.device_id = ? AND e.status <> 'DELETED'`, deviceID)
		if err != nil {
			return err
		}
		for _, e := range list {
			enrolmentIDs = append(enrolmentIDs, e.ID)
			if t == Deactivate {
				if err := SetStatus(ctx, tx, e.ID, StatusDeleted, now); err != nil {
					return err
				}
			}
		}
		return SetDeviceStatus(ctx, tx, deviceID, step.to, now)
	})
	if err != nil {
		return nil, err
	}
	return enrolmentIDs, nil
}

// DeviceByID returns a device that is not deleted. The error for one that is
// not there is an *okta.Error.
func DeviceByID(ctx context.Context, tx store.Tx, id string) (Device, error) {
	d, err := deviceByID(ctx, tx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && d.Status == StatusDeleted {
		e := okta.NewError(okta.CodeNotFound)
		e.Summary = fmt.Sprintf("Not found: Resource not found: %.64s (GenericUDObject)", id)
		return Device{}, e
	}
	return d, err
}

// UserDevice is a device on which a user has enrolments.
type UserDevice struct {
	LinkID string // of user and device
	Device Device
	Since  time.Time
}

// DevicesOfUser returns the devices of a user, oldest link first.
func DevicesOfUser(ctx context.Context, tx store.Tx, userID string) ([]UserDevice, error) {
	list, err := OfUser(ctx, tx, userID)
	if err != nil {
		return nil, err
	}
	var out []UserDevice
	for _, e := range list {
		if slices.ContainsFunc(out, func(d UserDevice) bool { return d.Device.ID == e.Device.ID }) {
			continue
		}
		// The oldest enrolment stands for the link, which has no row of its own.
		out = append(out, UserDevice{LinkID: "lnk" + e.ID[min(3, len(e.ID)):], Device: e.Device, Since: e.CreatedAt})
	}
	return out, nil
}
