package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// KeyWebAuthn is the key of the authenticator for security keys.
const KeyWebAuthn = "webauthn"

// The statuses of an authenticator.
const (
	AuthenticatorActive   = "ACTIVE"
	AuthenticatorInactive = "INACTIVE"
)

// WebAuthn is the org's authenticator for security keys.
type WebAuthn struct {
	ID, Status           string
	Settings             WebAuthnSettings
	CreatedAt, UpdatedAt time.Time
}

// Changed says whether somebody has switched it or changed its settings.
func (w WebAuthn) Changed() bool { return !w.UpdatedAt.Equal(w.CreatedAt) }

// Active says whether security keys may be enrolled and used.
func (w WebAuthn) Active() bool { return w.ID != "" && w.Status == AuthenticatorActive }

// WebAuthnSettings says which security keys are taken, in the shape of the
// settings of Okta's method webauthn.
type WebAuthnSettings struct {
	UserVerification string        `json:"userVerification"` // DISCOURAGED, PREFERRED or REQUIRED
	Attachment       string        `json:"attachment"`       // ANY, BUILT_IN or ROAMING
	AAGUIDGroups     []AAGUIDGroup `json:"aaguidGroups"`
	// ResidentKeyRequirement says whether a key is to keep the credential, where its
	// owner can see and delete it: REQUIRED, PREFERRED or DISCOURAGED.
	ResidentKeyRequirement string `json:"residentKeyRequirement"`
}

// AAGUIDGroup names models. When there is any group, only models of a group
// are enrolled, and only those that prove by a certificate what they are.
type AAGUIDGroup struct {
	Name    string   `json:"name"`
	AAGUIDs []string `json:"aaguids"`
}

// The values of WebAuthnSettings.
const (
	UVDiscouraged = "DISCOURAGED"
	UVPreferred   = "PREFERRED"
	UVRequired    = "REQUIRED"

	AttachmentAny     = "ANY"
	AttachmentBuiltIn = "BUILT_IN"
	AttachmentRoaming = "ROAMING"

	ResidentRequired    = "REQUIRED"
	ResidentPreferred   = "PREFERRED"
	ResidentDiscouraged = "DISCOURAGED"
)

// ErrWebAuthnSettings says that settings are not understood.
var ErrWebAuthnSettings = errors.New("settings not understood")

// maxAAGUIDs bounds a list of models.
const maxAAGUIDs = 500

// normal checks settings and fills in what is missing.
func (s WebAuthnSettings) normal() (WebAuthnSettings, error) {
	bad := func(format string, args ...any) (WebAuthnSettings, error) {
		return s, fmt.Errorf("%w: "+format, append([]any{ErrWebAuthnSettings}, args...)...)
	}
	switch s.UserVerification {
	case "":
		s.UserVerification = UVPreferred
	case UVDiscouraged, UVPreferred, UVRequired:
	default:
		return bad("userVerification: want DISCOURAGED, PREFERRED or REQUIRED")
	}
	switch s.Attachment {
	case "":
		s.Attachment = AttachmentAny
	case AttachmentAny, AttachmentBuiltIn, AttachmentRoaming:
	default:
		return bad("attachment: want ANY, BUILT_IN or ROAMING")
	}
	switch s.ResidentKeyRequirement {
	case "":
		s.ResidentKeyRequirement = ResidentDiscouraged
	case ResidentRequired, ResidentPreferred, ResidentDiscouraged:
	default:
		return bad("residentKeyRequirement: want REQUIRED, PREFERRED or DISCOURAGED")
	}
	groups, n := []AAGUIDGroup{}, 0
	for _, g := range s.AAGUIDGroups {
		if g.Name == "" || len(g.Name) > 100 || len(g.AAGUIDs) == 0 {
			return bad("aaguidGroups: want a name and at least one AAGUID")
		}
		group := AAGUIDGroup{Name: g.Name}
		for _, a := range g.AAGUIDs {
			id, err := uuid.Parse(a)
			if err != nil || len(a) != 36 {
				return bad("aaguidGroups: %.40q is no AAGUID", a)
			}
			if n++; n > maxAAGUIDs {
				return bad("aaguidGroups: more than %d AAGUIDs", maxAAGUIDs)
			}
			group.AAGUIDs = append(group.AAGUIDs, id.String())
		}
		groups = append(groups, group)
	}
	s.AAGUIDGroups = groups
	return s, nil
}

// Allows says whether a model may be enrolled.
func (s WebAuthnSettings) Allows(aaguid string) bool {
	if len(s.AAGUIDGroups) == 0 {
		return true
	}
	for _, g := range s.AAGUIDGroups {
		for _, a := range g.AAGUIDs {
			if strings.EqualFold(a, aaguid) {
				return true
			}
		}
	}
	return false
}

// OrgWebAuthn returns the org's authenticator for security keys, or
// store.ErrNotFound when it has none.
func OrgWebAuthn(ctx context.Context, tx store.Tx) (WebAuthn, error) {
	var w WebAuthn
	var settings string
	var created, updated int64
	err := tx.QueryRowContext(ctx, `SELECT id, status, settings, created_at, updated_at FROM authenticators WHERE key = ?`, KeyWebAuthn).
		Scan(&w.ID, &w.Status, &settings, &created, &updated)
	if err != nil {
		return WebAuthn{}, found("the authenticator for security keys", err)
	}
	if err := json.Unmarshal([]byte(settings), &w.Settings); err != nil {
		return WebAuthn{}, fmt.Errorf("reading the settings of %s: %w", KeyWebAuthn, err)
	}
	if w.Settings, err = w.Settings.normal(); err != nil { // what is new since has its usual value
		return WebAuthn{}, fmt.Errorf("reading the settings of %s: %w", KeyWebAuthn, err)
	}
	w.CreatedAt, w.UpdatedAt = store.Time(created), store.Time(updated)
	return w, nil
}

// EnsureWebAuthn gives the org its authenticator for security keys: switched off
// as long as nobody has switched it on, or, if active, switched on unless
// somebody has changed it.
func EnsureWebAuthn(ctx context.Context, tx store.Tx, active bool, now time.Time) (WebAuthn, error) {
	settings, err := WebAuthnSettings{}.normal()
	if err != nil {
		return WebAuthn{}, err
	}
	doc, err := json.Marshal(settings)
	if err != nil {
		return WebAuthn{}, err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO authenticators (id, key, status, settings, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (key) DO NOTHING`, ids.New(ids.Authenticator), KeyWebAuthn, AuthenticatorInactive, string(doc), store.Millis(now), store.Millis(now)); err != nil {
		return WebAuthn{}, fmt.Errorf("adding the authenticator for security keys: %w", err)
	}
	if active {
		if _, err := tx.ExecContext(ctx, `UPDATE authenticators SET status = ? WHERE key = ? AND updated_at = created_at`,
			AuthenticatorActive, KeyWebAuthn); err != nil {
			return WebAuthn{}, fmt.Errorf("switching on the authenticator for security keys: %w", err)
		}
	}
	return OrgWebAuthn(ctx, tx)
}

// SetWebAuthn changes which security keys are taken.
func SetWebAuthn(ctx context.Context, tx store.Tx, s WebAuthnSettings, now time.Time) error {
	s, err := s.normal()
	if err != nil {
		return err
	}
	doc, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return changeWebAuthn(ctx, tx, `settings = ?`, string(doc), now)
}

// SetWebAuthnStatus switches security keys on or off. Those that are enrolled
// stay enrolled.
func SetWebAuthnStatus(ctx context.Context, tx store.Tx, status string, now time.Time) error {
	if status != AuthenticatorActive && status != AuthenticatorInactive {
		return fmt.Errorf("%w: status", ErrWebAuthnSettings)
	}
	return changeWebAuthn(ctx, tx, `status = ?`, status, now)
}

// changeWebAuthn also notes that somebody has changed it: updated_at is after
// created_at from then on, whatever the clock says.
func changeWebAuthn(ctx context.Context, tx store.Tx, set, value string, now time.Time) error {
	if _, err := tx.ExecContext(ctx, `UPDATE authenticators SET `+set+`, updated_at = MAX(?, created_at + 1) WHERE key = ?`, value, store.Millis(now), KeyWebAuthn); err != nil {
		return fmt.Errorf("changing the authenticator for security keys: %w", err)
	}
	return nil
}
