package harness

import (
	"context"
	"fmt"
)

// The fields and buttons that every sign-in surface has in common: both
// generations of the widget and the org's own page.
const (
	FieldIdentifier = `input[name="identifier"]`
	FieldPassword   = `input[name="credentials.passcode"][type="password"]`
	buttonSubmit    = `input[type="submit"], button[type="submit"]`
	// In turn: generation 2, generation 3, the own page.
	rowSignedNonce = `[data-se="okta_verify-signed_nonce"] a, button:has([data-se="okta_verify-signed_nonce"]), button[data-se="okta_verify-signed_nonce"]`

	// In turn: generation 2, generation 3 (whose button has no name of its own:
	// the first one in the form), the own page.
	buttonLaunch = `.okta-verify-container a, form[data-se="o-form"] button[type="button"]:not([data-se]), [data-se="launch-authenticator"]`
	linkCancel   = `[data-se="cancel"]`

	// ResultShown is true once a page of the harness shows how it ended.
	ResultShown = `document.getElementById('result')?.textContent`

	// WaitsForDevice is true once the page waits for the agent on this device.
	WaitsForDevice = `performance.getEntriesByType('resource').some(e => e.name.endsWith('/probe'))`
)

// Identify types the user's name on whatever sign-in surface the page shows.
func (p *Page) Identify(ctx context.Context, user string) error {
	if err := p.Fill(ctx, FieldIdentifier, user); err != nil {
		return err
	}
	return p.clickUntilHeard(ctx, buttonSubmit)
}

// EnterPassword types the password and sends it off.
func (p *Page) EnterPassword(ctx context.Context, password string) error {
	if err := p.Fill(ctx, FieldPassword, password); err != nil {
		return err
	}
	return p.clickUntilHeard(ctx, buttonSubmit)
}

// GoOn takes the sign-in past the password from wherever the surface stands
// after it was loaded; it may even be past it already.
func (p *Page) GoOn(ctx context.Context, user, password string) error {
	sees := func(selector string) string { return visible + "(" + quote(selector) + ")" }
	if err := p.Until(ctx, "a step", sees(FieldIdentifier)+"||"+sees(FieldPassword)+"||"+WaitsForDevice); err != nil {
		return err
	}
	if p.Sees(ctx, FieldIdentifier) {
		if err := p.Identify(ctx, user); err != nil {
			return err
		}
		if err := p.WaitFor(ctx, FieldPassword); err != nil {
			return err
		}
	}
	if p.Sees(ctx, FieldPassword) {
		return p.EnterPassword(ctx, password)
	}
	return nil
}

// clickUntilHeard clicks, and again when nothing happens: generation 2 turns a
// deaf ear to a click that comes within a moment of the last answer.
func (p *Page) clickUntilHeard(ctx context.Context, selector string) error {
	sent := len(p.Exchanges(""))
	for {
		if err := p.Click(ctx, selector); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, nothingHappens)
		happened := await(wait, func() bool { return len(p.Exchanges("")) > sent })
		cancel()
		if happened || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// VerifyWithDevice waits until the expression end is true. If the surface asks
// how to verify first, it chooses to sign with this device.
func (p *Page) VerifyWithDevice(ctx context.Context, what, end string) error {
	choice := visible + "(" + quote(rowSignedNonce) + ") && !(" + WaitsForDevice + ")"
	if err := p.Until(ctx, what, "("+end+") || ("+choice+")"); err != nil {
		return err
	}
	var choose bool
	if err := p.Eval(ctx, &choose, "!("+end+") && !!("+choice+")"); err == nil && choose {
		return p.VerifyAgain(ctx, what, end)
	}
	return p.Until(ctx, what, end)
}

// VerifyAgain chooses this device once the surface offers it, and waits until
// the expression end is true.
func (p *Page) VerifyAgain(ctx context.Context, what, end string) error {
	if err := p.clickUntilHeard(ctx, rowSignedNonce); err != nil {
		return fmt.Errorf("choosing this device: %w", err)
	}
	return p.Until(ctx, what, end)
}

// LaunchAgent clicks the button that asks the device who is signing in.
func (p *Page) LaunchAgent(ctx context.Context) error {
	return p.Click(ctx, buttonLaunch)
}

// StartOver goes back to the first step.
func (p *Page) StartOver(ctx context.Context) error { return p.Click(ctx, linkCancel) }
