package session

import (
	"encoding/binary"
	"testing"
)

// Only the one number unlocks, and nothing that is not described is news.
func TestNumbers(t *testing.T) {
	for code := uintptr(0); code < 1<<16; code++ {
		want := map[uintptr]news{1: newsChanged, 2: newsChanged, 3: newsChanged, 4: newsChanged, 7: newsLocked, 8: newsUnlocked}[code]
		if got := windowsSession[code]; got != want {
			t.Errorf("session change %d is %d, want %d", code, got, want)
		}
		want = map[uintptr]news{4: newsSleep, 18: newsWake}[code]
		if got := windowsPower[code]; got != want {
			t.Errorf("power change %d is %d, want %d", code, got, want)
		}
	}
	for code, m := range macPower {
		if m.waits != (code == macCanSleep || code == macWillSleep) {
			t.Errorf("message %#x waits: %v", code, m.waits)
		}
	}
}

func TestWindowsGlance(t *testing.T) {
	info := func(level, does, flags uint32) []byte {
		b := make([]byte, 232)
		binary.LittleEndian.PutUint32(b, level)
		binary.LittleEndian.PutUint32(b[4:], 0xdead) // nothing stands there
		binary.LittleEndian.PutUint32(b[8:], 3)      // the number of the session
		binary.LittleEndian.PutUint32(b[12:], does)
		binary.LittleEndian.PutUint32(b[16:], flags)
		return b
	}
	for name, c := range map[string]struct {
		info []byte
		want glance
	}{
		"locked":         {info(1, 0, 0), glance{true, true}},
		"unlocked":       {info(1, 0, 1), glance{known: true}},
		"unknown":        {info(1, 0, 0xffffffff), glance{}},
		"disconnected":   {info(1, 4, 1), glance{true, true}},
		"another level":  {info(2, 0, 1), glance{}},
		"too short":      {info(1, 0, 1)[:19], glance{}},
		"nothing":        {nil, glance{}},
		"just enough":    {info(1, 0, 1)[:20], glance{known: true}},
		"flags unheard":  {info(1, 0, 2), glance{}},
		"state unheard ": {info(1, 99, 1), glance{true, true}},
	} {
		if got := windowsGlance(c.info); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
