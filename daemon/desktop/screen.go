package desktop

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign.dev/daemon/desktop/dialog"
	"countersign.dev/daemon/desktop/notification"
	"countersign.dev/ipc/api"
)

const (
	maxNotes   = 5 // at once; one more speaks for the rest
	maxDialogs = 8 // at once

	// retryAfter is how long a notification service that failed is left alone.
	retryAfter = 10 * time.Second
	lookWithin = 3 * time.Second
)

// screen is what is on the screen. One goroutine, that of Run, has it; others
// send it functions to run.
type screen struct {
	*Desktop
	ctx    context.Context // ends when the agent stops
	life   context.Context // of what is shown: ends with a hold, too
	end    context.CancelFunc
	events <-chan api.Event
	later  chan func() // from goroutines of ours
	work   sync.WaitGroup

	hold  *api.Hold
	items map[string]*item // by the prompt's id

	server     notification.Server // nil while there is none
	connecting bool
	looking    []func()        // told when somebody has looked for one
	since      time.Time       // of server
	notBefore  time.Time       // connect again
	rest       notification.ID // the note that speaks for the rest; 0 none
	restNote   notification.Note
	restAway   bool            // the person has put it away as it was
	word       notification.ID // the note that says how a decision failed; 0 none
	deciding   int             // decisions by a press that are under way: how one failed is to be said
	parked     *parked         // the note of a prompt that is about to be replaced
	moved      time.Time       // when a note came or went last

	window   dialog.Window // nil while there is none
	dialogs  map[*conversation]*item
	shut     context.CancelFunc // closes the report; nil when there was none
	detach   map[string]func()  // by front end
	missing  map[string]string  // why, by front end
	listened bool               // the waiting prompts were listed since somebody can see them
}

// item is a prompt that waits.
type item struct {
	prompt    api.Prompt
	came      time.Time
	note      notification.ID   // 0 when none stands
	shown     notification.Note // what it says
	dismissed bool              // the person has put the note away
	refused   bool              // the service did not take the note
	dialog    *conversation     // nil when none is open
	opened    bool              // its dialog has opened by itself, or must not
	replaces  bool              // another one, whose dialog was open
	deciding  bool              // by a press on the note
}

// kind is what makes two prompts repeats of each other.
type kind struct{ account, app, org, kind, transaction, message string }

func kindOf(p api.Prompt) kind {
	return kind{p.Account, p.App, p.Org, p.Kind, p.TransactionType, p.BindingMessage}
}

// parked is what a prompt leaves to the one that takes its place.
type parked struct {
	kind  kind
	note  notification.ID
	shown notification.Note
	open  bool // the person was in its dialog
}

func newScreen(ctx context.Context, d *Desktop) *screen {
	s := &screen{
		Desktop: d, ctx: ctx, later: make(chan func()), items: map[string]*item{}, dialogs: map[*conversation]*item{},
		detach: map[string]func(){}, missing: map[string]string{},
	}
	s.life, s.end = context.WithCancel(ctx)
	return s
}

// run handles one thing after the other until ctx ends.
func (s *screen) run() {
	s.events = s.o.Agent.Subscribe(s.ctx)
	s.look(func() {})
	for {
		s.arrange()
		var pressed <-chan notification.Event
		var gone <-chan struct{}
		if s.server != nil {
			pressed, gone = s.server.Events(), s.server.Gone()
		}
		select {
		case <-s.ctx.Done():
			return
		case e, open := <-s.events:
			if !open {
				s.resubscribe()
				continue
			}
			s.event(e)
		case e, open := <-pressed:
			if !open {
				s.lost()
				continue
			}
			s.pressed(e)
		case <-gone:
			s.lost()
		case f := <-s.do:
			f(s)
		case f := <-s.later:
			f()
		}
	}
}

// catchUp handles the events that have come already: who asks for a prompt may
// have heard of it in the same moment.
func (s *screen) catchUp() {
	for {
		select {
		case e, open := <-s.events:
			if !open {
				s.resubscribe()
				return
			}
			s.event(e)
		default:
			return
		}
	}
}

// post has f run between events, if the agent runs still.
func (s *screen) post(f func()) bool {
	select {
	case s.later <- f:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// clear puts everything away and waits for what runs.
func (s *screen) clear() {
	s.end()
	if s.server != nil {
		s.server.Disconnect()
	}
	s.work.Wait()
	for _, detach := range s.detach {
		detach()
	}
}

// resubscribe starts over after having been too slow.
func (s *screen) resubscribe() {
	if s.ctx.Err() != nil {
		return
	}
	s.log.Warn("the desktop missed events, and starts over")
	s.events = s.o.Agent.Subscribe(s.ctx)
	s.unpark()
	s.listened = false
	s.list()
}

// list brings the items up to date, if anybody can see them: whoever lists
// prompts has shown them.
func (s *screen) list() {
	if s.listened || len(s.detach) == 0 {
		return
	}
	s.listened = true
	ctx, cancel := context.WithTimeout(s.ctx, lookWithin)
	defer cancel()
	list, err := s.o.Agent.Prompts(ctx)
	if err != nil {
		s.log.Warn("prompts not listed", "error", err)
		return
	}
	s.held(list.Hold)
	for id := range s.items {
		if !slices.ContainsFunc(list.Prompts, func(p api.Prompt) bool { return p.ID == id }) {
			s.closed(api.PromptOutcome{ID: id})
		}
	}
	for _, p := range slices.Backward(list.Prompts) {
		s.opened(p)
	}
}

func (s *screen) event(e api.Event) {
	before := s.parked
	defer func() {
		if before != nil && s.parked == before {
			s.unpark() // the one that takes the place comes next, or never
		}
	}()
	switch {
	case e.Type == "prompt" && e.Prompt != nil:
		if s.window == nil {
			s.findWindow() // a prompt is worth a look; notifications are connected to anyway
		}
		s.opened(*e.Prompt)
	case e.Type == "prompt_closed" && e.Outcome != nil:
		s.closed(*e.Outcome)
	case e.Type == "hold":
		s.held(e.Hold)
	}
}

// opened takes in a prompt that waits.
func (s *screen) opened(p api.Prompt) {
	if s.items[p.ID] != nil {
		return
	}
	it := &item{prompt: p, came: s.o.Now()}
	if old := s.parked; old != nil && old.kind == kindOf(p) {
		it.note, it.shown = old.note, old.shown
		s.parked = nil
		if it.replaces = old.open; old.open {
			defer s.open(it) // they were in the middle of it
		}
	}
	s.items[p.ID] = it
}

// closed lets a prompt go that waits no more.
func (s *screen) closed(o api.PromptOutcome) {
	it := s.items[o.ID]
	if it == nil {
		return
	}
	delete(s.items, o.ID)
	open := it.dialog != nil
	if open {
		it.dialog.close(o)
	}
	if o.Reason == Superseded && !it.deciding {
		s.unpark()
		s.parked = &parked{kind: kindOf(it.prompt), note: it.note, shown: it.shown, open: open}
		return
	}
	s.takeAway(&it.note)
}

// unpark takes the note away that nobody has inherited.
func (s *screen) unpark() {
	if s.parked != nil {
		s.takeAway(&s.parked.note)
		s.parked = nil
	}
}

// held begins or ends a hold. What still waits at its end comes again.
func (s *screen) held(h *api.Hold) {
	s.hold = h
	if h == nil {
		return
	}
	s.end() // dialogs, reports, verifications that wait
	s.life, s.end = context.WithCancel(s.ctx)
	s.unpark()
	for _, it := range s.items {
		s.takeAway(&it.note)
	}
	clear(s.items)
	s.takeAway(&s.rest)
	s.takeAway(&s.word)
}

// attached are the front ends that can ask.
func (s *screen) attached() []string { return slices.Sorted(maps.Keys(s.detach)) }

// attach says whether a front end can ask, and if not why.
func (s *screen) attach(name string, can bool, why string) {
	detach := s.detach[name]
	switch {
	case can && detach == nil:
		s.detach[name] = s.o.Agent.Attach(name)
	case !can && detach != nil:
		detach()
		delete(s.detach, name)
	}
	delete(s.missing, name)
	if !can {
		s.missing[name] = why
		if len(s.detach) == 0 {
			s.listened = false
		}
	}
	s.list()
}

// look finds out what there is to ask with, and calls then when that is known.
func (s *screen) look(then func()) {
	s.findWindow()
	if s.server != nil || s.connecting || s.o.Now().Before(s.notBefore) {
		then()
		return
	}
	if s.looking = append(s.looking, then); len(s.looking) > 1 {
		return // somebody looks already
	}
	s.work.Go(func() { // a service may hang
		ctx, cancel := context.WithTimeout(s.ctx, lookWithin)
		defer cancel()
		began := s.o.Now()
		buttons, err := s.o.Look(ctx)
		s.post(func() { s.seen(buttons, err, s.o.Now().Sub(began)) })
	})
}

// seen is what a look has come to.
func (s *screen) seen(buttons bool, err error, took time.Duration) {
	if err != nil && took > time.Second {
		s.notBefore = s.o.Now().Add(retryAfter) // it hangs
	}
	if s.server == nil { // else more is known by now
		s.notified(buttons, err)
	}
	for _, then := range s.looking {
		then()
	}
	s.looking = nil
}

// notified says whether a notification can ask: it takes something to press, or
// a window. The words are those of err.
func (s *screen) notified(buttons bool, err error) {
	why := "the notifications here have no buttons, and there is no window to open"
	if err != nil {
		why = strings.TrimPrefix(err.Error(), notification.ErrNone.Error()+": ")
	}
	s.attach(Notification, err == nil && (buttons || s.window != nil), why)
}

// findWindow finds out whether dialogs can be shown.
func (s *screen) findWindow() {
	w, err := s.o.Window()
	if err != nil {
		s.window = nil
		s.attach(Dialog, false, err.Error())
		return
	}
	s.window = w
	s.attach(Dialog, true, "")
	if s.server != nil {
		s.notified(s.server.Buttons(), nil)
	}
}

// connect connects to the notification service, which may take a while.
func (s *screen) connect() {
	if s.server != nil || s.connecting || s.o.Now().Before(s.notBefore) {
		return
	}
	s.connecting = true
	s.work.Go(func() {
		server, err := s.o.Connect(s.ctx)
		if !s.post(func() { s.connected(server, err) }) && server != nil {
			server.Disconnect()
		}
	})
}

func (s *screen) connected(server notification.Server, err error) {
	s.connecting = false
	if err != nil {
		s.notBefore = s.o.Now().Add(retryAfter)
		s.log.Debug("no notifications", "error", err)
		s.notified(false, err)
		return
	}
	s.server, s.since = server, s.o.Now()
	s.notified(server.Buttons(), nil)
}

// lost forgets a notification service that works no more. One that has worked
// for a while is looked for again at once: it may have been restarted.
func (s *screen) lost() {
	s.server.Disconnect()
	s.server = nil
	now := s.o.Now()
	if now.Sub(s.since) < retryAfter {
		s.notBefore = now.Add(retryAfter)
		time.AfterFunc(retryAfter, func() { s.post(func() {}) }) // to arrange anew what waits still
	}
	s.rest, s.word, s.parked = 0, 0, nil
	for _, it := range s.items {
		it.note = 0
	}
	s.log.Warn("the notification service has gone")
	s.notified(false, notification.ErrGone)
}

// failed is for errors of a call to the service.
func (s *screen) failed(err error) bool {
	if errors.Is(err, notification.ErrGone) {
		s.lost()
		return true
	}
	if err != nil {
		s.log.Debug("notification", "error", err)
	}
	return false
}

// disconnect ends the connection when nothing of ours is on the screen.
func (s *screen) disconnect() {
	if s.server != nil {
		s.server.Disconnect()
		s.server = nil
	}
}
