package softkey

import (
	"encoding/binary"
	"time"
)

const (
	reportSize  = 64
	firstData   = reportSize - 7 // of a message's first report
	moreData    = reportSize - 5
	maxMessage  = firstData + 128*moreData // 7609
	broadcast   = 0xffffffff
	isFirst     = 0x80
	betweenTime = 500 * time.Millisecond // longest pause within a message
	lockSeconds = 10
)

// message is one CTAPHID message (CTAP 2.1, 11.2.4).
type message struct {
	channel uint32
	command byte
	data    []byte
}

// reports cuts the message up for the wire.
func (m message) reports() [][]byte {
	first := make([]byte, reportSize)
	binary.BigEndian.PutUint32(first, m.channel)
	first[4] = m.command | isFirst
	binary.BigEndian.PutUint16(first[5:], uint16(len(m.data)))
	data := m.data[copy(first[7:], m.data):]
	all := [][]byte{first}
	for seq := byte(0); len(data) > 0; seq++ {
		r := make([]byte, reportSize)
		binary.BigEndian.PutUint32(r, m.channel)
		r[4] = seq
		data = data[copy(r[5:], data):]
		all = append(all, r)
	}
	return all
}

// refusal is an answer of the HID layer itself.
type refusal struct {
	channel uint32
	code    byte
}

// assembler puts the host's reports together. Like a key it has room for one
// message.
type assembler struct {
	open bool
	m    message
	want int
	seq  byte
}

// feed takes one report. What it returns is a whole message, a refusal, or
// neither: more is to come, or the report is nobody's.
func (a *assembler) feed(r []byte) (*message, *refusal) {
	if len(r) != reportSize {
		return nil, nil
	}
	channel := binary.BigEndian.Uint32(r)
	if r[4]&isFirst == 0 {
		return a.more(channel, r)
	}
	m := message{channel: channel, command: r[4] &^ isFirst}
	want := int(binary.BigEndian.Uint16(r[5:]))
	mine := a.open && a.m.channel == channel
	switch {
	case m.command == hidCancel: // disturbs nothing
		return &m, nil
	case m.command == hidInit:
		if mine {
			a.open = false
		}
		if want > firstData {
			return nil, &refusal{channel, hidInvalidLength}
		}
		m.data = append(m.data, r[7:7+want]...)
		return &m, nil
	case mine:
		a.open = false
		return nil, &refusal{channel, hidInvalidSequence}
	case a.open:
		return nil, &refusal{channel, hidBusy}
	case want > maxMessage:
		return nil, &refusal{channel, hidInvalidLength}
	}
	m.data = append(make([]byte, 0, want), r[7:7+min(want, firstData)]...)
	if len(m.data) == want {
		return &m, nil
	}
	a.open, a.m, a.want, a.seq = true, m, want, 0
	return nil, nil
}

func (a *assembler) more(channel uint32, r []byte) (*message, *refusal) {
	if !a.open || channel != a.m.channel {
		return nil, nil
	}
	if r[4] != a.seq {
		a.open = false
		return nil, &refusal{channel, hidInvalidSequence}
	}
	a.seq++
	a.m.data = append(a.m.data, r[5:5+min(a.want-len(a.m.data), moreData)]...)
	if len(a.m.data) < a.want {
		return nil, nil
	}
	a.open = false
	m := a.m
	return &m, nil
}
