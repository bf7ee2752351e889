package harness

import (
	"context"
	"fmt"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Overheard is all that was said on a bus since it was listened to.
type Overheard struct {
	conn *dbus.Conn
	done chan struct{}

	mu       sync.Mutex
	messages []*dbus.Message
}

// Note is a notification that somebody asked for.
type Note struct {
	App, Summary, Body string
	Actions            []string // keys and labels in turn
}

// Overhear listens to everybody on the bus.
func (b *Bus) Overhear() (*Overheard, error) {
	conn, err := b.Connect()
	if err != nil {
		return nil, err
	}
	o := &Overheard{conn: conn, done: make(chan struct{})}
	heard := make(chan *dbus.Message, 1000)
	if err := conn.BusObject().Call("org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{}, uint32(0)).Err; err != nil {
		conn.Close()
		return nil, fmt.Errorf("listening to the bus: %w", err)
	}
	conn.Eavesdrop(heard) // not before: the reply would be overheard, too
	go func() {
		defer close(o.done)
		for m := range heard { // closed with the connection
			o.mu.Lock()
			o.messages = append(o.messages, m)
			o.mu.Unlock()
		}
	}()
	return o, nil
}

// Close stops listening.
func (o *Overheard) Close() {
	o.conn.Close()
	<-o.done
}

// Text is all that was said, in Go's notation of values.
func (o *Overheard) Text() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	var text []byte
	for _, m := range o.messages {
		text = fmt.Appendf(text, "%v %v\n", m.Headers, m.Body)
	}
	return text
}

// Notes are the notifications that were asked for, the oldest first.
func (o *Overheard) Notes() []Note {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []Note
	for _, m := range o.messages {
		if m.Type != dbus.TypeMethodCall || m.Headers[dbus.FieldMember].Value() != "Notify" || len(m.Body) < 6 {
			continue
		}
		var n Note
		var replaces uint32
		var icon string
		if dbus.Store(m.Body[:6], &n.App, &replaces, &icon, &n.Summary, &n.Body, &n.Actions) == nil {
			list = append(list, n)
		}
	}
	return list
}

// AwaitNote waits for the first notification after the n first ones.
func (o *Overheard) AwaitNote(ctx context.Context, n int) (note Note, err error) {
	asked := func() bool {
		list := o.Notes()
		if len(list) > n {
			note = list[n]
		}
		return len(list) > n
	}
	if !await(ctx, asked) {
		return note, fmt.Errorf("waiting for a notification beyond %d: %w", n, context.Cause(ctx))
	}
	return note, nil
}
