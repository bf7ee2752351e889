package directory

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign.dev/okta/jose"
	"countersign.dev/org/store"
)

// App is an OAuth client. Most are public ones: they have no secret, and prove
// themselves by PKCE.
type App struct {
	ClientID, Label string
	RedirectURIs    []string
	GrantTypes      []string
	ResponseTypes   []string
	Scopes          []string
	PolicyID        string
	BuiltIn         bool // the org's own; not to be changed
	AuthMethod      AuthMethod
	Keys            []jose.JWK // public ones, of AuthPrivateKey
}

// AllowsRedirect says whether answers may be sent to uri: it is registered as
// it stands, or a registered pattern "http://localhost:*/path" (likewise
// 127.0.0.1) matches in all but the port (RFC 8252, 7.3).
func (a App) AllowsRedirect(uri string) bool {
	if uri == "" {
		return false
	}
	for _, registered := range a.RedirectURIs {
		if uri == registered && !strings.Contains(registered, "*") {
			return true
		}
		for _, host := range [...]string{"http://localhost:", "http://127.0.0.1:"} {
			path, isPattern := strings.CutPrefix(registered, host+"*")
			rest, sameHost := strings.CutPrefix(uri, host)
			if !isPattern || !sameHost {
				continue
			}
			if port, ok := strings.CutSuffix(rest, path); ok && validPort(port) {
				return true
			}
		}
	}
	return false
}

// Allows says whether the app may use a grant type.
func (a App) Allows(grantType string) bool { return slices.Contains(a.GrantTypes, grantType) }

// RedirectOrigins returns the origins of the app's redirect URIs; a port may
// be "*".
func (a App) RedirectOrigins() []string {
	var out []string
	for _, r := range a.RedirectURIs {
		scheme, rest, ok := strings.Cut(r, "://")
		if !ok || (scheme != "http" && scheme != "https") {
			continue
		}
		host, _, _ := strings.Cut(rest, "/")
		out = append(out, scheme+"://"+host)
	}
	return out
}

// AppByClientID finds an app.
func AppByClientID(ctx context.Context, tx store.Tx, clientID string) (App, error) {
	a := App{ClientID: clientID}
	var redirects, grants, responses, scopes, keys string
	err := tx.QueryRowContext(ctx,
		`SELECT label, redirect_uris, grant_types, response_types, scopes, policy_id, built_in, auth_method, jwks FROM apps WHERE client_id = ?`, clientID).
		Scan(&a.Label, &redirects, &grants, &responses, &scopes, &a.PolicyID, &a.BuiltIn, &a.AuthMethod, &keys)
	if err != nil {
		return App{}, found("the app", err)
	}
	for _, l := range [...]struct {
		text string
		dst  *[]string
	}{{redirects, &a.RedirectURIs}, {grants, &a.GrantTypes}, {responses, &a.ResponseTypes}, {scopes, &a.Scopes}} {
		if err := json.Unmarshal([]byte(l.text), l.dst); err != nil {
			return App{}, fmt.Errorf("reading app %s: %w", clientID, err)
		}
	}
	if err := json.Unmarshal([]byte(keys), &a.Keys); err != nil {
		return App{}, fmt.Errorf("reading app %s: %w", clientID, err)
	}
	return a, nil
}

// PutApp creates an app or replaces it.
func PutApp(ctx context.Context, tx store.Tx, a App, now time.Time) error {
	method, keys, err := a.credentials()
	if err != nil {
		return fmt.Errorf("storing app %s: %w", a.ClientID, err)
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO apps (client_id, label, redirect_uris, grant_types, response_types, scopes, policy_id, built_in, auth_method, jwks, created_at)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (client_id) DO UPDATE SET label = excluded.label, redirect_uris = excluded.redirect_uris,
		   grant_types = excluded.grant_types, response_types = excluded.response_types, scopes = excluded.scopes,
		   policy_id = excluded.policy_id, built_in = excluded.built_in, auth_method = excluded.auth_method, jwks = excluded.jwks`,
		a.ClientID, a.Label, encodeList(a.RedirectURIs), encodeList(a.GrantTypes), encodeList(a.ResponseTypes),
		encodeList(a.Scopes), a.PolicyID, boolInt(a.BuiltIn), string(method), keys, store.Millis(now)); err != nil {
		return fmt.Errorf("storing app %s: %w", a.ClientID, err)
	}
	return nil
}

// AssignGroup lets the members of a group use an app.
func AssignGroup(ctx context.Context, tx store.Tx, clientID, groupID string) error {
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO app_groups (client_id, group_id) VALUES (?, ?) ON CONFLICT (client_id, group_id) DO NOTHING`,
		clientID, groupID); err != nil {
		return fmt.Errorf("assigning app %s: %w", clientID, err)
	}
	return nil
}

// Assigned says whether the user may use the app, directly or by a group.
func Assigned(ctx context.Context, tx store.Tx, userID, clientID string) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, `SELECT
		(SELECT COUNT(*) FROM app_users WHERE client_id = ? AND user_id = ?) +
		(SELECT COUNT(*) FROM app_groups a JOIN group_members m ON m.group_id = a.group_id
		  WHERE a.client_id = ? AND m.user_id = ?)`, clientID, userID, clientID, userID).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("looking up the assignment: %w", err)
	}
	return n > 0, nil
}

// TrustedOrigins lists the web origins whose pages may call the org. A port
// may be "*", for localhost only.
func TrustedOrigins(ctx context.Context, tx store.Tx) ([]string, error) {
	return list(ctx, tx, "trusted origins", `SELECT origin FROM trusted_origins ORDER BY origin`)
}

// AddTrustedOrigin adds an origin, checked and in its normal form.
func AddTrustedOrigin(ctx context.Context, tx store.Tx, origin string, now time.Time) error {
	origin, err := NormalOrigin(origin)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO trusted_origins (origin, created_at) VALUES (?, ?) ON CONFLICT (origin) DO NOTHING`,
		origin, store.Millis(now)); err != nil {
		return fmt.Errorf("adding trusted origin: %w", err)
	}
	return nil
}

// NormalOrigin checks an origin as an administrator writes it and returns it
// as a browser would send it.
func NormalOrigin(s string) (string, error) {
	if s == "http://localhost:*" || s == "https://localhost:*" {
		return s, nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil ||
		(u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Host, "*%") {
		return "", fmt.Errorf("origin %.100q: want scheme://host[:port]; a port of * only for localhost", s)
	}
	port := u.Port()
	if port != "" && !validPort(port) || strings.HasSuffix(u.Host, ":") {
		return "", fmt.Errorf("origin %.100q: want a port from 1 to 65535", s)
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":80")
	} else {
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host, nil
}

// OriginTrusted says whether origin, as a browser sent it, is in list. Only
// the exact string counts; the one pattern is "http://localhost:*" (or https),
// which stands for every port of localhost and for none. A missing Origin and
// "null" are never trusted.
func OriginTrusted(list []string, origin string) bool {
	if origin == "" || origin == "null" || strings.Contains(origin, "*") {
		return false
	}
	for _, trusted := range list {
		if trusted == origin {
			return true
		}
		base, isPattern := strings.CutSuffix(trusted, ":*")
		if !isPattern || (base != "http://localhost" && base != "https://localhost") {
			continue
		}
		if origin == base {
			return true
		}
		if port, ok := strings.CutPrefix(origin, base+":"); ok && validPort(port) {
			return true
		}
	}
	return false
}

// validPort accepts a port as a browser writes it: digits, no leading zero.
func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s[0] != '0' && s[0] != '+'
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
