package localapi_test

import (
	"context"
	"testing"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/localapi/localapitest"
)

// keeper remembers where the PINs were that it was given.
type keeper struct {
	*localapitest.Agent
	kept []api.PIN
}

func (k *keeper) keep(pins ...api.PIN) { k.kept = append(k.kept, pins...) }

func (k *keeper) SetKeyPIN(ctx context.Context, id string, in api.SetKeyPIN) (api.SecurityKey, error) {
	k.keep(in.PIN, in.OldPIN)
	return k.Agent.SetKeyPIN(ctx, id, in)
}

func (k *keeper) KeyCredentials(ctx context.Context, id string, in api.KeyPIN) (api.KeyCredentialList, error) {
	k.keep(in.PIN)
	return k.Agent.KeyCredentials(ctx, id, in)
}

func (k *keeper) DeleteKeyCredential(ctx context.Context, id string, in api.DeleteKeyCredential) (api.KeyCredentialList, error) {
	k.keep(in.PIN)
	return k.Agent.DeleteKeyCredential(ctx, id, in)
}

func (k *keeper) KeyFingerprints(ctx context.Context, id string, in api.KeyPIN) (api.FingerprintList, error) {
	k.keep(in.PIN)
	return k.Agent.KeyFingerprints(ctx, id, in)
}

func (k *keeper) ChangeFingerprint(ctx context.Context, id string, in api.ChangeFingerprint) (api.FingerprintList, error) {
	k.keep(in.PIN)
	return k.Agent.ChangeFingerprint(ctx, id, in)
}

func (k *keeper) VerifyByKey(ctx context.Context, id string, in api.KeyPIN) (api.VerificationList, error) {
	k.keep(in.PIN)
	return k.Agent.VerifyByKey(ctx, id, in)
}

func (k *keeper) SignInWithKey(ctx context.Context, in api.KeySignIn) (api.KeySignedIn, error) {
	k.keep(in.PIN, in.Password)
	return k.Agent.SignInWithKey(ctx, in)
}

// C12: what was typed for a security key is wiped once it has been used.
func TestC12PINsOfKeysAreWiped(t *testing.T) {
	agent := &keeper{Agent: sample()}
	agent.Plugged[0].PIN = "2580"
	socket := start(t, agent, nil)
	for _, r := range []struct {
		method, path, body string
		pins               int
	}{
		{"POST", "/v1/securitykeys/k1/credentials", `{"pin":"2580"}`, 1},
		{"DELETE", "/v1/securitykeys/k1/credentials", `{"pin":"2580","id":"AQ","confirm":"id.example.com"}`, 1},
		{"POST", "/v1/securitykeys/k1/fingerprints", `{"pin":"2580"}`, 1},
		{"PUT", "/v1/securitykeys/k1/fingerprints", `{"pin":"2580","name":"thumb"}`, 1},
		{"POST", "/v1/securitykeys/k1/pin", `{"pin":"1357","oldPin":"2580"}`, 2},
		{"POST", "/v1/securitykeys/k1/verification", `{"pin":"1357"}`, 1},
		{"POST", "/v1/securitykeys/signin", `{"org":"https://id.example.com","username":"u","password":"secret","pin":"1357"}`, 2},
	} {
		agent.kept = nil
		got := ask(t, socket, r.method, r.path, r.body, asJSON)
		if len(agent.kept) != r.pins {
			t.Errorf("%s %s: %d %s, %d PINs", r.method, r.path, got.status, got.body, len(agent.kept))
		}
		for _, pin := range agent.kept {
			if len(pin) == 0 {
				t.Errorf("%s %s: no PIN", r.method, r.path)
			}
			for _, b := range pin {
				if b != 0 {
					t.Errorf("%s %s: a PIN is left", r.method, r.path)
					break
				}
			}
		}
	}
}
