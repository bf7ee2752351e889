package account

import (
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"strings"

	"countersign.dev/okta"
)

// Facts are what the agent knows of its device without asking anybody. What it
// does not know it does not say.
type Facts struct {
	DisplayName  string
	Platform     string
	OSVersion    string
	Manufacturer string
	Model        string
	Version      string // of the agent
	UserAgent    string
}

// BundleID names the agent to orgs.
const BundleID = "dev.countersign.agent"

func deviceFacts(version string) Facts {
	f := Facts{Platform: platform(runtime.GOOS), Version: plain(version, 64)}
	if f.Version == "" {
		f.Version = "dev"
	}
	host, _ := os.Hostname()
	if f.DisplayName = plain(host, 127); f.DisplayName == "" {
		f.DisplayName = "Countersign device"
	}
	f.OSVersion, f.Manufacturer, f.Model = osFacts()
	if f.OSVersion == "" {
		f.OSVersion = "unknown"
	}
	f.UserAgent = fmt.Sprintf("%s/%s DeviceAuthenticator/1 %s/%s", BundleID, f.Version, runtime.GOOS, f.OSVersion)
	return f
}

// platform names the system on the wire; LINUX is an extension.
func platform(goos string) string {
	switch goos {
	case "darwin":
		return "MACOS"
	case "windows":
		return "WINDOWS"
	}
	return strings.ToUpper(goos)
}

// device is the device block of an enrolment (2.2).
func (f Facts) device() okta.Device {
	return okta.Device{
		Platform: f.Platform, OSVersion: f.OSVersion, DisplayName: f.DisplayName,
		Manufacturer: f.Manufacturer, Model: f.Model,
		BundleID: BundleID, Version: f.Version, SDKVersion: okta.DeviceSDK,
	}
}

// Signals are the facts a challenge may ask for by name (5.1). Names we do not
// know, and facts we do not have, are left out.
func (f Facts) Signals(device Device, names []string) okta.DeviceSignals {
	s := okta.DeviceSignals{ID: device.ID, ClientInstanceID: device.ClientInstanceID}
	for _, name := range names {
		switch name {
		case "displayName":
			s.DisplayName = f.DisplayName
		case "platform":
			s.Platform = f.Platform
		case "osVersion":
			s.OSVersion = f.OSVersion
		case "manufacturer":
			s.Manufacturer = f.Manufacturer
		case "model":
			s.Model = f.Model
		case "clientInstanceBundleId":
			s.BundleID = BundleID
		case "clientInstanceVersion":
			s.Version = f.Version
		case "clientInstanceDeviceSdkVersion":
			s.SDKVersion = okta.DeviceSDK
		}
	}
	return s
}

// plain keeps the printable ASCII of a short text about the machine.
func plain(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, strings.TrimSpace(s))
	return s[:min(len(s), limit)]
}

// UUID returns a random UUID (version 4).
func UUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	const hexa = "0123456789abcdef"
	out := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, hexa[c>>4], hexa[c&15])
	}
	return string(out)
}
