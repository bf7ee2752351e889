package client

import (
	"context"
	"net/http"

	"countersign.dev/ipc/api"
)

// SignInWithKey signs in at an org with a security key. It waits for the touch.
func (c *Client) SignInWithKey(ctx context.Context, k api.KeySignIn) (r api.KeySignedIn, err error) {
	err = c.call(ctx, slow, http.MethodPost, api.PathKeySignIn, nil, struct {
		api.KeySignIn
		Password string `json:"password,omitempty"`
		PIN      string `json:"pin,omitempty"`
	}{k, k.Password.Reveal(), k.PIN.Reveal()}, &r)
	return r, err
}
