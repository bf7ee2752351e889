// Package runner keeps what the tray shows true. It subscribes to the agent,
// lists again what an event tells of, and does what is clicked, each of which
// has a deadline. While the agent is there nothing is polled; while it is not,
// it is looked for after 1, 2, 4 … 30 seconds, and at once when its socket
// appears, where the system tells.
package runner

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
	"countersign.dev/tray"
)

const (
	// frontEnd is the name under which the tray asks the person.
	frontEnd = "tray"
	// calm is between two views: what happens together is shown together.
	calm = 5 * time.Millisecond
	// saying is for how long the outcome of a click is shown.
	saying = time.Minute

	subscribing = 10 * time.Second
	firstWait   = time.Second
	lastWait    = 30 * time.Second
	soon        = 100 * time.Millisecond // after the socket has appeared
	brief       = 5 * time.Second        // a connection that lasts less has failed
)

// Options are what a Runner works with.
type Options struct {
	Agent *client.Client
	// Show is called with each new view, by one goroutine.
	Show func(tray.View)
	// Copy puts a code where it can be pasted, and takes it away after a while.
	// Nil says that nothing here can; NoClipboard says so to the person.
	Copy        func(ctx context.Context, code string) error
	NoClipboard string
	Quit        func()
}

// Runner is one tray at one agent.
type Runner struct {
	o     Options
	dirty chan struct{} // the view may have changed
	asked chan struct{} // something is to be listed
	tasks sync.WaitGroup

	mu          sync.Mutex // guards what follows
	life        context.Context
	scene       tray.Scene
	said        []string
	saidUntil   time.Time
	lists       lists
	seen        bool               // somebody sees the icon
	resubscribe context.CancelFunc // of the subscription that stands
}

// lists are what is to be listed again.
type lists uint8

const (
	prompts lists = 1 << iota
	status
	accounts
	codes
	everything = prompts | status | accounts | codes
)

// New makes a runner. Nothing is dialled before Run.
func New(o Options) *Runner {
	r := &Runner{o: o, dirty: make(chan struct{}, 1), asked: make(chan struct{}, 1)}
	r.scene.NoClipboard = o.NoClipboard
	return r
}

// View is what is to be shown now.
func (r *Runner) View() tray.View {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.scene
	s.Now = time.Now()
	left := r.saidUntil.Sub(s.Now)
	if left > 0 {
		s.Said = r.said
	}
	v := s.View()
	if left > 0 && (v.Refresh == 0 || left < v.Refresh) {
		v.Refresh = left
	}
	return v
}

// Run works until ctx ends, and waits for all it has begun.
func (r *Runner) Run(ctx context.Context) {
	r.mu.Lock()
	r.life = ctx
	r.mu.Unlock()
	var work sync.WaitGroup
	work.Go(func() { r.follow(ctx) })
	work.Go(func() { r.draw(ctx) })
	work.Wait()
	r.mu.Lock()
	r.life = nil // no task begins from here on
	r.mu.Unlock()
	r.tasks.Wait()
}

// Seen says whether somebody sees the icon. Only then does the tray count as a
// place where the person can be asked.
func (r *Runner) Seen(seen bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seen == r.seen {
		return
	}
	r.seen = seen
	if r.resubscribe != nil {
		r.resubscribe()
	}
}

// Opened says that the menu is looked at.
func (r *Runner) Opened() { r.poke() }

func (r *Runner) poke() {
	select {
	case r.dirty <- struct{}{}:
	default:
	}
}

// draw shows the view when it changes, or when its words are out of date.
func (r *Runner) draw(ctx context.Context) {
	stale := time.NewTimer(time.Hour)
	stale.Stop()
	defer stale.Stop()
	var last tray.View
	for {
		if v := r.View(); !reflect.DeepEqual(v, last) {
			r.o.Show(v)
			last = v
		}
		shown := time.Now()
		if last.Refresh > 0 {
			stale.Reset(last.Refresh)
		} else {
			stale.Stop()
		}
		select {
		case <-r.dirty:
		case <-stale.C:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, calm-time.Since(shown)) {
			return
		}
	}
}

// follow is connected to the agent, or looks for it.
func (r *Runner) follow(ctx context.Context) {
	wait := firstWait
	for ctx.Err() == nil {
		began := time.Now()
		connected, err := r.listen(ctx)
		if err == nil {
			continue // subscribed anew, by another name
		}
		r.lose(err)
		if connected && time.Since(began) >= brief {
			wait = firstWait
			continue // restarted, perhaps: looked for at once
		}
		if appeared(ctx, r.o.Agent.Socket(), wait) {
			wait = soon
		} else {
			wait = min(2*wait, lastWait)
		}
	}
}

// errSilent says that something takes connections and does not answer.
var errSilent = errors.New("it does not answer")

// errAgain ends a subscription since one by another name is wanted.
var errAgain = errors.New("another subscription is wanted")

// listen follows one subscription to its end. Without an error it ended since
// another one is wanted.
func (r *Runner) listen(ctx context.Context) (connected bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	name := ""
	if r.seen {
		name = frontEnd
	}
	r.resubscribe = func() { cancel(errAgain) }
	r.mu.Unlock()
	connected, err = r.hear(ctx, cancel, name)
	r.mu.Lock()
	r.resubscribe = nil
	r.mu.Unlock()
	switch cause := context.Cause(ctx); cause {
	case nil:
		return connected, err
	case errAgain:
		return connected, nil
	default:
		return connected, cause
	}
}

// hear subscribes, and lists what events tell of until they end.
func (r *Runner) hear(ctx context.Context, cancel context.CancelCauseFunc, name string) (connected bool, err error) {
	late := time.AfterFunc(subscribing, func() { cancel(errSilent) })
	events, err := r.o.Agent.Subscribe(ctx, name)
	late.Stop()
	if err != nil {
		return false, err
	}
	r.want(everything)
	listing, done := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			select {
			case <-r.asked:
				if err := r.list(listing, name); err != nil {
					if listing.Err() == nil {
						cancel(err)
					}
					return
				}
			case <-listing.Done():
				return
			}
		}
	})
	defer work.Wait()
	defer done()
	for e, err := range events {
		if err != nil {
			return true, err
		}
		if e.Type == "prompt" {
			r.say(nil) // the end of another one is not to stand above this one
		}
		r.want(told(e))
	}
	return true, client.ErrStreamEnded
}

// told says what an event makes out of date. What is merely on record changes
// nothing here: a sign-in that asks nobody wakes nobody.
func told(e api.Event) lists {
	switch e.Type {
	case "hello", "audit":
		return 0
	case "prompt":
		return prompts | status // who else can ask has changed, perhaps
	case "prompt_closed":
		return prompts
	case "hold":
		return prompts
	case "account":
		return accounts | codes | status
	case "notice":
		return accounts | status
	}
	return everything
}

func (r *Runner) want(l lists) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted(l)
}

// wanted is want for who holds the lock.
func (r *Runner) wanted(l lists) {
	if r.lists |= l; l == 0 {
		return
	}
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// list lists what is wanted, prompts first. An error is one of the connection.
func (r *Runner) list(ctx context.Context, name string) error {
	r.mu.Lock()
	l := r.lists
	r.lists = 0
	r.mu.Unlock()
	agent := r.o.Agent
	if l&prompts != 0 {
		list, err := agent.Prompts(ctx, name)
		if refused(err) {
			r.say(failed(err))
		} else if err != nil {
			return err
		}
		r.change(func(s *tray.Scene) {
			s.Reach, s.Trouble, s.Prompts, s.Hold = tray.Connected, "", list.Prompts, list.Hold
		})
	}
	if l&status != 0 {
		st, err := agent.Status(ctx)
		if refused(err) {
			err = nil
		}
		if err != nil {
			return err
		}
		r.change(func(s *tray.Scene) { s.Status = st })
	}
	if l&accounts != 0 {
		list, err := agent.Accounts(ctx)
		if err != nil && !refused(err) {
			return err
		}
		r.change(func(s *tray.Scene) { s.Accounts = list.Accounts })
	}
	if l&codes != 0 {
		list, err := agent.Codes(ctx)
		if err != nil && !refused(err) {
			return err
		}
		r.change(func(s *tray.Scene) { s.Codes = list.Codes })
	}
	return nil
}

// refused says that the agent is there and does not want to, as one whose state
// is locked. Its status says why.
func refused(err error) bool {
	e := (*api.Error)(nil)
	return errors.As(err, &e)
}

// say shows lines for a while.
func (r *Runner) say(lines []string) {
	r.mu.Lock()
	r.said, r.saidUntil = lines, time.Now().Add(saying)
	r.mu.Unlock()
	r.poke()
}

func (r *Runner) change(f func(*tray.Scene)) {
	r.mu.Lock()
	f(&r.scene)
	r.mu.Unlock()
	r.poke()
}

// lose forgets what the agent said: it may not hold any more.
func (r *Runner) lose(err error) {
	r.change(func(s *tray.Scene) {
		reach, trouble := tray.Unreachable, err.Error()
		foreign := (*client.ForeignError)(nil)
		switch {
		case errors.As(err, &foreign):
			reach = tray.Foreign
		case errors.Is(err, client.ErrNotRunning), errors.Is(err, client.ErrStreamEnded):
			trouble = ""
		}
		*s = tray.Scene{Reach: reach, Trouble: trouble, NoClipboard: s.NoClipboard}
	})
}

// pause waits, and says whether the work goes on.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
