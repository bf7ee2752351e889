//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
)

// securityKey is for Linux: the one in software needs a terminal device that the
// agent takes for a key.
type securityKey struct{ path string }

func plugInKey(context.Context, io.Reader) (*securityKey, error) {
	return nil, errors.ErrUnsupported
}

func (*securityKey) close() {}
