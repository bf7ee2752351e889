package harness

import (
	"context"
	"fmt"
)

// The fields and buttons that every sign-in surface has in common: both
// generations of the widget and the org's own page.
const (
	fieldIdentifier = `input[name="identifier"]`
	fieldPassword   = `input[name="credentials.passcode"][type="password"]`
	buttonSubmit    = `input[type="submit"], button[type="submit"]`
	rowSignedNonce  = `[data-se="okta_verify-signed_nonce"] a, [data-se="okta_verify-signed_nonce"] button, button[data-se="okta_verify-signed_nonce"]`

	// ResultShown is true once a page of the harness shows how it ended.
	ResultShown = `document.getElementById('result')?.textContent`
)

// Identify types the user's name on whatever sign-in surface the page shows.
func (p *Page) Identify(ctx context.Context, user string) error {
	if err := p.Fill(ctx, fieldIdentifier, user); err != nil {
		return err
	}
	return p.Click(ctx, buttonSubmit)
}

// EnterPassword types the password and sends it off.
func (p *Page) EnterPassword(ctx context.Context, password string) error {
	if err := p.Fill(ctx, fieldPassword, password); err != nil {
		return err
	}
	return p.Click(ctx, buttonSubmit)
}

// VerifyWithDevice waits until the expression end is true. If the surface asks
// how to verify before, it chooses to sign with this device.
func (p *Page) VerifyWithDevice(ctx context.Context, what, end string) error {
	row := visible + "(" + quote(rowSignedNonce) + ")"
	if err := p.Until(ctx, what, "("+end+") || "+row); err != nil {
		return err
	}
	var ended bool
	if err := p.Eval(ctx, &ended, "!!("+end+")"); err == nil && ended {
		return nil
	}
	if err := p.Click(ctx, rowSignedNonce); err != nil {
		return fmt.Errorf("choosing this device: %w", err)
	}
	return p.Until(ctx, what, end)
}
