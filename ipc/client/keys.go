package client

import (
	"context"
	"net/http"

	"countersign.dev/ipc/api"
)

// Keys lists the keys of all accounts.
func (c *Client) Keys(ctx context.Context) (l api.KeyList, err error) {
	err = c.call(ctx, quick, http.MethodGet, api.PathKeys, nil, nil, &l)
	return l, err
}

// ChangeKeys makes the address where a person signs in to change the keys of an
// account. AwaitEnrolment waits for the end.
func (c *Client) ChangeKeys(ctx context.Context, id string, change api.ChangeKeys) (e api.Enrolment, err error) {
	err = c.call(ctx, slow, http.MethodPost, withID(api.PathAccountKeys, id), nil, struct {
		api.ChangeKeys
		PIN string `json:"pin,omitempty"`
	}{change, change.PIN.Reveal()}, &e)
	return e, err
}

// Acknowledge says that the person has seen an account's notices.
func (c *Client) Acknowledge(ctx context.Context, id string) (a api.Account, err error) {
	err = c.call(ctx, quick, http.MethodPost, withID(api.PathAcknowledge, id), nil, nil, &a)
	return a, err
}
