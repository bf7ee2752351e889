package directory

import (
	"context"
	"errors"
	"fmt"

	"countersign.dev/org/store"
)

// NumberChallenge says when a push asks for the number that the sign-in page
// shows. What is not one of the known values counts as Always.
type NumberChallenge string

// The values of NumberChallenge.
const (
	NumberNever    NumberChallenge = "NEVER"
	NumberHighRisk NumberChallenge = "HIGH_RISK_ONLY" // unless the browser and the address are known
	NumberAlways   NumberChallenge = "ALWAYS"
)

// ErrNumberChallenge says that a value of NumberChallenge is none of the known.
var ErrNumberChallenge = errors.New("want NEVER, HIGH_RISK_ONLY or ALWAYS")

// Asks says whether a push asks for the number, given whether the sign-in
// comes from somewhere new.
func (n NumberChallenge) Asks(unusual bool) bool {
	switch n {
	case NumberNever:
		return false
	case NumberHighRisk:
		return unusual
	default:
		return true
	}
}

// SetNumberChallenge changes when pushes ask for the number.
func SetNumberChallenge(ctx context.Context, tx store.Tx, n NumberChallenge) error {
	switch n {
	case NumberNever, NumberHighRisk, NumberAlways:
	default:
		return fmt.Errorf("changing the number challenge: %w", ErrNumberChallenge)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE org SET number_challenge = ?`, string(n)); err != nil {
		return fmt.Errorf("changing the number challenge: %w", err)
	}
	return nil
}
