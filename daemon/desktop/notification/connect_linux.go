package notification

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign.dev/bus"
)

// Of the Desktop Notifications Specification 1.2.
const (
	service = "org.freedesktop.Notifications"
	object  = bus.ObjectPath("/org/freedesktop/Notifications")

	urgencyNormal, urgencyCritical byte  = 1, 2
	expiryDefault, expiryNever     int32 = -1, 0
)

const (
	appName      = "Countersign"
	desktopEntry = "countersign-tray" // the desktop finds the icon by it

	startWithin = 5 * time.Second // a service that the bus has to start first
	leaveWithin = 300 * time.Millisecond
)

// answerWithin is how long a call may take; a service that takes longer hangs.
// A variable for tests.
var answerWithin = 2 * time.Second

// Look says whether there is a service, or one could be started, and whether its
// notes have buttons, as far as is known. It starts none and shows nothing.
func Look(ctx context.Context) (buttons bool, err error) {
	b, err := session(ctx, answerWithin)
	if err != nil {
		return false, err
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	served, startable, err := b.Look(ctx, service)
	switch {
	case err != nil:
		return false, none(err)
	case served:
		s, err := ask(ctx, b)
		if err != nil {
			return false, err
		}
		s.leave()
		return s.buttons, nil
	case startable && (os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""):
		return true, nil // as nearly all have
	case startable:
		return false, fmt.Errorf("%w is running, and without a display none can be started", ErrNone)
	}
	return false, fmt.Errorf("%w on the session bus", ErrNone)
}

// Connect connects to the desktop's service, which the bus starts if need be.
func Connect(ctx context.Context) (Server, error) {
	b, err := session(ctx, startWithin)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	s, err := ask(ctx, b)
	if err != nil {
		b.Close()
		return nil, err
	}
	s.pumping.Go(s.pump)
	return s, nil
}

// session connects to the session bus for longer than that takes.
func session(ctx context.Context, within time.Duration) (*bus.Bus, error) {
	free, cancel := context.WithCancel(context.WithoutCancel(ctx)) // a deadline would be the connection's
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	defer time.AfterFunc(within, cancel).Stop()
	b, err := bus.Session(free)
	if err != nil {
		return nil, none(err)
	}
	return b, nil
}

// none is why there is no service.
func none(err error) error { return fmt.Errorf("%w: %w", ErrNone, err) }

// ask finds the service and asks what it can do.
func ask(ctx context.Context, b *bus.Bus) (*server, error) {
	if err := b.Find(ctx, service, service); err != nil {
		return nil, none(err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var can []string
	if err := b.Call(ctx, object, service+".GetCapabilities").Store(&can); err != nil {
		return nil, none(err)
	}
	life, leave := context.WithCancel(context.Background())
	return &server{
		bus: b, markup: slices.Contains(can, "body-markup"),
		// Nobody should press a button without having read what for.
		buttons: slices.Contains(can, "actions") && slices.Contains(can, "body"),
		notes:   map[ID][]string{}, events: make(chan Event, 8), gone: make(chan struct{}), life: life, leave: leave,
	}, nil
}

// server is a service and our notes on it.
type server struct {
	bus             *bus.Bus
	buttons, markup bool

	events  chan Event
	gone    chan struct{}
	once    sync.Once       // closes gone
	life    context.Context // ends with Disconnect
	leave   context.CancelFunc
	pumping sync.WaitGroup
	putting sync.WaitGroup // away what was pressed

	// mu is held while a note is shown, so that nothing is heard of it before it
	// is known. A press waits meanwhile; the deadline of a call bounds that.
	mu    sync.Mutex
	notes map[ID][]string // those that stand, and the keys that were offered
}

func (s *server) Buttons() bool         { return s.buttons }
func (s *server) Events() <-chan Event  { return s.events }
func (s *server) Gone() <-chan struct{} { return s.gone }

// fail ends the conversation with a service that does not work.
func (s *server) fail(why error) error {
	s.once.Do(func() { close(s.gone) })
	return fmt.Errorf("%w: %w", ErrGone, why)
}

func (s *server) over() bool {
	select {
	case <-s.gone:
		return true
	default:
		return s.bus.Lost()
	}
}

// call asks the service for something, for a bounded time. A caller who has gone
// still waits a moment: a note whose number is not heard could not be closed.
func (s *server) call(caller context.Context, method string, args ...any) *bus.Call {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(caller), answerWithin)
	defer cancel()
	defer context.AfterFunc(caller, func() { time.AfterFunc(leaveWithin, cancel) })()
	return s.bus.Call(ctx, object, service+"."+method, args...)
}

var markup = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// Show shows a note.
func (s *server) Show(ctx context.Context, n Note, replaces ID) (ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() {
		return 0, s.fail(bus.ErrReplaced)
	}
	if _, stands := s.notes[replaces]; !stands {
		replaces = 0 // a number that is free may be another program's by now
	}
	body := n.Body
	if s.markup {
		body = markup.Replace(body)
	}
	keys, actions := []string{}, []string{}
	if s.buttons {
		for _, b := range n.Buttons {
			keys, actions = append(keys, b.Key), append(actions, b.Key, b.Label)
		}
	}
	urgency, expiry := urgencyNormal, expiryDefault
	if n.Urgent {
		urgency, expiry = urgencyCritical, expiryNever
	}
	hints := map[string]bus.Variant{"urgency": bus.MakeVariant(urgency), "desktop-entry": bus.MakeVariant(desktopEntry)}
	if !n.Urgent {
		hints["transient"] = bus.MakeVariant(true) // once read it is of no use
	}
	var id uint32
	err := s.call(ctx, "Notify", appName, uint32(replaces), "", n.Title, body, actions, hints, expiry).Store(&id)
	if err != nil {
		var refused bus.Error
		if errors.As(err, &refused) && !s.over() {
			return 0, fmt.Errorf("show a notification: %w", err) // it answers, at least
		}
		return 0, s.fail(err)
	}
	_, taken := s.notes[ID(id)]
	if id == 0 || taken && ID(id) != replaces {
		return 0, s.fail(fmt.Errorf("it gives the number %d to two notifications", id))
	}
	delete(s.notes, replaces)
	s.notes[ID(id)] = keys
	return ID(id), nil
}

// Close takes a note away. One that does not stand is no error.
func (s *server) Close(ctx context.Context, id ID) error {
	s.mu.Lock()
	_, stands := s.notes[id]
	delete(s.notes, id)
	s.mu.Unlock()
	if !stands {
		return nil
	}
	return s.put(ctx, id)
}

// put puts a note away that is ours no more. A service that knows nothing of it
// is of the same mind.
func (s *server) put(ctx context.Context, id ID) error {
	err := s.call(ctx, "CloseNotification", uint32(id)).Err
	var refused bus.Error
	if err == nil || errors.As(err, &refused) && !s.over() {
		return nil
	}
	return s.fail(err)
}

// pump turns the signals of the service into events. Those that come from
// anybody else do not get here: see package bus.
func (s *server) pump() {
	defer close(s.events)
	for {
		select {
		case signal := <-s.bus.Signals():
			event, ours := s.understand(signal)
			if !ours {
				continue
			}
			select {
			case s.events <- event:
			case <-s.bus.Gone():
			case <-s.life.Done():
			}
		case <-s.bus.Gone():
			_ = s.fail(bus.ErrReplaced)
			return
		case <-s.life.Done():
			return
		}
	}
}

// understand takes what is said of a note of ours that stands: that one of its
// buttons was pressed, or that it was closed. Either is the last word on it.
func (s *server) understand(signal *bus.Signal) (Event, bool) {
	if s.bus.Lost() || signal.Path != object {
		return Event{}, false
	}
	if len(signal.Body) != 2 {
		return Event{}, false
	}
	id, sound := signal.Body[0].(uint32)
	var key string
	switch signal.Name {
	case service + ".ActionInvoked":
		key, _ = signal.Body[1].(string)
		sound = sound && key != ""
	case service + ".NotificationClosed":
	default:
		sound = false
	}
	if !sound {
		return Event{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, stands := s.notes[ID(id)]
	if !stands || key != "" && !slices.Contains(keys, key) {
		return Event{}, false
	}
	delete(s.notes, ID(id))
	if key != "" {
		// Not every service closes what was pressed. The answer is not waited for:
		// what the person pressed is more urgent.
		s.putting.Go(func() { _ = s.put(s.life, ID(id)) })
	}
	return Event{Note: ID(id), Key: key}, true
}

// Disconnect takes the notes away, for as long as that may take, and ends the
// conversation.
func (s *server) Disconnect() {
	s.mu.Lock()
	left := s.notes
	s.notes = map[ID][]string{}
	s.mu.Unlock()
	s.leave()
	s.pumping.Wait() // nothing more is put away by it
	for id := range left {
		s.putting.Go(func() { _ = s.put(s.life, id) }) // for a moment; see call
	}
	s.putting.Wait()
	s.bus.Close()
	s.once.Do(func() { close(s.gone) })
}
