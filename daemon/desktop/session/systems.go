package session

import "encoding/binary"

// What Windows and macOS say in numbers. Each table leaves out what is no news
// here: the zero news is none.

// Of WM_WTSSESSION_CHANGE. A session that was connected or disconnected may be
// locked or not: Windows has to be asked.
var windowsSession = map[uintptr]news{
	1: newsChanged, // at the console
	2: newsChanged, // not any more
	3: newsChanged, // from afar
	4: newsChanged, // not any more
	7: newsLocked,
	8: newsUnlocked,
}

// Of WM_POWERBROADCAST.
var windowsPower = map[uintptr]news{
	0x04: newsSleep, // PBT_APMSUSPEND
	0x12: newsWake,  // PBT_APMRESUMEAUTOMATIC, whoever woke it
}

// windowsGlance reads a WTSINFOEXW: the level, which is 1, and from the eighth
// byte on the session's number, what it does, and its flags.
func windowsGlance(info []byte) glance {
	const (
		active             = 0
		locked, unlocked   = 0, 1
		does, flags, whole = 12, 16, 20
	)
	if len(info) < whole || binary.LittleEndian.Uint32(info) != 1 {
		return glance{}
	}
	if binary.LittleEndian.Uint32(info[does:]) != active {
		return glance{known: true, locked: true} // nobody looks at it
	}
	switch binary.LittleEndian.Uint32(info[flags:]) {
	case locked:
		return glance{known: true, locked: true}
	case unlocked:
		return glance{known: true}
	}
	return glance{}
}

// The messages of IOKit about power, and whether each waits for an answer.
const (
	macCanSleep  = 0xe0000270
	macWillSleep = 0xe0000280
	macHasWoken  = 0xe0000300
)

var macPower = map[uint32]struct {
	news  news
	waits bool
}{
	macCanSleep:  {waits: true}, // we have nothing against it
	macWillSleep: {newsSleep, true},
	macHasWoken:  {news: newsWake},
}
