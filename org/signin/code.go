package signin

import (
	"context"
	"errors"

	"countersign.dev/okta"
	"countersign.dev/org/factor"
)

// Code takes a one-time code.
func (e *Engine) Code(ctx context.Context, handle okta.Secret, code okta.Secret) (View, error) {
	var taken factor.CodeResult // a code is good once, so a retry must not ask again
	owner := ""
	return e.step(ctx, handle, func(t *transaction) (outcome, error) {
		if t.state.Step != StepCode || t.user.ID == "" {
			return outcome{}, nil
		}
		if owner == "" || owner != t.user.ID {
			r, err := e.factors.Code(ctx, t.user.ID, code)
			if errors.Is(err, factor.ErrThrottled) {
				return outcome{message: &tooManyCodes}, nil
			}
			if err != nil {
				return outcome{}, err
			}
			taken, owner = r, t.user.ID
		}
		p, ok := taken.Proof()
		if !ok {
			owner = ""
			return outcome{message: &incorrectCode}, nil
		}
		t.prove(p, taken.EnrolmentID)
		if t.state.EnrolmentID == "" { // a key that has signed says more
			t.state.EnrolmentID, t.state.DeviceID = taken.EnrolmentID, taken.DeviceID
		}
		return outcome{changed: true}, e.proceed(ctx, t)
	})
}
