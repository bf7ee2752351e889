//go:build !windows && !(linux && !gtktray) && !(cgo && (darwin || (linux && gtktray)))

package panel

import "context"

// Run returns ErrNone.
func Run(context.Context, Options) error { return ErrNone }

func setIcon([]byte, string)     {}
func escape(label string) string { return label }
