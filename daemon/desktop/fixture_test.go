package desktop

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/daemon/desktop/notification"
	"countersign.dev/ipc/api"
)

// fakeAgent is the agent: what waits, what was decided, who is attached.
type fakeAgent struct {
	mu       sync.Mutex
	waiting  map[string]api.Prompt
	hold     *api.Hold
	subs     map[chan api.Event]bool
	decided  []decided
	listed   int
	attached map[string]int
	// answer says what becomes of a decision; nil is: what was asked for.
	answer func(ctx context.Context, id string, d api.Decision) (api.PromptOutcome, error)
}

// decided is a decision that came.
type decided struct {
	ID      string
	Account string
	Action  string
	Number  string
	PIN     string
	By      string
	Report  bool
}

func newFakeAgent() *fakeAgent {
	return &fakeAgent{waiting: map[string]api.Prompt{}, subs: map[chan api.Event]bool{}, attached: map[string]int{}}
}

func (a *fakeAgent) Subscribe(ctx context.Context) <-chan api.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := make(chan api.Event, 64)
	a.subs[c] = true
	context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.drop(c)
	})
	return c
}

func (a *fakeAgent) drop(c chan api.Event) {
	if a.subs[c] {
		delete(a.subs, c)
		close(c)
	}
}

// dropAll makes every subscriber one that was too slow.
func (a *fakeAgent) dropAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.subs {
		a.drop(c)
	}
}

func (a *fakeAgent) Prompts(context.Context) (api.PromptList, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listed++
	list := api.PromptList{Hold: a.hold}
	if a.hold == nil {
		list.Prompts = slices.SortedFunc(maps.Values(a.waiting), func(x, y api.Prompt) int { return y.CreatedAt.Compare(x.CreatedAt) })
	}
	return list, nil
}

func (a *fakeAgent) Decide(ctx context.Context, id string, d api.Decision) (api.PromptOutcome, error) {
	a.mu.Lock()
	a.decided = append(a.decided, decided{id, d.Account, d.Action, d.Number, d.PIN.Reveal(), d.Verification, d.Report})
	answer := a.answer
	_, waits := a.waiting[id]
	a.mu.Unlock()
	if answer != nil {
		return answer(ctx, id, d)
	}
	if !waits {
		return api.PromptOutcome{}, &api.Error{Code: "prompt_decided", Message: "the prompt was decided already"}
	}
	o := api.PromptOutcome{ID: id, Outcome: map[string]string{"approve": "approved", "deny": "denied"}[d.Action]}
	a.close(o)
	return o, nil
}

func (a *fakeAgent) Attach(name string) func() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.attached[name]++
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.attached[name]--; a.attached[name] == 0 {
			delete(a.attached, name)
		}
	})
}

func (a *fakeAgent) tell(e api.Event) {
	for c := range a.subs {
		c <- e
	}
}

// open has a prompt wait.
func (a *fakeAgent) open(p api.Prompt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting[p.ID] = p
	a.tell(api.Event{Type: "prompt", Prompt: &p})
}

// close ends one.
func (a *fakeAgent) close(o api.PromptOutcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, o.ID)
	a.tell(api.Event{Type: "prompt_closed", Outcome: &o})
}

// holdBack begins a hold, or with nil ends it.
func (a *fakeAgent) holdBack(h *api.Hold) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hold = h
	a.tell(api.Event{Type: "hold", Hold: h})
	if h == nil {
		for _, p := range a.waiting {
			a.tell(api.Event{Type: "prompt", Prompt: &p})
		}
	}
}

func (a *fakeAgent) decisions() []decided {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.decided)
}

func (a *fakeAgent) frontEnds() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.attached))
}

// fakeServer is a notification service.
type fakeServer struct {
	buttons bool
	fault   func() error // of Show; nil: none

	mu      sync.Mutex
	last    notification.ID
	notes   map[notification.ID]notification.Note
	history []notification.Note
	events  chan notification.Event
	gone    chan struct{}
	once    sync.Once
	left    bool
}

func newFakeServer(buttons bool) *fakeServer {
	return &fakeServer{buttons: buttons, notes: map[notification.ID]notification.Note{}, events: make(chan notification.Event, 64), gone: make(chan struct{})}
}

func (s *fakeServer) Buttons() bool                     { return s.buttons }
func (s *fakeServer) Events() <-chan notification.Event { return s.events }
func (s *fakeServer) Gone() <-chan struct{}             { return s.gone }

func (s *fakeServer) Show(_ context.Context, n notification.Note, replaces notification.ID) (notification.ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		if err := s.fault(); err != nil {
			return 0, err
		}
	}
	id := replaces
	if _, stands := s.notes[id]; !stands {
		s.last++
		id = s.last
	}
	s.notes[id] = n
	s.history = append(s.history, n)
	return id, nil
}

func (s *fakeServer) Close(_ context.Context, id notification.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.notes, id)
	return nil
}

func (s *fakeServer) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.notes)
	s.left = true
}

// fail makes the service go.
func (s *fakeServer) fail() { s.once.Do(func() { close(s.gone) }) }

// shown are the notes that stand, oldest first.
func (s *fakeServer) shown() []notification.Note {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []notification.Note
	for _, id := range slices.Sorted(maps.Keys(s.notes)) {
		list = append(list, s.notes[id])
	}
	return list
}

// emit says that something became of a note, true or not.
func (s *fakeServer) emit(id notification.ID, key string) {
	s.events <- notification.Event{Note: id, Key: key}
}

// find is the note of a prompt with a button of that label, or with that title.
func (s *fakeServer) find(title string) (notification.ID, notification.Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.notes {
		if n.Title == title {
			return id, n
		}
	}
	return 0, notification.Note{}
}

// press presses the button with a label on the note with a title, as a service
// tells of it: the note stands no more.
func (s *fakeServer) press(t *testing.T, title, label string) {
	t.Helper()
	id, n := s.find(title)
	for _, b := range n.Buttons {
		if b.Label == label {
			s.mu.Lock()
			delete(s.notes, id)
			s.mu.Unlock()
			s.emit(id, b.Key)
			synctest.Wait()
			return
		}
	}
	t.Fatalf("no button %q on %q; there are %+v", label, title, s.shown())
}

func labels(n notification.Note) []string {
	var list []string
	for _, b := range n.Buttons {
		list = append(list, b.Label)
	}
	return list
}

// fakeWindow is a program for dialogs: the test answers.
type fakeWindow struct {
	mu   sync.Mutex
	open []*ask
	told []*ask
	deaf bool // heeds no end of what it shows
}

// ask is a window that is open.
type ask struct {
	q      dialog.Question
	lines  []string
	answer chan dialog.Answer
	fault  chan error
}

func (w *fakeWindow) Name() string { return "fake" }

func (w *fakeWindow) show(ctx context.Context, list *[]*ask, a *ask) (dialog.Answer, error) {
	a.answer, a.fault = make(chan dialog.Answer, 1), make(chan error, 1)
	w.mu.Lock()
	if w.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	*list = append(*list, a)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		*list = slices.DeleteFunc(*list, func(x *ask) bool { return x == a })
	}()
	select {
	case answer := <-a.answer:
		return answer, nil
	case err := <-a.fault:
		return dialog.Answer{}, err
	case <-ctx.Done():
		return dialog.Answer{}, ctx.Err()
	}
}

func (w *fakeWindow) Ask(ctx context.Context, q dialog.Question) (dialog.Answer, error) {
	ctx, cancel := context.WithDeadline(ctx, q.Until)
	defer cancel()
	a, err := w.show(ctx, &w.open, &ask{q: q})
	if err == context.DeadlineExceeded {
		return dialog.Answer{}, nil // its time was up
	}
	return a, err
}

func (w *fakeWindow) Tell(ctx context.Context, title string, lines []string) error {
	_, err := w.show(ctx, &w.told, &ask{q: dialog.Question{Title: title}, lines: lines})
	return err
}

func (w *fakeWindow) asks() []*ask {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.open)
}

func (w *fakeWindow) tells() []*ask {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// world is a desktop with everything that there may be, in a bubble of time.
type world struct {
	t      *testing.T
	agent  *fakeAgent
	server *fakeServer // what Connect finds; nil: none
	window *fakeWindow // what Window finds; nil: none
	d      *Desktop
	stop   func()

	mu       sync.Mutex
	connects int
}

// inWorld runs a test in one. The desktop runs when start is called.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, agent: newFakeAgent(), server: newFakeServer(true), window: &fakeWindow{}}
		w.d = New(Options{Agent: w.agent, Look: w.look, Connect: w.connect, Window: w.find})
		test(w)
	})
}

func (w *world) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.d.Run(ctx); close(done) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(w.stop)
	synctest.Wait()
}

func (w *world) look(context.Context) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server == nil {
		return false, notification.ErrNone
	}
	return w.server.buttons, nil
}

func (w *world) connect(context.Context) (notification.Server, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connects++
	if w.server == nil {
		return nil, notification.ErrNone
	}
	w.server.left = false
	return w.server, nil
}

func (w *world) find() (dialog.Window, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.window == nil {
		return nil, dialog.ErrNone
	}
	return w.window, nil
}

// have sets what there is on the desktop.
func (w *world) have(server *fakeServer, window *fakeWindow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server, w.window = server, window
}

// ask has prompts wait, and lets what comes of it come, until the screen is calm.
func (w *world) ask(prompts ...api.Prompt) {
	for _, p := range prompts {
		w.agent.open(p)
		synctest.Wait()
		time.Sleep(still)
	}
	synctest.Wait()
}

// prompt is one that takes nothing but a yes.
func prompt(id, app string) api.Prompt {
	return api.Prompt{
		ID: id, Account: "acc-1", Kind: "push", App: app, Org: "https://id.example.com", User: "alice@example.com", Origin: "https://id.example.com",
		Location: "Lisbon", IP: "203.0.113.7", Client: "Firefox on Linux", UserVerification: "none",
		CreatedAt: time.Now(), ExpiresAt: time.Now().Add(5 * time.Minute),
	}
}

// one is the only dialog that is open.
func (w *world) one() *ask {
	w.t.Helper()
	list := w.window.asks()
	if len(list) != 1 {
		w.t.Fatalf("%d dialogs are open", len(list))
	}
	return list[0]
}

// answers gives an answer in the only dialog that is open.
func (w *world) answers(a dialog.Answer) {
	w.t.Helper()
	w.one().answer <- a
	synctest.Wait()
}

func (w *world) wants(decisions ...decided) {
	w.t.Helper()
	if got := w.agent.decisions(); !slices.Equal(got, decisions) {
		w.t.Errorf("decided: %+v, want %+v", got, decisions)
	}
}

// titles are those of the notes that stand.
func (w *world) titles() []string {
	var list []string
	for _, n := range w.server.shown() {
		list = append(list, n.Title)
	}
	return list
}

// empty says that nothing is on the screen.
func (w *world) empty() {
	w.t.Helper()
	synctest.Wait()
	if w.server != nil && len(w.server.shown()) > 0 {
		w.t.Errorf("notes are left: %+v", w.server.shown())
	}
	if w.window != nil && len(w.window.asks())+len(w.window.tells()) > 0 {
		w.t.Errorf("windows are left: %s", fmt.Sprint(w.window.asks(), w.window.tells()))
	}
}
