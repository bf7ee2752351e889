package token

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"countersign.dev/org/directory"
	"countersign.dev/org/store"
)

func TestCodeBecomesTokens(t *testing.T) {
	for _, server := range []string{ServerOrg, ServerDefault} {
		t.Run("server "+server, func(t *testing.T) {
			f := setUp(t)
			g := f.grant()
			g.AuthorizationServer, g.ACR = server, "phr"
			r := f.redemption(f.code(g))
			r.AuthorizationServer = server
			tokens, err := f.RedeemCode(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			issuer, audience := base, base
			if server == ServerDefault {
				issuer, audience = base+"/oauth2/default", "api://default"
			}
			access, id := claims(t, tokens.AccessToken), claims(t, tokens.IDToken)
			for _, c := range []map[string]any{access, id} {
				if jti := c["jti"].(string); len(jti) != 46 {
					t.Errorf("jti %q", jti)
				}
				delete(c, "jti")
			}
			h := sha256.Sum256([]byte(tokens.AccessToken))
			at := float64(f.now.Unix())
			want := map[string]any{"ver": 1.0, "iss": issuer, "aud": audience, "iat": at, "exp": at + 3600, "cid": "app", "uid": f.user.ID,
				"scp": []any{"openid", "profile", "email", "offline_access"}, "auth_time": at - 60, "sub": "alice@example.com", "acr": "phr"}
			if d := cmp.Diff(want, access); d != "" {
				t.Errorf("access token:\n%s", d)
			}
			want = map[string]any{"ver": 1.0, "iss": issuer, "aud": "app", "iat": at, "exp": at + 3600, "sub": f.user.ID, "auth_time": at - 60,
				"amr": []any{"pwd", "okta_verify", "phr", "mfa"}, "idp": f.org.ID, "nonce": "n-1", "acr": "phr",
				"at_hash": base64.RawURLEncoding.EncodeToString(h[:16]),
				"name":    "Alice Example", "preferred_username": "alice@example.com", "email": "alice@example.com"}
			if d := cmp.Diff(want, id); d != "" {
				t.Errorf("ID token:\n%s", d)
			}
			if tokens.RefreshToken == "" || tokens.TokenType != "Bearer" || tokens.ExpiresIn != 3600 {
				t.Errorf("answer: %+v", tokens.Scope)
			}
			got, err := f.VerifyAccessTokenOf(t.Context(), server, tokens.AccessToken)
			if err != nil || got.UserID != f.user.ID || got.EnrolmentID != "pfd1" || !got.Has("email") {
				t.Errorf("verifying: %+v, %v", got, err)
			}
		})
	}
}

func TestScopesDecideWhatIsIssued(t *testing.T) {
	f := setUp(t)
	g := f.grant()
	g.Scopes = []string{"okta.myAccount.read"}
	tokens, err := f.RedeemCode(t.Context(), f.redemption(f.code(g)))
	if err != nil {
		t.Fatal(err)
	}
	if tokens.IDToken != "" || tokens.RefreshToken != "" {
		t.Error("an ID token or a refresh token without its scope")
	}
	g.Scopes = []string{"openid"}
	if tokens, err = f.RedeemCode(t.Context(), f.redemption(f.code(g))); err != nil {
		t.Fatal(err)
	}
	if c := claims(t, tokens.IDToken); c["email"] != nil || c["name"] != nil {
		t.Errorf("claims beyond openid: %v", c)
	}
}

// A11, E5: a code is worth something only to its client, at its server, with
// its redirect URI and its verifier, in time.
func TestCodeRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fixture, *Redemption)
		want   Reason
	}{
		"other client":    {func(_ *fixture, r *Redemption) { r.ClientID = "other" }, CodeInvalid},
		"other server":    {func(_ *fixture, r *Redemption) { r.AuthorizationServer = ServerDefault }, CodeInvalid},
		"no such server":  {func(_ *fixture, r *Redemption) { r.AuthorizationServer = "x" }, CodeInvalid},
		"other redirect":  {func(_ *fixture, r *Redemption) { r.RedirectURI += "/" }, RedirectMismatch},
		"no redirect":     {func(_ *fixture, r *Redemption) { r.RedirectURI = "" }, RedirectMismatch},
		"no verifier":     {func(_ *fixture, r *Redemption) { r.Verifier = "" }, PKCEFailed},
		"other verifier":  {func(_ *fixture, r *Redemption) { r.Verifier = strings.Repeat("a", 43) }, PKCEFailed},
		"plain challenge": {func(_ *fixture, r *Redemption) { r.Verifier = challenge }, PKCEFailed},
		"unknown code":    {func(_ *fixture, r *Redemption) { r.Code = strings.Repeat("A", 43) }, CodeInvalid},
		"empty code":      {func(_ *fixture, r *Redemption) { r.Code = "" }, CodeInvalid},
		"huge code":       {func(_ *fixture, r *Redemption) { r.Code = strings.Repeat("A", 1<<20) }, CodeInvalid},
		"expired":         {func(f *fixture, _ *Redemption) { f.now = f.now.Add(CodeLifetime) }, CodeInvalid},
		"user suspended": {func(f *fixture, _ *Redemption) {
			f.write(func(ctx context.Context, tx store.Tx) error {
				return directory.SetUserStatus(ctx, tx, f.user.ID, directory.StatusSuspended, f.now)
			})
		}, UserNotActive},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			r := f.redemption(f.code(f.grant()))
			c.change(f, &r)
			if tokens, err := f.RedeemCode(t.Context(), r); !errors.Is(err, c.want) || tokens.AccessToken != "" {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// Whoever has the code but not the verifier gets one try, and so spoils the code.
func TestWrongVerifierConsumesTheCode(t *testing.T) {
	f := setUp(t)
	code := f.code(f.grant())
	wrong := f.redemption(code)
	wrong.Verifier = strings.Repeat("b", 43)
	if _, err := f.RedeemCode(t.Context(), wrong); !errors.Is(err, PKCEFailed) {
		t.Fatal(err)
	}
	if _, err := f.RedeemCode(t.Context(), f.redemption(code)); !errors.Is(err, CodeInvalid) {
		t.Errorf("second try: %v", err)
	}
	// Another client's try is no try.
	code = f.code(f.grant())
	wrong = f.redemption(code)
	wrong.ClientID = "other"
	f.RedeemCode(t.Context(), wrong)
	if _, err := f.RedeemCode(t.Context(), f.redemption(code)); err != nil {
		t.Errorf("after another client's try: %v", err)
	}
}

func TestReplayedCodeRevokesWhatTheFirstGave(t *testing.T) {
	f := setUp(t)
	code := f.code(f.grant())
	tokens, err := f.RedeemCode(t.Context(), f.redemption(code))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.RedeemCode(t.Context(), f.redemption(code)); !errors.Is(err, CodeInvalid) {
		t.Fatalf("replay: %v", err)
	}
	if _, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken); !errors.Is(err, TokenInvalid) {
		t.Errorf("access token after a replay: %v", err)
	}
	if _, err := f.Refresh(t.Context(), RefreshRequest{ClientID: "app", RefreshToken: tokens.RefreshToken}); !errors.Is(err, RefreshInvalid) {
		t.Errorf("refresh token after a replay: %v", err)
	}
}

func TestInteractionCode(t *testing.T) {
	f := setUp(t)
	var code string
	f.write(func(ctx context.Context, tx store.Tx) (err error) {
		code, err = f.IssueInteractionCode(ctx, tx, f.grant())
		return err
	})
	r := f.redemption(code)
	if _, err := f.RedeemCode(t.Context(), r); !errors.Is(err, CodeInvalid) {
		t.Fatalf("as an authorization code: %v", err)
	}
	r.RedirectURI = "" // some clients leave it out
	tokens, err := f.RedeemInteractionCode(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.RedeemInteractionCode(t.Context(), r); !errors.Is(err, CodeInvalid) {
		t.Fatalf("replay: %v", err)
	}
	if _, err := f.VerifyAccessToken(t.Context(), tokens.AccessToken); err != nil {
		t.Errorf("the widget's own second redemption must not end the sign-in: %v", err)
	}
}

// E7: of 100 parallel redemptions exactly one succeeds.
func TestParallelRedemptions(t *testing.T) {
	f := setUp(t)
	r := f.redemption(f.code(f.grant()))
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			_, err := f.RedeemCode(t.Context(), r)
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, CodeInvalid):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d redemptions succeeded", won.Load())
	}
}

func FuzzPKCE(f *testing.F) {
	f.Add(verifier, challenge)
	f.Add("", "")
	f.Add(challenge, challenge)
	f.Fuzz(func(t *testing.T, v, c string) {
		if !verifies(v, c) {
			return
		}
		h := sha256.Sum256([]byte(v))
		if c != base64.RawURLEncoding.EncodeToString(h[:]) || len(v) < 43 || !ValidChallenge(c) {
			t.Errorf("%q verified %q", v, c)
		}
	})
}
