package dialog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Find picks the program that shows windows: kdialog on KDE, else zenity, and
// the other one where that is not there. It only looks at files: whether the
// display can be reached shows when a window is to come up.
func Find() (Window, error) {
	return find(os.Getenv, "/usr/bin", 0)
}

func find(getenv func(string) string, folder string, owner int) (Window, error) {
	if !displays(getenv) {
		return nil, fmt.Errorf("%w: there is no display here", ErrNone)
	}
	programs := []string{"zenity", "kdialog"}
	if strings.Contains(getenv("XDG_CURRENT_DESKTOP"), "KDE") {
		programs = []string{"kdialog", "zenity"}
	}
	var failed error
	for _, name := range programs {
		p := program{path: filepath.Join(folder, name), owner: owner}
		if _, err := p.trusted(); err != nil {
			if failed == nil {
				failed = err
			}
			continue
		}
		return newAsker(p), nil
	}
	return nil, fmt.Errorf("%w: %w", ErrNone, failed)
}

func newAsker(p program) *asker {
	a := &asker{name: filepath.Base(p.path), environment: environment, since: time.Since}
	if a.name == "kdialog" {
		a.shower = kdialog{p}
	} else {
		a.shower = zenity{p}
	}
	return a
}

// displays tells whether there may be a display: one is named, or there is a
// socket of one and a session bus to ask for its name, which an agent that was
// started before the desktop does not know yet.
func displays(getenv func(string) string) bool {
	if getenv("DISPLAY") != "" || getenv("WAYLAND_DISPLAY") != "" {
		return true
	}
	if getenv("DBUS_SESSION_BUS_ADDRESS") == "" {
		// The sockets of X are everybody's, also of those with whom we share a computer.
		dir := getenv("XDG_RUNTIME_DIR")
		if _, err := os.Stat(filepath.Join(dir, "bus")); err != nil || !filepath.IsAbs(dir) {
			return false
		}
	}
	places := []string{"/tmp/.X11-unix/X*"}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		places = append(places, filepath.Join(dir, "wayland-*"))
	}
	for _, place := range places {
		if found, err := filepath.Glob(place); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}

// trusted returns the file that would run, links followed: one that nobody but
// root, or in tests the owner, can have put there or can change. It is named by
// its place; PATH is not asked (F10).
func (p program) trusted() (string, error) {
	file, err := filepath.EvalSymlinks(p.path)
	if err != nil {
		return "", err
	}
	for _, path := range []string{filepath.Dir(p.path), filepath.Dir(file), file} {
		info, err := os.Lstat(path)
		if err != nil {
			return "", err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(stat.Uid) != p.owner && stat.Uid != 0 || info.Mode()&0o022 != 0 {
			return "", fmt.Errorf("%s can be changed by others than root", path)
		}
		if path == file && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
			return "", fmt.Errorf("%s is no program", path)
		}
	}
	return file, nil
}
