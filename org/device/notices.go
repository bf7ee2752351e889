package device

import (
	"context"
	"fmt"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/store"
)

const (
	noticesKept   = 30 * 24 * time.Hour
	noticesListed = 50
)

// announce leaves a notice of each event for the user's other devices. It
// returns their enrolments, for whoever waits for one of them.
func announce(ctx context.Context, tx store.Tx, about Enrolment, events []string, now time.Time) ([]string, error) {
	return leave(ctx, tx, about.UserID, okta.Notice{EnrolmentID: about.ID, Device: about.Device.Profile.DisplayName}, events, now)
}

// AnnounceSecurityKey leaves a notice for the user's devices that a security key of
// that id and name was enrolled for them. It returns the devices' enrolments, for
// whoever waits for one of them.
func AnnounceSecurityKey(ctx context.Context, tx store.Tx, userID, id, name string, now time.Time) ([]string, error) {
	return leave(ctx, tx, userID, okta.Notice{EnrolmentID: id, Device: name}, []string{okta.NoticeSecurityKeyEnrolled}, now)
}

func leave(ctx context.Context, tx store.Tx, userID string, about okta.Notice, events []string, now time.Time) ([]string, error) {
	if len(events) == 0 {
		return nil, nil
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM notices WHERE created_at <= ?`, store.Millis(now.Add(-noticesKept))); err != nil {
		return nil, fmt.Errorf("removing old notices: %w", err)
	}
	others, err := OfUser(ctx, tx, userID)
	if err != nil {
		return nil, err
	}
	var told []string
	for _, e := range others {
		if e.ID == about.EnrolmentID || !e.Active() {
			continue
		}
		for _, event := range events {
			if _, err := tx.ExecContext(ctx, `INSERT INTO notices (enrolment_id, event, about, device, created_at) VALUES (?, ?, ?, ?, ?)`,
				e.ID, event, about.EnrolmentID, about.Device, store.Millis(now)); err != nil {
				return nil, fmt.Errorf("leaving a notice: %w", err)
			}
		}
		told = append(told, e.ID)
	}
	return told, nil
}

// Notices lists what an enrolment is to be told that is newer than the notice
// after, oldest first: the newest ones, if there are many.
func Notices(ctx context.Context, tx store.Tx, enrolmentID string, after int64, now time.Time) ([]okta.Notice, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, event, about, device, created_at FROM (
		  SELECT * FROM notices WHERE enrolment_id = ? AND id > ? AND created_at > ? ORDER BY id DESC LIMIT ?) AS newest ORDER BY id`,
		enrolmentID, after, store.Millis(now.Add(-noticesKept)), noticesListed)
	if err != nil {
		return nil, fmt.Errorf("listing notices: %w", err)
	}
	defer rows.Close()
	list := []okta.Notice{}
	for rows.Next() {
		var n okta.Notice
		var created int64
		if err := rows.Scan(&n.ID, &n.Event, &n.EnrolmentID, &n.Device, &created); err != nil {
			return nil, fmt.Errorf("listing notices: %w", err)
		}
		n.Created = okta.Timestamp(store.Time(created))
		list = append(list, n)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing notices: %w", err)
	}
	return list, nil
}

// NewestNotice is the id of the newest notice for an enrolment; 0 when there is
// none.
func NewestNotice(ctx context.Context, tx store.Tx, enrolmentID string, now time.Time) (id int64, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(id), 0) FROM notices WHERE enrolment_id = ? AND created_at > ?`,
		enrolmentID, store.Millis(now.Add(-noticesKept))).Scan(&id); err != nil {
		return 0, fmt.Errorf("looking for notices: %w", err)
	}
	return id, nil
}
