package client

import (
	"context"
	"net/http"

	"countersign.dev/ipc/api"
)

// keyPIN is a PIN of a security key on its way.
type keyPIN struct {
	PIN string `json:"pin,omitempty"`
}

// SecurityKeys lists the security keys that are plugged in.
func (c *Client) SecurityKeys(ctx context.Context) (l api.SecurityKeyList, err error) {
	err = c.call(ctx, slow, http.MethodGet, api.PathSecurityKeys, nil, nil, &l)
	return l, err
}

// SecurityKey is what one of them says of itself.
func (c *Client) SecurityKey(ctx context.Context, id string) (k api.SecurityKey, err error) {
	err = c.call(ctx, slow, http.MethodGet, withID(api.PathSecurityKey, id), nil, nil, &k)
	return k, err
}

// SetKeyPIN sets the PIN of a security key, or changes it from old.
func (c *Client) SetKeyPIN(ctx context.Context, id string, pin, old api.PIN) (k api.SecurityKey, err error) {
	err = c.call(ctx, slow, http.MethodPost, withID(api.PathKeyPIN, id), nil, struct {
		PIN    string `json:"pin"`
		OldPIN string `json:"oldPin,omitempty"`
	}{pin.Reveal(), old.Reveal()}, &k)
	return k, err
}

// KeyCredentials lists what is kept on a security key.
func (c *Client) KeyCredentials(ctx context.Context, id string, pin api.PIN) (l api.KeyCredentialList, err error) {
	err = c.call(ctx, slow, http.MethodPost, withID(api.PathKeyCreds, id), nil, keyPIN{pin.Reveal()}, &l)
	return l, err
}

// DeleteKeyCredential deletes a credential and lists what is left.
func (c *Client) DeleteKeyCredential(ctx context.Context, id string, d api.DeleteKeyCredential) (l api.KeyCredentialList, err error) {
	err = c.call(ctx, slow, http.MethodDelete, withID(api.PathKeyCreds, id), nil, struct {
		api.DeleteKeyCredential
		PIN string `json:"pin,omitempty"`
	}{d, d.PIN.Reveal()}, &l)
	return l, err
}

// KeyFingerprints lists the fingerprints that a security key knows.
func (c *Client) KeyFingerprints(ctx context.Context, id string, pin api.PIN) (l api.FingerprintList, err error) {
	err = c.call(ctx, slow, http.MethodPost, withID(api.PathKeyFingers, id), nil, keyPIN{pin.Reveal()}, &l)
	return l, err
}

// ChangeFingerprint adds a fingerprint or removes one, and lists them.
func (c *Client) ChangeFingerprint(ctx context.Context, id string, change api.ChangeFingerprint) (l api.FingerprintList, err error) {
	err = c.call(ctx, slow, http.MethodPut, withID(api.PathKeyFingers, id), nil, struct {
		api.ChangeFingerprint
		PIN string `json:"pin,omitempty"`
	}{change, change.PIN.Reveal()}, &l)
	return l, err
}

// ResetKey wipes a security key; confirm is its product name, as the person has
// typed it.
func (c *Client) ResetKey(ctx context.Context, id, confirm string) error {
	return c.call(ctx, slow, http.MethodPost, withID(api.PathKeyReset, id), nil, api.ResetKey{Confirm: confirm}, nil)
}

// VerifyByKey lets a security key verify the person to the agent.
func (c *Client) VerifyByKey(ctx context.Context, id string, pin api.PIN) (l api.VerificationList, err error) {
	err = c.call(ctx, slow, http.MethodPost, withID(api.PathKeyVerifies, id), nil, keyPIN{pin.Reveal()}, &l)
	return l, err
}
