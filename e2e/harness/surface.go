package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The fields and buttons that every sign-in surface has in common: both
// generations of the widget and the org's own page.
const (
	FieldIdentifier = `input[name="identifier"]`
	FieldPassword   = `input[name="credentials.passcode"][type="password"]`
	buttonSubmit    = `input[type="submit"], button[type="submit"]`
	rowSignedNonce  = `[data-se="okta_verify-signed_nonce"]`
	rowPush         = `[data-se="okta_verify-push"]`
	rowTOTP         = `[data-se="okta_verify-totp"]`
	fieldCode       = `input[name="credentials.totp"]`

	// In turn: generation 2, generation 3, the own page.
	challengeNumber = `[data-se="challenge-number"], [data-se="numberchallenge-instr-value"] .strong, p[data-se="number"]`

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
	return p.clickUntilSent(ctx, selector, "")
}

// clickUntilSent clicks until the page has sent a request whose URL ends with
// path: a page that polls sends others by itself. Requests count from when the
// thing to click is there, since what came before may still be on its way.
func (p *Page) clickUntilSent(ctx context.Context, selector, path string) error {
	if err := p.WaitFor(ctx, selector); err != nil {
		return err
	}
	count := func() (n int) {
		for _, x := range p.Exchanges(path) {
			if strings.HasSuffix(x.URL, path) {
				n++
			}
		}
		return n
	}
	sent := count()
	for {
		if err := p.Click(ctx, selector); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, nothingHappens)
		happened := await(wait, func() bool { return count() > sent })
		cancel()
		if happened || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// VerifyWithDevice waits until the expression end is true. If the surface asks
// how to verify first, it chooses to sign with this device.
func (p *Page) VerifyWithDevice(ctx context.Context, what, end string) error {
	choice := visible + "(" + quote(row(rowSignedNonce)) + ") && !(" + WaitsForDevice + ")"
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
	if err := p.clickUntilSent(ctx, row(rowSignedNonce), pathChoice); err != nil {
		return fmt.Errorf("choosing this device: %w", err)
	}
	return p.Until(ctx, what, end)
}

// row is what to click to choose the method with this name, in turn in
// generation 2, generation 3 and on the own page.
func row(name string) string { return name + " a, button:has(" + name + "), button" + name }

// ChoosePush has the org ask the person's devices.
func (p *Page) ChoosePush(ctx context.Context) error {
	if err := p.clickUntilSent(ctx, row(rowPush), pathChoice); err != nil {
		return fmt.Errorf("choosing a push: %w", err)
	}
	return nil
}

// ChooseCode goes to the step that takes a one-time code.
func (p *Page) ChooseCode(ctx context.Context) error {
	if err := p.clickUntilSent(ctx, row(rowTOTP), pathChoice); err != nil {
		return fmt.Errorf("choosing a one-time code: %w", err)
	}
	return p.WaitFor(ctx, fieldCode)
}

// EnterCode types a one-time code and sends it off.
func (p *Page) EnterCode(ctx context.Context, code string) error {
	if err := p.Fill(ctx, fieldCode, code); err != nil {
		return err
	}
	return p.clickUntilHeard(ctx, buttonSubmit)
}

// In turn: generation 2, generation 3, the own page. What is offered after a
// rejected push, and after a while of waiting.
const (
	buttonAskAgain = `form[data-se="o-form"] [data-type="save"], form[data-se="o-form"] button[type="submit"], form[data-se="o-form"] button:not([data-se]), [data-se="resend"]`
	linkResend     = `a.resend-number-challenge, .resend-number-challenge a, .resend-number-challenge button, [data-se="resend"]`
)

// What is shown where a push is the only way: in turn in generation 2,
// generation 3, and on the own page.
const (
	CheckAutoPush  = `.custom-checkbox:has(input[name="authenticator.autoChallenge"]) label, label:has(input[name="authenticator.autoChallenge"]), label:has(input[name="autoChallenge"])`
	buttonSendPush = `input[type="submit"], form[data-se="o-form"] [data-type="save"], form[data-se="o-form"] button[type="submit"], button[type="submit"], [data-se="send-push"]`
)

// SendPush has a push sent where it is the only way; auto says that the person
// need not be asked next time.
func (p *Page) SendPush(ctx context.Context, auto bool) error {
	if auto {
		checked := `!!document.querySelector('input[name="authenticator.autoChallenge"], input[name="autoChallenge"]')?.checked`
		if err := p.Click(ctx, CheckAutoPush); err != nil {
			return err
		}
		if err := p.Until(ctx, "the tick", checked); err != nil {
			return err
		}
	}
	return p.clickUntilSent(ctx, buttonSendPush, pathChoice)
}

// AskAgain has a push sent once more after one that was rejected.
func (p *Page) AskAgain(ctx context.Context) error {
	return p.clickUntilSent(ctx, buttonAskAgain, pathResend)
}

// Resend has a push sent once more while the page still waits for the first.
func (p *Page) Resend(ctx context.Context) error {
	return p.clickUntilSent(ctx, linkResend, pathResend)
}

// Where the choice of a method and a resend go.
const (
	pathChoice = "/idp/idx/challenge"
	pathResend = "/challenge/resend"
)

// NumberAmong waits until the page shows one of these numbers.
func (p *Page) NumberAmong(ctx context.Context, numbers []string) (string, error) {
	for {
		n, err := p.Number(ctx)
		if err != nil || slices.Contains(numbers, n) {
			return n, err
		}
	}
}

// Number waits for the number that the person has to pick on the device, and
// returns it.
func (p *Page) Number(ctx context.Context) (string, error) {
	const number = "(" + visible + ")"
	shown := number + "(" + "`" + challengeNumber + "`" + ")?.innerText.match(/^\\s*(\\d\\d)\\s*$/)?.[1]"
	if err := p.Until(ctx, "the number to pick", shown); err != nil {
		return "", err
	}
	var n string
	err := p.Eval(ctx, &n, shown)
	return n, err
}

// LaunchAgent clicks the button that asks the device who is signing in.
func (p *Page) LaunchAgent(ctx context.Context) error {
	return p.Click(ctx, buttonLaunch)
}

// StartOver goes back to the first step.
func (p *Page) StartOver(ctx context.Context) error { return p.Click(ctx, linkCancel) }
