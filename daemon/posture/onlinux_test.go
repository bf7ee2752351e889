package posture

import (
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
)

func gnome(name string) string {
	return map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus", "XDG_CURRENT_DESKTOP": "ubuntu:GNOME"}[name]
}

// disk adds a whole disk with partitions 1 to n.
func disk(m map[string]string, name, number, link string, n int) {
	dir := "sys/devices/" + link + "/" + name
	m["sys/block/"+name] = "-> ../devices/" + link + "/" + name
	m[dir+"/dev"], m[dir+"/removable"] = number+":0\n", "0\n"
	sep := ""
	if c := name[len(name)-1]; c >= '0' && c <= '9' {
		sep = "p"
	}
	for i := 1; i <= n; i++ {
		part := fmt.Sprintf("%s/%s%s%d", dir, name, sep, i)
		m[part+"/dev"], m[part+"/partition"] = fmt.Sprintf("%s:%d\n", number, i), fmt.Sprintf("%d\n", i)
	}
}

// mapping adds a device of the device mapper.
func mapping(m map[string]string, n int, name, uuid string, slaves ...string) {
	dir := fmt.Sprintf("sys/devices/virtual/block/dm-%d", n)
	m[fmt.Sprintf("sys/block/dm-%d", n)] = fmt.Sprintf("-> ../devices/virtual/block/dm-%d", n)
	m[dir+"/dev"], m[dir+"/dm/name"], m[dir+"/dm/uuid"], m[dir+"/removable"] = fmt.Sprintf("253:%d\n", n), name+"\n", uuid+"\n", "0\n"
	for _, s := range slaves {
		m[dir+"/slaves/"+s] = "-> ../../../../elsewhere/" + s
	}
}

const (
	luks   = "CRYPT-LUKS2-0123456789abcdef-root"
	lvm    = "LVM-abcdefghijklmnop"
	nvme   = "pci0000:00/0000:00:1d.0/nvme/nvme0"
	sata   = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block"
	usb    = "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host4/target4:0:0/4:0:0:0/block"
	iscsi  = "platform/host6/session1/target6:0:0/6:0:0:1/block"
	tmpfs  = "22 1 0:21 / /proc rw - proc proc rw\n31 1 0:25 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,mode=755\n"
	boot   = "40 1 259:1 / /boot/efi rw - vfat /dev/nvme0n1p1 rw\n41 1 259:2 / /boot rw shared:9 - ext4 /dev/nvme0n1p2 rw\n"
	swaps  = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	onRoot = "1 0 253:1 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw\n"
)

// laptop is a usual one: LUKS, LVM in it, a boot partition outside.
func laptop() fstest.MapFS {
	m := laptopFiles()
	m["proc/self/mountinfo"] = onRoot + tmpfs + boot
	m["proc/swaps"] = swaps + "/dev/dm-2 partition 1 0 -2\n/swapfile file 1 0 -3\n/dev/zram0 partition 1 0 100\n"
	return files(m)
}

func laptopFiles() map[string]string {
	m := map[string]string{
		"etc/os-release":                       "# comment\nNAME='Debian GNU/Linux'\nVERSION_ID=\"12\"\n",
		"proc/sys/kernel/osrelease":            "6.1.0-18-amd64\n",
		"sys/class/dmi/id/sys_vendor":          "LENOVO\n",
		"sys/class/dmi/id/product_name":        "ThinkPad X1\n",
		"sys/class/dmi/id/product_serial":      "PF0ABCDE\n",
		"sys/class/tpm/tpm0/tpm_version_major": "2\n",
	}
	disk(m, "nvme0n1", "259", nvme, 3)
	mapping(m, 0, "crypt", luks, "nvme0n1p3")
	mapping(m, 1, "vg-root", lvm, "dm-0")
	mapping(m, 2, "vg-swap", lvm, "dm-0")
	disk(m, "loop0", "7", "virtual/block", 0)
	disk(m, "zram0", "252", "virtual/block", 0)
	return m
}

func TestLinux(t *testing.T) {
	want := map[string]any{"platform": "LINUX", "osVersion": "12", "manufacturer": "LENOVO", "model": "ThinkPad X1", "serialNumber": "PF0ABCDE",
		"displayName": "carbon", "secureHardwarePresent": true, "diskEncryptionType": "ALL_INTERNAL_VOLUMES", "clientInstanceBundleId": BundleID,
		"clientInstanceVersion": "1.2.3", "clientInstanceDeviceSdkVersion": "Countersign 1"}
	noEnv := func(string) string { return "" }
	got := said(t, start(t, System{OS: "linux", Host: "carbon", Files: laptop(), Env: noEnv}), every()...)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	// The serial number is root's: not known, and no failure.
	got = said(t, start(t, System{OS: "linux", Host: "carbon", Files: denied{laptop(), []string{"sys/class/dmi/id/product_serial"}}, Env: noEnv}), every()...)
	delete(want, "serialNumber")
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, row := range []struct {
		about  string
		change map[string]string // "": the file is not there
		signal string
		want   any
	}{
		{"a rolling distribution", map[string]string{"etc/os-release": "NAME=Arch\n"}, "osVersion", "6.1.0-18-amd64"},
		{"os-release in its other place", map[string]string{"etc/os-release": "", "usr/lib/os-release": "VERSION_ID=40\n"}, "osVersion", "40"},
		{"no os-release", map[string]string{"etc/os-release": ""}, "osVersion", "6.1.0-18-amd64"},
		{"a board", map[string]string{"sys/class/dmi/id/product_name": "", "sys/firmware/devicetree/base/model": "Raspberry Pi 4 Model B\x00"}, "model", "Raspberry Pi 4 Model B"},
		{"a board's number", map[string]string{"sys/class/dmi/id/product_serial": "", "sys/firmware/devicetree/base/serial-number": "10000000abcdef\x00"}, "serialNumber", "10000000abcdef"},
		{"placeholder", map[string]string{"sys/class/dmi/id/product_serial": "To be filled by O.E.M.\n"}, "serialNumber", nil},
		{"zeros", map[string]string{"sys/class/dmi/id/product_serial": "0000000\n"}, "serialNumber", nil},
		{"default", map[string]string{"sys/class/dmi/id/sys_vendor": "Default string\n"}, "manufacturer", nil},
		{"no TPM", map[string]string{"sys/class/tpm/tpm0/tpm_version_major": ""}, "secureHardwarePresent", false},
		{"an old TPM", map[string]string{"sys/class/tpm/tpm0/tpm_version_major": "1\n"}, "secureHardwarePresent", false},
		{"a second TPM", map[string]string{"sys/class/tpm/tpm0/tpm_version_major": "1\n", "sys/class/tpm/tpm1/tpm_version_major": "2\n"}, "secureHardwarePresent", true},
	} {
		root := laptop()
		for name, text := range row.change {
			if delete(root, name); text != "" {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
		}
		if got := said(t, start(t, System{OS: "linux", Files: root, Env: noEnv}), row.signal)[row.signal]; got != row.want {
			t.Errorf("%s: %v, want %v", row.about, got, row.want)
		}
	}
}

func TestLinuxScreenLock(t *testing.T) {
	const ask = "/usr/bin/gsettings get org.gnome.desktop.screensaver lock-enabled"
	for _, row := range []struct {
		about, desktop, bus, program, out string
		want                              any
	}{
		{"on", "GNOME", "x", ask, "true\n", "PASSCODE"},
		{"off", "GNOME", "x", ask, "false\n", "NONE"},
		{"of Ubuntu", "ubuntu:GNOME", "x", ask, "true\n", "PASSCODE"},
		{"of Cinnamon", "X-Cinnamon", "x", "/usr/bin/gsettings get org.cinnamon.desktop.screensaver lock-enabled", "true\n", "PASSCODE"},
		{"no session", "GNOME", "", ask, "true\n", nil},
		{"another desktop", "KDE", "x", ask, "true\n", nil},
		{"no desktop", "", "x", ask, "true\n", nil},
		{"a word we do not know", "GNOME", "x", ask, "maybe\n", nil},
		{"fails", "GNOME", "x", ask, "!", nil},
		{"no such program", "GNOME", "x", "", "", nil},
	} {
		env := func(name string) string {
			return map[string]string{"DBUS_SESSION_BUS_ADDRESS": row.bus, "XDG_CURRENT_DESKTOP": row.desktop}[name]
		}
		p := start(t, System{OS: "linux", Files: fstest.MapFS{}, Env: env, Run: recorded(map[string]string{row.program: row.out})})
		if got := said(t, p, "screenLockType")["screenLockType"]; got != row.want {
			t.Errorf("%s: %v, want %v", row.about, got, row.want)
		}
	}
}

func TestLinuxDiskEncryption(t *testing.T) {
	data := func(number, point, kind, source string) string {
		return fmt.Sprintf("50 1 %s / %s rw shared:7 master:2 - %s %s rw\n", number, point, kind, source)
	}
	plainRoot := "1 0 259:3 / / rw - ext4 /dev/nvme0n1p3 rw\n"
	for _, row := range []struct {
		about  string
		mounts string
		more   func(m map[string]string)
		want   string
	}{
		{"LVM in LUKS", onRoot + tmpfs + boot, nil, diskAll},
		{"plain", plainRoot + tmpfs + boot, nil, diskNone},
		{"plain with an encrypted folder", plainRoot + data("253:1", "/home", "ext4", "/dev/mapper/vg-root"), nil, diskNone},
		{"a plain internal volume beside", onRoot + data("8:1", "/data", "xfs", "/dev/sda1"), func(m map[string]string) { disk(m, "sda", "8", sata, 1) }, diskSystem},
		{"a plain removable one", onRoot + data("8:1", "/media/x", "vfat", "/dev/sda1"), func(m map[string]string) {
			disk(m, "sda", "8", sata, 1)
			m["sys/devices/"+sata+"/sda/removable"] = "1\n"
		}, diskAll},
		{"a plain one on USB", onRoot + data("8:1", "/media/x", "vfat", "/dev/sda1"), func(m map[string]string) { disk(m, "sda", "8", usb, 1) }, diskAll},
		{"the system itself on USB", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n", func(m map[string]string) { disk(m, "sda", "8", usb, 1) }, diskNone},
		{"a plain one in the network", onRoot + data("8:1", "/srv", "ext4", "/dev/sda1"), func(m map[string]string) { disk(m, "sda", "8", iscsi, 1) }, diskAll},
		{"NFS", onRoot + data("0:50", "/srv", "nfs4", "server:/export"), nil, diskAll},
		{"a loop device", onRoot + data("7:0", "/snap/core/1", "squashfs", "/dev/loop0"), nil, diskAll},
		{"a memory card", onRoot + data("179:1", "/media/x", "vfat", "/dev/mmcblk0p1"), func(m map[string]string) {
			disk(m, "mmcblk0", "179", "platform/mmc0/block", 1)
			m["sys/devices/platform/mmc0/block/mmcblk0/device/type"] = "SD\n"
		}, diskAll},
		{"soldered memory", onRoot + data("179:1", "/data", "ext4", "/dev/mmcblk0p1"), func(m map[string]string) {
			disk(m, "mmcblk0", "179", "platform/mmc0/block", 1)
			m["sys/devices/platform/mmc0/block/mmcblk0/device/type"] = "MMC\n"
		}, diskSystem},
		{"plain swap", onRoot, func(m map[string]string) { m["proc/swaps"] = swaps + "/dev/nvme0n1p2 partition 1 0 -2\n" }, diskSystem},
		{"swap on a device that is not there", onRoot, func(m map[string]string) { m["proc/swaps"] = swaps + "/dev/sdz9 partition 1 0 -2\n" }, ""},
		{"btrfs", "1 0 0:30 /@ / rw - btrfs /dev/mapper/crypt rw,subvol=/@\n" + data("0:30", "/home", "btrfs", "/dev/mapper/crypt"), nil, diskAll},
		{"btrfs over a plain disk, too", "1 0 0:30 /@ / rw - btrfs /dev/mapper/crypt rw\n", func(m map[string]string) {
			disk(m, "sda", "8", sata, 1)
			m["sys/fs/btrfs/features/x"], m["sys/fs/btrfs/uuid/devices/dm-0"], m["sys/fs/btrfs/uuid/devices/sda1"] = "0", "-> x", "-> x"
		}, diskNone},
		{"btrfs of a source that is not there", "1 0 0:30 / / rw - btrfs /dev/disk/by-uuid/1 rw\n", nil, ""},
		{"LVM by its own path", "1 0 0:30 / / rw - btrfs /dev/vg/root rw\n", nil, diskAll},
		{"an array with one plain disk", "1 0 9:0 / / rw - ext4 /dev/md0 rw\n", func(m map[string]string) {
			disk(m, "md0", "9", "virtual/block", 0)
			disk(m, "sda", "8", sata, 1)
			m["sys/devices/virtual/block/md0/slaves/dm-0"], m["sys/devices/virtual/block/md0/slaves/sda1"] = "-> x", "-> x"
		}, diskNone},
		{"verity is not encryption", "1 0 253:3 / / ro - ext4 /dev/mapper/usr rw\n", func(m map[string]string) { mapping(m, 3, "usr", "CRYPT-VERITY-0123-usr", "nvme0n1p3") }, diskNone},
		{"integrity is not encryption", "1 0 253:3 / / rw - ext4 /dev/mapper/i rw\n", func(m map[string]string) { mapping(m, 3, "i", "CRYPT-INTEGRITY-0123-i", "nvme0n1p3") }, diskNone},
		{"a name is not encryption", "1 0 253:3 / / rw - ext4 /dev/mapper/CRYPT-LUKS2-x rw\n", func(m map[string]string) { mapping(m, 3, "CRYPT-LUKS2-x", "LVM-CRYPT-LUKS2", "nvme0n1p3") }, diskNone},
		{"plain dm-crypt", "1 0 253:3 / / rw - ext4 /dev/mapper/p rw\n", func(m map[string]string) { mapping(m, 3, "p", "CRYPT-PLAIN-p", "nvme0n1p3") }, diskAll},
		{"ZFS", "1 0 0:30 / / rw - zfs rpool/ROOT rw\n", nil, ""},
		{"ZFS beside", onRoot + data("0:30", "/tank", "zfs", "tank"), nil, ""},
		{"a plain volume beside ZFS", onRoot + data("0:30", "/tank", "zfs", "tank") + data("8:1", "/data", "xfs", "/dev/sda1"), func(m map[string]string) { disk(m, "sda", "8", sata, 1) }, diskSystem},
		{"a disk that is not shown", onRoot + data("8:1", "/data", "xfs", "/dev/sda1"), nil, ""},
		{"a container", "1 0 0:30 / / rw - overlay overlay rw,lowerdir=x\n", nil, ""},
		{"an image-based system", "1 0 0:30 / / ro - overlay composefs ro\n" + data("253:1", "/sysroot", "xfs", "/dev/mapper/vg-root"), nil, diskAll},
		{"a live system", "1 0 0:30 / / rw - tmpfs tmpfs rw\n", nil, ""},
		{"mounted over", "1 0 259:3 / / rw - ext4 /dev/nvme0n1p3 rw\n" + onRoot, nil, diskSystem},
		{"blanks in a name", onRoot + data("8:1", `/media/My\040Disk`, "vfat", "/dev/sda1"), func(m map[string]string) { disk(m, "sda", "8", usb, 1) }, diskAll},
		{"no mounts", "", nil, ""},
		{"garbage", "x y z\n1 2 3 - \n", nil, ""},
		{"a circle", "1 0 253:3 / / rw - ext4 /dev/mapper/a rw\n", func(m map[string]string) {
			mapping(m, 3, "a", "LVM-a", "dm-4")
			mapping(m, 4, "b", "LVM-b", "dm-3")
		}, ""},
	} {
		m := laptopFiles()
		m["proc/self/mountinfo"], m["proc/swaps"] = row.mounts, swaps
		if row.more != nil {
			row.more(m)
		}
		got, err := linux{System{OS: "linux", Files: files(m)}}.diskEncryption()
		if err != nil || got != row.want {
			t.Errorf("%s: %q, %v; want %q", row.about, got, err, row.want)
		}
	}
	// What cannot be read is not told: neither as encrypted nor as plain.
	for _, name := range []string{"proc/self/mountinfo", "sys/block"} {
		if got, err := (linux{System{Files: denied{laptop(), []string{name}}}}).diskEncryption(); got != "" || err == nil {
			t.Errorf("without %s: %q, %v", name, got, err)
		}
	}
	huge := maps.Clone(laptop())
	huge["proc/self/mountinfo"] = &fstest.MapFile{Data: []byte(onRoot + strings.Repeat(tmpfs, 1+maxFile/len(tmpfs)))}
	if got, err := (linux{System{Files: huge}}).diskEncryption(); got != "" || err == nil {
		t.Errorf("half a table: %q, %v", got, err)
	}
}

func TestOSRelease(t *testing.T) {
	got := osRelease("A=1\nB=\"two words\"\nC='it''s'\nD=\"\\\"\\$x\\\\\\n\"\n#E=5\n  F=6  \nG=\"open\nH\n=I\nJ=\n")
	want := map[string]string{"A": "1", "B": "two words", "C": "it", "D": `"$x\` + `\n`, "F": "6", "G": "", "": "I", "J": ""}
	if !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzOSRelease(f *testing.F) {
	f.Add("NAME=\"Debian\"\nVERSION_ID='12'\n")
	f.Add("A=\"\\\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		for name, value := range osRelease(text) {
			if strings.ContainsAny(name, "=\n") || strings.Contains(value, "\n") {
				t.Fatalf("%q is %q", name, value)
			}
		}
	})
}

// Whatever the tables say, a volume is called encrypted only when a mapping
// that encrypts is among its devices.
func FuzzMountinfo(f *testing.F) {
	f.Add(onRoot+tmpfs+boot, swaps+"/dev/dm-2 partition 1 0 -2\n", "LVM-x")
	f.Add("1 0 0:30 / / rw - btrfs /dev/mapper/crypt rw\n", "", "CRYPT-LUKS2-x")
	f.Add("1 0 9:0 / /\\134x rw - - - -\n", "\\", "")
	f.Fuzz(func(t *testing.T, mounts, swap, uuid string) {
		for _, m := range parseMounts(mounts) {
			if m.device == "" || m.point == "" {
				t.Fatalf("%+v", m)
			}
		}
		tree := laptopFiles()
		tree["sys/devices/virtual/block/dm-0/dm/uuid"] = uuid
		tree["proc/self/mountinfo"], tree["proc/swaps"] = mounts, swap
		got, err := linux{System{Files: files(tree)}}.diskEncryption()
		switch {
		case err != nil && got != "":
			t.Fatalf("%q, %v", got, err)
		case got == "", got == diskNone:
		case got == diskAll, got == diskSystem:
			if !strings.Contains(uuid, "CRYPT-") {
				t.Fatalf("%q without encryption", got)
			}
		default:
			t.Fatalf("%q", got)
		}
	})
}

var _ fs.FS = denied{}
