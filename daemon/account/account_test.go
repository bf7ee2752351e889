package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/vault"
	"countersign.dev/okta"
	"countersign.dev/okta/client"
)

func TestEnrolByLink(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	org.config = func(c *okta.AuthenticatorConfiguration) {
		c.LoopbackOrigins = []string{"https://app.example.com", "http://localhost:*", "http://intranet.example", "*", "https://*.example.com"}
	}
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.State != Active || a.Name != "alice@example.com" || a.UserID != "00uAlice" || a.Protection != "software" || a.Pending != nil {
		t.Fatalf("%+v", a)
	}
	if got, want := strings.Join(a.Origins, " "), org.URL+" https://app.example.com http://localhost:*"; got != want {
		t.Fatalf("origins %s", got)
	}
	// The second account on this device says which device it is, and proves it.
	if _, err := m.EnrolByLink(t.Context(), org.link("two"), "work", nil); err != nil {
		t.Fatal(err)
	}
	first, second := org.posts[0].Device, org.posts[1].Device
	if first.ID != "" || first.ClientInstanceKey == nil || second.ID != "guo1" || second.ClientInstanceKey != nil || second.Attestation == nil {
		t.Fatalf("%+v\n%+v", first, second)
	}
	index, err := m.vault.LoadIndex()
	if err != nil || len(index.Accounts) != 2 || strings.Contains(fmt.Sprint(index), "alice") {
		t.Fatalf("%+v, %v", index, err)
	}
	// One of two goes: the shared client instance key stays.
	if err := m.Remove(t.Context(), a.ID, false); err != nil {
		t.Fatal(err)
	}
	org.set(func() { delete(org.enrolled, kidOf(org.posts[0])) })
	m.settled(t, org)
}

// The org has forgotten the device: once more, as a new one.
func TestForgottenDevice(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	if _, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil); err != nil {
		t.Fatal(err)
	}
	org.set(func() { org.forgot = true })
	if _, err := m.EnrolByLink(t.Context(), org.link("two"), "", nil); err != nil {
		t.Fatal(err)
	}
	if len(org.posts) != 3 || org.posts[2].Device.ID != "" || org.posts[2].Device.ClientInstanceKey == nil {
		t.Fatalf("%d posts", len(org.posts))
	}
	m.settled(t, org)
}

// each changes every method that the org offers.
func each(change func(*okta.SupportedMethod)) func(*okta.AuthenticatorConfiguration) {
	return func(c *okta.AuthenticatorConfiguration) {
		for i := range c.SupportedMethods {
			change(&c.SupportedMethods[i])
		}
	}
}

// Every failure of an enrolment leaves the book as it was, or a pending record
// that the next try resolves.
func TestEnrolmentFails(t *testing.T) {
	for _, row := range []struct {
		name    string
		break_  func(*strictOrg, *okta.EnrolmentLink)
		want    any // error to match, or a pointer for errors.As
		pending bool
	}{
		{"link used by another device", func(o *strictOrg, _ *okta.EnrolmentLink) { o.owner["OTDT one"] = "OTHER" }, new(*okta.Error), false},
		{"link expired", func(o *strictOrg, _ *okta.EnrolmentLink) { o.expired = true }, new(*okta.Error), false},
		{"server error", func(o *strictOrg, _ *okta.EnrolmentLink) { o.down = 500 }, new(*okta.Error), true},
		{"too many requests", func(o *strictOrg, _ *okta.EnrolmentLink) { o.down = 429 }, new(*okta.Error), true},
		{"org down", func(o *strictOrg, _ *okta.EnrolmentLink) { o.Close() }, new(*client.Unreachable), false},
		{"other authenticator", func(_ *strictOrg, l *okta.EnrolmentLink) { l.AuthenticatorID = "autOther" }, ErrLinkMismatch, false},
		{"other org id", func(o *strictOrg, _ *okta.EnrolmentLink) {
			o.config = func(c *okta.AuthenticatorConfiguration) { c.OrgID = "00oOther" }
		}, ErrOtherOrg, false},
		{"endpoint elsewhere", func(o *strictOrg, _ *okta.EnrolmentLink) { // E12
			o.config = func(c *okta.AuthenticatorConfiguration) { c.EnrolEndpoint = "http://127.0.0.1:1/steal" }
		}, client.ErrForeignURL, false},
		{"method inactive", func(o *strictOrg, _ *okta.EnrolmentLink) {
			o.config = each(func(m *okta.SupportedMethod) { m.Status = "INACTIVE" })
		}, ErrMethodNotOffered, false},
		{"RSA only", func(o *strictOrg, _ *okta.EnrolmentLink) {
			o.config = each(func(m *okta.SupportedMethod) { m.Settings.Algorithms = []string{"RS256"} })
		}, ErrMethodNotOffered, false},
		{"hardware only", func(o *strictOrg, _ *okta.EnrolmentLink) {
			o.config = each(func(m *okta.SupportedMethod) { m.Settings.KeyProtection = "HARDWARE" })
		}, ErrHardwareRequired, false},
		{"plain http elsewhere", func(_ *strictOrg, l *okta.EnrolmentLink) { l.OrgURL = "http://org.example.com" }, client.ErrInsecure, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
			link := org.link("one")
			row.break_(org, &link)
			_, err := m.EnrolByLink(t.Context(), link, "", nil)
			if target, ok := row.want.(error); ok && !errors.Is(err, target) {
				t.Fatalf("%v, want %v", err, target)
			} else if !ok && !errors.As(err, row.want) {
				t.Fatalf("%v, want a %T", err, row.want)
			}
			if strings.Contains(fmt.Sprintf("%+v", err), "one") && strings.Contains(err.Error(), "OTDT") {
				t.Fatal("the token is in the error")
			}
			if row.pending {
				if len(m.All()) != 1 || m.All()[0].State != Enrolling {
					t.Fatalf("%+v", m.All())
				}
				if s := fmt.Sprintf("%+v", *m.All()[0].Pending); strings.Contains(s, "one") {
					t.Fatalf("the token prints: %s", s)
				}
				org.set(func() { org.down = 0 })
				if _, err := m.EnrolByLink(t.Context(), link, "", nil); err != nil {
					t.Fatalf("again: %v", err)
				}
				m.settled(t, org)
				return
			}
			if len(m.All()) != 0 || m.storedKeys(t) != 0 {
				t.Fatalf("%d accounts, %d keys left behind", len(m.All()), m.storedKeys(t))
			}
		})
	}
}

// A3: which origins count.
func TestOrigins(t *testing.T) {
	list := allowedOrigins("https://org.example.com", "https://login.example.com",
		[]string{"https://app.example.com:8443", "http://localhost:*", "https://App.example.com", "https://x.example.com/", "http://10.0.0.1", "null", "*"})
	for origin, want := range map[string]bool{
		"https://org.example.com": true, "https://login.example.com": true, "https://app.example.com:8443": true,
		"http://localhost:3000": true, "http://localhost:1": true, "http://localhost:65535": true,
		"": false, "null": false, "*": false, "http://localhost:*": false, "http://localhost:0": false,
		"http://localhost:65536": false, "http://localhost:+80": false, "http://localhost:080": false,
		"http://localhost:": false, "http://localhost:3000.evil.example": false, "http://localhost:3000@evil.example": false,
		"https://org.example.com.evil.example": false, "https://org.example.com:443": false, "http://org.example.com": false,
		"https://org.example.com/": false, "https://ORG.example.com": false, "https://x.example.com": false,
		"https://app.example.com": false, "http://10.0.0.1": false, "https://evil.example": false,
		"https://xn--rg-fka.example.com": false, "file://": false, "http://localhost.evil.example:80": false,
	} {
		if got := OriginAllowed(list, origin); got != want {
			t.Errorf("%q: %v", origin, got)
		}
	}
}

func FuzzOriginOf(f *testing.F) {
	for _, s := range []string{"https://org.example.com/login?x=1", "http://localhost:8080", "http://[::1]:80/", "https://a:443", "http://10.0.0.1", "javascript:1", "https://user@host", "https://ＯＲＧ.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, ok := OriginOf(s)
		if !ok {
			if o != "" {
				t.Fatalf("%q: refused, and still %q", s, o)
			}
			return
		}
		if again, ok := OriginOf(o); !ok || again != o {
			t.Fatalf("%q -> %q -> %q", s, o, again)
		}
		if strings.ContainsAny(o, " \\@#?") || strings.Count(o, "/") != 2 || strings.ToLower(o) != o {
			t.Fatalf("%q -> %q", s, o)
		}
	})
}

// A hostile org cannot make its enrolment unusable to print or store.
func TestHostileEnrolment(t *testing.T) {
	m := boot(t, t.TempDir()+"/state")
	a := &Account{ID: "x", OrgURL: "https://org.example.com", State: Enrolling, Methods: []Method{{Type: okta.MethodSignedNonce, ProofOfPossession: devicekey.Ref{ID: "K"}}}, Pending: &pending{}}
	if err := m.insert(a); err != nil {
		t.Fatal(err)
	}
	good := okta.Enrolment{ID: "pfd", User: okta.EnrolmentUser{ID: "00u"}, Device: okta.EnrolmentDevice{ID: "guo", ClientInstanceID: "cli"},
		Methods: map[okta.Method]okta.EnrolledMethod{okta.MethodSignedNonce: {ID: "opf", Links: map[string]okta.Link{"pending": {Href: "https://evil.example/pending"}}}}}
	for name, spoil := range map[string]func(e *okta.Enrolment){
		"no id":            func(e *okta.Enrolment) { e.ID = "" },
		"no user":          func(e *okta.Enrolment) { e.User.ID = "" },
		"no device":        func(e *okta.Enrolment) { e.Device.ID = "" },
		"no instance":      func(e *okta.Enrolment) { e.Device.ClientInstanceID = "" },
		"no method":        func(e *okta.Enrolment) { e.Methods = nil },
		"endless id":       func(e *okta.Enrolment) { e.ID = strings.Repeat("x", 1<<16) },
		"method sans id":   func(e *okta.Enrolment) { e.Methods = map[okta.Method]okta.EnrolledMethod{okta.MethodSignedNonce: {}} },
		"another's method": func(e *okta.Enrolment) { e.Methods = map[okta.Method]okta.EnrolledMethod{okta.MethodPush: {ID: "opf"}} },
	} {
		e := good
		spoil(&e)
		if _, err := m.activate(t.Context(), a, e); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	active, err := m.activate(t.Context(), a, good)
	if err != nil || active.Methods[0].PendingURL != "" {
		t.Fatalf("%+v, %v: a pending link elsewhere was kept", active, err)
	}
}

func TestNewerState(t *testing.T) {
	dir := t.TempDir() + "/state"
	m := boot(t, dir)
	if err := m.vault.Save(room, map[string]any{"version": bookVersion + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Vault: m.vault, Keys: m.keys}); !errors.Is(err, ErrNewerState) {
		t.Fatal(err)
	}
}

func TestRename(t *testing.T) {
	org, m := newStrictOrg(t), boot(t, t.TempDir()+"/state")
	a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Rename(a.ID, ""); !errors.Is(err, ErrBadName) {
		t.Fatal(err)
	}
	if _, err := m.Rename("nope", "x"); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	if b, err := m.Rename(a.ID, "work"); err != nil || b.Name != "work" || a.Name == "work" {
		t.Fatalf("%+v, %v", b, err)
	}
	// A book that cannot be saved is not changed.
	m.vault.Lock()
	if _, err := m.Rename(a.ID, "again"); !errors.Is(err, vault.ErrLocked) {
		t.Fatal(err)
	}
	if got, _ := m.Get(a.ID); got.Name != "work" {
		t.Fatal(got.Name)
	}
}

func TestUUID(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		u := UUID()
		if len(u) != 36 || u[14] != '4' || !strings.ContainsRune("89ab", rune(u[19])) || seen[u] {
			t.Fatal(u)
		}
		seen[u] = true
	}
}

// E5: which accounts a challenge may be meant for.
func TestMatch(t *testing.T) {
	base := Account{State: Active, OrgID: "00o1", OrgURL: "https://one.example", Alternate: "https://login.example", EnrolmentID: "pfd1", UserID: "00uA", Username: "alice@example.com"}
	for _, row := range []struct {
		name string
		c    okta.Challenge
		keys string // issuer whose keys are used; "" for no match
	}{
		{"org", okta.Challenge{Issuer: "https://one.example", OrgID: "00o1"}, "https://one.example"},
		{"alternate", okta.Challenge{Issuer: "https://login.example", OrgID: "00o1"}, "https://one.example"},
		{"server", okta.Challenge{Issuer: "https://one.example/oauth2/default", OrgID: "00o1", AuthorizationServerID: "default"}, "https://one.example/oauth2/default"},
		{"server, org's iss", okta.Challenge{Issuer: "https://one.example", OrgID: "00o1", AuthorizationServerID: "default"}, "https://one.example/oauth2/default"},
		{"server in iss only", okta.Challenge{Issuer: "https://one.example/oauth2/default", OrgID: "00o1"}, ""},
		{"empty issuer", okta.Challenge{OrgID: "00o1"}, ""},
		{"empty org", okta.Challenge{Issuer: "https://one.example"}, ""},
	} {
		issuer, ok := base.Issuer(&row.c)
		if got := base.fits(&row.c); got != (row.keys != "") || ok && row.keys != "" && issuer != row.keys {
			t.Errorf("%s: %v, keys of %q", row.name, got, issuer)
		}
	}
	var zero Account
	zero.State = Active
	if zero.fits(&okta.Challenge{}) {
		t.Error("an account without pins fits a challenge without claims")
	}
}

// E5: what an org says of itself, its id and its other address, is its own word.
// An account there must not take the place of an account at the real address.
func TestAtHome(t *testing.T) {
	a := &Account{OrgURL: "https://id.example.com", Alternate: "https://example.okta.example"}
	for given, want := range map[string]string{
		"https://example.okta.example/idp/x?a=1%2F2": "https://id.example.com/idp/x?a=1%2F2",
		"https://id.example.com/idp/x":               "https://id.example.com/idp/x",
		"https://evil.example/idp/x":                 "https://evil.example/idp/x", // which OwnsURL refuses
	} {
		if got := a.atHome(given); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}

func TestForeignAlternate(t *testing.T) {
	real := &Account{ID: "real", State: Active, OrgID: "00oGood", OrgURL: "https://good.example", EnrolmentID: "pfd1", UserID: "00uA"}
	evil := &Account{ID: "evil", State: Active, OrgID: "00oGood", OrgURL: "https://evil.example", Alternate: "https://good.example", EnrolmentID: "pfd1", UserID: "00uA"}
	b := &Book{}
	for _, list := range [][]*Account{{evil, real}, {real, evil}} {
		b.snapshot.Store(&list)
		for _, c := range []okta.Challenge{
			{OrgID: "00oGood", Issuer: "https://good.example"},
			{OrgID: "00oGood", Issuer: "https://good.example/oauth2/default", AuthorizationServerID: "default", UserID: "00uA"},
		} {
			if got := b.Match(&c); len(got) != 1 || got[0] != real {
				t.Errorf("%s: matched %d accounts", c.Issuer, len(got))
			}
		}
	}
	b.snapshot.Store(&[]*Account{evil, {ID: "third", State: Active, OrgID: "00oGood", OrgURL: "https://third.example", Alternate: "https://good.example"}})
	if got := b.Match(&okta.Challenge{OrgID: "00oGood", Issuer: "https://good.example"}); len(got) != 1 || got[0] != evil {
		t.Errorf("alternates only: %v", got) // one org at a time, its own keys decide
	}
}

// E12, E5: an org cannot make any address its other one: the agent would send
// its answers there, to whatever listens in the user's network, and take that
// address's challenges for this org's. The other address has to say so too.
func TestAlternateSaysSoToo(t *testing.T) {
	links := func(organization, alternate string) func(*okta.Organization) {
		return func(o *okta.Organization) {
			o.Links.Organization = &okta.Link{Href: organization}
			if alternate != "" {
				o.Links.Alternate = &okta.Link{Href: alternate}
			}
		}
	}
	for _, row := range []struct {
		name  string
		other func(org, other *strictOrg) // what the other address says
		href  string                      // instead of the other's
		kept  bool
	}{
		{name: "custom domain", kept: true, other: func(org, other *strictOrg) { other.says = links(org.URL, other.URL) }},
		{name: "enrolled at the custom domain", kept: true, other: func(org, other *strictOrg) { other.says = links(other.URL, org.URL) }},
		{name: "a victim of the same id", other: func(_, other *strictOrg) { other.says = links(other.URL, "") }},
		{name: "says nothing of its addresses", other: func(*strictOrg, *strictOrg) {}},
		{name: "another org", other: func(org, other *strictOrg) {
			other.says = func(o *okta.Organization) { links(org.URL, other.URL)(o); o.ID = "00oOther" }
		}},
		{name: "not an org", href: "http://127.0.0.1:1/"},
		{name: "another machine by http", href: "http://169.254.169.254/"},
		{name: "another scheme", href: "https://127.0.0.1:1/"},
		{name: "not a URL", href: "file:///etc/passwd"},
	} {
		org, other, m := newStrictOrg(t), newStrictOrg(t), boot(t, t.TempDir()+"/state")
		href := row.href
		if href == "" {
			href = other.URL
			row.other(org, other)
		}
		org.says = links(org.URL, href)
		a, err := m.EnrolByLink(t.Context(), org.link("one"), "", nil)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if kept := a.Alternate == other.URL; kept != row.kept || !kept && a.Alternate != "" {
			t.Errorf("%s: alternate %q", row.name, a.Alternate)
		}
		if a.OwnsURL(href+"/verify") != row.kept || a.AllowsOrigin(href) != row.kept {
			t.Errorf("%s: the address is taken for the org's", row.name)
		}
	}
}

// E5: the ids of this device and its key at one org are not shown to another
// that claims the same id.
func TestKnownDeviceIsPerAddress(t *testing.T) {
	good, evil := newStrictOrg(t), newStrictOrg(t) // both say 00oStrict
	m := boot(t, t.TempDir()+"/state")
	for org, token := range map[*strictOrg]string{good: "one", evil: "two"} {
		if _, err := m.EnrolByLink(t.Context(), org.link(token), "", nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, org := range []*strictOrg{good, evil} {
		if d := org.posts[0].Device; d.ID != "" || d.Attestation != nil || d.ClientInstanceKey == nil {
			t.Errorf("told of another org's device: %+v", d)
		}
	}
	if m.All()[0].Device.Key == m.All()[1].Device.Key {
		t.Error("two orgs can tell by the key that it is the same device")
	}
}

// E6: a name that only looks like the org's is not enrolled at. Browsers, and
// so all origins, write names in ASCII; what a person would see must be that.
func TestHomographLink(t *testing.T) {
	m := boot(t, t.TempDir()+"/state")
	for _, u := range []string{
		"https://\u043ekta.example", "https://ex\u0430mple.com", "https://example\u3002com", "https://\uff45xample.com",
		"https://example.com%2eevil.example", "https://a_b.example\u2024com", "https://[fe80::1%25eth0]",
	} {
		link := okta.EnrolmentLink{Login: "alice@example.com", Token: "t", AuthenticatorID: "aut", OrgURL: u}
		if _, err := m.EnrolByLink(t.Context(), link, "", nil); !errors.Is(err, client.ErrURL) {
			t.Errorf("%q: %v", u, err)
		}
	}
}

func TestDocumentIsStable(t *testing.T) {
	a := Account{ID: "x", Pending: &pending{Token: "secret"}}
	b, err := json.Marshal(document{bookVersion, []*Account{&a}})
	if err != nil || !strings.Contains(string(b), `"token":"secret"`) {
		t.Fatalf("%s, %v: the sealed room must hold the token", b, err)
	}
}
