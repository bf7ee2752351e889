package posture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Recorded outputs, shortened.
const (
	ioreg = `+-o Mac14,2  <class IOPlatformExpertDevice, id 0x100000268, registered, matched, active, busy 0 (27614 ms), retain 41>
    {
      "IOPolledInterface" = "AppleARMWatchdogTimerHibernateHandler is not serializable"
      "manufacturer" = <"Apple Inc.">
      "IOPlatformUUID" = "01234567-89AB-CDEF-0123-456789ABCDEF"
      "compatible" = <"Mac14,2","AppleARM">
      "IOPlatformSerialNumber" = "C02EXAMPLE12"
      "IOBusyInterest" = "IOCommand is not serializable"
    }
`
	apfsList = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Containers</key>
	<array>
		<dict>
			<key>ContainerReference</key><string>disk3</string>
			<key>DesignatedPhysicalStore</key><string>disk0s2</string>
			<key>Fusion</key><false/>
			<key>Volumes</key>
			<array>
				<dict><key>DeviceIdentifier</key><string>disk3s1</string><key>FileVault</key><true/><key>Roles</key><array><string>Data</string></array></dict>
				<dict><key>DeviceIdentifier</key><string>disk3s2</string><key>FileVault</key><false/><key>Roles</key><array><string>Preboot</string></array></dict>
			</array>
		</dict>
		%s
	</array>
</dict>
</plist>
`
	plainContainer = `<dict><key>DesignatedPhysicalStore</key><string>disk4s1</string><key>Volumes</key><array>
		<dict><key>FileVault</key><false/><key>Roles</key><array/></dict></array></dict>`
	t2 = "Controller:\n\n    Model Name: Apple T2 Security Chip\n      Firmware Version: 18.16.14663.0.0,0\n"
)

func diskInfo(internal string) string {
	return `<plist version="1.0"><dict><key>DeviceIdentifier</key><string>disk4s1</string>` + internal + `</dict></plist>`
}

// macOutputs are a Mac with Apple's chip and FileVault on.
func macOutputs(change map[string]string) map[string]string {
	out := map[string]string{
		"/usr/sbin/scutil --get ComputerName":            "Zoë’s MacBook Air\n",
		"/usr/sbin/ioreg -rd1 -c IOPlatformExpertDevice": ioreg,
		"/usr/sbin/sysadminctl -screenLock status":       "2026-01-02 03:04:05.678 sysadminctl[123:456] screenLock delay is immediate\n",
		"/usr/bin/fdesetup status":                       "FileVault is On.\n",
		"/usr/sbin/diskutil apfs list -plist":            fmt.Sprintf(apfsList, ""),
		"/usr/sbin/system_profiler SPiBridgeDataType":    "\n",
	}
	for name, text := range change {
		out[name] = text
	}
	return out
}

func sysctls(m map[string]string) func(string) (string, error) {
	return func(name string) (string, error) { return m[name], nil }
}

func TestMac(t *testing.T) {
	apple := map[string]string{"kern.osproductversion": "14.5", "hw.model": "Mac14,2", "hw.optional.arm64": "1"}
	p := start(t, System{OS: "darwin", Host: "zoe.local", Run: recorded(macOutputs(nil)), Sysctl: sysctls(apple)})
	want := map[string]any{"platform": "MACOS", "displayName": "Zoë’s MacBook Air", "osVersion": "14.5", "manufacturer": "APPLE", "model": "Mac14,2",
		"serialNumber": "C02EXAMPLE12", "udid": "01234567-89AB-CDEF-0123-456789ABCDEF", "secureHardwarePresent": true,
		"screenLockType": "PASSCODE", "diskEncryptionType": "ALL_INTERNAL_VOLUMES",
		"clientInstanceBundleId": BundleID, "clientInstanceVersion": "1.2.3", "clientInstanceDeviceSdkVersion": "Countersign 1"}
	if got := said(t, p, every()...); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	// With an enrolment goes what the specification lists for a Mac; disk
	// encryption is for challenges.
	if d := p.Device(t.Context()); d.UDID != want["udid"] || d.SerialNumber != want["serialNumber"] || d.ScreenLockType != "PASSCODE" || !*d.SecureHardwarePresent || d.DiskEncryptionType != "" {
		t.Errorf("%+v", d)
	}
	const fdesetup, apfs, info = "/usr/bin/fdesetup status", "/usr/sbin/diskutil apfs list -plist", "/usr/sbin/diskutil info -plist disk4s1"
	second := fmt.Sprintf(apfsList, plainContainer)
	for _, row := range []struct {
		about  string
		change map[string]string
		intel  bool
		signal string
		want   any
	}{
		{"no name", map[string]string{"/usr/sbin/scutil --get ComputerName": "!"}, false, "displayName", "zoe.local"},
		{"T2", map[string]string{"/usr/sbin/system_profiler SPiBridgeDataType": t2}, true, "secureHardwarePresent", true},
		{"no T2", nil, true, "secureHardwarePresent", false},
		{"T2 not told", map[string]string{"/usr/sbin/system_profiler SPiBridgeDataType": "!"}, true, "secureHardwarePresent", nil},
		{"ioreg fails", map[string]string{"/usr/sbin/ioreg -rd1 -c IOPlatformExpertDevice": "!"}, false, "serialNumber", nil},
		{"ioreg of a virtual machine", map[string]string{"/usr/sbin/ioreg -rd1 -c IOPlatformExpertDevice": `  "IOPlatformSerialNumber" = "0"`}, false, "serialNumber", nil},
		{"lock off", map[string]string{"/usr/sbin/sysadminctl -screenLock status": "sysadminctl[1:2] screenLock is off\n"}, false, "screenLockType", "NONE"},
		{"lock after a while", map[string]string{"/usr/sbin/sysadminctl -screenLock status": "sysadminctl[1:2] screenLock delay is 300 seconds\n"}, false, "screenLockType", "PASSCODE"},
		{"lock not told", map[string]string{"/usr/sbin/sysadminctl -screenLock status": "usage: sysadminctl\n"}, false, "screenLockType", nil},
		{"FileVault off", map[string]string{fdesetup: "FileVault is Off.\n"}, false, "diskEncryptionType", "NONE"},
		{"FileVault after the restart", map[string]string{fdesetup: "FileVault is Off, but will be enabled after the next restart.\n"}, false, "diskEncryptionType", "NONE"},
		{"FileVault at work", map[string]string{fdesetup: "FileVault is On.\nEncryption in progress: Percent completed = 40\n"}, false, "diskEncryptionType", "NONE"},
		{"FileVault not told", map[string]string{fdesetup: "Error: unknown\n"}, false, "diskEncryptionType", nil},
		{"FileVault fails", map[string]string{fdesetup: "!"}, false, "diskEncryptionType", nil},
		{"APFS fails", map[string]string{apfs: "!"}, false, "diskEncryptionType", nil},
		{"APFS garbage", map[string]string{apfs: "<plist><dict>"}, false, "diskEncryptionType", nil},
		{"plain internal volume", map[string]string{apfs: second, info: diskInfo("<key>Internal</key><true/>")}, false, "diskEncryptionType", "SYSTEM_VOLUME"},
		{"plain external volume", map[string]string{apfs: second, info: diskInfo("<key>Internal</key><false/>")}, false, "diskEncryptionType", "ALL_INTERNAL_VOLUMES"},
		{"a volume that does not say", map[string]string{apfs: second, info: diskInfo("")}, false, "diskEncryptionType", nil},
		{"a volume of no disk", map[string]string{apfs: strings.Replace(second, "disk4s1", "-h", 1)}, false, "diskEncryptionType", nil},
	} {
		kernel := apple
		if row.intel {
			kernel = map[string]string{"hw.model": "MacBookPro16,1"}
		}
		p := start(t, System{OS: "darwin", Host: "zoe.local", Run: recorded(macOutputs(row.change)), Sysctl: sysctls(kernel)})
		if got := said(t, p, row.signal)[row.signal]; got != row.want {
			t.Errorf("%s: %v, want %v", row.about, got, row.want)
		}
	}
}

// The registry of a notebook.
func notebook() map[string]string {
	return map[string]string{
		currentVersion + `\CurrentMajorVersionNumber`: "10", currentVersion + `\CurrentMinorVersionNumber`: "0",
		currentVersion + `\CurrentBuildNumber`: "22621", currentVersion + `\UBR`: "2506",
		biosKey + `\SystemManufacturer`: "Dell Inc.", biosKey + `\SystemProductName`: "Latitude 7440",
		systemPolicy + `\InactivityTimeoutSecs`: "900",
	}
}

func registryOf(m map[string]string) func(key, name string) (string, error) {
	return func(key, name string) (string, error) {
		v, ok := m[key+`\`+name]
		if !ok {
			return "", &fs.PathError{Op: "read", Path: key, Err: fs.ErrNotExist}
		}
		if v == "!" {
			return "", fs.ErrPermission
		}
		return v, nil
	}
}

// tables are SMBIOS tables: a BIOS, and a system with these texts.
func tables(serial byte, texts ...string) []byte {
	bios := append([]byte{0, 6, 0, 0, 1, 0}, "Vendor\x00\x00"...)
	system := append([]byte{1, 27, 1, 0, 1, 2, 3, serial}, make([]byte, 19)...)
	for _, text := range texts {
		system = append(append(system, text...), 0)
	}
	system = append(system, 0)
	if len(texts) == 0 {
		system = append(system, 0)
	}
	end := []byte{127, 4, 2, 0, 0, 0}
	body := bytes.Join([][]byte{bios, system, end}, nil)
	return append(binary.LittleEndian.AppendUint32([]byte{0, 3, 2, 0}, uint32(len(body))), body...)
}

func windowsMachine(registry map[string]string) System {
	return System{
		OS: "windows", Host: "NOTEBOOK", Registry: registryOf(registry),
		SMBIOS:     func() ([]byte, error) { return tables(4, "Dell Inc.", "Latitude 7440", "1.0", "ABC1234"), nil },
		TPM:        func() (int, error) { return 2, nil },
		MachineSID: func() (string, error) { return "S-1-5-21-1-2-3", nil },
	}
}

func silentWindows() System {
	no := errors.New("no")
	return System{OS: "windows", Registry: func(string, string) (string, error) { return "", no }, SMBIOS: func() ([]byte, error) { return nil, no },
		TPM: func() (int, error) { return 0, no }, MachineSID: func() (string, error) { return "", no }}
}

func TestWindows(t *testing.T) {
	p := start(t, windowsMachine(notebook()))
	want := map[string]any{"platform": "WINDOWS", "displayName": "NOTEBOOK", "osVersion": "10.0.22621.2506", "manufacturer": "Dell Inc.", "model": "Latitude 7440",
		"serialNumber": "ABC1234", "sid": "S-1-5-21-1-2-3", "secureHardwarePresent": true, "screenLockType": "PASSCODE",
		"clientInstanceBundleId": BundleID, "clientInstanceVersion": "1.2.3", "clientInstanceDeviceSdkVersion": "Countersign 1"}
	if got := said(t, p, every()...); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !strings.HasSuffix(p.UserAgent(), " windows/10.0.22621.2506") {
		t.Error(p.UserAgent())
	}
	for _, row := range []struct {
		about  string
		change map[string]string // "": not there
		signal string
		want   any
	}{
		{"before the revision was kept", map[string]string{currentVersion + `\UBR`: ""}, "osVersion", "10.0.22621"},
		{"half a version", map[string]string{currentVersion + `\CurrentBuildNumber`: ""}, "osVersion", nil},
		{"a version that is none", map[string]string{currentVersion + `\CurrentBuildNumber`: "22621-evil"}, "osVersion", nil},
		{"placeholder", map[string]string{biosKey + `\SystemProductName`: "System Product Name"}, "model", nil},
		{"no limit", map[string]string{systemPolicy + `\InactivityTimeoutSecs`: "0"}, "screenLockType", nil},
		{"not for this user", map[string]string{systemPolicy + `\InactivityTimeoutSecs`: "!"}, "screenLockType", nil},
		{"screen saver", map[string]string{systemPolicy + `\InactivityTimeoutSecs`: "", desktopKey + `\ScreenSaveActive`: "1", desktopKey + `\ScreenSaverIsSecure`: "1"}, "screenLockType", "PASSCODE"},
		{"screen saver by policy", map[string]string{systemPolicy + `\InactivityTimeoutSecs`: "", desktopPolicy + `\ScreenSaveActive`: "1", desktopPolicy + `\ScreenSaverIsSecure`: "1"}, "screenLockType", "PASSCODE"},
		{"screen saver without password", map[string]string{systemPolicy + `\InactivityTimeoutSecs`: "", desktopKey + `\ScreenSaveActive`: "1", desktopKey + `\ScreenSaverIsSecure`: "0"}, "screenLockType", nil},
	} {
		registry := notebook()
		for name, text := range row.change {
			if delete(registry, name); text != "" {
				registry[name] = text
			}
		}
		if got := said(t, start(t, windowsMachine(registry)), row.signal)[row.signal]; got != row.want {
			t.Errorf("%s: %v, want %v", row.about, got, row.want)
		}
	}
	for version, want := range map[int]any{0: false, 1: false, 2: true} {
		m := windowsMachine(nil)
		m.TPM = func() (int, error) { return version, nil }
		if got := said(t, start(t, m), "secureHardwarePresent")["secureHardwarePresent"]; got != want {
			t.Errorf("TPM %d: %v", version, got)
		}
	}
}

func TestSMBIOS(t *testing.T) {
	good := tables(4, "a", "b", "c", "SERIAL")
	for name, row := range map[string]struct {
		raw  []byte
		want string
	}{
		"good":           {good, "SERIAL"},
		"empty":          {nil, ""},
		"header only":    {good[:8], ""},
		"no serial":      {tables(0, "a"), ""},
		"no such text":   {tables(9, "a"), ""},
		"no texts":       {tables(1), ""},
		"ends in a text": {good[:len(good)-9], ""},
		"length too big": {append(binary.LittleEndian.AppendUint32([]byte{0, 3, 2, 0}, 1<<31), good[8:]...), "SERIAL"},
		"length zero":    {append(make([]byte, 8), good[8:]...), ""},
		"short struct":   {[]byte{0, 3, 2, 0, 8, 0, 0, 0, 1, 4, 0, 0, 'x', 0, 0, 0}, ""},
		"tiny struct":    {[]byte{0, 3, 2, 0, 8, 0, 0, 0, 1, 2, 0, 0, 'x', 0, 0, 0}, ""},
	} {
		if got := smbiosSerial(row.raw); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

func TestPlist(t *testing.T) {
	got, err := parsePlist(fmt.Sprintf(apfsList, plainContainer))
	if err != nil {
		t.Fatal(err)
	}
	if stores := plainStores(got); !reflect.DeepEqual(stores, []string{"disk4s1"}) {
		t.Errorf("%v", stores)
	}
	for _, bad := range []string{"", "x", "<plist/>", "<plist></plist>", "<plist><dict><key>a</key></dict></plist>", "<plist><dict><string>a</string><true/></dict></plist>",
		"<plist><dict><key>a</key><true/><key>a</key><false/></dict></plist>", "<plist><array><nil/></array></plist>", "<plist><string>a<b/></string></plist>",
		"<plist>" + strings.Repeat("<array>", 100) + strings.Repeat("</array>", 100) + "</plist>", "<plist><array>", "<plist><true>"} {
		if got, err := parsePlist(bad); err == nil {
			t.Errorf("%.60s: %v", bad, got)
		}
	}
}

func FuzzPlist(f *testing.F) {
	f.Add(fmt.Sprintf(apfsList, plainContainer))
	f.Add(diskInfo("<key>Internal</key><true/>"))
	f.Add("<plist><array><integer>1</integer><array/></array></plist>")
	f.Fuzz(func(t *testing.T, text string) {
		value, err := parsePlist(text)
		if err != nil && value != nil {
			t.Fatalf("%v and %v", value, err)
		}
		if depth := depthOf(value); depth > maxPlistDepth+1 {
			t.Fatalf("%d deep", depth)
		}
		plainStores(value)
	})
}

func depthOf(v any) (depth int) {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			depth = max(depth, depthOf(member))
		}
		return depth + 1
	case []any:
		for _, element := range v {
			depth = max(depth, depthOf(element))
		}
		return depth + 1
	}
	return 0
}

func FuzzIoreg(f *testing.F) {
	f.Add(ioreg)
	f.Add(`| |   "IOPlatformSerialNumber" = "x"` + "\r\n")
	f.Fuzz(func(t *testing.T, out string) {
		if v := ioregProperty(out, "IOPlatformSerialNumber"); v != "" && (strings.ContainsAny(v, "\"\n") || !strings.Contains(out, `"IOPlatformSerialNumber" = "`+v+`"`)) {
			t.Fatalf("%q", v)
		}
	})
}

func FuzzSMBIOS(f *testing.F) {
	f.Add(tables(4, "a", "b", "c", "SERIAL"))
	f.Add([]byte{0, 3, 2, 0, 8, 0, 0, 0, 1, 4, 0, 0, 'x', 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v := smbiosSerial(raw); strings.Contains(v, "\x00") || !bytes.Contains(raw, []byte(v)) {
			t.Fatalf("%q", v)
		}
	})
}

// What the registry says becomes a version of numbers and dots, or none.
func FuzzRegistry(f *testing.F) {
	f.Add("10", "0", "22621", "2506")
	f.Add("10", "", "22621\x00", "-1")
	f.Fuzz(func(t *testing.T, major, minor, build, revision string) {
		w := windows{System{Registry: registryOf(map[string]string{
			currentVersion + `\CurrentMajorVersionNumber`: major, currentVersion + `\CurrentMinorVersionNumber`: minor,
			currentVersion + `\CurrentBuildNumber`: build, currentVersion + `\UBR`: revision})}}
		if v, err := w.osVersion(); err == nil && strings.Trim(v, "0123456789.") != "" {
			t.Fatalf("%q", v)
		}
	})
}

// Whatever a machine says of itself, an org gets one that it takes.
func FuzzFit(f *testing.F) {
	f.Add("ThinkPad X1", 1)
	f.Add("\xff\u202e<b>\x00 \u3000", 3)
	f.Fuzz(func(t *testing.T, text string, which int) {
		s := &signals[uint(which)%uint(len(signals))]
		for _, v := range []string{fit(text, s), fit(genuine(text), s)} {
			if !utf8.ValidString(v) || utf8.RuneCountInString(v) > s.max || strings.ContainsAny(v, "<>") {
				t.Fatalf("%q", v)
			}
			for _, r := range v {
				if !unicode.IsGraphic(r) {
					t.Fatalf("%q has %U", v, r)
				}
			}
		}
	})
}
