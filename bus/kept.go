//go:build linux

package bus

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// maxNews bounds what a Kept has heard and nobody has looked at. One that hears
// more is cut: it would have to forget something.
const maxNews = 256

// sendWait bounds what it takes to send a message to the bus.
const sendWait = 5 * time.Second

// Kept is a connection that stays, for services that come and go. As with Bus,
// only the connection that has a service's name is believed. Close it.
type Kept struct {
	link
	address string
	news    chan News

	mu       sync.Mutex // guards what follows
	services map[string]*tenure
}

// tenure is who has the name of a service, for as long as they have it.
type tenure struct {
	owner string // unique name; "" is nobody
	told  bool   // the bus has said so by itself
	life  context.Context
	end   context.CancelFunc
}

// News is something that a Kept has heard: that a service came, went or changed
// hands, or what it says. They come in the order in which they happened.
type News struct {
	Service string
	Signal  *Signal // nil: who has the service's name has changed
}

// Match says which signals of a service are wanted. Others are not even sent:
// nobody wakes up for them. An empty field matches all.
type Match struct {
	Path              ObjectPath
	Interface, Member string
	Arg0              string
}

func (m Match) rule(service string) string {
	rule := "type='signal',sender='" + service + "'"
	for _, part := range [...]struct{ key, value string }{
		{"path", string(m.Path)}, {"interface", m.Interface}, {"member", m.Member}, {"arg0", m.Arg0},
	} {
		if part.value != "" {
			rule += "," + part.key + "='" + strings.ReplaceAll(part.value, "'", `'\''`) + "'"
		}
	}
	return rule
}

// KeepSystem connects to the system bus, which must belong to the user owner: 0
// but in tests. ctx bounds the connecting only.
func KeepSystem(ctx context.Context, owner int) (*Kept, error) {
	return keep(ctx, systemAddress(), owner)
}

// KeepSession connects to the session bus, which must belong to this user. ctx
// bounds the connecting only.
func KeepSession(ctx context.Context) (*Kept, error) {
	address, owner := sessionAddress()
	return keep(ctx, address, owner)
}

func keep(ctx context.Context, address string, owner int) (*Kept, error) {
	k := &Kept{address: address, news: make(chan News, maxNews), services: map[string]*tenure{}}
	var err error
	if k.link, err = dial(ctx, address, owner, k); err != nil {
		return nil, err
	}
	k.line.stay(sendWait)
	return k, nil
}

// Close ends the connection and waits for what read from it.
func (k *Kept) Close() {
	k.close()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.services {
		t.end()
	}
}

// News is what was heard. See also Done.
func (k *Kept) News() <-chan News { return k.news }

// Follow hears from now on of a service: who has its name, and the signals that
// match. It starts nothing.
func (k *Kept) Follow(ctx context.Context, service string, signals ...Match) error {
	k.mu.Lock()
	t := k.services[service]
	if t == nil {
		t = &tenure{}
		t.life, t.end = context.WithCancel(context.Background())
		k.services[service] = t
	}
	k.mu.Unlock()
	if err := k.driver(ctx, "AddMatch", ownerChanges(service)).Err; err != nil {
		return fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	for _, m := range signals {
		if err := k.Hear(ctx, service, m); err != nil {
			return err
		}
	}
	var owner string
	if err := k.driver(ctx, "GetNameOwner", service).Store(&owner); err != nil && !nobodyThere(err) {
		return fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !t.told { // what the bus said by itself is as new as its answer, or newer
		t.owner = owner
	}
	return nil
}

// nobodyThere says whether an error is the bus's, that nobody has a name.
func nobodyThere(err error) bool {
	e, ok := err.(dbus.Error)
	return ok && (e.Name == driver+".Error.NameHasNoOwner" || e.Name == driver+".Error.ServiceUnknown")
}

// Hear asks for more signals of a service that is followed.
func (k *Kept) Hear(ctx context.Context, service string, m Match) error {
	if err := k.driver(ctx, "AddMatch", m.rule(service)).Err; err != nil {
		return fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	return nil
}

// Unhear takes back what Hear asked for.
func (k *Kept) Unhear(ctx context.Context, service string, m Match) error {
	return k.driver(ctx, "RemoveMatch", m.rule(service)).Err
}

// There says whether somebody has the service's name now.
func (k *Kept) There(service string) bool {
	owner, _ := k.tenure(service)
	return owner != ""
}

// Owner is the unique name of whoever has the service's name now; "" for nobody.
func (k *Kept) Owner(service string) string {
	owner, _ := k.tenure(service)
	return owner
}

func (k *Kept) tenure(service string) (owner string, life context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.services[service]; t != nil {
		return t.owner, t.life
	}
	return "", nil
}

// Call calls who has the service's name now, never a successor. It ends when the
// service changes hands.
func (k *Kept) Call(ctx context.Context, service string, path ObjectPath, method string, args ...any) *Call {
	return k.call(ctx, k.conn, service, path, method, args...)
}

func (k *Kept) call(ctx context.Context, conn *dbus.Conn, service string, path ObjectPath, method string, args ...any) *Call {
	owner, life := k.tenure(service)
	if owner == "" {
		return &Call{Err: ErrNoService}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	call := conn.Object(owner, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	if life.Err() != nil {
		call.Err = ErrReplaced
	}
	return call
}

// File calls a method that answers with an open file, which the caller closes.
// The library receives files on connections that it has made itself only, so
// this takes one more, for a moment. Whose that bus is, is not looked at again:
// what comes of it is an open file and nothing more.
func (k *Kept) File(ctx context.Context, service string, path ObjectPath, method string, args ...any) (*os.File, error) {
	conn, err := dbus.Dial(k.address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	var fd dbus.UnixFD
	if err := k.call(ctx, conn, service, path, method, args...).Store(&fd); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), method), nil
}

// sift lets through what comes from the bus or from a service that is followed,
// and no calls.
func (k *Kept) sift(m *dbus.Message) {
	sender, _ := m.Headers[dbus.FieldSender].Value().(string)
	if m.Type == dbus.TypeMethodCall || sender == "" || sender != driver && len(k.has(sender)) == 0 {
		drop(m)
	}
}

// has lists the services whose names a connection has.
func (k *Kept) has(owner string) (services []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, t := range k.services {
		if t.owner == owner {
			services = append(services, name)
		}
	}
	return services
}

// DeliverSignal takes a signal that sift let through; the library calls it in
// the order of arrival.
func (k *Kept) DeliverSignal(_, _ string, signal *dbus.Signal) {
	if signal.Sender == driver {
		k.changed(signal)
		return
	}
	for _, service := range k.has(signal.Sender) { // one program may be several
		k.tell(News{service, signal})
	}
}

// changed notes that a name has changed hands.
func (k *Kept) changed(signal *dbus.Signal) {
	var name, before, owner string
	if signal.Name != driver+".NameOwnerChanged" || Store(signal.Body, &name, &before, &owner) != nil {
		return
	}
	k.mu.Lock()
	t := k.services[name]
	if t != nil {
		t.end()
		t.life, t.end = context.WithCancel(context.Background())
		t.owner, t.told = owner, true
	}
	k.mu.Unlock()
	if t != nil {
		k.tell(News{Service: name})
	}
}

func (k *Kept) tell(n News) {
	select {
	case k.news <- n:
	default:
		k.line.Close()
	}
}
