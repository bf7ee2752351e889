package softkey

import (
	"bytes"
	"slices"
	"testing"
	"time"
)

func TestHID(t *testing.T) {
	p := plug(t, New(Options{Firmware: 0x010203}))
	h := dial(t, p)
	h.send(hidInit, random(8))
	m := h.receive()
	if got := m.data[12:]; !bytes.Equal(got, []byte{2, 1, 2, 3, 0x05}) {
		t.Errorf("protocol, version and capabilities are %x", got)
	}
	h.init()
	for _, n := range []int{0, 1, firstData, firstData + 1, firstData + moreData, 1000, maxMessage} {
		want := random(n)
		h.send(hidPing, want)
		if m := h.receive(); m.command != hidPing || !bytes.Equal(m.data, want) {
			t.Fatalf("a ping of %d bytes comes back as %#02x with %d", n, m.command, len(m.data))
		}
	}
	h.send(hidWink, nil)
	if m := h.receive(); m.command != hidWink || p.key.Winks() != 1 {
		t.Error("no wink")
	}
	h.send(0x55, nil)
	h.refused(hidInvalidCommand)
}

func TestHIDRefuses(t *testing.T) {
	p := plug(t, New(Options{}))
	h := begin(t, p)
	long := message{h.channel, hidPing, random(200)}.reports()

	t.Run("wrong sequence", func(t *testing.T) {
		h.report(long[0])
		h.report(long[2])
		h.refused(hidInvalidSequence)
	})
	t.Run("begins anew midway", func(t *testing.T) {
		h.report(long[0])
		h.report(long[0])
		h.refused(hidInvalidSequence)
	})
	t.Run("stops midway", func(t *testing.T) {
		h.report(long[0])
		h.refused(hidTimeout)
	})
	t.Run("too long", func(t *testing.T) {
		r := bytes.Clone(long[0])
		r[5], r[6] = 0xff, 0xff
		h.report(r)
		h.refused(hidInvalidLength)
	})
	t.Run("unknown channel", func(t *testing.T) {
		mine := h.channel
		h.channel = 77
		h.send(hidPing, nil)
		h.refused(hidInvalidChannel)
		h.channel = 0
		h.send(hidPing, nil)
		h.refused(hidInvalidChannel)
		h.channel = mine
	})
	t.Run("stray continuation", func(t *testing.T) {
		h.report(long[1])
		h.send(hidPing, []byte("still there"))
		if m := h.receive(); string(m.data) != "still there" {
			t.Errorf("%+v", m)
		}
	})
	t.Run("init with another length", func(t *testing.T) {
		h.send(hidInit, random(7))
		h.refused(hidInvalidLength)
	})
	t.Run("init ends a message", func(t *testing.T) {
		h.report(long[0])
		h.send(hidInit, random(8))
		if m := h.receive(); m.command != hidInit {
			t.Errorf("%+v", m)
		}
		h.report(long[1])
		h.send(hidPing, nil)
		if m := h.receive(); m.command != hidPing || len(m.data) != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// While one channel is served, or has locked the key, others are told so.
func TestHIDBusyAndLock(t *testing.T) {
	finger := NewFinger()
	h := begin(t, plug(t, New(Options{Touch: finger.Touch})))
	first := h.channel
	h.init()
	second := h.channel

	h.channel = first
	h.ask(cmdSelection, nil)
	ask := wanted(t, finger)
	if ask.Step != StepSelect {
		t.Fatal(ask.Ask)
	}
	h.channel = second
	h.send(hidPing, nil)
	h.refused(hidBusy)
	h.send(hidCancel, nil) // not theirs to cancel
	h.channel = first
	h.send(hidPing, nil)
	h.refused(hidBusy)
	ask.Touch()
	if s, _ := h.answer(); s != OK {
		t.Error(s)
	}

	h.send(hidLock, []byte{10})
	h.receive()
	h.channel = second
	h.send(hidPing, nil)
	h.refused(hidBusy)
	h.channel = first
	h.send(hidLock, []byte{0})
	h.receive()
	h.channel = second
	h.send(hidPing, nil)
	if m := h.receive(); m.command != hidPing {
		t.Errorf("the lock is still there: %+v", m)
	}
	h.send(hidLock, []byte{11})
	h.refused(hidInvalidLength)
}

// A key that waits says so, can be told to stop, and gives up by itself.
func TestTouch(t *testing.T) {
	finger := NewFinger()
	o := Options{Touch: finger.Touch, Keepalive: 5 * time.Millisecond}
	h := begin(t, plug(t, New(o)))
	h.ask(cmdMakeCredential, making("u", false))
	ask := wanted(t, finger)
	if ask.Step != StepMake || ask.RP != rpID {
		t.Fatal(ask.Ask)
	}
	for range 5 {
		h.blinks()
	}
	ask.Touch()
	if s, _ := h.answer(); s != OK {
		t.Error("touched:", s)
	}
	h.ask(cmdMakeCredential, making("u", false))
	ask = wanted(t, finger)
	h.send(hidCancel, nil)
	if s, _ := h.answer(); s != KeepAliveCancel {
		t.Error("cancelled:", s)
	}
	<-ask.Over
	h.ask(cmdReset, nil)
	ask = wanted(t, finger)
	ask.TimeOut()
	if s, _ := h.answer(); s != UserActionTimeout {
		t.Error("timed out:", s)
	}
	// A host that begins anew on its channel hears nothing of what was before.
	h.ask(cmdSelection, nil)
	wanted(t, finger)
	h.send(hidInit, random(8))
	if m := h.receive(); m.command != hidInit {
		t.Errorf("%+v", m)
	}
	h.ok(cmdGetInfo, nil)

	o.TouchTime = time.Millisecond
	h = begin(t, plug(t, New(o)))
	h.fails(UserActionTimeout, cmdSelection, nil)
}

func TestUnplugAndPowerCycle(t *testing.T) {
	finger := NewFinger()
	k := New(Options{Touch: finger.Touch})
	p := plug(t, k)
	h := begin(t, p)
	h.ask(cmdSelection, nil)
	ask := wanted(t, finger)
	p.Unplug()
	<-ask.Over
	for h.raw() != nil {
	}
	p.PowerCycle() // of no effect, and does not wait
	again := plug(t, k)
	h = begin(t, again)
	h.ok(cmdGetInfo, nil)
	again.PowerCycle()
	h.send(hidPing, nil)
	h.refused(hidInvalidChannel)
	h.init()
	h.ok(cmdGetInfo, nil)
	plug(t, k) // elsewhere
	<-again.Gone()
}

func FuzzReports(f *testing.F) {
	f.Add(bytes.Join(message{1, hidPing, make([]byte, 200)}.reports(), nil))
	f.Add(bytes.Join(append(message{1, hidPing, make([]byte, 200)}.reports()[:2], message{2, hidInit, make([]byte, 8)}.reports()...), nil))
	f.Add(make([]byte, reportSize))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var a assembler
		for r := range slices.Chunk(stream, reportSize) {
			m, refused := a.feed(r)
			if m != nil && refused != nil {
				t.Fatal("a message and a refusal at once")
			}
			if m == nil {
				continue
			}
			if len(m.data) > maxMessage {
				t.Fatalf("a message of %d bytes", len(m.data))
			}
			// What was put together comes out of its own reports again.
			var b assembler
			var again *message
			for _, r := range m.reports() {
				again, refused = b.feed(r)
				if refused != nil {
					t.Fatal(refused)
				}
			}
			if again == nil || again.channel != m.channel || again.command != m.command || !bytes.Equal(again.data, m.data) {
				t.Fatalf("%+v came back as %+v", m, again)
			}
		}
	})
}
