package softkey

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// What faults make of answers and their reports.

func bytesOf(b ...byte) func([]byte) []byte {
	return func([]byte) []byte { return bytes.Clone(b) }
}

// spread gives an answer's reports, at least three, so that there is an order to
// break.
func spread(m message) [][]byte {
	if short := firstData + moreData + 1 - len(m.data); short > 0 {
		m.data = append(bytes.Clone(m.data), make([]byte, short)...)
	}
	return m.reports()
}

func byteCount(of func(int) int) func(message) [][]byte {
	return func(m message) [][]byte {
		all := m.reports()
		binary.BigEndian.PutUint16(all[0][5:], uint16(of(len(m.data))))
		return all
	}
}

func lastMissing(m message) [][]byte {
	all := spread(m)
	return all[:len(all)-1]
}

func sequence(of func(int) int) func(message) [][]byte {
	return func(m message) [][]byte {
		all := spread(m)
		for i, r := range all[1:] {
			r[4] = byte(of(i)) &^ isFirst
		}
		return all
	}
}

func channels(from int) func(message) [][]byte {
	return func(m message) [][]byte {
		all := spread(m)
		for _, r := range all[from:] {
			binary.BigEndian.PutUint32(r, m.channel^0x5a5a5a5a)
		}
		return all
	}
}

func wrongCommand(m message) [][]byte {
	if m.command == hidCBOR {
		m.command = hidMessage
	} else {
		m.command = hidCBOR
	}
	return m.reports()
}

func hidErrorAnswer(m message) [][]byte {
	return message{m.channel, hidError, []byte{0x7f}}.reports()
}

func noiseBefore(m message) [][]byte {
	noise := message{m.channel ^ 0x01010101, hidCBOR, random(100)}.reports()
	return append(noise, m.reports()...)
}

// garbage is no answer to anything, on the host's own channel: a first report of a
// command that there is not, so that it is never taken for a sign of life.
func garbage(channel uint32) [][]byte {
	r := random(reportSize)
	binary.BigEndian.PutUint32(r, channel)
	r[4] = 0x2a | isFirst
	return [][]byte{r}
}

func garbageBefore(m message) [][]byte { return append(garbage(m.channel), m.reports()...) }
func garbageAfter(m message) [][]byte {
	return append(append(m.reports(), garbage(m.channel)...), garbage(m.channel)...)
}
func answerTwice(m message) [][]byte { return append(m.reports(), m.reports()...) }

func longest(a []byte) []byte { return append(a, make([]byte, maxMessage-len(a))...) }

// longList is a list that is as long as it says, of versions in the answer to
// getInfo, and of nothing else.
func longList([]byte) []byte {
	const n = 1900
	return append([]byte{0, 0xa1, 0x01, 0x99, n >> 8, n & 0xff}, bytes.Repeat([]byte{0x60}, n)...)
}

func deep([]byte) []byte {
	return slices.Concat([]byte{0, 0xa1, 0x01}, bytes.Repeat([]byte{0x81}, 1900), []byte{0})
}

// wrongTypes has every key that answers have, each with a value of another type.
func wrongTypes([]byte) []byte {
	b := []byte{0, 0xb4}
	for key := byte(1); key <= 20; key++ {
		b = append(b, key, 0xf6) // null
	}
	return b
}

func wrongNonce(a []byte) []byte {
	if len(a) >= 8 {
		a[0] ^= 0xff
	}
	return a
}
