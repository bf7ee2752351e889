package daemon

import (
	"bytes"
	"context"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign.dev/authenticators/totp"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/vault"
	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// vector is the secret of RFC 6238, appendix B: at 59 s its eight digits end in
// 287082.
const vector = totp.Seed("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")

func sixDigits(s totp.Seed) *totp.Parameters {
	return &totp.Parameters{Seed: s, Algorithm: totp.SHA1, Digits: 6, Period: 30}
}

// coded is an account as an enrolment with codes leaves it.
func coded(id, login, org string, p *totp.Parameters) *account.Account {
	return &account.Account{
		ID: id, Name: "name of " + id, State: account.Active, OrgID: "00o-" + org, OrgURL: "https://" + org,
		UserID: "00u-" + login, Username: login, EnrolmentID: "pfd-" + id, Protection: "software",
		Methods: []account.Method{{Type: okta.MethodTOTP, ID: "otp-" + id, TOTP: p}},
	}
}

// withAccounts starts an agent whose book holds these accounts.
func withAccounts(t testing.TB, c Config, list ...*account.Account) *agent {
	t.Helper()
	v, err := vault.Open(t.Context(), c.StateDir, vault.Options{Key: unlock.Kind(c.VaultKey)})
	if err != nil {
		t.Fatal(err)
	}
	document := map[string]any{"version": 1, "accounts": list}
	if err := errors.Join(v.Save("accounts", document), v.Close()); err != nil {
		t.Fatal(err)
	}
	return startAgent(t, c)
}

func at(unix int64) func() time.Time { return func() time.Time { return time.Unix(unix, 0) } }

func code(t *testing.T, err error) string {
	t.Helper()
	var refusal *api.Error
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &refusal):
		t.Fatalf("not typed: %v", err)
	case refusal.Message == "" || refusal.Status < 400:
		t.Errorf("%+v", refusal)
	}
	return refusal.Code
}

func TestCode(t *testing.T) {
	c := testConfig(t)
	c.Now = at(59)
	a := withAccounts(t, c, coded("aaaa", "alice@example.com", "id.example.com", sixDigits(vector)))
	for _, name := range []string{"aaaa", "alice@example.com", "Alice@Example.com", "name of aaaa"} {
		got, err := a.client.Code(t.Context(), name)
		if want := (api.Code{Name: "alice@example.com", Issuer: "id.example.com", Code: "287082", ExpiresInSeconds: 1}); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	list, err := a.client.Codes(t.Context())
	if want := (api.CodeEntry{ID: "aaaa", Name: "alice@example.com", Issuer: "id.example.com", Account: "aaaa", State: "active"}); err != nil || len(list.Codes) != 1 || list.Codes[0] != want {
		t.Errorf("%+v, %v", list, err)
	}
	if problems := a.problems(); len(problems) != 0 {
		t.Errorf("a method without a key is no problem: %+v", problems)
	}
}

// A name that fits several is refused with what tells them apart; whatever can
// give no code does not make a name ambiguous.
func TestCodeNames(t *testing.T) {
	alice := func(id, org string) *account.Account {
		return coded(id, "alice@example.com", org, sixDigits(vector))
	}
	state := func(a *account.Account, s account.State) *account.Account { a.State = s; return a }
	named := func(a *account.Account, name string) *account.Account { a.Name = name; return a }
	for _, row := range []struct {
		about    string
		accounts []*account.Account
		name     string
		want     string // id
		code     string
	}{
		{"none", nil, "alice@example.com", "", "code_unknown"},
		{"other", []*account.Account{alice("aaaa", "one")}, "bob@example.com", "", "code_unknown"},
		{"prefix", []*account.Account{alice("aaaa", "one")}, "alice", "", "code_unknown"},
		{"nothing", []*account.Account{coded("aaaa", "", "one", sixDigits(vector))}, "", "", "code_unknown"},
		{"two orgs", []*account.Account{alice("aaaa", "one"), alice("bbbb", "two")}, "alice@example.com", "", "code_ambiguous"},
		{"two orgs, by id", []*account.Account{alice("aaaa", "one"), alice("bbbb", "two")}, "bbbb", "bbbb", ""},
		{"two orgs, by name", []*account.Account{alice("aaaa", "one"), named(alice("bbbb", "two"), "Work")}, "Work", "bbbb", ""},
		{"a name that is a login elsewhere", []*account.Account{alice("aaaa", "one"), named(coded("bbbb", "eve", "two", sixDigits(vector)), "alice@example.com")}, "alice@example.com", "", "code_ambiguous"},
		{"a login that is an id", []*account.Account{alice("aaaa", "one"), coded("bbbb", "aaaa", "two", sixDigits(vector))}, "aaaa", "aaaa", ""},
		{"enrolled twice", []*account.Account{alice("aaaa", "one"), alice("bbbb", "one")}, "alice@example.com", "bbbb", ""},
		{"one is gone", []*account.Account{alice("aaaa", "one"), state(alice("bbbb", "two"), account.Gone)}, "alice@example.com", "aaaa", ""},
		{"the only one is gone", []*account.Account{state(alice("aaaa", "one"), account.Gone)}, "alice@example.com", "aaaa", ""},
	} {
		got, err := findCode(row.accounts, row.name)
		if code(t, err) != row.code || err == nil && got.ID != row.want {
			t.Errorf("%s: %+v, %v", row.about, got, err)
		}
		if row.code == "code_ambiguous" && (!strings.Contains(err.Error(), "aaaa (one), bbbb (two)") || err.(*api.Error).Hint == "") {
			t.Errorf("%s: %v", row.about, err)
		}
	}
}

// C4: each state and each fault that gives no code says which it is.
func TestCodeRefused(t *testing.T) {
	const now = 1111111111
	for _, row := range []struct {
		name   string
		unix   int64
		change func(a *account.Account)
		code   string
	}{
		{"active", now, func(*account.Account) {}, ""},
		{"suspended", now, func(a *account.Account) { a.State = account.Suspended }, ""},
		{"gone", now, func(a *account.Account) { a.State = account.Gone }, "account_gone"},
		{"removing", now, func(a *account.Account) { a.State = account.Removing }, "removal_pending"},
		{"enrolling", now, func(a *account.Account) { a.State = account.Enrolling }, "code_unknown"},
		{"no state", now, func(a *account.Account) { a.State = "" }, "account_not_ready"},
		{"no codes", now, func(a *account.Account) { a.Methods[0].TOTP = nil }, "code_unknown"},
		{"before 1970", -1, func(*account.Account) {}, "clock_wrong"},
		{"no parameters", now, func(a *account.Account) { a.Methods[0].TOTP = &totp.Parameters{} }, "code_unusable"},
		{"no base32", now, func(a *account.Account) { a.Methods[0].TOTP.Seed = "canary-0189!" }, "code_unusable"},
		{"short", now, func(a *account.Account) { a.Methods[0].TOTP.Seed = "GEZDGNBV" }, "code_unusable"},
		{"algorithm", now, func(a *account.Account) { a.Methods[0].TOTP.Algorithm = "MD5" }, "code_unusable"},
		{"period", now, func(a *account.Account) { a.Methods[0].TOTP.Period = 0 }, "code_unusable"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := testConfig(t)
			c.Now = at(row.unix)
			acc := coded("aaaa", "alice@example.com", "id.example.com", sixDigits(vector))
			row.change(acc)
			a := withAccounts(t, c, acc)
			got, err := a.client.Code(t.Context(), "alice@example.com")
			if code(t, err) != row.code || (got.Code == "050471") != (row.code == "") || row.code != "" && got != (api.Code{}) {
				t.Errorf("%+v, %v", got, err)
			}
			records := a.audit(t)
			if row.code == "code_unknown" {
				if len(records) != 0 {
					t.Errorf("%+v", records)
				}
				return
			}
			want := "given"
			if row.code != "" {
				want = "refused"
			}
			if len(records) != 1 || records[0].Event != "code" || records[0].Outcome != want || records[0].Account != "aaaa" || (records[0].Reason == "") != (row.code == "") {
				t.Errorf("%+v", records)
			}
		})
	}
}

// C4: a locked agent gives no code and says how to open it.
func TestLockedAgentGivesNoCode(t *testing.T) {
	c := testConfig(t)
	a := withAccounts(t, c, coded("aaaa", "alice@example.com", "id.example.com", sixDigits(vector)))
	_ = a.stop()
	if err := os.Rename(c.StateDir+"/vault.key", c.StateDir+"/away"); err != nil {
		t.Fatal(err)
	}
	b := startAgent(t, c)
	_, err := b.client.Code(t.Context(), "alice@example.com")
	if code(t, err) != "locked" || err.(*api.Error).Hint == "" {
		t.Errorf("%v", err)
	}
	if _, err := b.client.Codes(t.Context()); code(t, err) != "locked" {
		t.Errorf("%v", err)
	}
}

// A program that asks in a loop cannot push other decisions out of the record,
// and each half minute in which it asked is there.
func TestCodesOnRecord(t *testing.T) {
	c := testConfig(t)
	var mu sync.Mutex
	now := time.Unix(1111111110, 0)
	c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	a := withAccounts(t, c, coded("aaaa", "alice@example.com", "one", sixDigits(vector)), coded("bbbb", "bob@example.com", "two", sixDigits(vector)))
	ask := func(name string, times int) {
		t.Helper()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range times {
					if _, err := (front{a.Daemon}).Code(t.Context(), name); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	ask("aaaa", 50)
	ask("bbbb", 50)
	for _, step := range []time.Duration{29 * time.Second, time.Second, -time.Hour} {
		mu.Lock()
		now = now.Add(step)
		mu.Unlock()
		ask("aaaa", 50)
	}
	var got []string
	for _, r := range a.audit(t) {
		got = append(got, r.Account+" "+r.Time.Format("15:04:05"))
	}
	if want := "[aaaa 01:58:30 bbbb 01:58:30 aaaa 01:59:00 aaaa 00:59:00]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// C8: the seed is in no log, no error and no answer of any operation.
func TestSeedStaysInside(t *testing.T) {
	const canary = "CANARYSEED234567CANARYSEED234567"
	raw, err := base32.StdEncoding.DecodeString(canary)
	if err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	c := testConfig(t)
	c.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	org := oktatest.NewOrg(t)
	broken := sixDigits(canary)
	broken.Algorithm = "MD5"
	odd := coded("cccc", "carol@example.com", "id.example.com", sixDigits(canary+"!"))
	a := withAccounts(t, c, coded("aaaa", "alice@example.com", "id.example.com", sixDigits(canary)),
		coded("bbbb", "bob@example.com", "id.example.com", broken), odd)
	a.enrol(t, org)
	a.post(t, org.URL, org.Challenge(nil))
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
	}}
	defer transport.CloseIdleConnections()
	var answers strings.Builder
	for _, target := range []string{
		"GET /v1/codes", "POST /v1/codes/aaaa/code", "POST /v1/codes/bbbb/code", "POST /v1/codes/cccc/code", "POST /v1/codes/none/code",
		"GET /v1/status", "GET /v1/accounts", "GET /v1/accounts/aaaa", "GET /v1/accounts/bbbb", "GET /v1/prompts", "GET /v1/audit", "GET /v1/doctor", "GET /v1/openapi.json",
		"PATCH /v1/accounts/aaaa", "DELETE /v1/accounts/cccc?local_only=true",
	} {
		method, path, _ := strings.Cut(target, " ")
		var body io.Reader
		switch method {
		case "POST":
			body = strings.NewReader(`{}`)
		case "PATCH":
			body = strings.NewReader(`{"name":"x"}`)
		}
		r, _ := http.NewRequestWithContext(t.Context(), method, "http://"+api.Host+path, body)
		if body != nil {
			r.Header.Set("Content-Type", "application/json")
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Fprintf(&answers, "%s: %d %s\n", target, resp.StatusCode, b)
	}
	if !strings.Contains(answers.String(), "POST /v1/codes/aaaa/code: 200") || !strings.Contains(answers.String(), "POST /v1/codes/bbbb/code: 409") ||
		strings.Contains(answers.String(), "404 page") {
		t.Fatalf("the operations did not work: %s", answers.String())
	}
	_ = a.stop()
	printed, _ := json.Marshal(a.Ready())
	said := strings.ToUpper(log.String() + answers.String() + string(printed))
	for _, form := range []string{canary, string(raw), hex.EncodeToString(raw), hex.EncodeToString([]byte(canary)), "CANARYSEED"} {
		if strings.Contains(said, strings.ToUpper(form)) {
			t.Errorf("the seed came out as %.20q", form)
		}
	}
	if !strings.Contains(log.String(), `"level":"DEBUG"`) {
		t.Error("nothing was logged at debug level")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }
