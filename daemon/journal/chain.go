package journal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
)

type mac [sha256.Size]byte

const (
	macText    = 2 * sha256.Size
	headerName = "countersign-journal/1"
	maxLine    = 20 + 1 + macText + 1 + MaxPayload + 1
)

// keys are the two keys of one journal: a header's MAC is never a record's.
type keys struct{ header, record []byte }

func newKeys(key []byte) (keys, error) {
	if len(key) < 32 {
		return keys{}, ErrKey
	}
	return keys{header: derive(key, "header"), record: derive(key, "record")}, nil
}

func derive(key []byte, purpose string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("countersign journal v1 " + purpose))
	return h.Sum(nil)
}

// chain computes the MACs of records. It is kept between records, because
// keying HMAC costs more than a record; it is not for concurrent use.
type chain struct{ hash.Hash }

func (k keys) chain() chain { return chain{hmac.New(sha256.New, k.record)} }

// next is the MAC of one record: over the MAC before it, its number and its
// payload.
func (c chain) next(prev mac, seq uint64, payload []byte) (m mac) {
	var fixed [len(prev) + 8]byte
	copy(fixed[:], prev[:])
	binary.BigEndian.PutUint64(fixed[len(prev):], seq)
	c.Reset()
	c.Write(fixed[:])
	c.Write(payload)
	c.Sum(m[:0])
	return m
}

// appendRecord appends the line of one record.
func appendRecord(line []byte, seq uint64, m mac, payload []byte) []byte {
	line = strconv.AppendUint(line, seq, 10)
	line = append(line, ' ')
	line = hex.AppendEncode(line, m[:])
	line = append(line, ' ')
	line = append(line, payload...)
	return append(line, '\n')
}

type record struct {
	seq     uint64
	mac     mac
	payload []byte // part of the line
}

var errChain = errors.New("its MAC does not fit")

// parseRecord accepts exactly what appendRecord writes after a record with the
// given number and MAC.
func (c chain) parseRecord(line []byte, prevSeq uint64, prev mac) (record, error) {
	number, rest, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || len(rest) < macText+1 || rest[macText] != ' ' {
		return record{}, errors.New("it is no record")
	}
	r := record{payload: rest[macText+1:]}
	if len(r.payload) > MaxPayload {
		return record{}, errors.New("it is longer than any record")
	}
	var err error
	if r.seq, err = parseNumber(number); err != nil {
		return record{}, err
	}
	if r.mac, err = parseMAC(rest[:macText]); err != nil {
		return record{}, err
	}
	// Compaction leaves gaps; the chain itself shows a record that is missing.
	if r.seq <= prevSeq {
		return record{}, errors.New("its number is out of order")
	}
	if want := c.next(prev, r.seq, r.payload); !hmac.Equal(want[:], r.mac[:]) {
		return record{}, errChain
	}
	return r, nil
}

// header is the first line: the generation counts rewrites, the base is the
// number and MAC before the first record.
type header struct {
	Generation uint64
	Base       uint64
	BaseMAC    mac
}

func (k keys) appendHeader(line []byte, h header) []byte {
	line = fmt.Appendf(line, "%s %d %d %x ", headerName, h.Generation, h.Base, h.BaseMAC)
	line = hex.AppendEncode(line, k.headerMAC(line))
	return append(line, '\n')
}

func (k keys) headerMAC(text []byte) []byte {
	m := hmac.New(sha256.New, k.header)
	m.Write(text)
	return m.Sum(nil)
}

func (k keys) parseHeader(line []byte) (header, error) {
	fields := bytes.Split(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if len(fields) != 5 || string(fields[0]) != headerName {
		return header{}, errors.New("it is no journal of a version known to this agent")
	}
	var h header
	var errs [3]error
	h.Generation, errs[0] = parseNumber(fields[1])
	h.Base, errs[1] = parseNumber(fields[2])
	h.BaseMAC, errs[2] = parseMAC(fields[3])
	if err := errors.Join(errs[:]...); err != nil {
		return header{}, err
	}
	// Written anew and compared: there is one spelling of a header.
	if !hmac.Equal(k.appendHeader(nil, h), line) {
		return header{}, errChain
	}
	return h, nil
}

func parseNumber(text []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != string(text) {
		return 0, errors.New("its number is malformed")
	}
	return n, nil
}

func parseMAC(text []byte) (m mac, err error) {
	if len(text) != macText || !bytes.Equal(bytes.ToLower(text), text) {
		return m, errors.New("its MAC is malformed")
	}
	if _, err := hex.Decode(m[:], text); err != nil {
		return m, errors.New("its MAC is malformed")
	}
	return m, nil
}
