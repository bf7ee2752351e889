package signin

import (
	"context"
	"errors"

	"countersign.dev/okta"
)

// Engine runs sign-ins.
type Engine struct {
	d Deps
}

// New makes an engine.
func New(d Deps) (*Engine, error) {
	if d.DB == nil || d.Signing == nil || d.Hasher == nil || d.BaseURL == "" {
		return nil, errors.New("making the sign-in engine: database, signing keys, hasher and base URL are required")
	}
	return &Engine{d: d}, nil
}

// Start begins a sign-in.
func (e *Engine) Start(ctx context.Context, in Intent) (Handle, error) {
	return Handle{}, errors.ErrUnsupported
}

// Complete takes a finished Redirect sign-in, once.
func (e *Engine) Complete(ctx context.Context, stateToken okta.Secret) (Completed, error) {
	return Completed{}, errors.ErrUnsupported
}

// AnswerChallenge takes an authenticator's answer to the challenge txID.
func (e *Engine) AnswerChallenge(ctx context.Context, txID string, req okta.AnswerRequest) error {
	return errors.ErrUnsupported
}
