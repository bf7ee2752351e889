//go:build linux

// Package bus talks to services of a message bus, the system's or the session's.
//
// A bus is trusted as its owner is: it says who owns a name and who sent a
// message. The system bus must be root's, whose policy says who may own the
// names of fprintd and polkit; the session bus must be this user's. That is made
// sure of: an address in the environment could name a bus of anybody's. Nobody
// else on a bus is trusted: replies and signals count only when they come from
// the connection that owned the service's name from beginning to end, by its
// unique name. On the session bus any program of the user may take a name that
// is free: what a service there says is a convenience, and no proof of a person.
//
// Two kinds of connection: a Bus is for one conversation with one service, whose
// end is the end of that service; a Kept stays, for services that come and go.
// One that says nothing wakes nobody.
package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Words of the library that callers need; nobody else imports it.
type (
	ObjectPath = dbus.ObjectPath
	Variant    = dbus.Variant
	Signal     = dbus.Signal
	Call       = dbus.Call
	Error      = dbus.Error
)

// Store puts what a message holds into variables, and errs when it holds
// something else.
func Store(body []any, into ...any) error { return dbus.Store(body, into...) }

// MakeVariant wraps a value whose type the receiver is told.
func MakeVariant(v any) Variant { return dbus.MakeVariant(v) }

// Errors of a service, for callers to branch on.
var (
	ErrNoBus     = errors.New("the message bus cannot be used")
	ErrNoService = errors.New("the service is not there")
	ErrReplaced  = errors.New("the service has gone, or another took its place")
)

// maxSignals bounds the unread ones; a service that sends more is not well. A
// desktop on which all notifications are cleared at once is.
const maxSignals = 256

// Bus is a connection for one conversation. Close it.
type Bus struct {
	link
	name string // of the service

	interfaces []string // whose signals are wanted; all when there are none

	signals chan *dbus.Signal
	life    context.Context // ends when the service changes hands
	lose    context.CancelFunc

	mu    sync.Mutex // guards what follows
	owner string     // unique name of the service; "" before Find
}

// System connects to the system bus, which must belong to the user owner: 0 but
// in tests. A deadline of ctx is that of the whole conversation.
func System(ctx context.Context, owner int) (*Bus, error) {
	return converse(ctx, systemAddress(), owner)
}

// Session connects to the session bus, which must belong to this user. A
// deadline of ctx is that of the whole conversation.
func Session(ctx context.Context) (*Bus, error) {
	address, owner := sessionAddress()
	return converse(ctx, address, owner)
}

func converse(ctx context.Context, address string, owner int) (*Bus, error) {
	b := &Bus{signals: make(chan *dbus.Signal, maxSignals)}
	b.life, b.lose = context.WithCancel(context.Background())
	var err error
	if b.link, err = dial(ctx, address, owner, b); err != nil {
		b.lose()
		return nil, err
	}
	context.AfterFunc(b.conn.Context(), b.lose) // a bus that ends takes the service with it
	return b, nil
}

// Close ends the connection and waits for what read from it.
func (b *Bus) Close() {
	b.lose()
	b.close()
}

// Look says whether anybody serves name now, and whether the bus knows how to
// start somebody. It starts nobody.
func (b *Bus) Look(ctx context.Context, name string) (served, startable bool, err error) {
	var names []string
	if err = b.driver(ctx, "NameHasOwner", name).Store(&served); err == nil {
		err = b.driver(ctx, "ListActivatableNames").Store(&names)
	}
	if err != nil {
		return false, false, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	return served, slices.Contains(names, name), nil
}

// Find makes name the service of this conversation, started by the bus if need
// be. From here on it may not change hands. Where interfaces are named, signals
// of others are not heard: a desktop's shell has many for everybody.
func (b *Bus) Find(ctx context.Context, name string, interfaces ...string) error {
	b.name, b.interfaces = name, interfaces
	if err := b.driver(ctx, "AddMatch", ownerChanges(name)).Err; err != nil {
		return fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	var owner, still string
	err := b.driver(ctx, "GetNameOwner", name).Store(&owner)
	if err != nil {
		// Nobody has it: the bus may know how to start it.
		var started uint32
		if err = b.driver(ctx, "StartServiceByName", name, uint32(0)).Store(&started); err == nil {
			err = b.driver(ctx, "GetNameOwner", name).Store(&owner)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", name, ErrNoService, err)
	}
	b.mu.Lock()
	b.owner = owner
	b.mu.Unlock()
	rules := []string{fmt.Sprintf("type='signal',sender='%s'", owner)}
	for i, iface := range interfaces {
		rules = append(rules[:i], fmt.Sprintf("type='signal',sender='%s',interface='%s'", owner, iface))
	}
	for _, rule := range rules {
		if err := b.driver(ctx, "AddMatch", rule).Err; err != nil {
			return fmt.Errorf("%w: %w", ErrNoBus, err)
		}
	}
	// A change before that was noted is seen now, one after it is signalled.
	if err := b.driver(ctx, "GetNameOwner", name).Store(&still); err != nil || still != owner {
		return fmt.Errorf("%s: %w", name, ErrReplaced)
	}
	return nil
}

// Call calls the service, never a successor of it. It ends when the service
// changes hands.
func (b *Bus) Call(ctx context.Context, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	b.mu.Lock()
	owner := b.owner
	b.mu.Unlock()
	if owner == "" {
		return &dbus.Call{Err: ErrNoService}
	}
	if b.Lost() {
		return &dbus.Call{Err: ErrReplaced}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	call := b.conn.Object(owner, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	if b.Lost() {
		call.Err = ErrReplaced
	}
	return call
}

// Signals are those of the service, in their order.
func (b *Bus) Signals() <-chan *dbus.Signal { return b.signals }

// Gone is closed when the service has changed hands, or flooded us, or the bus
// has ended.
func (b *Bus) Gone() <-chan struct{} { return b.life.Done() }

// Lost says the same now. What was read before is worth nothing then.
func (b *Bus) Lost() bool { return b.life.Err() != nil }

// sift lets through what comes from the bus or the service, and no calls: the
// library looks at a reply's number only, and answers to strangers.
func (b *Bus) sift(m *dbus.Message) {
	sender, _ := m.Headers[dbus.FieldSender].Value().(string)
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.Type == dbus.TypeMethodCall || sender == "" || sender != driver && sender != b.owner {
		drop(m)
	}
}

// DeliverSignal takes a signal that sift let through; the library calls it in
// the order of arrival.
func (b *Bus) DeliverSignal(_, _ string, signal *dbus.Signal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if signal.Sender == driver {
		if signal.Name != driver+".NameOwnerChanged" || len(signal.Body) != 3 || signal.Body[0] != b.name {
			return
		}
		if b.owner != "" && signal.Body[2] != b.owner {
			b.lose()
		}
		return
	}
	if iface := signal.Name[:max(0, strings.LastIndexByte(signal.Name, '.'))]; len(b.interfaces) > 0 && !slices.Contains(b.interfaces, iface) {
		return
	}
	select {
	case b.signals <- signal:
	default:
		b.lose()
	}
}
