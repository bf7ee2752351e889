package harness

import (
	"context"
	"fmt"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// VirtualKey is a security key that the browser plugs into a tab for tests. It
// is touched at once whenever it is asked.
type VirtualKey struct {
	page *Page
	id   webauthn.AuthenticatorID
}

// PlugInKey plugs in a security key. verifies says that it has a PIN, or a
// finger, and that it is given.
func (p *Page) PlugInKey(ctx context.Context, verifies bool) (*VirtualKey, error) {
	c, cancel := p.within(ctx)
	defer cancel()
	if _, err := chromedp.Call(c, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		return nil, fmt.Errorf("plugging in a key: %w", err)
	}
	added, err := chromedp.Call(c, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportUsb,
		HasUserVerification: verifies, IsUserVerified: verifies, AutomaticPresenceSimulation: true,
	}})
	if err != nil {
		return nil, fmt.Errorf("plugging in a key: %w", err)
	}
	return &VirtualKey{p, added.AuthenticatorID}, nil
}

// Unplug takes the key out.
func (k *VirtualKey) Unplug(ctx context.Context) error {
	c, cancel := k.page.within(ctx)
	defer cancel()
	if _, err := chromedp.Call(c, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: k.id}); err != nil {
		return fmt.Errorf("unplugging a key: %w", err)
	}
	return nil
}

// Credentials counts the credentials that the key holds.
func (k *VirtualKey) Credentials(ctx context.Context) (int, error) {
	c, cancel := k.page.within(ctx)
	defer cancel()
	got, err := chromedp.Call(c, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: k.id})
	if err != nil {
		return 0, fmt.Errorf("counting credentials: %w", err)
	}
	return len(got.Credentials), nil
}

// Rewind sets back the counters of the key's credentials, as on a copy of it
// that was made before.
func (k *VirtualKey) Rewind(ctx context.Context) error {
	c, cancel := k.page.within(ctx)
	defer cancel()
	got, err := chromedp.Call(c, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: k.id})
	if err != nil {
		return fmt.Errorf("setting a counter back: %w", err)
	}
	for _, credential := range got.Credentials {
		if _, err := chromedp.Call(c, webauthn.RemoveCredential, webauthn.RemoveCredentialParams{AuthenticatorID: k.id, CredentialID: credential.CredentialID}); err != nil {
			return fmt.Errorf("setting a counter back: %w", err)
		}
		older := addCredential{AuthenticatorID: k.id}
		older.Credential.ID, older.Credential.RPID, older.Credential.PrivateKey = credential.CredentialID, credential.RpID, credential.PrivateKey
		if _, err := chromedp.Call(c, cdp.Command[addCredential, cdp.Empty]{Method: webauthn.CommandAddCredential}, older); err != nil {
			return fmt.Errorf("setting a counter back: %w", err)
		}
	}
	return nil
}

// addCredential says less than the library's type, whose zero values ask for
// what these keys do not have.
type addCredential struct {
	AuthenticatorID webauthn.AuthenticatorID `json:"authenticatorId"`
	Credential      struct {
		ID         []byte `json:"credentialId"`
		Resident   bool   `json:"isResidentCredential"`
		RPID       string `json:"rpId"`
		PrivateKey []byte `json:"privateKey"`
		SignCount  int    `json:"signCount"`
	} `json:"credential"`
}

// In turn: generation 2, generation 3, the own page.
const (
	rowWebAuthn  = `[data-se="webauthn"]`
	buttonSetUp  = `.webauthn-setup, form[data-se="o-form"] button[data-se="button"], [data-se="ask-key"]`
	pathSetUp    = "/credential/enroll"
	pathAnswered = "/challenge/answer"
)

// SetUpKey chooses to set up a security key, and has it made.
func (p *Page) SetUpKey(ctx context.Context) error {
	if err := p.ChooseToSetUpKey(ctx); err != nil {
		return err
	}
	if err := p.clickUntilSent(ctx, buttonSetUp, pathAnswered); err != nil {
		return fmt.Errorf("setting up a key: %w", err)
	}
	return nil
}

// ChooseToSetUpKey goes to where a security key is set up.
func (p *Page) ChooseToSetUpKey(ctx context.Context) error {
	if err := p.clickUntilSent(ctx, row(rowWebAuthn), pathSetUp); err != nil {
		return fmt.Errorf("choosing to set up a key: %w", err)
	}
	return nil
}

// StartSettingUpKey chooses to set up a security key, and asks it.
func (p *Page) StartSettingUpKey(ctx context.Context) error {
	if err := p.ChooseToSetUpKey(ctx); err != nil {
		return err
	}
	if err := p.WaitFor(ctx, buttonSetUp); err != nil {
		return err
	}
	return p.Click(ctx, buttonSetUp)
}

// ChooseKey has the org ask the person's security key, where there are other
// ways.
func (p *Page) ChooseKey(ctx context.Context) error {
	if err := p.clickUntilSent(ctx, row(rowWebAuthn), pathChoice); err != nil {
		return fmt.Errorf("choosing a security key: %w", err)
	}
	return nil
}
