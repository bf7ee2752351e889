package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"countersign.dev/authenticators/securitykey"
	"countersign.dev/authenticators/verification"
)

// hidraw is where Linux shows the devices that security keys are.
const hidraw = "/sys/class/hidraw"

// securityKeys says whether security keys can be used, and what is the matter with
// those that are plugged in. Where nobody uses one, it is no fault that none can be
// used.
func (x *examination) securityKeys(ctx context.Context) {
	const name = "security key"
	ctx, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	keys, err := x.d.keys.List(ctx)
	if err != nil {
		e := keyError(err)
		if e == nil {
			x.warn(name, "not known: "+err.Error(), "")
			return
		}
		var helper *securitykey.HelperError
		missing := errors.Is(err, securitykey.ErrNotBuilt) || errors.Is(err, securitykey.ErrOldSystem) || errors.As(err, &helper) && helper.Missing()
		switch {
		case x.d.usesKeys(ctx):
			x.fail(name, e.Message, e.Hint)
		case missing:
			x.ok(name, "cannot be used here: "+e.Message)
		default:
			x.warn(name, e.Message, e.Hint)
		}
		return
	}
	if len(keys) == 0 {
		if _, err := os.Stat(hidraw); err != nil && runtime.GOOS == "linux" {
			x.ok(name, "none can be found: this system shows no hidraw devices ("+hidraw+"); if one is plugged in, load the module hidraw, or let the container or virtual machine have the device")
			return
		}
		x.ok(name, "none is plugged in")
		return
	}
	if lacks := x.d.keys.Lacks(); lacks != "" {
		x.warn(name, "the program that talks to security keys is shut in less than it should be ("+lacks+"): a hostile key that breaks it gets at your files",
			"plug in no key that you do not trust; Linux has landlock since 5.13, where it is switched on")
	}
	for _, k := range keys {
		about := productOf(k) + ": "
		switch e := keyError(k.Problem); {
		case k.Problem != nil && e == nil:
			x.warn(name, about+k.Problem.Error(), "")
		case errors.Is(k.Problem, securitykey.ErrNoPermission):
			x.warn(name, fmt.Sprintf("%s%s (%s)", about, e.Message, k.Path), e.Hint)
		case k.Problem != nil:
			x.warn(name, about+e.Message, e.Hint)
		case k.BySystem():
			x.ok(name, "Windows talks to them, and asks for them in a window of its own; which are plugged in it does not say")
		case k.U2FOnly():
			x.ok(name, about+"knows U2F only: it has no PIN and keeps nothing, so it cannot verify you; organisations may still take it as a second factor")
		case len(k.Advisories()) > 0:
			x.warn(name, about+k.Advisories()[0], "countersign securitykey info")
		default:
			x.ok(name, about+"answers")
		}
	}
}

// usesKeys says whether anything rests on a security key.
func (d *Daemon) usesKeys(ctx context.Context) bool {
	c := d.core.Load()
	if c == nil {
		return false
	}
	for _, s := range c.states(ctx) {
		if s.Method == string(verification.SecurityKey) {
			return s.State == "ready" || s.State == "lockout"
		}
	}
	return false
}
