package posture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"
)

// windows asks the registry and the firmware's tables, which every user may
// read. BitLocker tells its state to administrators only, so disk encryption is
// not known here.
type windows struct{ System }

func (w windows) probes() map[string]probe {
	return map[string]probe{
		"osVersion":             direct(w.osVersion),
		"manufacturer":          direct(func() (string, error) { return w.firmware("SystemManufacturer") }),
		"model":                 direct(func() (string, error) { return w.firmware("SystemProductName") }),
		"serialNumber":          direct(w.serialNumber),
		"sid":                   direct(w.MachineSID),
		"secureHardwarePresent": direct(w.secureHardware),
		"screenLockType":        direct(w.screenLock),
	}
}

// value reads the registry; what is not there is empty.
func (w windows) value(key, name string) (string, error) {
	v, err := w.Registry(key, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return clean(v, 256), err
}

const (
	currentVersion = `HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion`
	biosKey        = `HKLM\HARDWARE\DESCRIPTION\System\BIOS`
	systemPolicy   = `HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System`
	desktopPolicy  = `HKCU\Software\Policies\Microsoft\Windows\Control Panel\Desktop`
	desktopKey     = `HKCU\Control Panel\Desktop`
)

// osVersion has four parts: 10.0.22621.2506.
func (w windows) osVersion() (string, error) {
	var parts []string
	for _, name := range []string{"CurrentMajorVersionNumber", "CurrentMinorVersionNumber", "CurrentBuildNumber", "UBR"} {
		v, err := w.value(currentVersion, name)
		if err != nil {
			return "", err
		}
		if v == "" || strings.Trim(v, "0123456789") != "" {
			break
		}
		parts = append(parts, v)
	}
	if len(parts) < 3 {
		return "", nil
	}
	return strings.Join(parts, "."), nil
}

func (w windows) firmware(name string) (string, error) {
	v, err := w.value(biosKey, name)
	return genuine(v), err
}

// secureHardware is a TPM 2.0.
func (w windows) secureHardware() (string, error) {
	version, err := w.TPM()
	switch {
	case err != nil:
		return "", err
	case version == 2:
		return "true", nil
	}
	return "false", nil
}

// screenLock is known where something makes the screen lock by itself: the
// machine's inactivity limit, or a screen saver that asks for the password. A
// machine without either may still ask when it wakes up, and is not guessed at.
func (w windows) screenLock() (string, error) {
	limit, err := w.value(systemPolicy, "InactivityTimeoutSecs")
	if err != nil {
		return "", err
	}
	if strings.Trim(limit, "0") != "" {
		return lockPasscode, nil
	}
	for _, key := range []string{desktopPolicy, desktopKey} {
		active, err := w.value(key, "ScreenSaveActive")
		if err != nil {
			return "", err
		}
		secure, err := w.value(key, "ScreenSaverIsSecure")
		if err != nil {
			return "", err
		}
		if active == "1" && secure == "1" {
			return lockPasscode, nil
		}
	}
	return "", nil
}

func (w windows) serialNumber() (string, error) {
	tables, err := w.SMBIOS()
	if err != nil {
		return "", err
	}
	return genuine(smbiosSerial(tables)), nil
}

// smbiosSerial finds the serial number of the system (DSP0134, structure type
// 1) in what GetSystemFirmwareTable returns: eight bytes, of which the last
// four are the length of the tables after them.
func smbiosSerial(raw []byte) string {
	const (
		header       = 8
		systemType   = 1
		endOfTable   = 127
		serialOffset = 7 // in the structure: the number of a string
	)
	if len(raw) < header {
		return ""
	}
	tables := raw[header:]
	if n := binary.LittleEndian.Uint32(raw[4:8]); uint64(n) < uint64(len(tables)) {
		tables = tables[:n]
	}
	for len(tables) >= 4 {
		kind, length := tables[0], int(tables[1])
		if length < 4 || length > len(tables) || kind == endOfTable {
			return ""
		}
		formatted := tables[:length]
		texts, rest, ok := smbiosStrings(tables[length:])
		if !ok {
			return ""
		}
		if kind == systemType {
			if length <= serialOffset {
				return ""
			}
			if n := int(formatted[serialOffset]); n >= 1 && n <= len(texts) {
				return texts[n-1]
			}
			return ""
		}
		tables = rest
	}
	return ""
}

// smbiosStrings reads the texts after a structure: each ends with a zero, all
// of them with another; none at all are two zeros.
func smbiosStrings(b []byte) (texts []string, rest []byte, ok bool) {
	if len(b) >= 2 && b[0] == 0 && b[1] == 0 {
		return nil, b[2:], true
	}
	for len(b) > 0 && b[0] != 0 {
		text, after, found := bytes.Cut(b, []byte{0})
		if !found {
			return nil, nil, false
		}
		texts = append(texts, string(text))
		b = after
	}
	if len(b) == 0 || len(texts) == 0 {
		return nil, nil, false
	}
	return texts, b[1:], true
}
