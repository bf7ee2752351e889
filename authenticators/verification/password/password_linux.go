package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"countersign.dev/authenticators/verification"
	"countersign.dev/bus"
)

// Names of polkit's interface, polkit reference manual, "D-Bus API Reference".
const (
	service   = "org.freedesktop.PolicyKit1"
	path      = bus.ObjectPath("/org/freedesktop/PolicyKit1/Authority")
	authority = "org.freedesktop.PolicyKit1.Authority"
	action    = "dev.countersign.verify"

	quietly = uint32(0)
	asking  = uint32(1) // AllowUserInteraction
)

// cleanUp is how long taking a question back may take. polkit takes it back by
// itself when our connection ends.
const cleanUp = 2 * time.Second

var (
	errAsksNot = errors.New("polkit says yes without asking the user")
	errRefuses = errors.New("polkit does not let this user be asked")
	errRoot    = errors.New("polkit asks root nothing")
	errNoAgent = errors.New("no program of this session asks for passwords (a polkit agent)")
)

// result is polkit's answer, (bba{ss}).
type result struct {
	Authorised bool
	Challenge  bool
	Details    map[string]string
}

func (v *Verifier) state(ctx context.Context) verification.State {
	conn, _, err := v.open(ctx)
	if err == nil {
		conn.Close()
		return verification.State{State: "ready"}
	}
	var refused bus.Error
	switch {
	case errors.As(err, &refused) && strings.HasPrefix(refused.Name, service+".Error."):
		return verification.State{State: "absent", Hint: "have an administrator install " + action + ".policy into /usr/share/polkit-1/actions"}
	case errors.Is(err, bus.ErrNoService):
		return verification.State{State: "absent", Hint: "polkit is not installed"}
	case errors.Is(err, bus.ErrNoBus), errors.Is(err, errRoot):
		return verification.State{State: "absent", Hint: why(err)}
	}
	return verification.State{State: "unavailable", Hint: why(err)}
}

// why is an error without the words that the state says already.
func why(err error) string {
	return strings.TrimPrefix(err.Error(), verification.ErrAbsent.Error()+": ")
}

// open connects, and makes sure that polkit would have to ask. The caller closes
// the connection.
func (v *Verifier) open(ctx context.Context) (*bus.Bus, subject, error) {
	if v.user == 0 {
		return nil, subject{}, absent(errRoot)
	}
	who, err := v.subject()
	if err != nil {
		return nil, subject{}, absent(err)
	}
	conn, err := bus.System(ctx, v.busOwner)
	if err != nil {
		return nil, subject{}, absent(err)
	}
	if err = conn.Find(ctx, service); err == nil {
		var r result
		r, err = check(ctx, conn, who, quietly, "")
		switch {
		case err != nil:
		case r.Authorised:
			err = errAsksNot
		case !r.Challenge:
			err = errRefuses
		}
	}
	if err != nil {
		conn.Close()
		return nil, subject{}, absent(err)
	}
	return conn, who, nil
}

func (v *Verifier) verify(ctx context.Context) (err error) {
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", outOfTime(ctx), err)
		}
	}()
	conn, who, err := v.open(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	question := "countersign-" + rand.Text()
	r, err := check(ctx, conn, who, asking, question)
	if ctx.Err() != nil {
		takeBack(ctx, conn, question)
		return ctx.Err()
	}
	switch {
	case named(err, "Cancelled"):
		return verification.ErrCancelled
	case err != nil:
		return absent(err)
	case conn.Lost():
		return absent(bus.ErrReplaced)
	case r.Authorised && !r.Challenge:
		return nil
	case r.Details["polkit.dismissed"] != "":
		return verification.ErrCancelled
	case r.Challenge:
		return absent(errNoAgent)
	}
	return verification.ErrWrong
}

// check asks polkit. There are no details: it takes those from root only.
func check(ctx context.Context, conn *bus.Bus, who subject, flags uint32, question string) (result, error) {
	var r result
	if err := conn.Call(ctx, path, authority+".CheckAuthorization", who, action, map[string]string{}, flags, question).Store(&r); err != nil {
		return result{}, err
	}
	return r, nil
}

// takeBack closes the dialog.
func takeBack(ctx context.Context, conn *bus.Bus, question string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	_ = conn.Call(ctx, path, authority+".CancelCheckAuthorization", question).Err // it may have ended
}

// subject is whom polkit is asked about, (sa{sv}): this process. Its start time
// tells it from a later one with the same id.
type subject struct {
	Kind    string
	Details map[string]bus.Variant
}

func (v *Verifier) subject() (subject, error) {
	started, err := startTime()
	if err != nil {
		return subject{}, fmt.Errorf("when this process started: %w", err)
	}
	return subject{Kind: "unix-process", Details: map[string]bus.Variant{
		"pid":        bus.MakeVariant(uint32(os.Getpid())),
		"start-time": bus.MakeVariant(started),
		"uid":        bus.MakeVariant(int32(v.user)),
	}}, nil
}

// startTime is field 22 of proc_pid_stat(5), in clock ticks since boot.
func startTime() (uint64, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, err
	}
	// The second field is the program's name, with any character in it.
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, errors.New("/proc/self/stat is too short")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func absent(err error) error { return fmt.Errorf("%w: %w", verification.ErrAbsent, err) }

func outOfTime(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return verification.ErrTimedOut
	}
	return verification.ErrCancelled
}

// named says whether polkit answered with that error.
func named(err error, name string) bool {
	var e bus.Error
	return errors.As(err, &e) && e.Name == service+".Error."+name
}
