package signin

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"countersign.dev/org/ids"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// What is unusual about a sign-in, as pushes name it (3.2).
const (
	anomalousDevice   = "ANOMALOUS_DEVICE"
	anomalousLocation = "ANOMALOUS_LOCATION"
)

// maxPlaces bounds how many places of a kind are remembered per user; the
// longest unseen are forgotten first.
const maxPlaces = 32

// The kinds of places.
const (
	placeBrowser = "browser"
	placeAddress = "address"
)

// place is from where somebody signs in. Only its digest is kept, which says
// nothing without the user it belongs to.
type place struct{ kind, value string }

func (p place) digest(userID string) string {
	return ids.Digest(userID + "\x00" + p.kind + "\x00" + p.value)
}

// places lists where a sign-in comes from. A browser is known by its cookie,
// and by its name too: an embedded page does not see the cookie.
func (in *Intent) places() []place {
	var list []place
	for _, p := range [...]place{{placeBrowser, in.Browser}, {placeBrowser, in.UserAgent}, {placeAddress, in.ClientIP}} {
		if p.value != "" {
			list = append(list, p)
		}
	}
	return list
}

// unusual names what is new about a sign-in for somebody who has signed in
// before. Who has not has no habits.
//
// known is more than the absence of that: the person has signed in at this very
// browser, by its cookie, and from this address. What anybody can say of
// themselves, as the name of a browser, does not count for it.
func (e *Engine) unusual(ctx context.Context, t *transaction) (list []string, known bool, err error) {
	seen, met := map[string]bool{}, map[string]bool{} // by kind
	err = e.d.DB.Read(ctx, func(tx store.Tx) error {
		for _, p := range t.intent.places() {
			if seen[p.kind] {
				continue // the first that is known of a kind counts
			}
			seen[p.kind] = true
			var all, this int
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN digest = ? THEN 1 ELSE 0 END), 0)
				FROM sign_in_places WHERE user_id = ? AND kind = ?`, p.digest(t.user.ID), t.user.ID, p.kind).Scan(&all, &this); err != nil {
				return fmt.Errorf("looking up places: %w", err)
			}
			met[p.kind] = this > 0
			if all > 0 && this == 0 {
				list = append(list, map[string]string{placeBrowser: anomalousDevice, placeAddress: anomalousLocation}[p.kind])
			}
		}
		return nil
	})
	return list, t.intent.Browser != "" && met[placeBrowser] && met[placeAddress], err
}

// knownBrowser says by what a browser is known in which the user has signed in
// before; "" is any other.
func (e *Engine) knownBrowser(ctx context.Context, t *transaction) (digest string, err error) {
	if t.intent.Browser == "" {
		return "", nil
	}
	digest = place{placeBrowser, t.intent.Browser}.digest(t.user.ID)
	var n int
	err = e.d.DB.Read(ctx, func(tx store.Tx) error { // for unknown users too: it must take as long
		return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM sign_in_places WHERE user_id = ? AND kind = ? AND digest = ?`,
			t.user.ID, placeBrowser, digest).Scan(&n)
	})
	if err != nil {
		return "", fmt.Errorf("looking up a browser: %w", err)
	}
	if n == 0 {
		digest = ""
	}
	return digest, nil
}

// rememberPlace notes where somebody has signed in, once they have shown a
// device of theirs. A password alone teaches nothing: whoever has learnt it
// would make their own place a usual one.
func rememberPlace(ctx context.Context, tx store.Tx, t *transaction, now time.Time) error {
	if t.state.FromSession || t.intent.Mode == backchannel || !t.state.proven(policy.SignedNonce|policy.Push|policy.TOTP|policy.WebAuthn) {
		return nil
	}
	for _, p := range t.intent.places() {
		if _, err := tx.ExecContext(ctx, `INSERT INTO sign_in_places (user_id, kind, digest, last_seen) VALUES (?, ?, ?, ?)
			ON CONFLICT (user_id, kind, digest) DO UPDATE SET last_seen = excluded.last_seen`,
			t.user.ID, p.kind, p.digest(t.user.ID), store.Millis(now)); err != nil {
			return fmt.Errorf("remembering a place: %w", err)
		}
	}
	for _, kind := range [...]string{placeBrowser, placeAddress} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM sign_in_places WHERE user_id = ? AND kind = ? AND digest NOT IN
			(SELECT digest FROM sign_in_places WHERE user_id = ? AND kind = ? ORDER BY last_seen DESC, digest LIMIT ?)`,
			t.user.ID, kind, t.user.ID, kind, maxPlaces); err != nil {
			return fmt.Errorf("forgetting places: %w", err)
		}
	}
	return nil
}

// Locate says where an address is as far as the address itself tells. It knows
// no map: of an address out on the internet it says nothing.
func Locate(clientIP string) string {
	ip, err := netip.ParseAddr(clientIP)
	if err != nil {
		return ""
	}
	switch ip = ip.Unmap().WithZone(""); {
	case ip.IsLoopback():
		return "This computer"
	case ip.IsPrivate() || ip.IsLinkLocalUnicast():
		return "Local network"
	default:
		return ""
	}
}

// clientOS names the system that a browser says it runs on, in the words of
// the challenge context. The order counts: Android says Linux too, and an iPad
// may say Mac.
func clientOS(userAgent string) string {
	for _, c := range [...]struct{ part, os string }{
		{"Android", "ANDROID"}, {"iPhone", "IOS"}, {"iPad", "IOS"}, {"CrOS", "CHROME_OS"},
		{"Windows", "WINDOWS"}, {"Mac OS X", "MAC_OS_X"}, {"Macintosh", "MAC_OS_X"}, {"Linux", "LINUX"},
	} {
		if strings.Contains(userAgent, c.part) {
			return c.os
		}
	}
	return "UNKNOWN"
}
