package tray

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.Local)

// ask is a push of the plainest kind.
func ask(id string, change ...func(*api.Prompt)) api.Prompt {
	p := api.Prompt{ID: id, Account: "acc-1", Kind: "push", App: "Payroll", Org: "https://id.example.com", User: "alice@example.com",
		Location: "Lisbon", IP: "192.0.2.7", CreatedAt: noon.Add(-time.Minute), ExpiresAt: noon.Add(4 * time.Minute), UserVerification: "none",
		Key: &api.PromptKey{Kind: "software", Protection: "software"}}
	for _, c := range change {
		c(&p)
	}
	return p
}

// at is a scene with a connected agent.
func at(change ...func(*Scene)) Scene {
	s := Scene{Reach: Connected, Now: noon, Status: api.Status{FrontEnds: []string{"tray"}}}
	for _, c := range change {
		c(&s)
	}
	return s
}

func prompts(list ...api.Prompt) func(*Scene) { return func(s *Scene) { s.Prompts = list } }
func dialog(s *Scene)                         { s.Status.FrontEnds = append(s.Status.FrontEnds, "dialog") }

// lines writes a menu down, a line an entry: what can be clicked with what it
// does, submenus indented.
func lines(menu []Entry, indent string) string {
	var b strings.Builder
	for _, e := range menu {
		switch {
		case e.Separator:
			b.WriteString(indent + "---\n")
		case e.Action.Kind != Nothing:
			fmt.Fprintf(&b, "%s[%s]\n", indent, e.Label)
		default:
			b.WriteString(strings.TrimRight(indent+e.Label, " ") + "\n")
		}
		b.WriteString(lines(e.Children, indent+"  "))
	}
	return b.String()
}

// actions are all there is to click, by label.
func actions(menu []Entry) map[string]Action {
	found := map[string]Action{}
	for _, e := range menu {
		if e.Action.Kind != Nothing {
			found[e.Label] = e.Action
		}
		for l, a := range actions(e.Children) {
			found[l] = a
		}
	}
	return found
}

// labels lists every line.
func labels(menu []Entry) (list []string) {
	for _, e := range menu {
		list = append(append(list, e.Label), labels(e.Children)...)
	}
	return list
}

// fits checks that every section has something, and room for it.
func fits(t *testing.T, menu []Entry) {
	t.Helper()
	section, rooms, used, filled := 0, 0, 0, 0
	next := func() {
		if filled == 0 {
			t.Errorf("section %d is empty:\n%s", section, lines(menu, ""))
		}
		section, rooms, used, filled = section+1, 0, 0, 0
	}
	for _, e := range menu {
		if e.Separator {
			next()
			continue
		}
		filled++
		for rooms < len(Sections[section]) && (Sections[section][rooms].Submenus != (len(e.Children) > 0) || used == Sections[section][rooms].Number) {
			rooms, used = rooms+1, 0
		}
		if rooms == len(Sections[section]) {
			t.Errorf("section %d has no room for %q:\n%s", section, e.Label, lines(menu, ""))
			return
		}
		used++
	}
	if next(); section != len(Sections) {
		t.Errorf("%d sections:\n%s", section, lines(menu, ""))
	}
}

func TestIcon(t *testing.T) {
	problem := func(code string) func(*Scene) {
		return func(s *Scene) {
			s.Status.Problems = append(s.Status.Problems, api.Problem{Code: code, Message: "something is wrong", Hint: "mend it"})
		}
	}
	account := func(a api.Account) func(*Scene) { return func(s *Scene) { s.Accounts = append(s.Accounts, a) } }
	paused := func(s *Scene) {
		s.Hold = &api.Hold{Reason: api.HoldPaused, Since: noon, Until: noon.Add(15 * time.Minute)}
	}
	for _, row := range []struct {
		name    string
		s       Scene
		icon    Icon
		tooltip string
		refresh time.Duration
	}{
		{"nothing is known yet", Scene{}, Resting, "Countersign: looking for the agent", 0},
		{"no agent", Scene{Reach: Unreachable}, Missing, "Countersign: the agent is not running", 0},
		{"no answer", Scene{Reach: Unreachable, Trouble: "no answer in time"}, Missing, "Countersign: the agent does not answer", 0},
		{"somebody else's", Scene{Reach: Foreign}, Missing, "Countersign: this is not your agent", 0},
		{"quiet", at(), Idle, "Countersign: no sign-in is waiting", 0},
		{"one waits", at(prompts(ask("a"))), Waiting, "Countersign: 1 sign-in waiting", 10 * time.Second},
		{"one is about to end", at(prompts(ask("a", func(p *api.Prompt) { p.ExpiresAt = noon.Add(3 * time.Second) }))), Waiting, "Countersign: 1 sign-in waiting", 3 * time.Second},
		{"one has ended", at(prompts(ask("a", func(p *api.Prompt) { p.ExpiresAt = noon }))), Idle, "Countersign: no sign-in is waiting", 0},
		{"two wait", at(prompts(ask("b"), ask("a"))), Waiting, "Countersign: 2 sign-ins waiting", 10 * time.Second},
		{"a problem", at(problem("no_free_port")), Attention, "Countersign: something is wrong", 0},
		{"a problem, and one waits", at(problem("no_free_port"), prompts(ask("a"))), Waiting, "Countersign: 1 sign-in waiting", 10 * time.Second},
		{"how things are", at(problem("vault_file_only")), Idle, "Countersign: no sign-in is waiting", 0},
		{"news", at(account(api.Account{Name: "Work", State: "active", Notices: []api.Notice{{Message: "Pixel was added"}}}), problem("keys_changed_elsewhere")), Attention, "Countersign: News of Work", 0},
		{"held back", at(account(api.Account{Name: "Work", State: "active", PushesHeld: true}), problem("pushes_held")), Attention, "Countersign: Pushes of Work are held back", 0},
		{"paused", at(paused), Resting, "Countersign: paused: nothing is shown or signed until 12:15, in…", time.Minute},
		{"paused, with a problem", at(paused, problem("no_free_port")), Resting, "Countersign: paused: nothing is shown or signed until 12:15, in…", time.Minute},
		{"locked", at(func(s *Scene) { s.Hold = &api.Hold{Reason: api.HoldScreenLocked} }), Resting, "Countersign: the screen is locked: nothing is shown or signed u…", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			v := row.s.View()
			if v.Icon != row.icon || v.Tooltip != row.tooltip || v.Refresh != row.refresh {
				t.Errorf("icon %d, tooltip %q, refresh %s; want %d, %q, %s", v.Icon, v.Tooltip, v.Refresh, row.icon, row.tooltip, row.refresh)
			}
			if len(v.Menu) == 0 || v.Menu[len(v.Menu)-1].Action.Kind != Quit {
				t.Errorf("the last entry is not Quit:\n%s", lines(v.Menu, ""))
			}
			fits(t, v.Menu)
		})
	}
}

// The whole menu as a person finds it.
func TestMenu(t *testing.T) {
	s := at(prompts(ask("a", func(p *api.Prompt) { p.Unusual = []string{"New place: Lisbon"} })), dialog, func(s *Scene) {
		s.Said = []string{"Denied: the sign-in to Mail"}
		s.Accounts = []api.Account{
			{ID: "acc-1", Name: "Work", Org: "https://id.example.com", User: "alice@example.com", Protection: "hardware", State: "active", PushesHeld: true,
				Notices: []api.Notice{{Message: "Pixel was added to the account Work", At: noon.Add(-2 * time.Minute)}}},
			{ID: "acc-2", Name: "bob", Org: "http://localhost:8080", User: "bob@example.com", Protection: "software", State: "gone"},
		}
		s.Codes = []api.CodeEntry{{ID: "code-1", Name: "alice@example.com", Issuer: "id.example.com"}}
		s.Status.Problems = []api.Problem{{Code: "pushes_held", Message: "not said twice"}, {Code: "account_gone", Message: "the org no longer knows bob", Hint: "countersign account remove acc-2"}}
	})
	want := `Denied: the sign-in to Mail
Sign in to Payroll? alice@example.com
  New place: Lisbon
  Sign in to Payroll?
  Organisation: id.example.com
  Account: alice@example.com
  From: Lisbon, 192.0.2.7
  When: 1 minute ago, 11:59; ends in 4 minutes
  Signs with: a key in a file on this computer, sealed by the
  agent

  [Approve]
  [Deny]
  [This wasn't me]
---
News of Work
  Pixel was added to the account Work (2 minutes ago, 11:58)
  If that was not you: change your password, remove that device at
  id.example.com, and tell its administrator
  [I have seen this]
Pushes of Work are held back
  A sign-in was reported. Further pushes are neither shown nor
  answered.
  [Let pushes through again]
The org no longer knows bob
hint: countersign account remove acc-2
Accounts
  Work
    Organisation: id.example.com
    Account: alice@example.com
    State: ready
    Signs with: a key in this computer's hardware
    Pixel was added to the account Work (2 minutes ago, 11:58)
    If that was not you: change your password, remove that device at
    id.example.com, and tell its administrator
    [I have seen this]
    A sign-in was reported. Further pushes are neither shown nor
    answered.
    [Let pushes through again]
  bob (no longer known to the organisation)
    Organisation: localhost:8080 (development)
    Account: bob@example.com
    State: no longer known to the organisation
    Signs with: a key in a file on this computer, sealed by the
    agent
One-time codes
  [Copy the code of alice@example.com at id.example.com]
---
Pause
  [For 15 minutes]
  [For 1 hour]
  [For 4 hours]
[Doctor…]
---
[Quit (the agent keeps running)]
`
	if got := lines(s.View().Menu, ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What a prompt offers. Deny is there in all of them.
func TestAnswers(t *testing.T) {
	numbers := func(p *api.Prompt) { p.NeedsNumber, p.Numbers = true, []string{"42", "17", "93"} }
	need := func(what string) func(*api.Prompt) { return func(p *api.Prompt) { p.UserVerification = what } }
	pin := func(p *api.Prompt) { p.VerificationMethods = []string{"pin", "fingerprint"} }
	verified := func(p *api.Prompt) { p.Verified = true }
	choices := func(p *api.Prompt) {
		p.Account, p.User = "", ""
		p.Choices = []api.Choice{{Account: "acc-1", User: "alice@example.com", UserVerification: "none"}, {Account: "acc-2", User: "bob@example.com", UserVerification: "required"}}
	}
	page := func(p *api.Prompt) { p.Kind = "signed_nonce" }
	all := func(list ...func(*api.Prompt)) []func(*api.Prompt) { return list }
	for _, row := range []struct {
		name   string
		prompt []func(*api.Prompt)
		with   string // a dialog's offers besides Deny
		want   string // without one
	}{
		{"nothing but a yes", nil, "[Approve]", "[Approve]"},
		{"of a page", all(page), "[Approve]", "[Approve]"},
		{"a number", all(numbers), "[Approve…]", "[Approve: the sign-in page shows 42]\n[Approve: the sign-in page shows 17]\n[Approve: the sign-in page shows 93]"},
		{"a number that is not listed", all(func(p *api.Prompt) { p.NeedsNumber = true }), "[Approve…]", "To approve it, in a terminal: countersign prompt watch"},
		{"the PIN", all(need("required"), pin), "[Approve…]", "To approve it with your PIN, in a terminal: countersign prompt\nwatch"},
		{"verified a moment ago", all(need("required"), verified), "[Approve]", "[Approve]"},
		{"verified, and a number", all(need("required"), verified, numbers), "[Approve…]", "[Approve: the sign-in page shows 42]\n[Approve: the sign-in page shows 17]\n[Approve: the sign-in page shows 93]"},
		{"the PIN, if you like", all(need("preferred"), pin), "[Approve…]", "[Approve]\nWith your PIN, in a terminal: countersign prompt watch"},
		{"a number, and the PIN", all(numbers, need("required"), pin), "[Approve…]", "To approve it with your PIN, in a terminal: countersign prompt\nwatch"},
		{"something that is not understood", all(need("RETINA")), "[Approve…]", "To approve it with your PIN, in a terminal: countersign prompt\nwatch"},
		{"nothing said of verification", all(need("")), "[Approve…]", "To approve it with your PIN, in a terminal: countersign prompt\nwatch"},
		{"several accounts", all(choices), "[Approve…]", "[Approve as alice@example.com (acc-1)]\nAs bob@example.com, with your PIN, in a terminal: countersign\nprompt watch"},
		{"several accounts and a number", all(choices, numbers), "[Approve…]", "To approve it, in a terminal: countersign prompt watch"},
	} {
		for i, want := range []string{row.want, row.with} {
			t.Run(fmt.Sprintf("%s/%d", row.name, i), func(t *testing.T) {
				s := at(prompts(ask("a", row.prompt...)))
				if i == 1 {
					dialog(&s)
				}
				entry := s.promptEntry(s.Prompts[0])
				want += "\n[Deny]\n"
				if s.Prompts[0].Kind == "push" {
					want += "[This wasn't me]\n"
				}
				if got := lines(s.answers(s.Prompts[0]), ""); got != want {
					t.Errorf("got\n%swant\n%s", got, want)
				}
				for label, a := range actions(entry.Children) {
					p, ok := s.Find(a)
					if !ok || p.ID != "a" {
						t.Errorf("%s is for %q", label, a.Prompt)
					}
					if (a.Kind == Approve) != strings.HasPrefix(label, "Approve") && a.Kind != Show {
						t.Errorf("%s does %d", label, a.Kind)
					}
				}
			})
		}
	}
	s := at(prompts(ask("a")), func(s *Scene) { s.Busy = []string{"a"} })
	if got := actions(s.promptEntry(s.Prompts[0]).Children); len(got) != 0 {
		t.Errorf("while an answer is on its way: %v", got)
	}
	s = at(prompts(ask("a", numbers)), dialog, func(s *Scene) { s.NoWindow = true })
	if _, ok := actions(s.View().Menu)["Approve: the sign-in page shows 17"]; !ok {
		t.Errorf("after the agent had no window:\n%s", lines(s.View().Menu, ""))
	}
}

// B3: what a keyboard lands on when it opens a prompt does nothing.
func TestB3EnterApprovesNothing(t *testing.T) {
	for _, p := range []api.Prompt{ask("a"), ask("b", func(p *api.Prompt) { p.App = "" }), ask("c", func(p *api.Prompt) { p.Unusual = []string{"New place: Lisbon"} }),
		ask("d", func(p *api.Prompt) { p.NeedsNumber, p.Numbers = true, []string{"1", "2", "3"} })} {
		children := at(prompts(p)).promptEntry(p).Children
		first := slices.IndexFunc(children, Entry.Enabled)
		if first < 0 || children[first].Action != (Action{}) || len(children[first].Children) > 0 {
			t.Errorf("%s: the first to choose is %+v", p.ID, children[max(0, first)])
		}
	}
}

// B2: the number is in the menu to be picked, and nowhere else.
func TestB2NumberIsNotTold(t *testing.T) {
	s := at(prompts(ask("a", func(p *api.Prompt) { p.NeedsNumber, p.Numbers = true, []string{"4711", "17", "93"} })))
	for i := range 2 {
		if i == 1 {
			dialog(&s)
		}
		v := s.View()
		if strings.Contains(v.Tooltip+v.Menu[0].Label, "4711") || i == 1 && strings.Contains(lines(v.Menu, ""), "4711") {
			t.Errorf("told: %q\n%s", v.Tooltip, lines(v.Menu, ""))
		}
	}
}

// B5: an action is for the prompt that was shown, whatever has its id now.
func TestB5ActionIsForWhatWasShown(t *testing.T) {
	s := at(prompts(ask("b"), ask("a")))
	yes := act(s.Prompts[1], Approve)
	if p, ok := s.Find(yes); !ok || p.ID != "a" {
		t.Fatalf("found %q, %t", p.ID, ok)
	}
	for name, change := range map[string]func(*Scene){
		"gone":           prompts(ask("b")),
		"another app":    prompts(ask("a", func(p *api.Prompt) { p.App = "Bank" })),
		"another place":  prompts(ask("a", func(p *api.Prompt) { p.Location = "Riga" })),
		"other numbers":  prompts(ask("a", func(p *api.Prompt) { p.Numbers = []string{"1"} })),
		"more of it":     prompts(ask("a", func(p *api.Prompt) { p.Repeats = 1 })),
		"another device": prompts(ask("a", func(p *api.Prompt) { p.Account = "acc-2" })),
	} {
		changed := at(change)
		if p, ok := changed.Find(yes); ok {
			t.Errorf("%s: found %+v", name, p)
		}
	}
	for name, a := range map[string]Action{"the zero action": {}, "no mark": {Kind: Approve, Prompt: "a"}, "no id": {Kind: Approve, Seen: MarkOf(s.Prompts[1])}} {
		if _, ok := s.Find(a); ok {
			t.Errorf("%s finds one", name)
		}
	}
	tried := at(prompts(ask("a", func(p *api.Prompt) { p.TriesLeft = 2 })))
	if _, ok := tried.Find(yes); !ok {
		t.Error("a wrong PIN made another prompt of it")
	}
}

// B9: whatever an org sends, labels are one line each, bounded and clean, and
// what is decided upon is not cut.
func TestB9Labels(t *testing.T) {
	long := strings.Repeat("transfer 1 000 000 to an account of mine ", 9)
	hostile := "Pay\x1b[31mroll\n\u202eevil\t<b>_x_ & y"
	s := at(func(s *Scene) {
		s.Prompts = []api.Prompt{ask("a", func(p *api.Prompt) {
			p.App, p.User, p.Location, p.Client, p.Origin = hostile, hostile, hostile, hostile, "https://"+strings.Repeat("x", 500)
			p.Unusual = []string{hostile}
			p.TransactionType, p.BindingMessage = "CIBA", long
		})}
		s.Said = []string{hostile}
		s.Status.Problems = []api.Problem{{Code: "x", Message: hostile, Hint: hostile}}
		s.Accounts = []api.Account{{Name: hostile, User: hostile, Org: hostile, State: hostile, Notices: []api.Notice{{Message: hostile}}}}
		s.Codes = []api.CodeEntry{{Name: hostile, Issuer: hostile}}
	})
	v := s.View()
	for _, l := range append(labels(v.Menu), v.Tooltip) {
		if n := utf8.RuneCountInString(l); n > maxLabel+len("Countersign: ") || strings.ContainsFunc(l, describe.Unsafe) {
			t.Errorf("%d characters: %q", n, l)
		}
	}
	var inside []string
	for _, e := range v.Menu {
		if strings.HasPrefix(e.Label, "Pay") {
			inside = append(inside, labels(e.Children)...)
		}
	}
	if !strings.Contains(strings.Join(inside, " "), strings.TrimSpace(long)) {
		t.Errorf("the message is not whole: %q", inside)
	}
}

// A menu stays as long as a screen is high.
func TestBounds(t *testing.T) {
	long := strings.Repeat("very long ", 60)
	s := at(func(s *Scene) {
		for i := range 100 {
			id := fmt.Sprint(i)
			s.Said = append(s.Said, long)
			s.Prompts = append(s.Prompts, ask("p"+id))
			s.Accounts = append(s.Accounts, api.Account{ID: id, Name: "n" + id, State: "active", PushesHeld: true, Notices: make([]api.Notice, 9)})
			s.Codes = append(s.Codes, api.CodeEntry{ID: id, Name: "c" + id})
			s.Status.Problems = append(s.Status.Problems, api.Problem{Code: "x" + id, Message: id + long, Hint: long})
		}
	})
	menu := s.View().Menu
	fits(t, menu)
	fits(t, at(func(s *Scene) { s.Hold = &api.Hold{Reason: long} }).View().Menu)
	fits(t, Scene{Reach: Unreachable, Trouble: long}.View().Menu)
	if len(menu) > 70 {
		t.Errorf("%d lines:\n%s", len(menu), lines(menu, ""))
	}
	for _, want := range []string{"and 92 more: countersign prompt watch", "and 80 more: countersign account list", "and 80 more: countersign code list", "and 95 more problems: countersign status"} {
		if !slices.Contains(labels(menu), want) {
			t.Errorf("no %q in\n%s", want, lines(menu, ""))
		}
	}
	newest := menu[maxSaid].Children
	if first := newest[len(newest)-1].Action.Prompt; first != "p0" {
		t.Errorf("the newest is not the first: %s", first)
	}
}

func TestWithoutClipboard(t *testing.T) {
	s := at(func(s *Scene) {
		s.NoClipboard = "Nothing here can copy a code. In a terminal:"
		s.Codes = []api.CodeEntry{{ID: "c", Name: "alice@example.com"}}
	})
	menu := s.View().Menu
	if !slices.Contains(labels(menu), "countersign code get alice@example.com") {
		t.Errorf("no command in\n%s", lines(menu, ""))
	}
	for l, a := range actions(menu) {
		if a.Kind == CopyCode {
			t.Errorf("%s copies", l)
		}
	}
}

func TestPause(t *testing.T) {
	var found []time.Duration
	for _, a := range actions(at().View().Menu) {
		if a.Kind == Pause {
			found = append(found, a.For)
		}
		if a.Kind == Resume {
			t.Error("no pause, and it can be ended")
		}
	}
	if slices.Sort(found); !slices.Equal(found, pauses) {
		t.Errorf("pauses %v", found)
	}
	for reason, ends := range map[string]bool{api.HoldPaused: true, api.HoldScreenLocked: false, api.HoldAsleep: false, "new": false} {
		found := actions(at(func(s *Scene) { s.Hold = &api.Hold{Reason: reason} }).View().Menu)
		if a := found["End the pause"]; (a.Kind == Resume) != ends {
			t.Errorf("%s: %v", reason, found)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, row := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"  one  two ", []string{"one two"}},
		{strings.Repeat("a", 64), []string{strings.Repeat("a", 64)}},
		{strings.Repeat("a", 65), []string{strings.Repeat("a", 64), "a"}},
		{"x " + strings.Repeat("ä", 130) + " y", []string{"x", strings.Repeat("ä", 64), strings.Repeat("ä", 64), "ää y"}},
		{strings.Repeat("a", 60) + " 123", []string{strings.Repeat("a", 60) + " 123"}},
		{strings.Repeat("a", 60) + " 1234", []string{strings.Repeat("a", 60), "1234"}},
	} {
		if got := wrap(row.in); !slices.Equal(got, row.want) {
			t.Errorf("%q: %q", row.in, got)
		}
	}
}
