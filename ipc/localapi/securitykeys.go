package localapi

import (
	"net/http"

	"countersign.dev/ipc/api"
)

// keyRoutes are the operations on security keys. They may wait for the person;
// what the key waits for comes as events.
func keyRoutes() []route {
	return []route{
		{method: http.MethodGet, path: api.PathSecurityKeys, summary: "The security keys that are plugged in",
			out: api.SecurityKeyList{}, serve: (*Server).securityKeys},
		{method: http.MethodGet, path: api.PathSecurityKey, summary: "What a security key says of itself",
			out: api.SecurityKey{}, serve: (*Server).securityKey},
		{method: http.MethodPost, path: api.PathKeyPIN, summary: "Set the PIN of a security key, or change it",
			in: api.SetKeyPIN{}, out: api.SecurityKey{}, serve: (*Server).setKeyPIN},
		{method: http.MethodPost, path: api.PathKeyCreds, summary: "What is kept on a security key",
			in: api.KeyPIN{}, out: api.KeyCredentialList{}, serve: (*Server).keyCredentials},
		{method: http.MethodDelete, path: api.PathKeyCreds, summary: "Delete a credential from a security key; it takes the rpId that the person has typed",
			in: api.DeleteKeyCredential{}, out: api.KeyCredentialList{}, serve: (*Server).deleteKeyCredential},
		{method: http.MethodPost, path: api.PathKeyFingers, summary: "The fingerprints that a security key knows",
			in: api.KeyPIN{}, out: api.FingerprintList{}, serve: (*Server).keyFingerprints},
		{method: http.MethodPut, path: api.PathKeyFingers, summary: "Add a fingerprint to a security key, or remove one",
			in: api.ChangeFingerprint{}, out: api.FingerprintList{}, serve: (*Server).changeFingerprint},
		{method: http.MethodPost, path: api.PathKeyReset, summary: "Wipe a security key; it takes the product name that the person has typed",
			in: api.ResetKey{}, status: http.StatusNoContent, serve: (*Server).resetKey},
		{method: http.MethodPost, path: api.PathKeyVerifies, summary: "Let a security key verify the person to the agent",
			in: api.KeyPIN{}, out: api.VerificationList{}, serve: (*Server).verifyByKey},
	}
}

func (s *Server) securityKeys(c *call) (any, error) { return s.agent.SecurityKeys(c.ctx) }

func (s *Server) securityKey(c *call) (any, error) { return s.agent.SecurityKey(c.ctx, c.id) }

func (s *Server) setKeyPIN(c *call) (any, error) {
	in := *c.in.(*api.SetKeyPIN)
	defer clear(in.PIN)
	defer clear(in.OldPIN)
	return s.agent.SetKeyPIN(c.ctx, c.id, in)
}

func (s *Server) keyCredentials(c *call) (any, error) {
	in := *c.in.(*api.KeyPIN)
	defer clear(in.PIN)
	return s.agent.KeyCredentials(c.ctx, c.id, in)
}

func (s *Server) deleteKeyCredential(c *call) (any, error) {
	in := *c.in.(*api.DeleteKeyCredential)
	defer clear(in.PIN)
	if in.Confirm == "" || in.ID == "" {
		return nil, notConfirmed("the rpId of the credential")
	}
	return s.agent.DeleteKeyCredential(c.ctx, c.id, in)
}

func (s *Server) keyFingerprints(c *call) (any, error) {
	in := *c.in.(*api.KeyPIN)
	defer clear(in.PIN)
	return s.agent.KeyFingerprints(c.ctx, c.id, in)
}

func (s *Server) changeFingerprint(c *call) (any, error) {
	in := *c.in.(*api.ChangeFingerprint)
	defer clear(in.PIN)
	if (in.Name == "") == (in.Drop == "") {
		return nil, refusal(http.StatusBadRequest, "bad_fingerprint", "name a fingerprint to add, or one to drop")
	}
	return s.agent.ChangeFingerprint(c.ctx, c.id, in)
}

func (s *Server) resetKey(c *call) (any, error) {
	in := *c.in.(*api.ResetKey)
	if in.Confirm == "" {
		return nil, notConfirmed("the product name of the key")
	}
	return nil, s.agent.ResetKey(c.ctx, c.id, in)
}

func (s *Server) verifyByKey(c *call) (any, error) {
	in := *c.in.(*api.KeyPIN)
	defer clear(in.PIN)
	return s.agent.VerifyByKey(c.ctx, c.id, in)
}

// notConfirmed refuses what destroys something and was not confirmed (F2).
func notConfirmed(what string) error {
	return refusal(http.StatusBadRequest, "not_confirmed", "this takes a confirmation: "+what+", as the person has typed it")
}
