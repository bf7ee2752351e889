package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/device"
	"countersign.dev/org/directory"
	"countersign.dev/org/session"
	"countersign.dev/org/store"
)

// facts is what the landing page tells a person about the own sign-in.
type facts struct {
	frame
	Name, Login, How            string
	KeyID                       string
	Protection, ProtectionClass string
	Device                      string
	When, WhenText              string
}

// home is the landing page: who is signed in, and with what.
func (p *Pages) home(w http.ResponseWriter, r *http.Request) {
	f, err := p.facts(r.Context(), session.FromRequest(r))
	switch {
	case errors.Is(err, store.ErrNotFound):
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	case err != nil:
		p.Log.ErrorContext(r.Context(), "showing the landing page", "error", err)
		p.Problem(w, r, http.StatusInternalServerError, Broken)
		return
	}
	policy(w, "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "form-action 'self'")
	p.render(w, r, http.StatusOK, "home", f)
}

func (p *Pages) facts(ctx context.Context, sid okta.Secret) (facts, error) {
	f := facts{frame: p.frame("You are signed in")}
	var s session.Session
	now := p.Now()
	err := p.DB.Read(ctx, func(tx store.Tx) (err error) {
		if s, err = session.Lookup(ctx, tx, sid, now); err != nil {
			return err
		}
		user, err := directory.UserByID(ctx, tx, s.UserID)
		if err != nil {
			return err
		}
		if !user.Active() {
			return store.ErrNotFound
		}
		f.Name, f.Login = user.Name(), user.Login
		attested := false
		if s.EnrolmentID != "" {
			e, err := device.ByID(ctx, tx, s.EnrolmentID)
			switch {
			case errors.Is(err, store.ErrNotFound): // removed since
			case err != nil:
				return err
			default:
				key, _ := e.KeyByID(s.KeyID)
				attested, f.Device = key.Attested, e.Device.Profile.DisplayName
			}
		}
		f.How = How(s.AMR)
		if f.KeyID = s.KeyID; f.KeyID != "" {
			f.Protection, f.ProtectionClass = protection(jose.Protection(s.KeyProtection), attested)
		}
		return nil
	})
	if err != nil {
		return facts{}, err
	}
	f.When, f.WhenText = s.AuthTime.UTC().Format(time.RFC3339), s.AuthTime.UTC().Format("2 January 2006, 15:04 UTC")
	if s.NeedsTouch(now) {
		err = p.DB.Write(ctx, func(tx store.Tx) error { return session.Touch(ctx, tx, sid, now) })
	}
	return f, err
}

// How puts the methods of a sign-in (the claim "amr") into words.
func How(amr []string) string {
	has := func(m string) bool { return slices.Contains(amr, m) }
	var parts []string
	if has("pwd") {
		parts = append(parts, "a password")
	}
	switch {
	case has("pop"):
		parts = append(parts, "a security key")
	case has("phr"):
		parts = append(parts, "a key on this device")
	case has("otp"):
		parts = append(parts, "a one-time code")
	case has("okta_verify"), has("swk"), has("hwk"):
		parts = append(parts, "an approval on a device of yours")
	}
	switch {
	case len(parts) == 0:
		return "In a way this page does not know"
	case len(parts) == 2:
		return "Password, and " + parts[1]
	case has("pwd"):
		return "Password only"
	}
	return strings.ToUpper(parts[0][:1]) + parts[0][1:]
}

// protection says honestly where a key lives: what was proven, and what the
// device merely claims.
func protection(p jose.Protection, attested bool) (text, class string) {
	switch {
	case p == jose.ProtectionHardware && attested:
		return "In the device's hardware, verified by the organisation", "good"
	case p == jose.ProtectionHardware:
		return "In hardware, as the device says; the organisation has not verified it", "quiet"
	case p == jose.ProtectionSoftware:
		return "Software key: kept in a file on the device, not in its hardware", "warn"
	}
	return "The organisation does not know how it is protected", "warn"
}
