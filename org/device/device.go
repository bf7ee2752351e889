// Package device keeps what people have enrolled: devices, the authenticator
// enrolments on them, the methods of an enrolment and the public keys that
// prove each method.
//
// Three parties meet here. The agent brings public keys and a description of
// its machine; a bearer token or an enrolment link says which user it acts
// for; and org/factor later asks which key must have signed an answer. Nothing
// here proves that a private key lives in hardware: Protection is the device's
// own word until Attested says otherwise.
//
// Creating is idempotent per user and proof-of-possession key: an agent that
// crashed between asking and hearing the answer asks again and gets the same
// enrolment. Deleted enrolments stay as rows, so that an agent hears "gone"
// with proof and never has to guess.
package device

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/store"
)

// The statuses of devices and enrolments. Only ACTIVE may be used; the zero
// value may not.
const (
	StatusActive      = "ACTIVE"
	StatusSuspended   = "SUSPENDED"
	StatusDeactivated = "DEACTIVATED" // devices only
	StatusDeleted     = "DELETED"
)

// Enrolment binds a user to an authenticator on a device.
type Enrolment struct {
	ID, AuthenticatorID, UserID, Status string
	Device                              Device
	Methods                             []Method
	CreatedAt, UpdatedAt                time.Time
	LastUsedAt                          time.Time // zero when never used
}

// Device is a machine on which an agent runs.
type Device struct {
	ID, ClientInstanceID, Status string
	ClientInstanceKey            jose.JWK
	Profile                      okta.Device // as the device described itself
	CreatedAt, UpdatedAt         time.Time
}

// Method is one way in which the enrolment can answer.
type Method struct {
	ID                   string
	Type                 okta.Method
	Status               string
	Keys                 []Key
	PushToken            string
	TransactionTypes     []string
	CreatedAt, UpdatedAt time.Time
	// SharedSecret is the seed of a totp method. Only what Create returns has it.
	SharedSecret okta.SharedSecret
}

// Key is a public key of a method.
type Key struct {
	Role       okta.KeyType
	JWK        jose.JWK
	Protection jose.Protection // what the device says
	Attested   bool            // whether anything proves it
	Thumbprint string
}

// Active says whether the enrolment may answer: it and its device are active.
func (e Enrolment) Active() bool { return e.Refusal() == nil }

// Refusal is the error that tells the agent why its enrolment may not be used,
// or nil.
func (e Enrolment) Refusal() *okta.Error {
	// What is gone for good is said first: an agent that heard "suspended"
	// would wait for ever. A deleted device takes its enrolments along.
	switch refusal := e.Device.Refusal(); {
	case e.Device.Status == StatusDeleted:
		return refusal
	case e.Status == StatusDeleted:
		return okta.NewError(okta.CodeEnrolmentDeleted)
	case refusal != nil:
		return refusal
	case e.Status == StatusActive:
		return nil
	default:
		return okta.NewError(okta.CodeEnrolmentSuspended)
	}
}

// Refusal is the error that tells the agent why its device may not be used, or
// nil.
func (d Device) Refusal() *okta.Error {
	switch d.Status {
	case StatusActive:
		return nil
	case StatusDeleted:
		return okta.NewError(okta.CodeDeviceDeleted)
	default:
		return okta.NewError(okta.CodeDeviceSuspended)
	}
}

// Method returns the method of a type.
func (e Enrolment) Method(t okta.Method) (Method, bool) {
	for _, m := range e.Methods {
		if m.Type == t {
			return m, true
		}
	}
	return Method{}, false
}

// Key returns the key of a role.
func (m Method) Key(role okta.KeyType) (Key, bool) {
	for _, k := range m.Keys {
		if k.Role == role {
			return k, true
		}
	}
	return Key{}, false
}

// KeyByID returns the enrolment's key with a key id, and how strong it is:
// when several roles share one id the weakest (proof of possession) is meant.
func (e Enrolment) KeyByID(kid string) (Key, bool) {
	var best Key
	for _, m := range e.Methods {
		for _, k := range m.Keys {
			if k.JWK.KeyID == kid && (best.Role == "" || k.Role == okta.KeyProofOfPossession) {
				best = k
			}
		}
	}
	return best, best.Role != ""
}

const enrolmentQuery = `SELECT e.id, e.authenticator_id, e.user_id, e.status, e.created_at, e.updated_at, e.last_used_at,
	d.id, d.client_instance_id, d.status, d.client_instance_key, d.profile, d.created_at, d.updated_at
	FROM enrolments e JOIN devices d ON d.id = e.device_id `

// ByID returns an enrolment in whatever status it is.
func ByID(ctx context.Context, tx store.Tx, enrolmentID string) (Enrolment, error) {
	return one(load(ctx, tx, `WHERE e.id = ?`, enrolmentID))
}

// OfUser returns the user's enrolments that are not deleted, oldest first.
// Whether one may be used now is what Active says.
func OfUser(ctx context.Context, tx store.Tx, userID string) ([]Enrolment, error) {
	return load(ctx, tx, `WHERE e.user_id = ? AND e.status <> 'DELETED' AND d.status <> 'DELETED' ORDER BY e.created_at, e.id`, userID)
}

// byPoP returns the user's live enrolment with a proof-of-possession key.
func byPoP(ctx context.Context, tx store.Tx, userID, thumbprint string) (Enrolment, error) {
	return one(load(ctx, tx, `WHERE e.user_id = ? AND e.pop_thumbprint = ? AND e.status <> 'DELETED'`, userID, thumbprint))
}

func one(list []Enrolment, err error) (Enrolment, error) {
	if err != nil {
		return Enrolment{}, err
	}
	if len(list) == 0 {
		return Enrolment{}, fmt.Errorf("looking up the enrolment: %w", store.ErrNotFound)
	}
	return list[0], nil
}

func load(ctx context.Context, tx store.Tx, where string, args ...any) ([]Enrolment, error) {
	list, err := loadEnrolments(ctx, tx, where, args...)
	if err != nil {
		return nil, fmt.Errorf("reading enrolments: %w", err)
	}
	for i := range list {
		if list[i].Methods, err = loadMethods(ctx, tx, list[i].ID); err != nil {
			return nil, fmt.Errorf("reading enrolment %s: %w", list[i].ID, err)
		}
	}
	return list, nil
}

func loadEnrolments(ctx context.Context, tx store.Tx, where string, args ...any) ([]Enrolment, error) {
	rows, err := tx.QueryContext(ctx, enrolmentQuery+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Enrolment
	for rows.Next() {
		var e Enrolment
		var created, updated, devCreated, devUpdated int64
		var used sql.NullInt64
		var key, profile string
		d := &e.Device
		if err := rows.Scan(&e.ID, &e.AuthenticatorID, &e.UserID, &e.Status, &created, &updated, &used,
			&d.ID, &d.ClientInstanceID, &d.Status, &key, &profile, &devCreated, &devUpdated); err != nil {
			return nil, err
		}
		e.CreatedAt, e.UpdatedAt = store.Time(created), store.Time(updated)
		d.CreatedAt, d.UpdatedAt = store.Time(devCreated), store.Time(devUpdated)
		if used.Valid {
			e.LastUsedAt = store.Time(used.Int64)
		}
		if err := errors.Join(json.Unmarshal([]byte(key), &d.ClientInstanceKey), json.Unmarshal([]byte(profile), &d.Profile)); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

func loadMethods(ctx context.Context, tx store.Tx, enrolmentID string) ([]Method, error) {
	rows, err := tx.QueryContext(ctx, `SELECT m.id, m.type, m.status, m.push_token, m.transaction_types, m.created_at, m.updated_at,
		k.role, k.thumbprint, k.jwk, k.attested
		FROM enrolment_methods m LEFT JOIN method_keys k ON k.method_id = m.id
		WHERE m.enrolment_id = ? ORDER BY m.type, m.id, k.role`, enrolmentID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Method
	for rows.Next() {
		var m Method
		var types string
		var created, updated int64
		var role, thumbprint, jwk sql.NullString
		var attested sql.NullBool
		if err := rows.Scan(&m.ID, &m.Type, &m.Status, &m.PushToken, &types, &created, &updated,
			&role, &thumbprint, &jwk, &attested); err != nil {
			return nil, err
		}
		if len(out) == 0 || out[len(out)-1].ID != m.ID {
			m.CreatedAt, m.UpdatedAt = store.Time(created), store.Time(updated)
			if err := json.Unmarshal([]byte(types), &m.TransactionTypes); err != nil {
				return nil, err
			}
			out = append(out, m)
		}
		if !role.Valid {
			continue
		}
		k := Key{Role: okta.KeyType(role.String), Thumbprint: thumbprint.String, Attested: attested.Bool}
		if err := json.Unmarshal([]byte(jwk.String), &k.JWK); err != nil {
			return nil, err
		}
		k.Protection = k.JWK.KPR
		last := &out[len(out)-1]
		last.Keys = append(last.Keys, k)
	}
	return out, rows.Err()
}

// Touch notes that the enrolment was used.
func Touch(ctx context.Context, tx store.Tx, enrolmentID string, now time.Time) error {
	if _, err := tx.ExecContext(ctx, `UPDATE enrolments SET last_used_at = ? WHERE id = ?`, store.Millis(now), enrolmentID); err != nil {
		return fmt.Errorf("noting the use of an enrolment: %w", err)
	}
	return nil
}

// SetStatus suspends, reactivates or deletes an enrolment. A deleted one stays
// deleted.
func SetStatus(ctx context.Context, tx store.Tx, enrolmentID, status string, now time.Time) error {
	if err := setStatus(ctx, tx, "enrolment", `UPDATE enrolments SET status = ?, updated_at = ? WHERE id = ? AND status <> 'DELETED'`, enrolmentID, status, now); err != nil {
		return err
	}
	if status == StatusDeleted {
		return forgetSeeds(ctx, tx, `e.id = ?`, enrolmentID)
	}
	return nil
}

// SetDeviceStatus does the same to a device, and with it to every enrolment on
// it.
func SetDeviceStatus(ctx context.Context, tx store.Tx, deviceID, status string, now time.Time) error {
	if err := setStatus(ctx, tx, "device", `UPDATE devices SET status = ?, updated_at = ? WHERE id = ? AND status <> 'DELETED'`, deviceID, status, now); err != nil {
		return err
	}
	if status == StatusDeleted {
		return forgetSeeds(ctx, tx, `e.device_id = ?`, deviceID)
	}
	return nil
}

func setStatus(ctx context.Context, tx store.Tx, what, query, id, status string, now time.Time) error {
	switch status {
	case StatusActive, StatusSuspended, StatusDeactivated, StatusDeleted:
	default:
		return fmt.Errorf("changing the status of a %s: unknown status %.20q", what, status)
	}
	res, err := tx.ExecContext(ctx, query, status, store.Millis(now), id)
	if err != nil {
		return fmt.Errorf("changing the status of a %s: %w", what, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("changing the status of a %s: %w", what, errors.Join(store.ErrNotFound, err))
	}
	return nil
}
