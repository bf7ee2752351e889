package posture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"countersign.dev/okta"
)

// files is a machine's file system; a value that begins with "-> " is a link.
func files(m map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range m {
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			root[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
		} else {
			root[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		}
	}
	return root
}

// denied is a file system with files that are not for this user.
type denied struct {
	fs.FS
	names []string
}

func (d denied) Open(name string) (fs.File, error) {
	for _, n := range d.names {
		if n == name {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
	}
	return d.FS.Open(name)
}

// watched counts what is opened.
type watched struct {
	fs.FS
	opened atomic.Int32
}

func (w *watched) Open(name string) (fs.File, error) {
	w.opened.Add(1)
	return w.FS.Open(name)
}

// recorded answers programs with what they printed once; "!" is a failure.
func recorded(outputs map[string]string) func(context.Context, string, ...string) (string, error) {
	return func(_ context.Context, program string, args ...string) (string, error) {
		line := strings.Join(append([]string{program}, args...), " ")
		out, ok := outputs[line]
		if !ok {
			return "", &fs.PathError{Op: "run", Path: line, Err: fs.ErrNotExist}
		}
		if out == "!" {
			return "", errors.New("exit status 1")
		}
		return out, nil
	}
}

func start(t testing.TB, s System) *Posture {
	t.Helper()
	p := New(s, "1.2.3")
	t.Cleanup(p.Close)
	return p
}

// said are the signals of a machine as they go over the wire, without the ids.
func said(t testing.TB, p *Posture, names ...string) map[string]any {
	t.Helper()
	b, err := json.Marshal(p.Signals(t.Context(), "guo1", "cli1", names))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if m["id"] != "guo1" || m["clientInstanceId"] != "cli1" {
		t.Errorf("ids %v", m)
	}
	delete(m, "id")
	delete(m, "clientInstanceId")
	return m
}

func every() (names []string) {
	for _, s := range signals {
		names = append(names, s.name)
	}
	return names
}

// E12: an org that asks for everything gets the signals on the list and nothing
// else, and what it did not ask for is not even looked at.
func TestE12OverAsking(t *testing.T) {
	root := &watched{FS: laptop()}
	var ran atomic.Int32
	p := start(t, System{
		OS: "linux", Host: "host", Files: root, Env: gnome,
		Run: func(context.Context, string, ...string) (string, error) { ran.Add(1); return "true\n", nil },
	})
	before := root.opened.Load()
	greedy := []string{
		"", "id", "clientInstanceId", "Platform", "platform ", "platform\x00", "imei", "meid", "tpmPublicKeyHash", "deviceAttestation", "deviceIntegrity",
		"isHardwareProtectionEnabled", "authenticatorAppKey", "shellHistory", "/etc/passwd", "../../etc/passwd", "file:///etc/shadow", "$(id)", "osquery:select 1",
		"http://169.254.169.254/latest/meta-data", "env:PATH", "installedApps", "screenLock", "rootPrivileges", "fullDiskEncryption", "os", "appId",
		strings.Repeat("x", 1<<16),
	}
	if got := said(t, p, greedy...); len(got) != 0 {
		t.Errorf("told %v", got)
	}
	if got := said(t, p, "platform", "osVersion", "clientInstanceVersion"); len(got) != 3 {
		t.Errorf("told %v", got)
	}
	if n := root.opened.Load() - before; n != 0 || ran.Load() != 0 {
		t.Errorf("%d files were read and %d programs run for what was not asked", n, ran.Load())
	}
	// Asked a thousand times over, each is told once.
	got := said(t, p, append(greedy, strings.Split(strings.Repeat(strings.Join(every(), ",")+",", 1000), ",")...)...)
	for name := range got {
		if _, listed := byName[name]; !listed {
			t.Errorf("told %s, which is not on the list", name)
		}
	}
	if len(got) != 12 { // all but sid and udid, which Linux has not
		t.Errorf("told %d signals: %v", len(got), got)
	}
	// Every name asked for among the sources gets a word, and no more than that.
	sources := p.Sources([]string{"com.crowdstrike.zta", "../evil\x1b[2J<b>", ""})
	if len(sources) != 3 || sources[1].Name != "../evil[2Jb" {
		t.Errorf("%+v", sources)
	}
	for _, s := range sources {
		if s.Error == "" || s.Signal != "" || s.Configuration != nil {
			t.Errorf("%+v", s)
		}
	}
	if n := len(p.Sources(make([]string, 10000))); n != maxSources {
		t.Errorf("%d sources are answered", n)
	}
	if b, _ := json.Marshal(p.Sources(nil)); string(b) != "[]" {
		t.Errorf("no sources are %s", b)
	}
}

// Values reach the org in the form that it takes, whatever the machine says.
func TestHostileValues(t *testing.T) {
	long := strings.Repeat("äö", 2500)
	p := start(t, System{OS: "linux", Host: "<script>" + long, Files: files(map[string]string{
		"etc/os-release":                  "VERSION_ID=\"12\u202e\x1b[2J\xff\"\n",
		"sys/class/dmi/id/sys_vendor":     long,
		"sys/class/dmi/id/product_name":   "Model\u0000\u200b 7\n\n",
		"sys/class/dmi/id/product_serial": long,
	})})
	got := said(t, p, "displayName", "osVersion", "manufacturer", "model", "serialNumber")
	if got["displayName"] != "script"+string([]rune(long)[:249]) || got["osVersion"] != "12[2J" || got["model"] != "Model 7" || len([]rune(got["manufacturer"].(string))) != 127 {
		t.Errorf("%q", got)
	}
	if _, ok := got["serialNumber"]; ok {
		t.Error("a part of a serial number is told as if it were one")
	}
	d := p.Device(t.Context())
	if d.DisplayName != got["displayName"] || d.OSVersion != "12[2J" || d.BundleID != BundleID || d.Version != "1.2.3" || d.SDKVersion != okta.DeviceSDK {
		t.Errorf("%+v", d)
	}
}

// A machine that tells nothing can still be enrolled.
func TestSilentMachine(t *testing.T) {
	for _, s := range []System{
		{OS: "linux", Files: fstest.MapFS{}},
		{OS: "darwin", Run: recorded(nil), Sysctl: func(string) (string, error) { return "", errors.New("no") }},
		silentWindows(),
		{OS: "plan9"},
	} {
		p := start(t, s)
		d := p.Device(t.Context())
		if d.DisplayName == "" || d.OSVersion == "" || d.Platform == "" || d.SerialNumber != "" || d.SecureHardwarePresent != nil || d.ScreenLockType != "" {
			t.Errorf("%s: %+v", s.OS, d)
		}
		for _, name := range []string{"serialNumber", "udid", "sid", "screenLockType", "diskEncryptionType", "secureHardwarePresent", "model"} {
			if v, told := said(t, p, name)[name]; told {
				t.Errorf("%s: %s is told as %v", s.OS, name, v)
			}
		}
		if !strings.HasPrefix(p.UserAgent(), BundleID+"/1.2.3 DeviceAuthenticator/1 "+s.OS+"/") {
			t.Errorf("%s: %s", s.OS, p.UserAgent())
		}
	}
}

// slow is a machine whose look-ups take a while, in fake time.
type slow struct {
	takes time.Duration
	fails bool
	runs  atomic.Int32
	value string
}

func (s *slow) run(ctx context.Context, _ string, _ ...string) (string, error) {
	s.runs.Add(1)
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if s.fails {
		return "", errors.New("exit status 1")
	}
	return s.value, nil
}

func (s *slow) start(t *testing.T) *Posture {
	return start(t, System{OS: "linux", Host: "h", Files: fstest.MapFS{}, Env: gnome, Run: s.run})
}

// An answer waits half a second for its signals, once; what is late serves the
// next one, for a minute.
func TestLateSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{takes: 2 * time.Second, value: "true"}
		p := s.start(t)
		ask := func(want any, within time.Duration) {
			t.Helper()
			begun := time.Now()
			if got := said(t, p, "screenLockType", "platform"); got["screenLockType"] != want || got["platform"] != "LINUX" {
				t.Errorf("%v, want %v", got, want)
			}
			if took := time.Since(begun); took > within {
				t.Errorf("took %s", took)
			}
		}
		ask(nil, answerWait)
		ask(nil, answerWait) // the same look-up still runs
		if n := s.runs.Load(); n != 1 {
			t.Errorf("%d look-ups at once", n)
		}
		time.Sleep(2 * time.Second)
		ask("PASSCODE", 0)
		s.value = "false"
		time.Sleep(refresh - 2*time.Second)
		ask("PASSCODE", 0)
		time.Sleep(3 * time.Second)
		ask(nil, answerWait) // too old is not known
		time.Sleep(2 * time.Second)
		ask("NONE", 0)
		if n := s.runs.Load(); n != 2 {
			t.Errorf("%d look-ups", n)
		}
		p.Close()
	})
}

// Whoever asks may give up before that, and Close ends what still runs.
func TestAskingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{takes: time.Hour}
		p := s.start(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		begun := time.Now()
		p.Signals(ctx, "", "", []string{"screenLockType"})
		if took := time.Since(begun); took != time.Millisecond {
			t.Errorf("waited %s", took)
		}
		p.Close()
		if took := time.Since(begun); took != time.Millisecond {
			t.Errorf("closing took %s", took)
		}
		if got := said(t, p, "screenLockType", "diskEncryptionType"); len(got) != 0 {
			t.Errorf("after the end: %v", got)
		}
	})
	// Left alone, a look-up that hangs is ended, too.
	synctest.Test(t, func(t *testing.T) {
		s := &slow{takes: time.Hour}
		p := s.start(t)
		said(t, p, "screenLockType")
		time.Sleep(probeTimeout)
		synctest.Wait()
		said(t, p, "screenLockType") // failed just now: not tried again yet
		if n := s.runs.Load(); n != 1 {
			t.Errorf("%d look-ups", n)
		}
		time.Sleep(refresh)
		said(t, p, "screenLockType")
		if n := s.runs.Load(); n != 2 {
			t.Errorf("%d look-ups", n)
		}
		p.Close()
	})
}

// Facts that do not change are looked up once, unless that failed.
func TestLookedUpOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{fails: true}
		p := start(t, System{OS: "darwin", Run: s.run, Sysctl: func(string) (string, error) { return "", nil }})
		said(t, p, "serialNumber")
		said(t, p, "serialNumber")
		if n := s.runs.Load(); n != 1 {
			t.Errorf("%d look-ups of what has failed", n)
		}
		time.Sleep(refresh)
		s.fails, s.value = false, `    "IOPlatformSerialNumber" = "C02ABC"`
		for range 3 {
			if got := said(t, p, "serialNumber"); got["serialNumber"] != "C02ABC" {
				t.Errorf("%v", got)
			}
			time.Sleep(24 * time.Hour)
		}
		if n := s.runs.Load(); n != 2 {
			t.Errorf("%d look-ups", n)
		}
		p.Close()
	})
}

// Many challenges at once share the look-ups.
func TestParallel(t *testing.T) {
	p := start(t, System{OS: "linux", Host: "h", Files: laptop(), Env: gnome, Run: recorded(map[string]string{
		"/usr/bin/gsettings get org.gnome.desktop.screensaver lock-enabled": "true\n"})})
	done := make(chan string)
	for range 16 {
		go func() {
			done <- fmt.Sprint(p.Signals(t.Context(), "", "", every()).DiskEncryptionType, p.Device(t.Context()).Model)
		}()
	}
	for range 16 {
		if got := <-done; got != "ALL_INTERNAL_VOLUMESThinkPad X1" {
			t.Error(got)
		}
	}
}

// What the person sees is what an org would get.
func TestReadings(t *testing.T) {
	p := start(t, System{OS: "linux", Host: "h", Files: laptop(), Env: func(string) string { return "" }})
	told := said(t, p, every()...)
	readings := p.Readings(t.Context())
	if len(readings) != len(signals) {
		t.Fatalf("%v", readings)
	}
	for _, r := range readings {
		value, ok := told[r.Name]
		if ok != (r.Value != "") || ok && fmt.Sprint(value) != r.Value {
			t.Errorf("%s: %q shown, %v told", r.Name, r.Value, value)
		}
	}
}

// The real machine, whichever it is: whatever it says fits.
func TestLocal(t *testing.T) {
	p := start(t, Local())
	begun := time.Now()
	p.Signals(t.Context(), "", "", every())
	if took := time.Since(begun); took > 2*answerWait {
		t.Errorf("took %s", took)
	}
	for i, r := range p.Readings(t.Context()) {
		if r.Value != fit(r.Value, &signals[i]) {
			t.Errorf("%s: %q", r.Name, r.Value)
		}
		if r.Name == "platform" && r.Value == "" {
			t.Error("no platform")
		}
	}
}

// BenchmarkSignals is what a challenge pays for its signals when they are at
// hand.
func BenchmarkSignals(b *testing.B) {
	p := start(b, System{OS: "linux", Host: "h", Files: laptop(), Env: func(string) string { return "" }})
	names := every()
	p.Signals(b.Context(), "", "", names)
	b.ReportAllocs()
	for b.Loop() {
		p.Signals(b.Context(), "guo1", "cli1", names)
	}
}

// BenchmarkDiskEncryption is the dearest look-up of Linux, on this machine.
func BenchmarkDiskEncryption(b *testing.B) {
	s := Local()
	if s.OS != "linux" {
		b.Skip("Linux only")
	}
	for b.Loop() {
		if _, err := (linux{s}).diskEncryption(); err != nil {
			b.Fatal(err)
		}
	}
}
