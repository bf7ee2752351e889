package posture

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
)

// mac asks the tools that are part of macOS: each may be run by every user.
type mac struct{ System }

func (m mac) probes() map[string]probe {
	return map[string]probe{
		"displayName":           m.displayName,
		"osVersion":             direct(func() (string, error) { return m.Sysctl("kern.osproductversion") }),
		"manufacturer":          direct(func() (string, error) { return "APPLE", nil }),
		"model":                 direct(func() (string, error) { return m.Sysctl("hw.model") }),
		"serialNumber":          m.registered("IOPlatformSerialNumber"),
		"udid":                  m.registered("IOPlatformUUID"),
		"secureHardwarePresent": m.secureHardware,
		"screenLockType":        m.screenLock,
		"diskEncryptionType":    m.diskEncryption,
	}
}

// displayName is what the person called the machine, else its host name.
func (m mac) displayName(ctx context.Context) (string, error) {
	out, err := m.Run(ctx, "/usr/sbin/scutil", "--get", "ComputerName")
	if name := clean(out, 256); err == nil && name != "" {
		return name, nil
	}
	return m.Host, nil
}

// registered reads a property of the platform from the I/O registry.
func (m mac) registered(property string) probe {
	return func(ctx context.Context) (string, error) {
		out, err := m.Run(ctx, "/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
		if err != nil {
			return "", err
		}
		return genuine(ioregProperty(out, property)), nil
	}
}

var ioregLine = regexp.MustCompile(`^[ |]*"([A-Za-z0-9-]+)" = "([^"]*)"\s*$`)

// ioregProperty finds a text property in what ioreg prints.
func ioregProperty(out, property string) string {
	for line := range strings.Lines(out) {
		if m := ioregLine.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil && m[1] == property {
			return m[2]
		}
	}
	return ""
}

// secureHardware is a Secure Enclave: part of every Apple chip, and of the T2
// beside the newer Intel ones.
func (m mac) secureHardware(ctx context.Context) (string, error) {
	if arm, err := m.Sysctl("hw.optional.arm64"); err == nil && arm == "1" {
		return "true", nil
	}
	out, err := m.Run(ctx, "/usr/sbin/system_profiler", "SPiBridgeDataType")
	if err != nil {
		return "", err
	}
	if strings.Contains(out, "T2") {
		return "true", nil
	}
	return "false", nil
}

// screenLock is what sysadminctl says of this user's screen.
func (m mac) screenLock(ctx context.Context) (string, error) {
	out, err := m.Run(ctx, "/usr/sbin/sysadminctl", "-screenLock", "status")
	switch {
	case err != nil:
		return "", err
	case strings.Contains(out, "screenLock is off"):
		return lockNone, nil
	case strings.Contains(out, "screenLock delay is"):
		return lockPasscode, nil
	}
	return "", nil
}

// diskEncryption is FileVault's word on the system, and the word of APFS on the
// other internal volumes.
func (m mac) diskEncryption(ctx context.Context) (string, error) {
	out, err := m.Run(ctx, "/usr/bin/fdesetup", "status")
	switch {
	case err != nil:
		return "", err
	case strings.Contains(out, "FileVault is Off"), strings.Contains(out, "in progress"):
		return diskNone, nil
	case !strings.Contains(out, "FileVault is On"):
		return "", nil
	}
	if out, err = m.Run(ctx, "/usr/sbin/diskutil", "apfs", "list", "-plist"); err != nil {
		return "", err
	}
	list, err := parsePlist(out)
	if err != nil {
		return "", err
	}
	for _, store := range plainStores(list) {
		inside, err := m.internal(ctx, store)
		if err != nil {
			return "", err
		}
		if inside {
			return diskSystem, nil
		}
	}
	return diskAll, nil
}

// unencryptable are the roles of volumes that the system keeps for itself.
var unencryptable = []string{"System", "Preboot", "Recovery", "VM", "Update", "xART", "Hardware", "Prelogin", "Installer"}

// plainStores lists the disks with volumes that FileVault does not cover.
func plainStores(list any) (stores []string) {
	containers, _ := member[[]any](list, "Containers")
	for _, container := range containers {
		store, _ := member[string](container, "DesignatedPhysicalStore")
		volumes, _ := member[[]any](container, "Volumes")
		for _, volume := range volumes {
			roles, _ := member[[]any](volume, "Roles")
			ours := slices.ContainsFunc(roles, func(role any) bool {
				name, _ := role.(string)
				return slices.Contains(unencryptable, name)
			})
			if covered, _ := member[bool](volume, "FileVault"); !covered && !ours && !slices.Contains(stores, store) {
				stores = append(stores, store)
			}
		}
	}
	return stores
}

var diskName = regexp.MustCompile(`^disk[0-9]+(s[0-9]+)*$`)

// internal says whether a disk is built in.
func (m mac) internal(ctx context.Context, disk string) (bool, error) {
	if !diskName.MatchString(disk) {
		return false, errors.New("a volume on no disk")
	}
	out, err := m.Run(ctx, "/usr/sbin/diskutil", "info", "-plist", disk)
	if err != nil {
		return false, err
	}
	info, err := parsePlist(out)
	if err != nil {
		return false, err
	}
	inside, ok := member[bool](info, "Internal")
	if !ok {
		return false, errors.New("a disk that does not say where it is")
	}
	return inside, nil
}
