package posture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unsafe"

	win "golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// Local is the machine at hand.
func Local() System {
	host, _ := os.Hostname()
	return System{
		OS: "windows", Host: host, Env: os.Getenv, Run: run,
		Registry: registryValue, SMBIOS: smbios, TPM: tpmVersion, MachineSID: machineSID,
	}
}

func registryValue(path, name string) (string, error) {
	root, sub, _ := strings.Cut(path, `\`)
	hive := registry.LOCAL_MACHINE
	if root == "HKCU" {
		hive = registry.CURRENT_USER
	}
	key, err := registry.OpenKey(hive, sub, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if err != nil {
		return "", err // registry.ErrNotExist is fs.ErrNotExist
	}
	defer key.Close()
	text, _, err := key.GetStringValue(name)
	if !errors.Is(err, registry.ErrUnexpectedType) {
		return text, err
	}
	number, _, err := key.GetIntegerValue(name)
	return strconv.FormatUint(number, 10), err
}

var (
	kernel32               = win.NewLazySystemDLL("kernel32.dll")
	getSystemFirmwareTable = kernel32.NewProc("GetSystemFirmwareTable")
	tbs                    = win.NewLazySystemDLL("tbs.dll")
	getDeviceInfo          = tbs.NewProc("Tbsi_GetDeviceInfo")
)

// smbios reads the raw tables of the firmware.
func smbios() ([]byte, error) {
	const provider = 'R'<<24 | 'S'<<16 | 'M'<<8 | 'B'
	if err := getSystemFirmwareTable.Find(); err != nil {
		return nil, err
	}
	size, _, err := getSystemFirmwareTable.Call(provider, 0, 0, 0)
	if size == 0 || size > maxFile {
		return nil, fmt.Errorf("size of the firmware's tables: %w", err)
	}
	b := make([]byte, size)
	n, _, err := getSystemFirmwareTable.Call(provider, 0, uintptr(unsafe.Pointer(&b[0])), size)
	if n == 0 || n > size {
		return nil, fmt.Errorf("read the firmware's tables: %w", err)
	}
	return b[:n], nil
}

// tpmVersion asks the TPM base services, which need no rights for that.
func tpmVersion() (int, error) {
	const tpmNotFound = 0x8028400F // TBS_E_TPM_NOT_FOUND
	if err := getDeviceInfo.Find(); err != nil {
		return 0, fs.ErrNotExist
	}
	var info struct{ structVersion, tpmVersion, interfaceType, revision uint32 }
	code, _, _ := getDeviceInfo.Call(unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)))
	switch uint32(code) {
	case 0:
		return int(info.tpmVersion), nil
	case tpmNotFound:
		return 0, nil
	}
	return 0, fmt.Errorf("TPM base services: code %#x", uint32(code))
}

// machineSID is the id of the computer's own account domain.
func machineSID() (string, error) {
	name, err := win.ComputerName()
	if err != nil {
		return "", err
	}
	sid, _, _, err := win.LookupSID("", name)
	if err != nil {
		return "", err
	}
	return sid.String(), nil
}
