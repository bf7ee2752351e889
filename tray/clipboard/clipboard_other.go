//go:build !linux && !darwin && !windows

package clipboard

import "context"

// Clipboard is none.
type Clipboard struct{}

// Find returns ErrNone.
func Find() (*Clipboard, error) { return nil, ErrNone }

// Copy returns ErrNone.
func (*Clipboard) Copy(context.Context, string) error { return ErrNone }

// Close does nothing.
func (*Clipboard) Close() {}
