//go:build linux

package faults

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign.dev/daemon"
	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/org"
	"countersign.dev/org/api/admin"
	"countersign.dev/org/api/httpx"
)

// rowTime bounds one row of a table. It is long because a busy machine with the
// race detector is slow; no row waits for it unless something is broken.
const rowTime = 60 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is a clock that can be wrong.
type clock struct{ off atomic.Int64 }

func (c *clock) now() time.Time         { return time.Now().Add(time.Duration(c.off.Load())) }
func (c *clock) wrong(by time.Duration) { c.off.Store(int64(by)) }

// world is one org, one agent of alice's, and what is between them.
type world struct {
	t                  *testing.T
	host, url          string
	proxy              *harness.Proxy
	db                 *sql.DB // the org's, to see what it has stored
	orgState           string
	orgClock           clock
	config             daemon.Config
	agentClock         clock
	client             *client.Client
	port               int
	stopOrg, stopAgent func() error
	adminToken         string
	orgs               sync.Mutex // held while the org is exchanged
	said               map[string]string
	person             *person
	logs               *buffer
}

// place says where a world keeps its state; the zero value is a fresh folder.
type place struct{ org, agent string }

var worlds atomic.Int32

func newWorld(t *testing.T, p place) *world {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "w") // a socket's path is short
	must(t, err)
	w := &world{t: t, host: fmt.Sprintf("org%d.%s", worlds.Add(1), domain), orgState: p.org, said: map[string]string{}, logs: &buffer{}}
	if w.orgState == "" {
		w.orgState = filepath.Join(dir, "org")
	}
	if p.agent == "" {
		p.agent = filepath.Join(dir, "state")
	}
	good, err := ca.issue(w.host, time.Now().Add(time.Hour))
	must(t, err)
	w.proxy, err = harness.StartProxy("", good)
	must(t, err)
	w.url = "https://" + w.host + ":" + w.proxy.Port()
	log := slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.config = daemon.Config{
		StateDir: p.agent, Socket: filepath.Join(dir, "s"), LoopbackPorts: []int{0}, VaultKey: "file",
		Version: "faults", Now: w.agentClock.now, Log: log.With("at", "agent"),
	}
	w.client = client.New(w.config.Socket)
	first, err := founded()
	must(t, err)
	must(t, os.CopyFS(w.orgState, os.DirFS(first)))
	must(t, w.openOrg())
	w.db, err = harness.OpenOrgDatabase(w.orgState)
	must(t, err)
	w.openAgent()
	t.Cleanup(func() {
		must(t, errors.Join(w.stopAgent(), w.db.Close(), w.stopOrg()))
		w.proxy.Close()
		if t.Failed() {
			t.Logf("logs:\n%s", w.logs)
		}
	})
	return w
}

// founded is the state that every org here starts with.
var founded = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "founded")
	return dir, harness.FoundOrg(context.Background(), dir)
})

// openOrg starts the org on its state.
func (w *world) openOrg() error {
	w.orgs.Lock()
	defer w.orgs.Unlock()
	log := slog.New(slog.NewTextHandler(w.logs, nil)).With("at", "org")
	server, err := org.Open(context.Background(), org.Config{
		BaseURL: w.url, StateDir: w.orgState, Demo: true, Log: log, Now: w.orgClock.now,
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, server.Close())
	}
	// One clock for all that the org's machine says, the headers, too.
	front := httpx.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Date", w.orgClock.now().UTC().Format(http.TimeFormat))
		server.Handler().ServeHTTP(rw, r)
	}), log)
	done := make(chan struct{})
	go func() { defer close(done); _ = front.Serve(l) }()
	w.adminToken = server.AdminToken().Reveal()
	doors.Store(w.host+":"+w.proxy.Port(), l.Addr().String())
	w.proxy.Target(l.Addr().String())
	w.stopOrg = sync.OnceValue(func() error {
		_ = front.Close()
		<-done
		return server.Close()
	})
	return nil
}

// restartOrg stops the org as kill would, as far as one process can, and starts
// it again.
func (w *world) restartOrg() {
	w.t.Helper()
	if err := errors.Join(w.stopOrg(), w.openOrg()); err != nil {
		w.t.Errorf("restarting the org: %v", err)
	}
}

func (w *world) openAgent() {
	w.t.Helper()
	d, err := daemon.Open(w.t.Context(), w.config)
	must(w.t, err)
	w.port = d.Ready().LoopbackPort
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	w.person = watch(w.t, w.client)
	watching := w.person
	w.stopAgent = sync.OnceValue(func() error {
		watching.leave()
		cancel()
		return <-done
	})
}

// restartAgent makes the agent forget what it only has in memory.
func (w *world) restartAgent() {
	w.t.Helper()
	must(w.t, w.stopAgent())
	w.openAgent()
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), rowTime)
	w.t.Cleanup(cancel)
	return ctx
}

// link is an enrolment link for alice.
func (w *world) link() string {
	w.t.Helper()
	var link admin.Link
	must(w.t, harness.RunningOrg(w.url, w.adminToken, "").Administer(w.ctx(), http.MethodPost, "/api/v1/users/"+harness.Alice+"/enrolment-links", nil, &link))
	return link.URL
}

// add enrols by a link. The error is "" or a code of the local API.
func (w *world) add(link string) (account api.Account, code string) {
	w.t.Helper()
	account, err := w.client.AddAccount(w.ctx(), addition(link))
	return account, w.code(err)
}

func addition(link string) api.AddAccount { return api.AddAccount{Link: link} }

// code reads the error of the local API, which has to say something in words.
func (w *world) code(err error) string {
	w.t.Helper()
	var refusal *api.Error
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &refusal):
		w.t.Fatalf("the agent does not answer: %v", err)
	case refusal.Message == "" || refusal.Code == "internal":
		w.t.Errorf("the agent has no words for it: %+v", refusal)
	}
	return refusal.Code
}

// enrolled makes sure that alice has an account.
func (w *world) enrolled() api.Account {
	w.t.Helper()
	a, code := w.add(w.link())
	if code != "" {
		w.t.Fatalf("enrolling: %s", code)
	}
	return a
}

const (
	silent = harness.QuickSilent
	asking = harness.QuickAsking
)

// visit is a sign-in that has come to the challenge for the agent.
type visit struct {
	w         *world
	page      *harness.Transaction
	challenge string
	id        string // of the transaction
}

// begin takes a sign-in to the challenge.
func (w *world) begin(app string) *visit {
	w.t.Helper()
	o := harness.RunningOrg(w.url, "", "")
	page, err := o.BeginTransaction(w.ctx(), o.NewSignIn(app, "", "http://localhost:3000/callback"))
	must(w.t, err)
	must(w.t, page.Submit(w.ctx(), "identify", map[string]any{"identifier": harness.Alice}))
	must(w.t, page.Choose(w.ctx(), "signed_nonce"))
	token := page.Last.CurrentAuthenticator.Value.ContextualData.Challenge.Value.Request
	v := &visit{w, page, token, transactionOf(w.t, token)}
	w.said[v.id] = "nothing"
	if app == silent {
		w.said[v.id] = "approve"
	}
	return v
}

func transactionOf(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no token", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	var claims struct {
		ID string `json:"transactionId"`
	}
	must(t, json.Unmarshal(payload, &claims))
	return claims.ID
}

// hand gives the challenge to the agent as the page does, and returns its
// status. With action, the person is asked and says so.
func (v *visit) hand(action string) int {
	v.w.t.Helper()
	if action != "" {
		v.w.said[v.id] = action
		v.w.person.next(action)
	}
	body, err := json.Marshal(map[string]string{"challengeRequest": v.challenge})
	must(v.w.t, err)
	r, err := http.NewRequestWithContext(v.w.ctx(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/challenge", v.w.port), bytes.NewReader(body))
	must(v.w.t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", v.w.url)
	res, err := http.DefaultClient.Do(r)
	must(v.w.t, err)
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// signedIn asks the org whether the page is signed in now.
func (v *visit) signedIn() bool {
	v.w.t.Helper()
	if v.page.Last.Success == nil {
		if _, ok := v.page.Form("challenge-poll"); ok {
			_ = v.page.Poll(v.w.ctx()) // a refusal shows in Last
		}
	}
	return v.page.Last.Success != nil
}

// signIn is a sign-in from one end to the other that has to work.
func (w *world) signIn(app string) {
	w.t.Helper()
	v, action := w.begin(app), ""
	if app == asking {
		action = "approve"
	}
	if status := v.hand(action); status != http.StatusOK {
		w.t.Fatalf("the sign-in after it: the agent answers %d; its record ends with %+v", status, w.lastRecord())
	}
	if !v.signedIn() {
		w.t.Fatalf("the sign-in after it: not signed in: %+v", v.page.Last.Messages)
	}
}

// person sits at a front end and does what they were told to do next.
type person struct {
	tell   chan string
	first  chan func()  // what happens before the next answer
	number atomic.Value // what the page shows
	leave  func()
}

func watch(t *testing.T, c *client.Client) *person {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, err := c.Subscribe(ctx, "test")
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	p := &person{tell: make(chan string, 8), first: make(chan func(), 8)}
	done := make(chan struct{})
	p.leave = func() { cancel(); <-done }
	go func() {
		defer close(done)
		for e, err := range events {
			if err != nil {
				return
			}
			if e.Type != "prompt" || e.Prompt == nil {
				continue
			}
			// A push may be faster than the page that says what to answer.
			wait := time.Second
			if len(e.Prompt.Numbers) > 0 {
				wait = rowTime
			}
			patience := time.NewTimer(wait)
			select {
			case action := <-p.tell:
				select {
				case do := <-p.first:
					do()
				default:
				}
				d := api.Decision{Action: action}
				if number, ok := p.number.Load().(string); ok && len(e.Prompt.Numbers) > 0 && action == "approve" {
					d.Number = number
				}
				if len(e.Prompt.Choices) > 0 {
					d.Account = e.Prompt.Choices[0].Account
				}
				_, _ = c.DecidePrompt(ctx, e.Prompt.ID, d) // what came of it shows elsewhere
			case <-patience.C: // asked, and says nothing
			case <-ctx.Done():
			}
			patience.Stop()
		}
	}()
	return p
}

// next says what to answer to the next question.
func (p *person) next(action string) { p.tell <- action }

// pick says which number the page shows.
func (p *person) pick(number string) { p.number.Store(number) }

// forget takes back what was not asked for.
func (p *person) forget() {
	for {
		select {
		case <-p.tell:
		default:
			return
		}
	}
}

// before has something happen between the next question and its answer.
func (p *person) before(do func()) { p.first <- do }

// records is the agent's record of decisions; its chain has to hold.
func (w *world) records() (list []api.AuditRecord) {
	w.t.Helper()
	records, err := w.client.Audit(w.ctx(), client.AuditOptions{Verify: true})
	must(w.t, err)
	for r, err := range records {
		must(w.t, err)
		list = append(list, r)
	}
	return list
}

func (w *world) lastRecord() api.AuditRecord {
	if list := w.records(); len(list) > 0 {
		return list[len(list)-1]
	}
	return api.AuditRecord{}
}

// problems are what the agent says is wrong. It has to answer at any time.
func (w *world) problems() map[string]string {
	w.t.Helper()
	s, err := w.client.Status(w.ctx())
	must(w.t, err)
	list := map[string]string{}
	for _, p := range s.Problems {
		if p.Message == "" {
			w.t.Errorf("the problem %s has no words", p.Code)
		}
		list[p.Code] = p.Message
	}
	return list
}

// readNews is the person reading of enrolments that came and went.
func (w *world) readNews() {
	w.t.Helper()
	list, err := w.client.Accounts(w.ctx())
	must(w.t, err)
	for _, a := range list.Accounts {
		if len(a.Notices) > 0 {
			_, err := w.client.Acknowledge(w.ctx(), a.ID)
			must(w.t, err)
		}
	}
}

// query reads two columns of the org's database.
func (w *world) query(q string) map[string]string {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.ctx(), q)
	must(w.t, err)
	defer rows.Close()
	got := map[string]string{}
	for rows.Next() {
		var key, value string
		must(w.t, rows.Scan(&key, &value))
		got[key] = value
	}
	must(w.t, rows.Err())
	return got
}

// status is where the org's challenge of a visit stands.
func (v *visit) status() string {
	v.w.t.Helper()
	return v.w.query("SELECT id, status FROM challenges")[v.id]
}

// mustHold is what has to be true after every fault, once it is over.
func (w *world) mustHold() {
	w.t.Helper()
	// No account lost, and none that only one side knows.
	list, err := w.client.Accounts(w.ctx())
	must(w.t, err)
	here := []string{}
	for _, a := range list.Accounts {
		if a.State != "active" {
			w.t.Errorf("the account %s is %s", a.ID, a.State)
		}
		here = append(here, a.EnrolmentID)
	}
	there := slices.Collect(maps.Keys(w.query("SELECT id, status FROM enrolments WHERE status <> 'DELETED'")))
	slices.Sort(here)
	slices.Sort(there)
	if !slices.Equal(here, there) {
		w.t.Errorf("the agent has the enrolments %v, the org %v", here, there)
	}
	// Nothing was approved or denied that the person did not so decide, and
	// nothing without a record.
	recorded := map[string][]string{}
	approvals := map[string]int{}
	for _, r := range w.records() {
		recorded[r.Transaction] = append(recorded[r.Transaction], r.Outcome)
		if r.Event == "challenge" && r.Outcome == "approved" { // the decision; its late delivery is another event
			approvals[r.Transaction]++
		}
	}
	for id, status := range w.query("SELECT id, status FROM challenges") {
		want := map[string]string{"APPROVED": "approve", "DENIED": "deny"}[status]
		if want == "" {
			continue
		}
		if w.said[id] != want {
			w.t.Errorf("%s is %s, and the person said %s", id, status, w.said[id])
		}
		if len(recorded[id]) == 0 {
			w.t.Errorf("%s is %s, and the agent has no record of it", id, status)
		}
	}
	for id, n := range approvals {
		if n > 1 {
			w.t.Errorf("%s is recorded as approved %d times", id, n)
		}
	}
	// What the agent knows of its org may be some seconds old.
	var p map[string]string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("the agent reports %v", p)
		}
	}()
	w.eventually("the agent reports no problem", func() bool { w.readNews(); p = w.problems(); return len(p) == 0 })
}

// eventually waits for something that becomes true by itself.
func (w *world) eventually(what string, done func() bool) {
	w.t.Helper()
	ctx := w.ctx()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-ctx.Done():
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// forget removes every account, so that the next row starts without.
func (w *world) forget() {
	w.t.Helper()
	list, err := w.client.Accounts(w.ctx())
	must(w.t, err)
	for _, a := range list.Accounts {
		if err := w.client.RemoveAccount(w.ctx(), a.ID, false); err != nil {
			w.t.Errorf("removing %s: %v", a.ID, err)
		}
	}
}

// buffer collects logs of several writers.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.b.String()
	if most := 20_000; len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}
