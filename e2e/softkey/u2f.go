package softkey

import (
	"context"
	"encoding/binary"
	"time"
)

// Instructions of U2F raw messages (FIDO U2F Raw Message Formats 1.2).
const (
	u2fRegister     = 0x01
	u2fAuthenticate = 0x02
	u2fVersion      = 0x03

	u2fCheckOnly = 0x07
	u2fEnforce   = 0x03
	u2fDont      = 0x08 // does not ask for a touch
)

// Status words.
const (
	swOK                     = 0x9000
	swWrongLength            = 0x6700
	swConditionsNotSatisfied = 0x6985
	swNotAllowed             = 0x6986
	swWrongData              = 0x6a80
	swInstruction            = 0x6d00
	swClass                  = 0x6e00
)

// u2fPatience is how long a U2F message waits for a touch that is on its way. The
// host is then told that there was none yet, and asks again.
const u2fPatience = 20 * time.Millisecond

// u2fTouch is a touch that was asked for by U2F messages, which do not wait.
type u2fTouch struct {
	cancel context.CancelFunc
	answer chan bool
	asked  time.Time
}

// u2fMessage answers one raw message.
func (c *call) u2fMessage(apdu []byte) []byte {
	body, sw := c.u2f(apdu)
	return binary.BigEndian.AppendUint16(body, sw)
}

func (c *call) u2f(apdu []byte) ([]byte, uint16) {
	if len(apdu) < 4 {
		return nil, swWrongLength
	}
	class, instruction, p1 := apdu[0], apdu[1], apdu[2]
	data, valid := apduData(apdu[4:])
	switch {
	case c.k.store.alwaysUV: // a touch is not enough
		return nil, swNotAllowed
	case class != 0:
		return nil, swClass
	case !valid:
		return nil, swWrongLength
	case instruction == u2fVersion:
		if len(data) != 0 {
			return nil, swWrongLength
		}
		return []byte("U2F_V2"), swOK
	case instruction == u2fRegister:
		if len(data) != 64 {
			return nil, swWrongLength
		}
		return c.u2fRegister(data[:32], [32]byte(data[32:]))
	case instruction == u2fAuthenticate:
		if len(data) < 65 || len(data) != 65+int(data[64]) {
			return nil, swWrongLength
		}
		return c.u2fAuthenticate(p1, data[:32], [32]byte(data[32:64]), data[65:])
	}
	return nil, swInstruction
}

// apduData takes the data out of what follows the header, in either encoding of
// lengths (ISO 7816-4, 5.1).
func apduData(b []byte) (data []byte, valid bool) {
	switch {
	case len(b) <= 1: // none, or a short Le
		return nil, true
	case b[0] == 0 && len(b) == 3: // an extended Le
		return nil, true
	case b[0] != 0:
		n := int(b[0])
		rest := len(b) - 1 - n
		if rest != 0 && rest != 1 {
			return nil, false
		}
		return b[1 : 1+n], true
	case len(b) < 3:
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b[1:]))
	if rest := len(b) - 3 - n; rest != 0 && rest != 2 {
		return nil, false
	}
	return b[3 : 3+n], true
}

func (c *call) u2fRegister(challenge []byte, app [32]byte) ([]byte, uint16) {
	k := c.k
	if !c.touchedYet() {
		return nil, swConditionsNotSatisfied
	}
	made := newCredential(algES256)
	made.RPHash = app
	k.store.credentials = append(k.store.credentials, made)
	public := made.point()
	id := made.ID
	switch c.fault.lie {
	case lieCredential:
		id = random(len(id))
	case lieRPHash:
		app = [32]byte(random(32))
	}
	maker := k.ca.model(k.o.AAGUID)
	answer := append(append([]byte{5}, public...), byte(len(id)))
	answer = append(append(answer, id...), maker.der...)
	return append(answer, c.signed(maker.key, []byte{0}, app[:], challenge, id, public)...), swOK
}

func (c *call) u2fAuthenticate(p1 byte, challenge []byte, app [32]byte, handle []byte) ([]byte, uint16) {
	found := c.k.find(app, []descriptor{described(handle)})
	switch {
	case len(found) == 0 || found[0].Protect == protectRequired || found[0].algorithm != algES256:
		return nil, swWrongData
	case p1 == u2fCheckOnly:
		return nil, swConditionsNotSatisfied
	case p1 != u2fEnforce && p1 != u2fDont:
		return nil, swWrongData
	case p1 == u2fEnforce && !c.touchedYet():
		return nil, swConditionsNotSatisfied
	}
	var flags byte
	if p1 == u2fEnforce {
		flags = flagPresent
	}
	switch c.fault.lie {
	case lieNotPresent:
		flags = 0
	case liePresent:
		flags = flagPresent
	case lieVerified:
		flags |= flagVerified
	case lieRPHash:
		app = [32]byte(random(32))
	}
	head := binary.BigEndian.AppendUint32([]byte{flags}, c.count())
	return append(head, c.signed(found[0].key, app[:], head, challenge)...), swOK
}

// touchedYet says whether the key was touched since it was first asked, and if so
// forgets it.
func (c *call) touchedYet() bool {
	k := c.k
	if c.fault.unplug == unplugAtTouch {
		c.pull()
		return false
	}
	if k.o.Touch == nil {
		return true
	}
	t := k.power.u2f
	if t != nil && k.o.Now().Sub(t.asked) > k.o.TouchTime {
		t.cancel()
		t = nil
	}
	if t == nil {
		// It outlives this message, and ends with the power or by its own time.
		ctx, cancel := context.WithTimeout(k.power.on, k.o.TouchTime)
		t = &u2fTouch{cancel: cancel, answer: make(chan bool, 1), asked: k.o.Now()}
		ask := Ask{Step: c.step}
		k.power.waits.Go(func() {
			defer cancel()
			t.answer <- k.o.Touch(ctx, ask)
		})
		k.power.u2f = t
	}
	k.mu.Unlock()
	defer k.mu.Lock()
	wait := time.NewTimer(u2fPatience)
	defer wait.Stop()
	select {
	case yes := <-t.answer:
		k.mu.Lock()
		k.power.u2f = nil
		k.mu.Unlock()
		return yes
	case <-wait.C:
	case <-c.ctx.Done():
	}
	return false
}
