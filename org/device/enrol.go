package device

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/directory"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// Registry changes enrolments. Its errors for callers are *okta.Error.
type Registry struct {
	db     *store.DB
	orgURL string // the audience of what devices sign; no trailing slash
	now    func() time.Time
	tell   func(enrolmentIDs []string) // that there are notices for them
}

// NewRegistry makes a registry for the org at orgURL.
func NewRegistry(db *store.DB, orgURL string, now func() time.Time) *Registry {
	if now == nil {
		now = time.Now
	}
	return &Registry{db: db, orgURL: orgURL, now: now, tell: func([]string) {}}
}

// OnNotice sets what is called, after each commit, with the enrolments that
// there are new notices for. It belongs before the first use of the registry.
func (r *Registry) OnNotice(tell func(enrolmentIDs []string)) { r.tell = tell }

// Authority says who lets a device be enrolled: a signed-in user, or the
// bearer of an enrolment link. The zero value lets nobody.
type Authority struct {
	userID  string
	link    okta.Secret
	further error // why it is not good for a further device; nil: it is
}

// ByUser is the authority of a user who signed in and granted the scope.
func ByUser(id string) Authority { return Authority{userID: id} }

// ForTheFirst is the authority for a user's first device alone; why is what it
// lacks for another. Who signed in with a password could otherwise add a device
// that then counts as the second factor.
func (by Authority) ForTheFirst(why error) Authority {
	by.further = why
	return by
}

// ByLink is the authority of an enrolment link's token.
func ByLink(token okta.Secret) Authority { return Authority{link: token} }

// Create enrols a device, or returns the enrolment that an earlier attempt
// with the same proof-of-possession key made. What the authority is worth is
// decided in the transaction that enrols, so that a link serves one device
// however many ask at once.
func (r *Registry) Create(ctx context.Context, by Authority, req okta.EnrolmentRequest) (Enrolment, error) {
	w, err := validate(req)
	if err != nil {
		return Enrolment{}, err
	}
	var known *attestation
	var doubt error // why the known device is not believed
	if w.knownDevice() {
		a, err := r.verifyAttestation(ctx, w.device)
		var refusal *okta.Error
		switch {
		case err == nil:
			known = &a
		case errors.As(err, &refusal):
			// An attestation is good once, so a repeated request has no fresh
			// one. It needs none: nothing new is made for it.
			doubt = err
		default:
			return Enrolment{}, err
		}
	}
	var out Enrolment
	var told []string
	err = r.db.Write(ctx, func(tx store.Tx) error {
		now := r.now()
		link, userID, err := by.resolve(ctx, tx, w.pop, now)
		if err != nil {
			return err
		}
		if err := activeUser(ctx, tx, userID); err != nil {
			return err
		}
		if link != nil && link.enrolmentID != "" {
			if out, err = ByID(ctx, tx, link.enrolmentID); err != nil {
				return err
			}
			if err := refusalOf(out); err != nil {
				return err
			}
			return revealSeed(ctx, tx, &out)
		}
		out, err = byPoP(ctx, tx, userID, w.pop)
		switch {
		case err == nil:
			if err := refusalOf(out); err != nil {
				return err
			}
		case !errors.Is(err, store.ErrNotFound):
			return err
		case doubt != nil:
			return doubt
		default:
			if err := by.admits(ctx, tx, userID); err != nil {
				return err
			}
			if out, err = enrol(ctx, tx, userID, w, known, now); err != nil {
				return err
			}
			if told, err = announce(ctx, tx, out, []string{okta.NoticeEnrolled}, now); err != nil {
				return err
			}
		}
		if link != nil {
			if err := link.consume(ctx, tx, out, w.pop, now); err != nil {
				return err
			}
		}
		return revealSeed(ctx, tx, &out)
	})
	if err != nil {
		return Enrolment{}, err
	}
	r.tell(told)
	return out, nil
}

// admits says whether the authority is good for one more device. One that is
// suspended counts: losing a device opens no door. So does a security key.
func (by Authority) admits(ctx context.Context, tx store.Tx, userID string) error {
	if by.further == nil {
		return nil
	}
	list, err := OfUser(ctx, tx, userID)
	if err != nil {
		return err
	}
	var keys int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM security_keys WHERE user_id = ?`, userID).Scan(&keys); err != nil {
		return fmt.Errorf("counting security keys: %w", err)
	}
	if len(list)+keys > 0 {
		return by.further
	}
	return nil
}

// resolve finds out for whom the authority speaks.
func (by Authority) resolve(ctx context.Context, tx store.Tx, pop string, now time.Time) (*redeemed, string, error) {
	switch {
	case by.link != "" && by.userID == "":
		link, err := redeem(ctx, tx, by.link, pop, now)
		return &link, link.userID, err
	case by.userID != "" && by.link == "":
		return nil, by.userID, nil
	default:
		return nil, "", okta.NewError(okta.CodeInvalidToken)
	}
}

// enrol stores a new enrolment, on the known device or on a new one.
func enrol(ctx context.Context, tx store.Tx, userID string, w wanted, known *attestation, now time.Time) (Enrolment, error) {
	info, err := directory.Org(ctx, tx)
	if err != nil {
		return Enrolment{}, err
	}
	if w.authenticatorID != info.Authenticators.OktaVerify {
		return Enrolment{}, invalid("authenticatorId: not an app authenticator of this org")
	}
	var all []Key
	for _, m := range w.methods {
		all = append(all, m.Keys...)
	}
	if err := unusedKeys(ctx, tx, all, ""); err != nil {
		return Enrolment{}, err
	}
	deviceID, err := putDevice(ctx, tx, w, known, now)
	if err != nil {
		return Enrolment{}, err
	}
	id := ids.New(ids.Enrolment)
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO enrolments (id, authenticator_id, user_id, device_id, status, pop_thumbprint, created_at, updated_at)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		id, w.authenticatorID, userID, deviceID, StatusActive, w.pop, store.Millis(now), store.Millis(now)); err != nil {
		return Enrolment{}, fmt.Errorf("storing an enrolment: %w", err)
	}
	for _, m := range w.methods {
		if err := insertMethod(ctx, tx, id, m, now); err != nil {
			return Enrolment{}, err
		}
	}
	return ByID(ctx, tx, id)
}

func putDevice(ctx context.Context, tx store.Tx, w wanted, known *attestation, now time.Time) (string, error) {
	profile, err := profileOf(w.device)
	if err != nil {
		return "", err
	}
	if known == nil {
		if w.clientInstance == nil {
			return "", invalidToken("a known device must attest its client instance key")
		}
		key, err := json.Marshal(w.clientInstance)
		if err != nil {
			return "", fmt.Errorf("encoding a client instance key: %w", err)
		}
		id := ids.New(ids.Device)
		if _, err := tx.ExecContext(ctx,
			`INSERT INTO devices (id, client_instance_id, client_instance_key, status, profile, created_at, updated_at)
			 VALUES (?, ?, ?, ?, ?, ?, ?)`,
			id, ids.New(ids.ClientInstance), string(key), StatusActive, profile, store.Millis(now), store.Millis(now)); err != nil {
			return "", fmt.Errorf("storing a device: %w", err)
		}
		return id, nil
	}
	// The attestation was verified before the transaction began; what it
	// rested on must still be so.
	d, err := deviceByID(ctx, tx, known.device.ID)
	if err != nil {
		return "", err
	}
	if refusal := d.Refusal(); refusal != nil {
		return "", refusal
	}
	if thumbprint, err := d.ClientInstanceKey.Thumbprint(); err != nil || thumbprint != known.thumbprint {
		return "", errors.Join(invalidToken("the client instance key has changed"), err)
	}
	if err := w.apartFrom(known.thumbprint); err != nil {
		return "", err
	}
	if err := known.claims.use(ctx, tx, now); err != nil {
		return "", err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE devices SET profile = ?, updated_at = ? WHERE id = ?`, profile, store.Millis(now), d.ID); err != nil {
		return "", fmt.Errorf("updating a device: %w", err)
	}
	return d.ID, nil
}

// profileOf is what is kept of the device's description of itself.
func profileOf(d okta.Device) (string, error) {
	d.ID, d.ClientInstanceID, d.ClientInstanceKey, d.Attestation = "", "", nil, nil
	b, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("encoding a device profile: %w", err)
	}
	return string(b), nil
}

func deviceByID(ctx context.Context, tx store.Tx, id string) (Device, error) {
	d := Device{ID: id}
	var key, profile string
	var created, updated int64
	err := tx.QueryRowContext(ctx,
		`SELECT client_instance_id, status, client_instance_key, profile, created_at, updated_at FROM devices WHERE id = ?`, id).
		Scan(&d.ClientInstanceID, &d.Status, &key, &profile, &created, &updated)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return Device{}, fmt.Errorf("looking up the device: %w", err)
	}
	d.CreatedAt, d.UpdatedAt = store.Time(created), store.Time(updated)
	if err := errors.Join(json.Unmarshal([]byte(key), &d.ClientInstanceKey), json.Unmarshal([]byte(profile), &d.Profile)); err != nil {
		return Device{}, fmt.Errorf("reading device %s: %w", id, err)
	}
	return d, nil
}

func insertMethod(ctx context.Context, tx store.Tx, enrolmentID string, m Method, now time.Time) error {
	types, err := json.Marshal(m.TransactionTypes)
	if err != nil {
		return fmt.Errorf("encoding transaction types: %w", err)
	}
	id := ids.New(ids.MethodEnrolment)
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO enrolment_methods (id, enrolment_id, type, status, push_token, transaction_types, created_at, updated_at)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		id, enrolmentID, string(m.Type), m.Status, m.PushToken, string(types), store.Millis(now), store.Millis(now)); err != nil {
		return fmt.Errorf("storing a method: %w", err)
	}
	for _, k := range m.Keys {
		if err := putKey(ctx, tx, id, k, now); err != nil {
			return err
		}
	}
	if m.Type == okta.MethodTOTP {
		return putSeed(ctx, tx, id)
	}
	return nil
}

// putKey adds a method's key of a role or replaces it.
func putKey(ctx context.Context, tx store.Tx, methodID string, k Key, now time.Time) error {
	jwk, err := json.Marshal(k.JWK)
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO method_keys (method_id, role, thumbprint, jwk, attested, created_at) VALUES (?, ?, ?, ?, 0, ?)
		 ON CONFLICT (method_id, role) DO UPDATE SET thumbprint = excluded.thumbprint, jwk = excluded.jwk,
		   attested = 0, created_at = excluded.created_at`,
		methodID, string(k.Role), k.Thumbprint, string(jwk), store.Millis(now)); err != nil {
		return fmt.Errorf("storing a key: %w", err)
	}
	return nil
}

// unusedKeys refuses keys that another live enrolment has: one key answers for
// one enrolment, above all not for two people.
func unusedKeys(ctx context.Context, tx store.Tx, keys []Key, own string) error {
	for _, k := range keys {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM method_keys k
			JOIN enrolment_methods m ON m.id = k.method_id JOIN enrolments e ON e.id = m.enrolment_id
			WHERE k.thumbprint = ? AND e.status <> 'DELETED' AND e.id <> ?`, k.Thumbprint, own).Scan(&n); err != nil {
			return fmt.Errorf("looking for a key: %w", err)
		}
		if n > 0 {
			return invalid("keys.%s: the key belongs to another enrolment", k.Role)
		}
	}
	return nil
}

func activeUser(ctx context.Context, tx store.Tx, userID string) error {
	u, err := directory.UserByID(ctx, tx, userID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return okta.NewError(okta.CodeUserDeleted)
	case err != nil:
		return err
	}
	if refusal := u.Refusal(); refusal != nil {
		return refusal
	}
	return nil
}

func refusalOf(e Enrolment) error {
	if refusal := e.Refusal(); refusal != nil {
		return refusal // not as a nil *okta.Error in an error
	}
	return nil
}
