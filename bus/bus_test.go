//go:build linux

package bus

import (
	"context"
	"testing"

	"github.com/godbus/dbus/v5"
)

func TestSocket(t *testing.T) {
	for address, want := range map[string]string{
		"":                               "",
		usualSystem:                      "/var/run/dbus/system_bus_socket",
		"unix:path=/a/b":                 "/a/b",
		"unix:guid=1,path=/a%20b":        "/a b",
		"unix:abstract=/x,guid=7":        "@/x",
		"tcp:host=h;unix:path=/a;unix:x": "/a",
		"autolaunch:":                    "",
		"unix:path=":                     "",
		"unix:path=%zz":                  "",
		"unix:dir=/a":                    "",
		"unixexec:path=/bin/sh":          "",
	} {
		if got, err := socket(address); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", address, got, err)
		}
	}
}

// C4: what neither the bus nor the service sent is dropped, replies too, which
// the library tells apart by their number alone; and nobody calls us.
func TestC4StrangersAreSifted(t *testing.T) {
	b := &Bus{owner: ":1.7"}
	for _, c := range []struct {
		kind   dbus.Type
		sender string
		passes bool
	}{
		{dbus.TypeMethodReply, ":1.7", true},
		{dbus.TypeError, ":1.7", true},
		{dbus.TypeSignal, ":1.7", true},
		{dbus.TypeMethodReply, driver, true},
		{dbus.TypeError, driver, true},
		{dbus.TypeSignal, driver, true},
		{dbus.TypeMethodReply, ":1.8", false},
		{dbus.TypeError, ":1.8", false},
		{dbus.TypeSignal, ":1.8", false},
		{dbus.TypeSignal, "", false},
		{dbus.TypeMethodReply, "net.reactivated.Fprint", false},
		{dbus.TypeMethodCall, ":1.7", false},
		{dbus.TypeMethodCall, driver, false},
	} {
		for _, h := range []hearer{b, &Kept{services: map[string]*tenure{"svc": {owner: ":1.7"}, "gone": {}}}} {
			m := &dbus.Message{Type: c.kind, Headers: map[dbus.HeaderField]dbus.Variant{}}
			if c.sender != "" {
				m.Headers[dbus.FieldSender] = dbus.MakeVariant(c.sender)
			}
			h.sift(m)
			if (m.Type == c.kind) != c.passes {
				t.Errorf("%T: %s of %q: type %d afterwards", h, c.kind, c.sender, m.Type)
			}
		}
	}
	unnamed := &Bus{}
	m := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{}}
	if unnamed.sift(m); m.Type != 0 {
		t.Error("no sender is nobody's, before the service is known")
	}
}

// A change of hands ends everything; news about others ends nothing, and what a
// stranger says of it does not come here.
func TestOwnerChanges(t *testing.T) {
	for _, c := range []struct {
		name string
		body []any
		lost bool
	}{
		{driver + ".NameOwnerChanged", []any{"svc", ":1.7", ""}, true},
		{driver + ".NameOwnerChanged", []any{"svc", ":1.7", ":1.8"}, true},
		{driver + ".NameOwnerChanged", []any{"svc", "", ":1.7"}, false},
		{driver + ".NameOwnerChanged", []any{"other", ":1.7", ""}, false},
		{driver + ".NameOwnerChanged", []any{"svc"}, false},
		{driver + ".NameAcquired", []any{"svc", ":1.7", ""}, false},
	} {
		b := &Bus{name: "svc", owner: ":1.7", signals: make(chan *dbus.Signal, 1)}
		b.life, b.lose = context.WithCancel(t.Context())
		b.DeliverSignal("", "", &dbus.Signal{Sender: driver, Name: c.name, Body: c.body})
		if b.Lost() != c.lost || len(b.signals) != 0 {
			t.Errorf("%s %v: lost %v", c.name, c.body, b.Lost())
		}
		b.lose()
	}
}
