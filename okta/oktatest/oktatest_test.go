package oktatest_test

import (
	"context"
	"testing"

	"countersign.dev/okta"
	"countersign.dev/okta/client"
	"countersign.dev/okta/jose"
	"countersign.dev/okta/keys"
	"countersign.dev/okta/oktatest"
)

// The fake org and the client understand each other from discovery to answer,
// also after the org has changed its key.
func TestOrg(t *testing.T) {
	fake := oktatest.NewOrg(t)
	fake.LoopbackOrigins("http://localhost:*")
	org, err := client.New(fake.URL, client.Options{ClientID: fake.ClientID, UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	config, err := org.AuthenticatorConfiguration(t.Context())
	if err != nil || len(config.LoopbackOrigins) != 1 {
		t.Fatalf("configuration: %+v, %v", config, err)
	}
	cache := keys.New(org.SigningKeys)
	for range 2 {
		token, err := jose.Parse(fake.Challenge(nil), jose.DeviceChallenge)
		if err != nil {
			t.Fatal(err)
		}
		var claims okta.Challenge
		if err := token.Claims(&claims); err != nil {
			t.Fatal(err)
		}
		if err := claims.Validate(token.Header.Type); err != nil {
			t.Fatal(err)
		}
		key, err := cache.Key(t.Context(), org.URL(), token.Header.KeyID)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.Verify(key); err != nil {
			t.Fatal(err)
		}
		if err := org.Answer(context.Background(), claims.VerificationURI, okta.AnswerRequest{Method: claims.Method, ChallengeResponse: "x"}); err != nil {
			t.Fatal(err)
		}
		fake.Rotate()
	}
	if n := len(fake.Answers()); n != 2 {
		t.Fatalf("%d answers, want 2", n)
	}
	fake.PushChallenge("pfd", nil)
	list, err := org.Pending(t.Context(), client.Bearer("t"), fake.URL+okta.AppAuthenticatorsPath+"/pfd/push/notifications", client.PendingRequest{})
	if err != nil || len(list.Challenges) != 1 {
		t.Fatalf("pending: %v, %v", list, err)
	}
}
