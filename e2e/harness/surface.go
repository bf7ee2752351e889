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
	rowSignedNonce  = `[data-se="okta_verify-signed_nonce"] a, [data-se="okta_verify-signed_nonce"] button, button[data-se="okta_verify-signed_nonce"]`

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
	return p.Click(ctx, buttonSubmit)
}

// EnterPassword types the password and sends it off.
func (p *Page) EnterPassword(ctx context.Context, password string) error {
	if err := p.Fill(ctx, FieldPassword, password); err != nil {
		return err
	}
	return p.Click(ctx, buttonSubmit)
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
	if err := p.Click(ctx, rowSignedNonce); err != nil {
		return fmt.Errorf("choosing this device: %w", err)
	}
	return p.Until(ctx, what, end)
}

// launch finds the button that asks the device before a name is typed.
const launch = `[data-se="launch-authenticator"], [data-se="okta_verify-signed_nonce-launch"], .okta-verify-container a, .okta-verify-container button`

// LaunchAgent clicks the button that asks the device who is signing in.
func (p *Page) LaunchAgent(ctx context.Context) error { return p.Click(ctx, launch) }
