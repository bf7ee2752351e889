package posture

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Disk encryption on Linux is seen from what is mounted down to what it lies
// on: a volume is encrypted when every way down from it meets dm-crypt. All of
// that is in /proc and /sys; no mounted file system is touched, since a network
// one may hang, and no disk is opened, since that is root's.
//
// What counts: mounted internal volumes and swap partitions. What does not:
// removable and network disks, loop devices, memory, and the boot partitions,
// which firmware has to read and which hold nobody's data. ZFS encrypts by
// itself and shows nothing here: its volumes are not known.

// diskEncryption is ALL_INTERNAL_VOLUMES, SYSTEM_VOLUME or NONE, or nothing
// when it cannot be read.
func (l linux) diskEncryption() (string, error) {
	table, err := l.read("proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	mounts := parseMounts(table)
	system, ok := systemMount(mounts)
	if !ok {
		return "", nil
	}
	d, err := l.disks()
	if err != nil {
		return "", err
	}
	names, kind := d.volume(system)
	encrypted, known := d.encrypted(names)
	switch {
	case kind != isVolume || !known:
		return "", nil
	case !encrypted:
		return diskNone, nil
	}
	others, err := l.swaps(d)
	if err != nil {
		return "", err
	}
	unknown := false
	for _, m := range mounts {
		names, kind := d.volume(m)
		switch {
		case kind == notVolume || bootPartition(m.point):
		case kind == unknownVolume:
			unknown = true
		default:
			others = append(others, names)
		}
	}
	for _, names := range others {
		if d.outside(names) {
			continue
		}
		switch encrypted, known := d.encrypted(names); {
		case !known:
			unknown = true
		case !encrypted:
			return diskSystem, nil // whatever the unknown ones are
		}
	}
	if unknown {
		return "", nil
	}
	return diskAll, nil
}

// mount is one line of mountinfo.
type mount struct {
	device string // major:minor
	point  string
	kind   string // of file system
	source string
}

// parseMounts reads proc_pid_mountinfo(5). Lines that are not in its form are
// left out; the kernel writes none.
func parseMounts(table string) []mount {
	var mounts []mount
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		// After six fields come optional ones, then a dash.
		for i := 6; i+2 < len(fields); i++ {
			if fields[i] == "-" {
				mounts = append(mounts, mount{fields[2], unescape(fields[4]), fields[i+1], unescape(fields[i+2])})
				break
			}
		}
	}
	return mounts
}

// unescape undoes the octal escapes of blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// systemMount is what the system runs from: the topmost mount at the root.
// Where that is put together from an image, the disk is at /sysroot.
func systemMount(mounts []mount) (m mount, ok bool) {
	at := func(point string) (mount, bool) {
		for i := len(mounts) - 1; i >= 0; i-- {
			if mounts[i].point == point {
				return mounts[i], true
			}
		}
		return mount{}, false
	}
	root, ok := at("/")
	if ok && (root.kind == "overlay" || root.kind == "composefs") {
		return at("/sysroot")
	}
	return root, ok
}

func bootPartition(point string) bool {
	return point == "/boot" || strings.HasPrefix(point, "/boot/") || point == "/efi" || point == "/esp"
}

// disks is what /sys/block shows.
type disks struct {
	linux
	dirs    map[string]string // folder by the kernel's name, without partitions' parents
	whole   map[string]string // disk by partition
	numbers map[string]string // name by major:minor
	mapper  map[string]string // name by device mapper's name
}

const (
	maxDevices = 4096
	maxDepth   = 16 // layers of a volume
)

func (l linux) disks() (*disks, error) {
	d := &disks{l, map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}}
	list, err := fs.ReadDir(l.Files, "sys/block")
	if err != nil {
		return nil, err
	}
	add := func(name, dir string) {
		d.dirs[name] = dir
		if number, _ := l.line(dir + "/dev"); number != "" {
			d.numbers[number] = name
		}
		if mapped, _ := l.line(dir + "/dm/name"); mapped != "" {
			d.mapper[mapped] = name
		}
	}
	for _, entry := range list {
		name := entry.Name()
		dir := "sys/block/" + name
		add(name, dir)
		if virtual(name) || strings.HasPrefix(name, "dm-") {
			continue // without partitions, and there may be many
		}
		parts, err := fs.ReadDir(l.Files, dir)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			if strings.HasPrefix(part.Name(), name) {
				add(part.Name(), dir+"/"+part.Name())
				d.whole[part.Name()] = name
			}
		}
		if len(d.dirs) > maxDevices {
			return nil, fmt.Errorf("block devices: %w", errTooLong)
		}
	}
	return d, nil
}

// virtual devices hold nothing of their own.
func virtual(name string) bool {
	return strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") || strings.HasPrefix(name, "zram")
}

// volumeKind says what a mount is to disk encryption.
type volumeKind uint8

const (
	notVolume     volumeKind = iota // no disk of its own
	unknownVolume                   // one whose disk cannot be told
	isVolume
)

// volume finds the devices that a mount lies on.
func (d *disks) volume(m mount) ([]string, volumeKind) {
	if name, ok := d.numbers[m.device]; ok {
		return []string{name}, isVolume
	}
	if major, _, _ := strings.Cut(m.device, ":"); major != "0" {
		return nil, unknownVolume
	}
	switch m.kind {
	case "btrfs":
		if name, ok := d.named(m.source); ok {
			return d.poolOf(name), isVolume
		}
		return nil, unknownVolume
	case "bcachefs", "zfs":
		return nil, unknownVolume
	}
	return nil, notVolume
}

// named finds a device by its path in /dev.
func (d *disks) named(device string) (string, bool) {
	name, ok := strings.CutPrefix(device, "/dev/")
	if !ok {
		return "", false
	}
	if _, ok := d.dirs[name]; ok {
		return name, true
	}
	folder, name, ok := strings.Cut(name, "/")
	if !ok {
		return "", false
	}
	if folder != "mapper" { // LVM: /dev/group/volume
		double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
		name = double(folder) + "-" + double(name)
	}
	name, ok = d.mapper[name]
	return name, ok
}

// poolOf lists the devices of the btrfs that one of them belongs to.
func (d *disks) poolOf(name string) []string {
	pools, _ := fs.ReadDir(d.Files, "sys/fs/btrfs")
	for _, pool := range pools {
		devices, _ := fs.ReadDir(d.Files, "sys/fs/btrfs/"+pool.Name()+"/devices")
		var names []string
		mine := false
		for _, device := range devices {
			names = append(names, device.Name())
			mine = mine || device.Name() == name
		}
		if mine {
			return names
		}
	}
	return []string{name}
}

// swaps lists the swap partitions. A swap file is part of the volume it is on.
func (l linux) swaps(d *disks) (volumes [][]string, err error) {
	table, err := l.line("proc/swaps")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[1] == "partition" {
			name, ok := d.named(unescape(fields[0]))
			if !ok {
				name = fields[0] // not known, and says so
			}
			volumes = append(volumes, []string{name})
		}
	}
	return volumes, nil
}

// ciphers begin the ids that cryptsetup gives to mappings that encrypt. Its
// other ones, for integrity and verity, do not.
var ciphers = []string{"CRYPT-LUKS", "CRYPT-PLAIN-", "CRYPT-TCRYPT-", "CRYPT-BITLK-", "CRYPT-LOOPAES-", "CRYPT-FVAULT2-"}

// encrypted says whether all of the devices are, and whether that is known.
func (d *disks) encrypted(names []string) (encrypted, known bool) {
	for _, name := range names {
		if encrypted, known := d.encryptedBelow(name, 0); !encrypted {
			return false, known
		}
	}
	return len(names) > 0, len(names) > 0
}

func (d *disks) encryptedBelow(name string, depth int) (encrypted, known bool) {
	dir, ok := d.dirs[name]
	if !ok || depth > maxDepth {
		return false, false
	}
	id, err := d.line(dir + "/dm/uuid")
	if err != nil {
		return false, false
	}
	for _, cipher := range ciphers {
		if strings.HasPrefix(id, cipher) {
			return true, true
		}
	}
	below := d.below(name)
	for _, lower := range below {
		if encrypted, known := d.encryptedBelow(lower, depth+1); !encrypted {
			return false, known
		}
	}
	return len(below) > 0, true
}

// below lists what a device lies on: the parts of a mapping or an array, the
// disk of a partition. A disk lies on nothing.
func (d *disks) below(name string) []string {
	slaves, _ := fs.ReadDir(d.Files, d.dirs[name]+"/slaves")
	var names []string
	for _, slave := range slaves {
		names = append(names, slave.Name())
	}
	if disk, ok := d.whole[name]; ok && len(names) == 0 {
		names = []string{disk}
	}
	return names
}

// outside says whether all of the devices lie on disks that are no part of
// this machine.
func (d *disks) outside(names []string) bool {
	for _, name := range names {
		if !d.outsideBelow(name, 0) {
			return false
		}
	}
	return len(names) > 0
}

func (d *disks) outsideBelow(name string, depth int) bool {
	if depth > maxDepth {
		return false
	}
	below := d.below(name)
	for _, lower := range below {
		if !d.outsideBelow(lower, depth+1) {
			return false
		}
	}
	return len(below) > 0 || d.outsideDisk(name)
}

// outsideDisk says whether a whole disk is removable, on a cable, in the
// network, or none at all.
func (d *disks) outsideDisk(name string) bool {
	dir, ok := d.dirs[name]
	if !ok {
		return false
	}
	for _, network := range []string{"nbd", "rbd", "drbd"} {
		if strings.HasPrefix(name, network) {
			return true
		}
	}
	if removable, _ := d.line(dir + "/removable"); removable == "1" || virtual(name) {
		return true
	}
	if card, _ := d.line(dir + "/device/type"); strings.HasPrefix(name, "mmcblk") && card == "SD" {
		return true
	}
	// Where it is plugged in.
	link, _ := fs.ReadLink(d.Files, dir)
	for place := range strings.SplitSeq(path.Clean(link), "/") {
		if strings.HasPrefix(place, "usb") || strings.HasPrefix(place, "session") || place == "nvme-fabrics" {
			return true
		}
	}
	return false
}
