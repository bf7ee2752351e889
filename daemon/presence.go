package daemon

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/verification"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/ipc/api"
)

// present is a person who was verified before something was begun that takes
// their verification at its end. In between is a sign-in in the browser, which
// may take longer than a verification is good for: then they are verified once
// more, by the same PIN, or asked again. The PIN lies in memory until done, or
// until the screen is locked.
type present struct {
	f     front
	c     *core
	about audit.Record

	mu        sync.Mutex // guards what follows
	requests  []verification.Request
	held      []verification.Verified // by request; the zero value was used or has ended
	forgotten bool                    // what they gave was wiped
}

// presents are those that are not done.
type presents struct {
	mu  sync.Mutex
	all map[*present]struct{}
}

func (ps *presents) add(p *present) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.all == nil {
		ps.all = map[*present]struct{}{}
	}
	ps.all[p] = struct{}{}
}

func (ps *presents) remove(p *present) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.all, p)
}

// forget wipes what people gave who are in the middle of something.
func (ps *presents) forget() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for p := range ps.all {
		p.forget()
	}
}

// errForgotten says that what was begun takes the person once more.
var errForgotten = &api.Error{Status: http.StatusForbidden, Code: "verification_ended", Message: "the screen was locked meanwhile, which has ended your verification", Hint: "begin again"}

// present verifies who asks, in all the ways that they give, so that nothing is
// begun by somebody who is not the person. Nothing given is nobody verified, and
// no error: what takes a verification says so.
func (f front) present(ctx context.Context, c *core, purpose, reason string, about audit.Record, pin api.PIN, method string) (*present, error) {
	p := &present{f: f, c: c, about: about}
	byKey := verification.Method(method) == verification.SecurityKey // then the PIN is the key's
	if len(pin) > 0 && !byKey {
		p.requests = append(p.requests, verification.Request{
			Purpose: purpose, Reason: reason, Method: verification.PIN, PIN: slices.Clone(devicekey.Secret(pin)), Fresh: true})
	}
	switch m := verification.Method(method); {
	case m == "" || m == verification.PIN && len(pin) > 0:
	case m == verification.PIN:
		return nil, &api.Error{Status: http.StatusForbidden, Code: "verification_required", Message: "this takes the PIN"}
	default:
		r := verification.Request{Purpose: purpose, Reason: reason, Method: m, Fresh: true}
		if byKey {
			r.KeyPIN = slices.Clone(devicekey.Secret(pin))
		}
		p.requests = append(p.requests, r)
	}
	p.held = make([]verification.Verified, len(p.requests))
	f.d.presents.add(p)
	if err := p.refresh(ctx); err != nil {
		p.done()
		return nil, err
	}
	return p, nil
}

// refresh verifies the person again where that has ended. One caller at a time.
func (p *present) refresh(ctx context.Context) error {
	for i := range p.requests {
		epoch := p.f.d.lately.epoch() // first: a lock from here on counts
		r, ended, err := p.lapsed(i)
		if err != nil || !ended {
			clear(r.PIN)
			clear(r.KeyPIN)
			if err != nil {
				return err
			}
			continue
		}
		verifying, cancel := context.WithTimeout(ctx, verifyWait)
		verified, err := p.f.d.verifyBy(verifying, p.c, epoch, p.about, r)
		cancel()
		clear(r.PIN)
		clear(r.KeyPIN)
		if err == nil {
			err = p.keep(i, verified)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lapsed returns a request whose verification has ended, with a PIN of its own,
// which the caller clears.
func (p *present) lapsed(i int) (r verification.Request, ended bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r = p.requests[i]
	r.PIN, r.KeyPIN = slices.Clone(r.PIN), slices.Clone(r.KeyPIN)
	if p.forgotten {
		return r, false, errForgotten
	}
	if p.held[i].For(r.Purpose) {
		return r, false, nil
	}
	p.held[i].Wipe()
	p.held[i] = verification.Verified{}
	return r, true, nil
}

func (p *present) keep(i int, v verification.Verified) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forgotten {
		v.Wipe()
		return errForgotten
	}
	p.held[i] = v
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
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.forgotten {
			return nil, errForgotten
		}
		taken := slices.Clone(p.held)
		clear(p.held)
		return taken, nil
	}
}

// forget wipes what was not taken, and has whoever comes for it begin again.
func (p *present) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgotten = len(p.requests) > 0
	for i := range p.requests {
		clear(p.requests[i].PIN)
		clear(p.requests[i].KeyPIN)
		p.held[i].Wipe()
	}
	clear(p.held)
}

// done is forget, for good.
func (p *present) done() {
	p.f.d.presents.remove(p)
	p.forget()
}
