package org

import (
	"context"
	"fmt"
	"slices"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/api/myaccount"
	"countersign.dev/org/directory"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
	"countersign.dev/org/web"
)

// The client ids of the apps that exist from the start.
const (
	agentClientID  = "countersign-agent"
	webClientID    = "demo-web"
	strictClientID = "demo-strict"
	uvClientID     = "demo-uv"
	cibaClientID   = "demo-ciba"
)

// The secrets of the demonstration are public: they stand in the documentation.
const (
	demoPassword     = okta.Secret("Countersign-Demo-1")
	demoClientSecret = okta.Secret("Countersign-Demo-Back-Channel-Secret-1") // of demo-ciba
)

// seed gives the org its identity, its authenticators and its built-in apps, adds
// the configured origins, and fills in the demonstration once: what somebody changed or
// removed afterwards stays so.
func (s *Server) seed(ctx context.Context, hasher *directory.Hasher) error {
	now := s.config.Now()
	wantDemo, err := s.wantsDemo(ctx)
	if err != nil {
		return err
	}
	var users []directory.User
	if wantDemo {
		// Hashing takes its time, so it comes before the transaction.
		if users, err = demoUsers(ctx, hasher); err != nil {
			return err
		}
	}
	err = s.db.Write(ctx, func(tx store.Tx) error {
		if _, err := directory.EnsureOrg(ctx, tx, now); err != nil {
			return err
		}
		everyone, err := directory.EnsureGroup(ctx, tx, directory.EveryoneGroup, now)
		if err != nil {
			return err
		}
		if err := s.seedApps(ctx, tx, everyone, builtInApps(s.config.BaseURL), now); err != nil {
			return err
		}
		if wantDemo {
			if err := s.seedDemo(ctx, tx, everyone, users, now); err != nil {
				return err
			}
		}
		// The demonstration has security keys, also one that was filled before there
		// were any; elsewhere the administrator switches them on.
		if _, err := directory.EnsureWebAuthn(ctx, tx, s.config.Demo, now); err != nil {
			return err
		}
		for _, origin := range s.config.TrustedOrigins {
			if err := trustOrigin(ctx, tx, origin, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("seeding the org: %w", err)
	}
	return nil
}

func (s *Server) wantsDemo(ctx context.Context) (bool, error) {
	if !s.config.Demo {
		return false, nil
	}
	var seeded int
	err := s.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM org WHERE demo_seeded_at IS NOT NULL`).Scan(&seeded)
	})
	return seeded == 0, err
}

// seededApp is an app with the rule that guards it.
type seededApp struct {
	directory.App
	rule   policy.Rule
	secret okta.Secret // of a confidential client
}

// builtInApps are what the org itself needs: the agent's client and the
// landing page. While a user has no possession factor the password suffices:
// somebody has to enrol the first one.
func builtInApps(baseURL string) []seededApp {
	return []seededApp{
		{directory.App{
			ClientID: agentClientID, Label: "Countersign", BuiltIn: true,
			RedirectURIs:  []string{"http://127.0.0.1:*/callback"},
			GrantTypes:    []string{"authorization_code", "interaction_code", "refresh_token", okta.GrantJWTBearer},
			ResponseTypes: []string{"code"},
			Scopes: []string{"openid", "profile", "offline_access",
				myaccount.ScopeManage, myaccount.ScopeMaintenanceManage, myaccount.ScopeMaintenanceRead},
		}, policy.PasswordUntilEnrolled(), ""},
		{directory.App{
			ClientID: web.HomeClientID, Label: "Home", BuiltIn: true,
			RedirectURIs:  []string{baseURL + web.HomePath},
			GrantTypes:    []string{"authorization_code"},
			ResponseTypes: []string{"code"},
			Scopes:        []string{"openid", "profile"},
		}, policy.PasswordUntilEnrolled(), ""},
	}
}

func demoApps() []seededApp {
	app := func(id, label string) directory.App {
		return directory.App{
			ClientID: id, Label: label,
			RedirectURIs:  []string{"http://localhost:*/callback"},
			GrantTypes:    []string{"authorization_code", "interaction_code", "refresh_token"},
			ResponseTypes: []string{"code"},
			Scopes:        []string{"openid", "profile", "email", "offline_access"},
		}
	}
	return []seededApp{
		{app(webClientID, "Demo"), policy.TwoFactors(policy.Optional), ""},
		{app(strictClientID, "Demo, strict"), policy.TwoFactors(policy.Required), ""},
		{app(uvClientID, "Demo, verified"), policy.TwoFactorsVerified(), ""},
		{directory.App{
			ClientID: cibaClientID, Label: "Demo, back channel", AuthMethod: directory.AuthBasic,
			GrantTypes: []string{okta.GrantCIBA, "refresh_token"},
			Scopes:     []string{"openid", "profile", "email", "offline_access"},
		}, policy.OnePossessionFactor(), demoClientSecret},
	}
}

// seedApps creates the apps that are missing, each with its policy, for
// everyone. Apps that exist keep their policy; built-in ones follow the code
// in all else.
func (s *Server) seedApps(ctx context.Context, tx store.Tx, everyone directory.Group, apps []seededApp, now time.Time) error {
	for _, a := range apps {
		existing, known, err := findApp(ctx, tx, a.ClientID)
		switch {
		case err != nil:
			return err
		case known && !a.BuiltIn:
			continue
		case known:
			a.PolicyID = existing.PolicyID
		default:
			if a.PolicyID, err = policy.Seed(ctx, tx, a.ClientID, a.rule); err != nil {
				return err
			}
		}
		if err := directory.PutApp(ctx, tx, a.App, now); err != nil {
			return err
		}
		if a.secret != "" {
			if err := directory.AddClientSecret(ctx, tx, a.ClientID, a.secret, now); err != nil {
				return err
			}
		}
		if err := directory.AssignGroup(ctx, tx, a.ClientID, everyone.ID); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) seedDemo(ctx context.Context, tx store.Tx, everyone directory.Group, users []directory.User, now time.Time) error {
	if err := s.seedApps(ctx, tx, everyone, demoApps(), now); err != nil {
		return err
	}
	for _, u := range users {
		_, err := directory.UserByLogin(ctx, tx, u.Login)
		if err == nil {
			continue
		}
		if !notFound(err) {
			return err
		}
		if _, err := directory.CreateUser(ctx, tx, u, now); err != nil {
			return err
		}
	}
	if err := directory.AddTrustedOrigin(ctx, tx, "http://localhost:*", now); err != nil {
		return err
	}
	// Who tries it can see on the key, and delete there, what has become of it.
	keys, err := directory.EnsureWebAuthn(ctx, tx, true, now)
	if err != nil {
		return err
	}
	if !keys.Changed() {
		keys.Settings.ResidentKeyRequirement = directory.ResidentPreferred
		if err := directory.SetWebAuthn(ctx, tx, keys.Settings, now); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `UPDATE org SET demo_seeded_at = ?`, store.Millis(now))
	return err
}

func demoUsers(ctx context.Context, hasher *directory.Hasher) ([]directory.User, error) {
	users := []directory.User{
		{Login: "alice@example.com", FirstName: "Alice", LastName: "Example"},
		{Login: "bob@example.com", FirstName: "Bob", LastName: "Example"},
	}
	for i := range users {
		hash, err := hasher.Hash(ctx, demoPassword)
		if err != nil {
			return nil, err
		}
		users[i].Email, users[i].PasswordHash = users[i].Login, hash
	}
	return users, nil
}

// trustOrigin lets pages of an origin call the org, and the demonstration's
// apps send their answers to its /callback.
func trustOrigin(ctx context.Context, tx store.Tx, origin string, now time.Time) error {
	normal, err := directory.NormalOrigin(origin)
	if err != nil {
		return err
	}
	if err := directory.AddTrustedOrigin(ctx, tx, normal, now); err != nil {
		return err
	}
	for _, id := range []string{webClientID, strictClientID, uvClientID} {
		app, known, err := findApp(ctx, tx, id)
		if err != nil {
			return err
		}
		redirect := normal + "/callback"
		if !known || slices.Contains(app.RedirectURIs, redirect) {
			continue
		}
		app.RedirectURIs = append(app.RedirectURIs, redirect)
		if err := directory.PutApp(ctx, tx, app, now); err != nil {
			return err
		}
	}
	return nil
}

func findApp(ctx context.Context, tx store.Tx, id string) (directory.App, bool, error) {
	app, err := directory.AppByClientID(ctx, tx, id)
	if notFound(err) {
		return directory.App{}, false, nil
	}
	return app, err == nil, err
}
