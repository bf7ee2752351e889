package daemon

import (
	"context"
	"net/http"
	"slices"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/ipc/api"
)

// present is a person who was verified before something was begun that takes
// their verification at its end. In between is a sign-in in the browser, which
// may take longer than a verification is good for: then they are verified once
// more, by the same PIN, or asked again. The PIN lies in memory until done.
type present struct {
	f        front
	c        *core
	about    audit.Record
	requests []verification.Request
	held     []verification.Verified // by request; the zero value was used or has ended
}

// present verifies who asks, in all the ways that they give, so that nothing is
// begun by somebody who is not the person. Nothing given is nobody verified, and
// no error: what takes a verification says so.
func (f front) present(ctx context.Context, c *core, purpose, reason string, about audit.Record, pin api.PIN, method string) (*present, error) {
	p := &present{f: f, c: c, about: about}
	if len(pin) > 0 {
		p.requests = append(p.requests, verification.Request{
			Purpose: purpose, Reason: reason, Method: verification.PIN, PIN: slices.Clone(devicekey.Secret(pin)), Fresh: true})
	}
	switch m := verification.Method(method); {
	case m == "" || m == verification.PIN && len(pin) > 0:
	case m == verification.PIN:
		return nil, &api.Error{Status: http.StatusForbidden, Code: "verification_required", Message: "this takes the PIN"}
	default:
		p.requests = append(p.requests, verification.Request{Purpose: purpose, Reason: reason, Method: m, Fresh: true})
	}
	p.held = make([]verification.Verified, len(p.requests))
	if err := p.refresh(ctx); err != nil {
		p.done()
		return nil, err
	}
	return p, nil
}

// refresh verifies the person again where that has ended.
func (p *present) refresh(ctx context.Context) error {
	for i, r := range p.requests {
		if p.held[i].For(r.Purpose) {
			continue
		}
		p.held[i].Wipe()
		p.held[i] = verification.Verified{}
		ctx, cancel := context.WithTimeout(ctx, verifyWait)
		verified, err := p.f.d.verifyBy(ctx, p.c, p.about, r)
		cancel()
		if err != nil {
			return err
		}
		p.held[i] = verified
	}
	return nil
}

// presence hands the verifications over, once each; whoever takes them wipes
// them. It is nil when there are none.
func (p *present) presence() account.Presence {
	if len(p.requests) == 0 {
		return nil
	}
	return func(ctx context.Context) ([]verification.Verified, error) {
		if err := p.refresh(ctx); err != nil {
			return nil, err
		}
		taken := slices.Clone(p.held)
		clear(p.held)
		return taken, nil
	}
}

// done wipes what was not taken.
func (p *present) done() {
	for i := range p.requests {
		clear(p.requests[i].PIN)
		p.held[i].Wipe()
	}
	clear(p.held)
}
