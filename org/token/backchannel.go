package token

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

const (
	// BackchannelInterval is how long a client waits between two questions. Each
	// one too many makes it as much longer, for good.
	BackchannelInterval = 5 * time.Second
	// paceLeeway is how much too early a question may come: a network is no clock.
	paceLeeway = 500 * time.Millisecond
	// backchannelKeep is how long a request is known after its end, so that its
	// client hears that it has expired.
	backchannelKeep = 10 * time.Minute
)

// Poll is a client's question how a request over the back channel stands.
type Poll struct {
	ClientID            string
	AuthorizationServer string
	RequestID           okta.Secret
}

// OpenBackchannel notes a request over the back channel, by its id's digest.
func (s *Service) OpenBackchannel(ctx context.Context, p Poll, expiresAt time.Time) error {
	if p.ClientID == "" || p.RequestID == "" {
		return errors.New("noting a back-channel request: it names no client or has no id")
	}
	err := s.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM backchannel_requests WHERE expires_at < ?`,
			s.now().Add(-backchannelKeep).UnixMilli()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO backchannel_requests
			(digest, client_id, authorization_server, pace, asked_at, expires_at) VALUES (?, ?, ?, ?, 0, ?)`,
			ids.Digest(p.RequestID.Reveal()), p.ClientID, p.AuthorizationServer, BackchannelInterval/time.Second, expiresAt.UnixMilli())
		return err
	})
	if err != nil {
		return fmt.Errorf("noting a back-channel request: %w", err)
	}
	return nil
}

// PaceBackchannel lets a client ask how its request stands: not another's, not
// at the other server, and not too often. Of any number of questions at once
// one gets through.
func (s *Service) PaceBackchannel(ctx context.Context, p Poll) error {
	if p.RequestID == "" || len(p.RequestID.Reveal()) > maxSecret {
		return RequestIDInvalid
	}
	var refused error // committed with the transaction: the pace has changed
	err := s.db.Write(ctx, func(tx store.Tx) error {
		var (
			pace, asked int64
			digest      = ids.Digest(p.RequestID.Reveal())
			now         = s.now()
		)
		err := tx.QueryRowContext(ctx, `SELECT pace, asked_at FROM backchannel_requests
			WHERE digest = ? AND client_id = ? AND authorization_server = ?`, digest, p.ClientID, p.AuthorizationServer).Scan(&pace, &asked)
		if errors.Is(err, sql.ErrNoRows) {
			return RequestIDInvalid
		}
		if err != nil {
			return err
		}
		wait := time.Duration(pace) * time.Second
		if asked != 0 && now.Before(time.UnixMilli(asked).Add(wait-paceLeeway)) {
			pace, refused = pace+int64(BackchannelInterval/time.Second), SlowDown
		}
		_, err = tx.ExecContext(ctx, `UPDATE backchannel_requests SET pace = ?, asked_at = ? WHERE digest = ?`, pace, now.UnixMilli(), digest)
		return err
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return fmt.Errorf("pacing a back-channel request: %w", err)
	}
	return nil
}

// CloseBackchannel forgets a request whose outcome its client has heard.
func (s *Service) CloseBackchannel(ctx context.Context, p Poll) error {
	err := s.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM backchannel_requests WHERE digest = ? AND client_id = ?`,
			ids.Digest(p.RequestID.Reveal()), p.ClientID)
		return err
	})
	if err != nil {
		return fmt.Errorf("closing a back-channel request: %w", err)
	}
	return nil
}

// HintedUser returns whom an ID token speaks of that a client sends as a hint:
// one that this server once gave to that client. It may have expired, since it
// proves nothing about now.
func (s *Service) HintedUser(server, clientID, hint string) (userID string, err error) {
	issuer, known := s.Issuer(server)
	if !known || clientID == "" || hint == "" || len(hint) > maxSecret {
		return "", HintInvalid
	}
	var c idClaims
	if err := s.signing.Verify(hint, jose.IDToken, &c); err != nil {
		return "", fmt.Errorf("%w: %w", HintInvalid, err)
	}
	if !strings.HasPrefix(c.ID, "ID.") || c.Issuer != issuer || c.Audience != clientID || c.Subject == "" {
		return "", fmt.Errorf("%w: it is no ID token of this client", HintInvalid)
	}
	return c.Subject, nil
}
