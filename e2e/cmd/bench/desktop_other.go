//go:build !linux

package main

import "errors"

var errNoDesktop = errors.New("a desktop is played on Linux only")

func (b *bench) desktop() ([]row, error)       { return nil, errNoDesktop }
func (b *bench) desktopStarts() ([]row, error) { return nil, errNoDesktop }
