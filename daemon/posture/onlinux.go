package posture

import (
	"context"
	"errors"
	"io/fs"
	"strings"
)

// linux reads what every user of the machine may read.
type linux struct{ System }

func (l linux) probes() map[string]probe {
	return map[string]probe{
		"osVersion":             direct(l.osVersion),
		"manufacturer":          direct(l.manufacturer),
		"model":                 direct(l.model),
		"serialNumber":          direct(l.serialNumber),
		"secureHardwarePresent": direct(l.secureHardware),
		"screenLockType":        l.screenLock,
		"diskEncryptionType":    direct(l.diskEncryption),
	}
}

// osVersion is the distribution's; one that only ever rolls on has none, and
// then the kernel's speaks.
func (l linux) osVersion() (string, error) {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		text, err := l.read(name)
		if err != nil {
			continue
		}
		if v := osRelease(text)["VERSION_ID"]; v != "" {
			return v, nil
		}
		break
	}
	return l.line("proc/sys/kernel/osrelease")
}

// osRelease reads os-release(5): shell assignments without the shell.
func osRelease(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		values[name] = unquote(value)
	}
	return values
}

// unquote takes the quotes of a shell word away, and the backslashes that mean
// something in it. A word that does not end is none.
func unquote(word string) string {
	if word == "" || word[0] != '"' && word[0] != '\'' {
		return word
	}
	quote, inside := word[0], word[1:]
	var b strings.Builder
	for i := 0; i < len(inside); i++ {
		c := inside[i]
		switch {
		case c == quote:
			return b.String()
		case c == '\\' && quote == '"' && i+1 < len(inside) && strings.IndexByte("\"\\$`", inside[i+1]) >= 0:
			i++
			c = inside[i]
		}
		b.WriteByte(c)
	}
	return ""
}

const (
	dmi        = "sys/class/dmi/id/"
	deviceTree = "sys/firmware/devicetree/base/"
)

func (l linux) manufacturer() (string, error) {
	v, err := l.line(dmi + "sys_vendor")
	return genuine(v), err
}

// model is the product's name; boards without a BIOS say it in their device
// tree, maker and all.
func (l linux) model() (string, error) { return l.firstGenuine(dmi+"product_name", deviceTree+"model") }

// serialNumber is for root only where there is a BIOS, unless the machine's
// owner has decided otherwise.
func (l linux) serialNumber() (string, error) {
	return l.firstGenuine(dmi+"product_serial", deviceTree+"serial-number")
}

func (l linux) firstGenuine(names ...string) (string, error) {
	for _, name := range names {
		v, err := l.line(name)
		if v = genuine(v); v != "" || err != nil {
			return v, err
		}
	}
	return "", nil
}

// secureHardware is a TPM 2.0. An older one cannot hold the keys of today.
func (l linux) secureHardware() (string, error) {
	if _, err := fs.Stat(l.Files, "sys/class"); err != nil {
		return "", err // not a machine that shows its devices
	}
	chips, err := fs.ReadDir(l.Files, "sys/class/tpm")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, chip := range chips {
		if version, err := l.line("sys/class/tpm/" + chip.Name() + "/tpm_version_major"); err == nil && version == "2" {
			return "true", nil
		}
	}
	return "false", nil
}

// lockSchemas say where the desktops that keep their settings in GSettings have
// whether the screen locks, by their name in XDG_CURRENT_DESKTOP.
var lockSchemas = map[string]string{
	"gnome": "org.gnome.desktop.screensaver", "unity": "org.gnome.desktop.screensaver", "budgie": "org.gnome.desktop.screensaver",
	"x-cinnamon": "org.cinnamon.desktop.screensaver", "mate": "org.mate.screensaver",
}

// screenLock asks the desktop's settings. They are the user's, so there is no
// answer without a session; a desktop that keeps them elsewhere is not guessed
// at.
func (l linux) screenLock(ctx context.Context) (string, error) {
	if l.Env == nil || l.Run == nil || l.Env("DBUS_SESSION_BUS_ADDRESS") == "" {
		return "", nil
	}
	for _, desktop := range strings.Split(strings.ToLower(l.Env("XDG_CURRENT_DESKTOP")), ":") {
		schema, ok := lockSchemas[desktop]
		if !ok {
			continue
		}
		out, err := l.Run(ctx, "/usr/bin/gsettings", "get", schema, "lock-enabled")
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		switch strings.TrimSpace(out) {
		case "true":
			return lockPasscode, nil
		case "false":
			return lockNone, nil
		}
		return "", nil
	}
	return "", nil
}
