package describe

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"countersign.dev/ipc/api"
)

var noon = time.Date(2026, 11, 22, 14, 5, 0, 0, time.Local)

// payroll is a prompt of which everything is known.
func payroll() api.Prompt {
	return api.Prompt{
		ID: "p-1", Account: "acc-1", Kind: "push", App: "Payroll", Org: "https://id.example.com", User: "alice@example.com",
		Origin: "https://id.example.com", Location: "Lisbon", Client: "Firefox on Linux", IP: "203.0.113.7",
		CreatedAt: noon.Add(-time.Minute), RequestedAt: noon.Add(-2 * time.Minute), ExpiresAt: noon.Add(4*time.Minute + time.Second),
		UserVerification: "required", VerificationMethods: []string{"pin"}, TriesLeft: 3,
		Key: &api.PromptKey{Kind: "tpm", Protection: "hardware", Demands: true}, NeedsNumber: true, Numbers: []string{"17", "42"},
		Unusual: []string{"New place"}, Repeats: 2,
	}
}

func TestQuestion(t *testing.T) {
	for _, row := range []struct {
		p                api.Prompt
		question, signIn string
	}{
		{payroll(), "Sign in to Payroll?", "sign-in to Payroll as alice@example.com"},
		{api.Prompt{ID: "p-2", App: "Wiki"}, "Sign in to Wiki?", "sign-in to Wiki"},
		{api.Prompt{ID: "p-2"}, "Sign in?", "sign-in p-2"},
		{api.Prompt{App: "Bank", User: "alice", TransactionType: "CIBA", BindingMessage: "Pay 300 to Bob?"}, "Bank asks: Pay 300 to Bob?", "Bank asks: Pay 300 to Bob?"},
		{api.Prompt{ID: "p\x1b", App: "Pay\x1b[2Jroll", User: "a\u202eb"}, "Sign in to Pay\ufffd[2Jroll?", "sign-in to Pay\ufffd[2Jroll as a\ufffdb"},
	} {
		if got := Question(row.p); got != row.question {
			t.Errorf("%q, want %q", got, row.question)
		}
		if got := SignIn(row.p); got != row.signIn {
			t.Errorf("%q, want %q", got, row.signIn)
		}
	}
}

// The message of a request is never cut as long as the agent lets it through.
func TestWholeMessage(t *testing.T) {
	message := strings.Repeat("ü", MaxMessage)
	if got := Question(api.Prompt{App: "Bank", TransactionType: "CIBA", BindingMessage: message}); got != "Bank asks: "+message {
		t.Errorf("%d characters are left", utf8.RuneCountInString(got))
	}
}

func TestFacts(t *testing.T) {
	want := []Fact{
		{"organisation", "id.example.com"},
		{"account", "alice@example.com"},
		{"from", "Lisbon, Firefox on Linux, 203.0.113.7"},
		{"page", "https://id.example.com"},
		{"when", "2 minutes ago, 14:03; ends in 4 minutes; asked 3 times"},
		{"signs with", "a key in this computer's TPM, which you unlock"},
		{"needs", "your PIN; 3 tries left"},
	}
	if got := Facts(payroll(), noon); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// What is not known is left out, what has ended is not promised.
	got := Facts(api.Prompt{Org: "http://localhost:8080", CreatedAt: noon, ExpiresAt: noon}, noon)
	if want := []Fact{{"organisation", "localhost:8080 (development)"}, {"when", "now, 14:05"}}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// The number is for the person to bring.
	for _, f := range Facts(payroll(), noon) {
		if strings.Contains(f.Value, "42") || strings.Contains(f.Value, "17") {
			t.Errorf("%s tells the number: %s", f.Name, f.Value)
		}
	}
	several := api.Prompt{Choices: []api.Choice{{Account: "acc-1", User: "alice"}, {Account: "acc-2", User: "bob"}}, CreatedAt: noon}
	if got := Facts(several, noon); got[0] != (Fact{"account", "alice (acc-1) or bob (acc-2)"}) {
		t.Errorf("%q", got)
	}
	// The clock of whoever asked may be ahead.
	ahead := api.Prompt{CreatedAt: noon.Add(-3 * time.Second), RequestedAt: noon.Add(time.Hour)}
	if got := Facts(ahead, noon); got[0].Value != "3 seconds ago, 14:04" {
		t.Errorf("%q", got)
	}
}

func TestKey(t *testing.T) {
	for _, row := range []struct {
		key  *api.PromptKey
		want string
	}{
		{nil, ""},
		{&api.PromptKey{}, "a key in a file on this computer, sealed by the agent"}, // says no more than is known
		{&api.PromptKey{Kind: "software", Protection: "software"}, "a key in a file on this computer, sealed by the agent"},
		{&api.PromptKey{Kind: "software", Protection: "software", Demands: true}, "a key in a file on this computer, which you unlock"},
		{&api.PromptKey{Kind: "tpm", Protection: "hardware"}, "a key in this computer's TPM"},
		{&api.PromptKey{Kind: "enclave", Protection: "hardware"}, "a key in this computer's hardware"},
	} {
		if got := Key(row.key); got != row.want {
			t.Errorf("%+v: %q, want %q", row.key, got, row.want)
		}
	}
}

func TestNeeds(t *testing.T) {
	for _, row := range []struct {
		p    api.Prompt
		want string
	}{
		{api.Prompt{}, ""},
		{api.Prompt{UserVerification: "none", VerificationMethods: []string{"pin"}}, ""},
		{api.Prompt{UserVerification: "required"}, "your PIN or fingerprint"},
		{api.Prompt{UserVerification: "required", VerificationMethods: []string{"pin"}}, "your PIN"},
		{api.Prompt{UserVerification: "required", VerificationMethods: []string{"pin"}, TriesLeft: 1}, "your PIN; 1 try left"},
		{api.Prompt{UserVerification: "required", VerificationMethods: []string{"pin", "fingerprint"}, TriesLeft: 2}, "your PIN or your fingerprint; 2 tries left"},
		{api.Prompt{UserVerification: "required", VerificationMethods: []string{"password"}}, "your password on this computer"},
		{api.Prompt{UserVerification: "required", VerificationMethods: []string{"no\x1bse"}}, "your no\ufffdse"},
		{api.Prompt{UserVerification: "required", VerificationMethods: []string{"pin"}, Verified: true}, "nothing more: you have shown a moment ago that it is you"},
		{api.Prompt{UserVerification: "required", VerificationMethods: []string{"pin"}, LockedUntil: noon.Add(2 * time.Minute)}, "your PIN; the PIN is locked until 14:07, in 2 minutes"},
		{api.Prompt{UserVerification: "preferred", VerificationMethods: []string{"pin"}}, "your PIN (the organisation would like it; you may go on without)"},
	} {
		if got := Needs(row.p, noon); got != row.want {
			t.Errorf("%+v: %q, want %q", row.p, got, row.want)
		}
	}
}

func TestHold(t *testing.T) {
	for _, row := range []struct {
		hold *api.Hold
		want string
	}{
		{nil, ""},
		{&api.Hold{Reason: api.HoldScreenLocked}, "the screen is locked: nothing is shown or signed until it is unlocked"},
		{&api.Hold{Reason: api.HoldAsleep}, "the computer goes to sleep: nothing is shown or signed until it is awake"},
		{&api.Hold{Reason: api.HoldPaused}, "paused: nothing is shown or signed"},
		{&api.Hold{Reason: api.HoldPaused, Until: noon.Add(2 * time.Minute)}, "paused: nothing is shown or signed until 14:07, in 2 minutes"},
		{&api.Hold{Reason: "new\x1b"}, "held: nothing is shown or signed (new\ufffd)"},
		{&api.Hold{}, "held: nothing is shown or signed"},
	} {
		if got := Hold(row.hold, noon); got != row.want {
			t.Errorf("%+v: %q, want %q", row.hold, got, row.want)
		}
	}
}

func TestEnded(t *testing.T) {
	for _, row := range []struct{ outcome, reason, word, why string }{
		{"approved", "", "approved", ""},
		{"approved", "the org has not confirmed it yet", "approved", "the org has not confirmed it yet"},
		{"denied", "elsewhere", "denied", "elsewhere"},
		{"expired", "prompt expired", "expired", ""},
		{"expired", "prompt withdrawn", "expired", "withdrawn"},
		{"refused", "org_unreachable", "refused", "org unreachable"},
		{"", "", "refused", ""},
		{"app\x1broved", "a\u202eb", "app\ufffdroved", "a\ufffdb"},
	} {
		word, why := Ended(api.PromptOutcome{ID: "p-1", Outcome: row.outcome, Reason: row.reason})
		if word != row.word || why != row.why {
			t.Errorf("%s, %s: %q, %q", row.outcome, row.reason, word, why)
		}
	}
}

func TestOrg(t *testing.T) {
	for _, row := range []struct {
		org         string
		development bool
		want        string
	}{
		{"https://id.example.com", false, "id.example.com"},
		{"https://id.example.com:8443/path", false, "id.example.com:8443"},
		{"http://localhost:8080", false, "localhost:8080 (development)"},
		{"https://localhost", true, "localhost (development)"},
		{"no url", false, "no url"},
		{"https://id\x1b.example.com", false, "https://id\ufffd.example.com"},
		{"", false, ""},
	} {
		if got := Org(row.org, row.development); got != row.want {
			t.Errorf("%q: %q, want %q", row.org, got, row.want)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, row := range []struct {
		after time.Duration // noon; negative: ago
		want  string
	}{
		{-time.Second, "now, 14:04"},
		{-30 * time.Second, "30 seconds ago, 14:04"},
		{-2 * time.Minute, "2 minutes ago, 14:03"},
		{-time.Hour, "1 hour ago, 13:05"},
		{-49 * time.Hour, "2 days ago, 20 Nov 2026 13:05"},
		{time.Second, "now, 14:05"}, // the clocks differ
	} {
		if got := Ago(noon.Add(row.after), noon); got != row.want {
			t.Errorf("%s: %q, want %q", row.after, got, row.want)
		}
	}
	if got := Ago(time.Time{}, noon); got != "" {
		t.Errorf("never: %q", got)
	}
	for _, row := range []struct {
		after time.Duration
		want  string
	}{
		{0, "14:05, now"},
		{-time.Minute, "14:04, now"},
		{time.Millisecond, "14:05:00, in 1 second"},
		{30 * time.Second, "14:05:30, in 30 seconds"},
		{2 * time.Minute, "14:07, in 2 minutes"},
		{3 * time.Hour, "17:05, in 3 hours"},
		{49 * time.Hour, "24 Nov 2026 15:05, in 2 days"},
	} {
		if got := Until(noon.Add(row.after), noon); got != row.want {
			t.Errorf("%s: %q, want %q", row.after, got, row.want)
		}
	}
	for n, want := range map[int]string{0: "no accounts", 1: "1 account", 2: "2 accounts"} {
		if got := Plural(n, "account"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for name, want := range map[string]string{"pin": "PIN", "fingerprint": "fingerprint", "password": "password on this computer", "security_key": "security key", "": "", "x\x07": "x\ufffd"} {
		if got := Method(name); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// B9: whatever comes in, one line of bounded length comes out on which nothing
// acts, and clean text stays as it is.
func FuzzClean(f *testing.F) {
	f.Add("Payroll", 10)
	f.Add("a\x1b[2Jb\r\nc\u202ed\u009be\U000e0041\xff", 400)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1000 {
			limit = 100
		}
		out := Clean(s, limit)
		if strings.ContainsFunc(out, Unsafe) || !utf8.ValidString(out) {
			t.Fatalf("%q became %q", s, out)
		}
		if n := utf8.RuneCountInString(out); n > limit+1 {
			t.Fatalf("%d characters of %d", n, limit)
		}
		if Clean(out, limit+1) != out {
			t.Fatalf("%q changes again", out)
		}
		if n := utf8.RuneCountInString(s); n <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, Unsafe) && out != s {
			t.Fatalf("%q became %q", s, out)
		}
		// Whatever says something about a prompt is as clean.
		p := api.Prompt{ID: s, App: s, Org: s, User: s, Origin: s, Location: s, IP: s, Client: s, Unusual: []string{s}, TransactionType: s, BindingMessage: s,
			UserVerification: "required", VerificationMethods: []string{s}, Choices: []api.Choice{{Account: s, User: s}}, Key: &api.PromptKey{Kind: s, Protection: s}}
		word, why := Ended(api.PromptOutcome{Outcome: s, Reason: s})
		texts := append(Unusual(p), Question(p), SignIn(p), word, why, Hold(&api.Hold{Reason: s}, noon))
		for _, f := range Facts(p, noon) {
			texts = append(texts, f.Value)
		}
		for _, text := range texts {
			if strings.ContainsFunc(text, Unsafe) || !utf8.ValidString(text) {
				t.Fatalf("%q became %q", s, text)
			}
		}
	})
}
