// Package securitykey speaks to FIDO2 and U2F keys, and knows what of WebAuthn an
// agent needs: client data, attestation objects, and how to check what a key says.
//
// It never touches a key itself. Each operation is a process of its own,
// countersign-sk, which may hang, crash or lie without harm: it is started by its
// absolute path after a look at who owns it, with an empty environment, told what
// to do on its input, given a deadline, and killed when that has passed. What comes
// back is believed no more than the key: sizes, versions and signatures are checked
// here.
//
// A key is named by an id that lasts while it is plugged in. Each operation has the
// helper compare what is plugged in now with what had that id, so that a key that
// was swapped in between is refused (ErrOtherKey). One operation at a time goes to
// a key, in the order in which they were asked for; those of other keys go on
// beside it, and so does everything else of the agent.
//
// PINs are given by the caller with the operation, go to the helper only when the
// key wants one, and are tried once: a wrong one is an error with the tries that
// are left. The caller wipes them.
package securitykey

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign.dev/aaguid"
	"countersign.dev/authenticators/securitykey/wire"
)

// Options say where the helper is, and to whom it may belong.
type Options struct {
	// Helper is its absolute path; "" is that of Beside.
	Helper string
	// Owner may own the helper, besides root. It is the user that the agent runs as.
	Owner int
	// Devices are the paths of keys that are looked at besides those that the system
	// lists: for tests, and for systems that list none.
	Devices []string
	Log     *slog.Logger // nil is none
}

// Beside is where the helper belongs: in the folder of this program.
func Beside() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	name := "countersign-sk"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(filepath.Dir(exe), name), nil
}

// Keys are the keys of this computer.
type Keys struct {
	o Options

	mu    sync.Mutex           // guards what follows
	known map[string]*known    // by id; those of the last list
	lines map[string]chan none // by path: who holds it talks to the key

	spare  *spare // a helper that was started ahead
	closed bool

	spareTime time.Duration
	lacks     string // see Lacks
}

type none = struct{}

// known is a key as it was listed.
type known struct {
	Key
	place wire.Identity // what the helper compares
}

// New makes the agent's view of the keys. Nothing is started. Close it in the end.
func New(o Options) *Keys {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Keys{o: o, known: map[string]*known{}, lines: map[string]chan none{}, spareTime: spareTime}
}

// Key is what a key says of itself.
type Key struct {
	ID           string // lasts while the key is plugged in
	Path         string
	VendorID     uint16
	ProductID    uint16
	Product      string
	Manufacturer string
	AAGUID       string // of its model, "" of U2F keys
	Model        string // the name that goes with it, where it is known
	Firmware     string
	Protocols    []string // "FIDO_2_0", "U2F_V2", …
	Extensions   []string
	Options      map[string]bool
	TriesLeft    int // wrong PINs before it is blocked; only of Info, and 0 without a PIN
	PluggedInAt  time.Time
	// Problem is why not more is known: ErrNoPermission, ErrInUse, ErrTimedOut, ….
	Problem error
}

// PINSet says whether the key has a PIN.
func (k *Key) PINSet() bool { return k.Options["clientPin"] }

// U2FOnly says whether the key is an old one that knows no PINs and no accounts.
func (k *Key) U2FOnly() bool { return len(k.Protocols) > 0 && k.AAGUID == "" }

// Verifies says whether the key can verify its owner as it is now: by PIN or finger.
func (k *Key) Verifies() bool { return k.Options["clientPin"] || k.Options["uv"] }

// BySystem says whether this stands for whatever the system reaches: it asks for
// PIN and touch in a window of its own, and what keys there are it does not say.
func (k *Key) BySystem() bool { return k.Path == wire.Windows }

// Event is something that happens on the way.
type Event struct {
	Key   Key    // that it is about
	State string // Touch, Sample
	Left  int    // of Sample: how many more are needed
}

// States of events.
const (
	Touch  = "touch"  // the key waits for a touch now
	Sample = "sample" // a finger was read
)

// Progress hears events, in order, before the operation returns. nil hears none.
type Progress func(Event)

// How long operations may take; touchTime is the system's. A key that waits for
// its owner does so for half a minute, and resetting may be touched twice.
const (
	listTime   = 4 * time.Second
	askTime    = 8 * time.Second
	finger     = 3 * time.Minute
	manyStored = 30 * time.Second
)

// List finds every key that is plugged in. Keys that could not be asked are there
// with a Problem.
func (ks *Keys) List(ctx context.Context) ([]Key, error) {
	result, err := ks.run(ctx, operation{req: wire.Request{Op: wire.List}, time: listTime})
	if err != nil {
		return nil, err
	}
	if len(result.Keys) > maxKeys {
		return nil, &HelperError{Why: fmt.Sprintf("listed %d keys", len(result.Keys))}
	}
	for _, info := range result.Keys {
		if runtime.GOOS == "linux" && !hidraw.MatchString(info.Path) { // of what it opens next, a terminal may be
			return nil, &HelperError{Why: fmt.Sprintf("listed %.40q as a key", info.Path)}
		}
	}
	result.Keys = append(result.Keys, ks.besides(ctx, result.Keys)...)
	ks.mu.Lock()
	defer ks.mu.Unlock()
	now := map[string]*known{}
	keys := make([]Key, 0, len(result.Keys))
	for _, info := range result.Keys {
		k := ks.seen(info)
		now[k.ID] = k
		keys = append(keys, k.Key)
	}
	for id, k := range ks.known { // not asked, since we use it ourselves
		if slices.Contains(ks.o.Devices, k.Path) && ks.busy(k.Path) && !slices.ContainsFunc(keys, func(o Key) bool { return o.Path == k.Path }) {
			now[id] = k
			keys = append(keys, k.Key)
		}
	}
	ks.known = now
	for path, line := range ks.lines { // of those that are gone, if nobody is in it
		if len(line) == 0 && !slices.ContainsFunc(keys, func(k Key) bool { return k.Path == path }) {
			delete(ks.lines, path)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.Path, b.Path) })
	return keys, nil
}

// besides looks at the keys of Options.Devices, those that are there and were not
// listed.
func (ks *Keys) besides(ctx context.Context, listed []wire.Info) (infos []wire.Info) {
	seen := map[string]bool{}
	for _, info := range listed {
		seen[info.Path] = true
	}
	for _, path := range ks.o.Devices {
		ks.mu.Lock()
		busy := ks.busy(path)
		ks.mu.Unlock()
		if busy || seen[path] {
			continue
		}
		seen[path] = true
		result, err := func() (*wire.Result, error) {
			short, cancel := context.WithTimeout(ctx, listTime)
			defer cancel()
			leave, err := ks.queue(short, path)
			if err != nil {
				return nil, err
			}
			defer leave()
			return ks.run(ctx, operation{req: wire.Request{Op: wire.Inspect, Device: path}, time: listTime})
		}()
		switch {
		case err == nil && result.Info != nil:
			infos = append(infos, *result.Info)
		case errors.Is(err, ErrRemoved):
		default:
			ks.o.Log.Info("a key that the system does not list", "path", path, "error", err)
		}
	}
	return infos
}

// busy says whether we use a key right now; mu is held.
func (ks *Keys) busy(path string) bool { return len(ks.lines[path]) > 0 }

// hidraw is where keys are on Linux.
var hidraw = regexp.MustCompile(`^/dev/hidraw[0-9]{1,4}$`)

// maxKeys bounds how many keys a computer has.
const maxKeys = 64

// seen makes a Key of what was listed; mu is held.
func (ks *Keys) seen(info wire.Info) *known {
	place := info.Identity
	place.AAGUID = ""
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %04x %04x %q %q %q", place.Path, place.VendorID, place.ProductID, place.Manufacturer, place.Product, place.Arrival))
	id := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10]))
	before := ks.known[id]
	place.AAGUID = info.AAGUID
	k := &known{place: place, Key: Key{
		ID: id, Path: place.Path, VendorID: place.VendorID, ProductID: place.ProductID,
		Product: place.Product, Manufacturer: place.Manufacturer, AAGUID: info.AAGUID, Model: aaguid.Name(info.AAGUID), Firmware: info.Firmware,
		Protocols: info.Versions, Extensions: info.Extensions, Options: info.Options, TriesLeft: info.PINRetries, PluggedInAt: time.Now(),
	}}
	if before != nil {
		k.PluggedInAt = before.PluggedInAt
	}
	if info.Problem == nil {
		return k
	}
	// A key that we use ourselves cannot be asked meanwhile: what it said before holds.
	if ks.busy(k.Path) && info.Problem.Code == wire.InUse && before != nil && before.Problem == nil {
		return before
	}
	k.Problem = errorOf(info.Problem)
	return k
}

// Lacks is what this system does not have of what shuts the helper in, as the last
// helper that worked said it; "" when it has all.
func (ks *Keys) Lacks() string {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return ks.lacks
}

// find gives the key of an id, from the last list or a new one.
func (ks *Keys) find(ctx context.Context, id string) (*known, error) {
	ks.mu.Lock()
	k := ks.known[id]
	ks.mu.Unlock()
	if k != nil {
		return k, nil
	}
	keys, err := ks.List(ctx)
	if err != nil {
		return nil, err
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if k := ks.known[id]; k != nil {
		return k, nil
	}
	if len(keys) == 0 {
		return nil, ErrNoKey
	}
	return nil, ErrOtherKey
}

// on runs an operation on one key, when its turn comes.
func (ks *Keys) on(ctx context.Context, id string, op operation) (*wire.Result, *known, error) {
	k, err := ks.find(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	leave, err := ks.queue(ctx, k.Path)
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	op.key, op.req.Device, op.req.Expect = k.Key, k.Path, &k.place
	result, err := ks.run(ctx, op)
	return result, k, err
}

// queue waits until nobody else talks to the key. Who waits is served in order:
// that is what channels do.
func (ks *Keys) queue(ctx context.Context, path string) (leave func(), err error) {
	ks.mu.Lock()
	line := ks.lines[path]
	if line == nil {
		line = make(chan none, 1)
		ks.lines[path] = line
	}
	ks.mu.Unlock()
	select {
	case line <- none{}:
		return func() { <-line }, nil
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// ended is why a context ended, in this package's terms.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrTimedOut
	}
	return ErrCancelled
}

// Info asks one key for everything it says of itself.
func (ks *Keys) Info(ctx context.Context, id string) (Key, error) {
	result, k, err := ks.on(ctx, id, operation{req: wire.Request{Op: wire.Inspect}, time: askTime})
	if err != nil {
		return Key{}, err
	}
	if result.Info == nil {
		return Key{}, &HelperError{Why: "gave no info"}
	}
	info := *result.Info
	out := k.Key
	out.AAGUID, out.Model, out.Firmware, out.Problem = info.AAGUID, aaguid.Name(info.AAGUID), info.Firmware, nil
	out.Protocols, out.Extensions, out.Options, out.TriesLeft = info.Versions, info.Extensions, info.Options, info.PINRetries
	ks.mu.Lock()
	if now := ks.known[id]; now != nil { // a new one, since others hold the old
		place := now.place
		place.AAGUID = info.AAGUID
		ks.known[id] = &known{Key: out, place: place}
	}
	ks.mu.Unlock()
	return out, nil
}

// Choose says which key is meant: the id that was given, the only key, or of
// several the one that is touched first. The others are told to stop before it
// returns.
func (ks *Keys) Choose(ctx context.Context, id string, progress Progress) (string, error) {
	if id != "" {
		return id, nil
	}
	keys, err := ks.List(ctx)
	if err != nil {
		return "", err
	}
	var problem error = ErrNoKey
	keys = slices.DeleteFunc(keys, func(k Key) bool {
		if k.Problem != nil {
			problem = k.Problem
		}
		return k.Problem != nil
	})
	switch len(keys) {
	case 0:
		return "", problem
	case 1:
		return keys[0].ID, nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	type answer struct {
		id  string
		err error
	}
	answers := make(chan answer, len(keys))
	var one sync.Mutex // progress is heard by one at a time
	heard := func(e Event) {
		one.Lock()
		defer one.Unlock()
		if progress != nil && ctx.Err() == nil {
			progress(e)
		}
	}
	for _, k := range keys {
		go func() {
			_, _, err := ks.on(ctx, k.ID, operation{req: wire.Request{Op: wire.Select}, time: touchTime, progress: heard})
			answers <- answer{k.ID, err}
		}()
	}
	chosen := ""
	for range keys { // all of them are waited for
		switch a := <-answers; {
		case a.err == nil && chosen == "":
			chosen = a.id
			stop()
		case a.err != nil && chosen == "" && !errors.Is(a.err, ErrCancelled):
			problem = a.err
		case a.err != nil && errors.Is(problem, ErrNoKey):
			problem = a.err
		}
	}
	if chosen == "" {
		return "", problem
	}
	return chosen, nil
}
