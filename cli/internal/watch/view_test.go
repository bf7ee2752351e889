package watch

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"countersign.dev/cli/internal/layout"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/describe"
)

// full is a prompt of which everything is known.
func full(id string) api.Prompt {
	p := with(payroll(id), "odd", "number", "pin")
	p.Client, p.Key = "Firefox on Linux", &api.PromptKey{Kind: "tpm", Protection: "hardware", Demands: true}
	return p
}

// The screens of one sign-in, as they are at 80 columns.
func TestScreens(t *testing.T) {
	for _, row := range []struct{ name, keys, want string }{
		{"idle", "-", `No sign-in is waiting. What comes is shown here.
q leaves`},
		{"asked", "", `
New place: Lisbon
Sign in to Payroll?
  organisation  id.example.com
  account       alice@example.com
  from          Lisbon, Firefox on Linux, 203.0.113.7
  page          https://id.example.com
  when          2 minutes ago, 14:03; ends in 4 minutes
  signs with    a key in this computer's TPM, which you unlock
  needs         your PIN; 3 tries left

 Approve  Deny  This wasn't me  Later 
arrows choose, Enter answers; a approves, d denies, r reports; q leaves`},
		{"reported", "r", `…
 Approve  Deny [This wasn't me] Later 
Enter denies it, tells the organisation that it was not you, and holds further
ones back`},
		{"number", "a Enter 4 2", `…
type the number that the sign-in page shows; Enter goes on, Esc back
Number: 42`},
		{"PIN", "a Enter 4 2 Enter 1 2 3", `…
what you type is not shown; Enter goes on, Esc back
PIN: `},
		{"sent", "a Enter 4 2 Enter 1 2 3 Enter", `…
Approving…`},
		{"put off", "l", `1 sign-in put off: nothing is answered yet.
Enter shows the newest; q leaves`},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := play(t)
			if row.keys != "-" {
				p.ask(full("p"))
				p.now = noon // the wait for the keys is not looked at here
				p.m.changed = noon.Add(-time.Hour)
				p.press(strings.Fields(row.keys)...)
				p.now = noon
			}
			got := p.look()
			if end, ok := strings.CutPrefix(row.want, "…"); ok {
				if !strings.HasSuffix(got, "\n"+end) {
					t.Errorf("\n%s\nwant at its end\n%s", got, end)
				}
			} else if got != row.want {
				t.Errorf("\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}

// Several, the newest first; each says how long it waits still.
func TestSeveral(t *testing.T) {
	p := play(t)
	p.ask(payroll("p-1"))
	p.now = noon
	p.ask(with(payroll("p-2"), "wiki"))
	p.now = noon
	p.press("Up")
	p.now = noon
	want := `
2 sign-ins waiting
> Wiki as alice@example.com  4 minutes left
  Payroll as alice@example.com  4 minutes left

Sign in to Wiki?
`
	if got := p.look(); !strings.HasPrefix(got, want) {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	p.now = p.now.Add(time.Second)
	p.press("l")
	p.sees("Wiki as alice@example.com 3 minutes left later", "> Payroll", "Sign in to Payroll?")
	p.now = noon.Add(3*time.Minute + 2*time.Second)
	p.sees("Payroll as alice@example.com 59 seconds left", "ends in 59 seconds")
	p.now = noon.Add(10 * time.Minute) // the agent has not said so yet
	p.misses("ends in")

	// A hundred do not fill the screen, and the chosen one is among those shown.
	p = play(t)
	for range 100 {
		p.ask(payroll(string(rune('a'+len(p.m.prompts)%26)) + time.Duration(len(p.m.prompts)).String()))
	}
	for range 120 {
		p.press("Up")
		if !strings.Contains(p.look(), "> Payroll") {
			t.Fatalf("the chosen one is not shown:\n%s", p.look())
		}
	}
	for range 120 {
		p.press("Down")
		if !strings.Contains(p.look(), "> Payroll") {
			t.Fatalf("the chosen one is not shown:\n%s", p.look())
		}
	}
}

// In a window of 40 columns and 10 rows all can be read, and nothing is approved
// before it was.
func TestSmallWindow(t *testing.T) {
	p := play(t)
	p.m.resize(40, 10)
	p.ask(full("p"))
	p.sees("New place: Lisbon", "Sign in to Payroll?", "Approve", "Deny", "This wasn't me", "Later", "lines 1 to ")
	p.press("a", "Enter")
	p.expect()
	p.sees("There is more to read first: Space shows it.")
	seen := p.look()
	for range 10 {
		p.press(" ")
		seen += "\n" + p.look()
	}
	for _, fact := range describe.Facts(full("p"), p.now) {
		if !strings.Contains(seen, fact.Name) {
			t.Errorf("%s was never shown", fact.Name)
		}
	}
	if !strings.Contains(seen, "3 tries left") {
		t.Errorf("the last line was never shown:\n%s", seen)
	}
	p.press("b", "b", "b")
	p.sees("New place: Lisbon")
	p.press("a", "Enter", "4", "2", "Enter")
	p.sees("PIN:", "Sign in to Payroll?")
	p.press("1", "Enter")
	p.expect("p approve number=42 pin=1")
	// "No" takes no reading.
	p = play(t)
	p.m.resize(40, 10)
	p.ask(full("p"))
	p.press("d")
	p.expect("p deny")
}

// A window that becomes larger or smaller is drawn for its size; what was read
// counts for what it showed.
func TestResized(t *testing.T) {
	p := play(t)
	p.ask(full("p"))
	p.press("a")
	p.m.resize(40, 10)
	p.press("Enter")
	p.expect()
	p.sees("There is more to read first")
	p.m.resize(80, 24)
	p.look()
	p.press("Enter")
	p.sees("Number:")
	for _, size := range [][2]int{{10, 3}, {25, 8}, {26, 7}, {1, 1}} {
		p.m.resize(size[0], size[1])
		p.look()
		p.m.resize(200, 60)
		p.m.start()
		p.m.resize(size[0], size[1])
		p.look()
		p.press("a", "Enter", "d*", "Enter")
		p.expect()
	}
	p.m.resize(0, 0) // nobody knows
	if p.m.cols != 80 || p.m.rows != 24 {
		t.Error("an unknown size is not the usual one")
	}
}

// In every size all stages fit and nothing breaks (the checks are in look).
func TestEverySize(t *testing.T) {
	for cols := minCols; cols < 100; cols += 13 {
		for rows := minRows; rows < 30; rows += 3 {
			p := play(t)
			p.m.resize(cols, rows)
			p.ask(with(full("p-1"), "choices", "finger"))
			p.ask(with(full("p-2"), "wiki"))
			for !p.m.read {
				p.press(" ")
			}
			p.press("a", "Enter", "Down", "Enter", "4", "2", "Enter", "Enter", "x", "Enter")
			if len(p.sent) != 1 {
				t.Fatalf("%d x %d: %q\n%s", cols, rows, p.sent, p.look())
			}
			p.m.lost("the agent is not running (there is no socket /run/user/1000/countersign/agent.sock)", p.now)
			p.look()
		}
	}
}

// Colours only repeat what the words say.
func TestColours(t *testing.T) {
	bare := play(t)
	bare.ask(full("p"))
	bare.press("a")
	coloured := newModel(true)
	coloured.listed(api.PromptList{}, noon)
	p := full("p")
	coloured.event(api.Event{Type: "prompt", Prompt: &p}, noon)
	coloured.answer = approve
	got := strings.Join(coloured.view(bare.now), "\n")
	if !strings.Contains(got, layout.Yellow+"New place") {
		t.Errorf("no colours: %q", got)
	}
	for _, code := range []string{layout.Dim, layout.Bold, layout.Yellow, layout.Green, layout.Red, "\x1b[0m"} {
		got = strings.ReplaceAll(got, code, "")
	}
	if want := bare.look(); got != want {
		t.Errorf("\n%s\nwithout colours\n%s", got, want)
	}
}

// B9: text from outside stays text, in every stage, and wide characters keep
// their lines within the window.
func TestB9HostileText(t *testing.T) {
	bad := "Pay\x1b]0;owned\x07roll\u202e\x1b[2J\r\n\u009b\x00 東京都東京都東京都東京都 e\u0301e\u0301 🔑🔑🔑 " + strings.Repeat("long ", 90) + strings.Repeat("x", 300)
	hostile := api.Prompt{ID: "p", Account: bad, Kind: bad, App: bad, Org: bad, User: bad, Origin: bad, Location: bad, IP: bad, Client: bad,
		CreatedAt: noon, ExpiresAt: noon.Add(time.Hour), NeedsNumber: true, Numbers: []string{bad}, Unusual: []string{bad, bad}, UserVerification: "required",
		VerificationMethods: []string{bad, "pin"}, Choices: []api.Choice{{Account: bad, User: bad}, {Account: "b" + bad, User: bad}},
		Key: &api.PromptKey{Kind: bad, Protection: bad}, TransactionType: "CIBA", BindingMessage: bad}
	for _, size := range [][2]int{{80, 24}, {40, 10}, {200, 80}} {
		p := play(t)
		p.m.resize(size[0], size[1])
		check := func(lines ...string) {
			for _, line := range lines {
				if strings.ContainsFunc(line, describe.Unsafe) {
					t.Fatalf("%q", line)
				}
			}
		}
		second := hostile
		second.ID = "p-2"
		p.ask(second)
		p.ask(hostile)
		check(strings.Split(p.look(), "\n")...)
		for !p.m.read {
			p.press(" ")
			check(strings.Split(p.look(), "\n")...)
		}
		p.press("a", "Enter")
		check(strings.Split(p.look(), "\n")...)
		p.press("Down", "Enter", "4", "Enter")
		check(strings.Split(p.look(), "\n")...)
		p.m.prompts[p.m.index(p.m.selected)].Numbers = nil
		p.press("4", "Enter", "Enter")
		check(strings.Split(p.look(), "\n")...)
		if len(p.sent) != 1 {
			t.Fatalf("%v: %q\n%s", size, p.sent, p.look())
		}
		p.note(p.m.decided(p.last.prompt.ID, api.PromptOutcome{Outcome: bad, Reason: bad}, nil, p.now))
		p.closes("p", bad, bad)
		p.closes("p-2", bad, bad)
		p.m.event(api.Event{Type: "hold", Hold: &api.Hold{Reason: bad}}, p.now)
		check(strings.Split(p.look(), "\n")...)
		p.m.lost(goneWords(&api.Error{Message: bad}), p.now)
		check(strings.Split(p.look(), "\n")...)
		check(p.kept...)
	}
}

// B5: whatever is pressed and whatever happens, an answer is for the sign-in that
// was on the screen, unchanged for the while that it takes to mean it, and what
// it approves was all shown.
func TestB5AnyKeysAnyEvents(t *testing.T) {
	pressed := []string{"a", "d", "r", "l", "j", "k", "Enter", "Enter", "Enter", "Up", "Down", "Left", "Right", "Tab", "Esc", " ", "b", "4", "2", "1", "Erase", "a*", "Suspend"}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 5))
		p := play(t)
		var ids, log []string
		// What the screen asks, since when, and whether the person chose it.
		visible, since, moved := "", p.now, false
		watch := func(byKey bool) {
			if current := p.m.current(); current == nil {
				visible = ""
			} else if current.ID != visible {
				visible, since, moved = current.ID, p.now, byKey
			}
		}
		for step := range 300 {
			p.now = p.now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
			p.sent = nil
			switch r.IntN(12) {
			case 0:
				id := time.Duration(step).String()
				ids = append(ids, id)
				fresh := with(payroll(id), []string{"wiki", "number", "pin", "choices", "finger"}[r.IntN(5)])
				p.m.event(api.Event{Type: "prompt", Prompt: &fresh}, p.now)
				p.look()
			case 1:
				if len(ids) > 0 {
					p.closes(ids[r.IntN(len(ids))], "expired", "")
				}
			case 2:
				if p.m.pending != nil {
					errs := []error{nil, &api.Error{Code: "wrong_pin", Status: 403, TriesLeft: 1}, &api.Error{Code: "x", Status: 410}, &api.Error{Code: "wrong_number", Status: 400}}
					p.settles("approved", errs[r.IntN(len(errs))])
					p.now = p.now.Add(-time.Second) // which it waits
				}
			case 3:
				if r.IntN(4) == 0 {
					p.m.event(api.Event{Type: "hold", Hold: &api.Hold{Reason: api.HoldPaused}}, p.now)
				} else {
					p.m.resize(30+r.IntN(60), 10+r.IntN(20))
				}
				p.look()
			default:
				before := p.m.selected
				k := pressed[r.IntN(len(pressed))]
				log = append(log, p.now.Format("05.000 ")+k+" "+before)
				p.burst(k)
				if len(p.sent) > 0 && p.last != nil && strings.Contains(p.sent[0], " ") {
					if p.last.prompt.ID != before || before != visible {
						t.Fatalf("seed %d: %q, and the screen asked about %s", seed, p.sent, visible)
					}
					if p.now.Sub(since) < settle && !moved {
						t.Fatalf("seed %d: %q after %s: %q", seed, p.sent, p.now.Sub(since), log)
					}
					if p.last.Action == "approve" && p.last.prompt.NeedsNumber && p.last.Number != "42" && p.last.Number != "17" && p.last.Number != "8" {
						t.Fatalf("seed %d: %q", seed, p.sent)
					}
				}
			}
			watch(len(log) > 0 && strings.HasPrefix(log[len(log)-1], p.now.Format("05.000 ")))
		}
	}
}
