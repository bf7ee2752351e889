// Package posture knows the device: what an org may be told of it, and nothing
// else.
//
// An org asks for signals by name (devices protocol, section 5). The names that
// it may ask for are a closed list; what is not on it is not looked at, and
// what was not asked for is not collected (E12). There is no way for an org to
// have a file read or a command run that is not in this package.
//
// What cannot be known is left out: a signal is never guessed. So is what takes
// too long: an answer to a challenge waits half a second for its signals, once,
// and whatever arrives later serves the next one. Facts that do not change
// while the machine runs are looked up once; the others are looked at again
// after a minute.
//
// Everything that touches the machine is in a System, so that what is made of
// the answers of Linux, macOS and Windows is tested on any of them. Values go
// to the org and to the person, never to the log.
package posture

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"countersign.dev/okta"
)

// BundleID names the agent to orgs.
const BundleID = "dev.countersign.agent"

const (
	// answerWait is how long an answer may wait for its signals.
	answerWait = 500 * time.Millisecond
	// unhurriedWait is the same for an enrolment, and for the person.
	unhurriedWait = 3 * time.Second
	// changing facts, and what could not be found out, are good for this long.
	refresh = time.Minute
	// probeTimeout bounds one look-up. It outlives the answer that began it.
	probeTimeout = 5 * time.Second
)

// The values of diskEncryptionType and screenLockType (5.1).
const (
	diskNone     = "NONE"
	diskSystem   = "SYSTEM_VOLUME"
	diskAll      = "ALL_INTERNAL_VOLUMES"
	lockNone     = "NONE"
	lockPasscode = "PASSCODE"
)

// signal is one name that an org may ask for.
type signal struct {
	name string
	max  int  // characters, as orgs validate them
	cut  bool // a longer value is cut; one that identifies something is dropped instead
	// lasts is how long a value is good for; 0 means until the agent stops.
	lasts time.Duration
	set   func(*okta.DeviceSignals, string)
}

// signals is the closed list. The device's id and client instance id are not
// among them: they are part of every answer.
var signals = [...]signal{
	{name: "displayName", max: 255, cut: true, set: func(s *okta.DeviceSignals, v string) { s.DisplayName = v }},
	{name: "platform", max: 16, set: func(s *okta.DeviceSignals, v string) { s.Platform = v }},
	{name: "osVersion", max: 127, cut: true, set: func(s *okta.DeviceSignals, v string) { s.OSVersion = v }},
	{name: "manufacturer", max: 127, cut: true, set: func(s *okta.DeviceSignals, v string) { s.Manufacturer = v }},
	{name: "model", max: 127, cut: true, set: func(s *okta.DeviceSignals, v string) { s.Model = v }},
	{name: "serialNumber", max: 127, set: func(s *okta.DeviceSignals, v string) { s.SerialNumber = v }},
	{name: "udid", max: 47, set: func(s *okta.DeviceSignals, v string) { s.UDID = v }},
	{name: "sid", max: 256, set: func(s *okta.DeviceSignals, v string) { s.SID = v }},
	{name: "secureHardwarePresent", max: 5, set: func(s *okta.DeviceSignals, v string) { s.SecureHardwarePresent = boolean(v) }},
	{name: "screenLockType", max: 32, lasts: refresh, set: func(s *okta.DeviceSignals, v string) { s.ScreenLockType = v }},
	{name: "diskEncryptionType", max: 32, lasts: refresh, set: func(s *okta.DeviceSignals, v string) { s.DiskEncryptionType = v }},
	{name: "clientInstanceBundleId", max: 255, set: func(s *okta.DeviceSignals, v string) { s.BundleID = v }},
	{name: "clientInstanceVersion", max: 127, cut: true, set: func(s *okta.DeviceSignals, v string) { s.Version = v }},
	{name: "clientInstanceDeviceSdkVersion", max: 127, set: func(s *okta.DeviceSignals, v string) { s.SDKVersion = v }},
}

// byName is the index into signals; read-only after initialization.
var byName = func() map[string]int {
	m := make(map[string]int, len(signals))
	for i, s := range signals {
		m[s.name] = i
	}
	return m
}()

// atEnrolment is what an org is told with an enrolment (2.2). Disk encryption
// is for challenges only.
var atEnrolment = []string{"displayName", "platform", "osVersion", "manufacturer", "model", "serialNumber", "udid", "secureHardwarePresent", "screenLockType"}

func boolean(v string) *bool {
	switch v {
	case "true", "false":
		b := v == "true"
		return &b
	}
	return nil
}

// Posture is what is known of this device. Use New; its methods may be called
// at once.
type Posture struct {
	facts     [len(signals)]fact
	userAgent string

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	working sync.Mutex     // taken to start a look-up, and to begin waiting for them
	work    sync.WaitGroup // every look-up
}

// New looks at a machine; version is the agent's own. It runs no command and
// asks nobody: what takes time is found out when it is asked for.
func New(s System, version string) *Posture {
	p := &Posture{}
	p.ctx, p.stop = context.WithCancel(context.Background())
	if version = clean(version, 64); version == "" {
		version = "dev"
	}
	probes := s.probes()
	for name, value := range map[string]string{
		"platform":                       platform(s.OS),
		"clientInstanceBundleId":         BundleID,
		"clientInstanceVersion":          version,
		"clientInstanceDeviceSdkVersion": okta.DeviceSDK,
	} {
		probes[name] = func(context.Context) (string, error) { return value, nil }
	}
	for i := range signals {
		p.facts[i].signal, p.facts[i].probe = &signals[i], probes[signals[i].name]
	}
	// These are read from memory or a small file everywhere.
	for _, name := range []string{"platform", "osVersion", "clientInstanceBundleId", "clientInstanceVersion", "clientInstanceDeviceSdkVersion"} {
		p.facts[byName[name]].look(p.ctx)
	}
	p.userAgent = fmt.Sprintf("%s/%s DeviceAuthenticator/1 %s/%s", BundleID, version, s.OS, p.osVersion())
	return p
}

// Close ends what is being looked up and waits for it.
func (p *Posture) Close() {
	p.stop()
	p.working.Lock()
	defer p.working.Unlock()
	p.work.Wait()
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

// osVersion is there from the beginning.
func (p *Posture) osVersion() string {
	if v, _ := p.facts[byName["osVersion"]].current(); v != "" {
		return v
	}
	return "unknown" // orgs insist on one
}

// UserAgent is how the agent introduces itself to orgs.
func (p *Posture) UserAgent() string { return p.userAgent }

// Device is what an org is told at enrolment.
func (p *Posture) Device(ctx context.Context) okta.Device {
	s := p.signals(ctx, unhurriedWait, atEnrolment)
	d := okta.Device{
		Platform: s.Platform, OSVersion: p.osVersion(), DisplayName: s.DisplayName,
		Manufacturer: s.Manufacturer, Model: s.Model, SerialNumber: s.SerialNumber, UDID: s.UDID,
		SecureHardwarePresent: s.SecureHardwarePresent, ScreenLockType: s.ScreenLockType,
		BundleID: BundleID, SDKVersion: okta.DeviceSDK,
	}
	d.Version, _ = p.facts[byName["clientInstanceVersion"]].current()
	if d.DisplayName == "" {
		d.DisplayName = "Countersign device" // orgs insist on one
	}
	return d
}

// Signals are the facts that a challenge asks for by name, and the two ids that
// every answer carries. Names that are not on the list, facts that are not
// known and those that are late are left out.
func (p *Posture) Signals(ctx context.Context, deviceID, clientInstanceID string, names []string) okta.DeviceSignals {
	s := p.signals(ctx, answerWait, names)
	s.ID, s.ClientInstanceID = deviceID, clientInstanceID
	return s
}

func (p *Posture) signals(ctx context.Context, wait time.Duration, names []string) (s okta.DeviceSignals) {
	var asked [len(signals)]bool
	for _, name := range names {
		if i, ok := byName[name]; ok {
			asked[i] = true
		}
	}
	var late []<-chan struct{}
	for i := range asked {
		if asked[i] {
			if looking := p.refresh(&p.facts[i]); looking != nil {
				late = append(late, looking)
			}
		}
	}
	if late != nil {
		await(ctx, wait, late)
	}
	for i := range asked {
		if asked[i] {
			if v, _ := p.facts[i].current(); v != "" {
				signals[i].set(&s, v)
			}
		}
	}
	return s
}

// await waits for all, together no longer than wait.
func await(ctx context.Context, wait time.Duration, all []<-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for _, one := range all {
		select {
		case <-one:
		case <-ctx.Done():
			return
		}
	}
}

// Reading is one signal as the person sees it.
type Reading struct {
	Name  string
	Value string // empty: not known
}

// Readings are all signals that an org could ask for, as it would get them.
func (p *Posture) Readings(ctx context.Context) []Reading {
	names := make([]string, len(signals))
	for i := range signals {
		names[i] = signals[i].name
	}
	p.signals(ctx, unhurriedWait, names)
	list := make([]Reading, len(signals))
	for i := range signals {
		list[i].Name = names[i]
		list[i].Value, _ = p.facts[i].current()
	}
	return list
}

const maxSources = 32 // integrations or providers that are answered at all

// Sources answers for the endpoint security products and app-level providers
// that a challenge names (5.3). There are none on this device, and a name that
// was asked for gets that word instead of silence.
func (p *Posture) Sources(names []string) []okta.SignalResult {
	results := make([]okta.SignalResult, 0, min(len(names), maxSources))
	for _, name := range names[:min(len(names), maxSources)] {
		results = append(results, okta.SignalResult{Name: clean(name, 128), Error: "not available on this device"})
	}
	return results
}
