package token

import (
	"errors"
	"testing"
	"time"
)

func TestRefreshRotates(t *testing.T) {
	f := setUp(t)
	first := f.signIn()
	f.now = f.now.Add(50 * time.Minute)
	second, err := f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: first.RefreshToken, Scopes: []string{"openid", "email"}})
	if err != nil {
		t.Fatal(err)
	}
	if second.RefreshToken == first.RefreshToken || second.RefreshToken == "" {
		t.Error("the refresh token did not rotate")
	}
	before, after := claims(t, first.IDToken), claims(t, second.IDToken)
	if before["auth_time"] != after["auth_time"] || after["nonce"] != nil || after["name"] != nil || second.Scope != "openid email" {
		t.Errorf("refreshed ID token: %v", after)
	}
	// The narrower scope held for that answer only.
	third, err := f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: second.RefreshToken})
	if err != nil || third.Scope != first.Scope {
		t.Errorf("third: %q, %v", third.Scope, err)
	}
	if _, err := f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: third.RefreshToken, Scopes: []string{"openid", "admin"}}); !errors.Is(err, ScopeWidened) {
		t.Errorf("wider scope: %v", err)
	}
	// The end is inherited: rotation does not keep a sign-in alive for ever.
	f.now = f.now.Add(RefreshLifetime - 50*time.Minute)
	if _, err := f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: third.RefreshToken}); !errors.Is(err, RefreshInvalid) {
		t.Errorf("past the inherited end: %v", err)
	}
}

func TestRefreshReuse(t *testing.T) {
	f := setUp(t)
	first := f.signIn()
	refresh := func(token string) (Tokens, error) {
		return f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: token})
	}
	second, err := refresh(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	// Within the grace the old one works again, for a client that lost the answer…
	f.now = f.now.Add(RefreshGrace - time.Second)
	again, err := refresh(first.RefreshToken)
	if err != nil {
		t.Fatalf("within the grace: %v", err)
	}
	// …and does not start a new grace by it.
	f.now = f.now.Add(time.Second)
	if _, err := refresh(first.RefreshToken); !errors.Is(err, RefreshReused) {
		t.Fatalf("after the grace: %v", err)
	}
	for _, token := range []string{second.RefreshToken, again.RefreshToken, first.RefreshToken} {
		if _, err := refresh(token); !errors.Is(err, RefreshInvalid) {
			t.Errorf("a refresh token outlived its family: %v", err)
		}
	}
	for _, token := range []string{first.AccessToken, second.AccessToken, again.AccessToken} {
		if _, err := f.VerifyAccessToken(t.Context(), token); !errors.Is(err, TokenInvalid) {
			t.Errorf("an access token outlived its family: %v", err)
		}
	}
	// Another sign-in of the same user is not touched.
	if other := f.signIn(); other.AccessToken != "" {
		if _, err := f.VerifyAccessToken(t.Context(), other.AccessToken); err != nil {
			t.Error(err)
		}
	}
}

func TestRefreshBelongsToClientAndServer(t *testing.T) {
	f := setUp(t)
	tokens := f.signIn()
	for _, r := range []RefreshRequest{
		{ClientID: "other", RefreshToken: tokens.RefreshToken},
		{ClientID: "app", AuthorizationServer: ServerDefault, RefreshToken: tokens.RefreshToken},
		{ClientID: "app", RefreshToken: tokens.AccessToken},
		{ClientID: "app"},
	} {
		if _, err := f.Refresh(t.Context(), r); !errors.Is(err, RefreshInvalid) {
			t.Errorf("%s at %q: %v", r.ClientID, r.AuthorizationServer, err)
		}
	}
	if _, err := f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: tokens.RefreshToken}); err != nil {
		t.Errorf("the foreign tries used it up: %v", err)
	}
}
