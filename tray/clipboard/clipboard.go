// Package clipboard puts a one-time code where it can be pasted, and takes it
// away after half a minute, if it is still there: what the person has copied
// since is left alone. Programs that keep a history of the clipboard may keep
// the code as well; on Windows they are asked not to.
package clipboard

import (
	"errors"
	"time"
)

// Kept is for how long a code lies on the clipboard.
const Kept = 30 * time.Second

// ErrNone says that nothing here can put anything on the clipboard.
var ErrNone = errors.New("nothing here can copy")
