// Package daemon is the agent: one per user session. It owns the state and the
// keys, and it decides.
//
// This file and its siblings put the rooms together. Outside parties come in
// through two doors, ipc/loopback for browsers and ipc/localapi for the user's
// own programs; both end in small adapters here (browsers.go, local.go) that
// translate between their words and the rooms'. What needs the vault's key
// lives in a core (core.go), which exists only while the vault is open: a
// locked agent starts, answers CORS, says 503 to challenges and asks for the
// unlock.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm"
	"countersign.dev/daemon/desktop"
	"countersign.dev/daemon/desktop/session"
	"countersign.dev/daemon/posture"
	"countersign.dev/daemon/prompt"
	"countersign.dev/daemon/vault"
	"countersign.dev/daemon/vault/unlock"
	"countersign.dev/ipc/localapi"
	"countersign.dev/ipc/loopback"
	"countersign.dev/ipc/paths"
)

// Config says where the agent keeps its state and where it listens.
type Config struct {
	StateDir       string
	Socket         string
	LoopbackPorts  []int
	DeviceKey      string // "auto", "tpm", "software"; "" is auto
	VaultKey       string // "auto", "keyring", "tpm", "passphrase", "file"
	PassphraseFile string
	TPM            string // address of the TPM: a device or a socket; "" is the system's
	// VerificationGrace is for how long a verification of the person counts for
	// further sign-ins: none by default, 15 minutes at most.
	VerificationGrace time.Duration
	// ScreenLock says what a locked screen does: "hold" (also "") holds everything
	// back, "ignore" nothing.
	ScreenLock string
	Desktop    string // DesktopAuto: asks on the desktop, as far as there is one; else it does not
	Version    string
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now

	// SecurityKeyHelper is the path of countersign-sk; "" is beside this program.
	SecurityKeyHelper string
	// SecurityKeyDevices are paths of security keys that the system does not list.
	SecurityKeyDevices []string

	securityKeys securityKeys     // tests: instead of those that are plugged in
	sealer       unlock.Sealer    // tests: instead of the TPM
	session      session.Watcher  // tests: instead of the system's
	surfaces     *desktop.Options // tests: instead of what the system has
}

// stopWithin is how long a stopping agent waits for what is under way.
const stopWithin = 1500 * time.Millisecond

// Daemon is a running agent. Use Open, then Run.
type Daemon struct {
	config  Config
	log     *slog.Logger
	now     func() time.Time
	started time.Time

	tpm    *tpm.TPM
	keysIn devicekey.Kind  // where new keys go
	noTPM  devicekey.State // of "auto": how the TPM was at start; zero when nobody looked

	vault   *vault.Vault
	prompts *prompt.Broker
	hub     *hub
	posture *posture.Posture
	keys    securityKeys         // that are plugged in; asked when somebody asks
	desktop *desktop.Desktop     // asks there; nil when that is switched off
	core    atomic.Pointer[core] // nil while the vault is locked
	index   vault.Index          // what a locked agent may know; read-only after Open

	pages   net.Listener // nil when no port was free
	busy    string       // then: who has the ports, as far as can be told
	local   net.Listener
	browser *loopback.Server
	api     *localapi.Server

	ctx  context.Context // ends when the agent stops
	stop context.CancelFunc

	working sync.Mutex     // taken to start work, and to say that none is started any more
	work    sync.WaitGroup // every goroutine of the agent

	asking     sync.Mutex                    // taken to begin a try
	unlocking  atomic.Int64                  // unix nanoseconds of the end of the last try
	trying     atomic.Pointer[chan struct{}] // closed when the last try has ended; nil before the first
	gaps       gaps                          // in the record of decisions
	refreshing gate                          // asks the orgs for their pages
	reach      reach                         // whether the orgs answer
	enrolments enrolments                    // sign-ins in the browser that wait for a person
	keySignIns atomic.Int32                  // sign-ins with a security key that are under way
	lately     verifiedLately                // how the person was verified last
	codes      codesGiven                    // which one-time codes are on record already
	holds      holds                         // why nothing is asked or signed for now
	screen     *screen                       // whether it is locked
	presents   presents                      // people who were verified before something was begun
	quiet      *time.Timer                   // armed by activity: gives memory back when it ends
}

// Ready is what the agent says when it can be used.
type Ready struct {
	Ready        bool   `json:"ready"`
	Socket       string `json:"socket"`
	LoopbackPort int    `json:"loopbackPort"`
	DeviceKey    string `json:"deviceKey"`
	VaultKey     string `json:"vaultKey"`
}

// Open makes the agent ready: state open (or locked), both doors open for
// connections. It asks no network, bus or device first. Errors that callers
// branch on: *localapi.ErrPathTooLong, localapi.ErrInUse, vault.ErrInUse,
// *vault.DamagedError, *journal.TamperedError, unlock.ErrWrongPassphrase.
func Open(ctx context.Context, c Config) (*Daemon, error) {
	d := &Daemon{config: c, log: c.Log, now: c.Now, hub: newHub()}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.now == nil {
		d.now = time.Now
	}
	d.started = d.now()
	if c.session == nil {
		c.session = session.New(session.Options{Log: d.log})
	}
	d.screen = newScreen(c.session)
	if c.VerificationGrace < 0 || c.VerificationGrace > maxGrace {
		return nil, fmt.Errorf("a verification counts for %s at most, not %s", maxGrace, c.VerificationGrace)
	}
	if err := paths.CheckSocket(c.Socket); err != nil {
		return nil, err
	}
	if err := d.chooseKeys(); err != nil {
		return nil, err
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.quiet = time.AfterFunc(quietAfter, giveBack)
	d.prompts = prompt.New(d.now, d.hub)
	d.keys = d.newSecurityKeys()
	d.posture = posture.New(posture.Local(), c.Version)
	d.desktop = d.newDesktop()
	if err := d.open(ctx); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *Daemon) open(ctx context.Context) error {
	var err error
	var seals unlock.Sealer = d.tpm
	if d.config.sealer != nil {
		seals = d.config.sealer
	}
	d.vault, err = vault.Open(ctx, d.config.StateDir, vault.Options{
		Key: unlock.Kind(d.config.VaultKey), PassphraseFile: d.config.PassphraseFile, Sealer: sealer{seals},
	})
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	if d.index, err = d.vault.LoadIndex(); err != nil {
		d.log.Warn("index not read", "error", err)
	}
	if err := d.unlockAtStart(ctx); err != nil {
		return err
	}
	if d.local, err = localapi.Listen(d.config.Socket); err != nil {
		return fmt.Errorf("listen for front ends: %w", err)
	}
	if d.pages, err = loopback.Listen(d.config.LoopbackPorts); err != nil {
		d.busy = whoHas(d.config.LoopbackPorts)
		d.log.Warn("no loopback port is free", "ports", d.config.LoopbackPorts, "held_by", d.busy)
	}
	d.browser = loopback.New(browsers{d}, loopback.Options{Log: d.log})
	d.api = localapi.New(front{d}, localapi.Options{Log: d.log, Version: d.config.Version})
	return nil
}

// Ready describes the open agent.
func (d *Daemon) Ready() Ready {
	kind, _ := d.vault.State()
	return Ready{
		Ready: true, Socket: d.config.Socket, LoopbackPort: d.port(),
		DeviceKey: string(d.keysIn), VaultKey: string(kind),
	}
}

// port is where browsers find the agent; 0 when nowhere.
func (d *Daemon) port() int {
	if d.pages == nil {
		return 0
	}
	return d.pages.Addr().(*net.TCPAddr).Port
}

// Run serves until ctx ends or a door breaks, and leaves consistent state.
func (d *Daemon) Run(ctx context.Context) error {
	broken := make(chan error, 2)
	c := d.core.Load() // before anybody can ask for an unlock, which sees to it by itself
	d.watchSession()
	if d.desktop != nil {
		d.spawn(func() { d.desktop.Run(d.ctx) })
	}
	d.spawn(func() { broken <- d.api.Serve(d.local) })
	if d.pages != nil {
		d.spawn(func() { broken <- d.browser.Serve(d.pages) })
	}
	if c != nil {
		d.listen(c)
		d.spawn(func() { d.catchUp(c) })
	} else {
		d.askForUnlock()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-broken:
	case <-d.ctx.Done():
	}
	return errors.Join(err, d.close())
}

// Close stops an agent that is not run.
func (d *Daemon) Close() error { return d.close() }

// close withdraws what waits for the person, closes both doors, and waits for
// everything that runs.
func (d *Daemon) close() error {
	d.working.Lock() // from here on nothing is started, so all of it can be waited for
	d.stop()
	d.working.Unlock()
	d.quiet.Stop()
	d.stopPause()
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	c := d.core.Load()
	if c != nil {
		c.pipeline.Stop()
	}
	var doors sync.WaitGroup
	if d.browser != nil {
		doors.Go(func() { _ = d.browser.Shutdown(ctx) }) // what is left after the time is cut
	}
	if d.api != nil {
		doors.Go(func() { _ = d.api.Shutdown(ctx) })
	}
	doors.Wait()
	for _, l := range []net.Listener{d.pages, d.local} {
		if l != nil {
			l.Close() // never served, or closed already
		}
	}
	d.work.Wait()
	if keys, ok := d.keys.(interface{ Close() }); ok {
		keys.Close() // a helper that was started ahead
	}
	d.posture.Close()
	var errs []error
	if c := d.core.Swap(nil); c != nil {
		errs = append(errs, c.close())
	}
	if err := d.tpm.Close(); err != nil { // what is left there goes with the process
		d.log.Warn("TPM not let go", "error", err)
	}
	if d.vault != nil {
		errs = append(errs, d.vault.Close())
	}
	return errors.Join(errs...)
}

// spawn starts work that the agent waits for when it stops; a stopping agent
// starts none.
// It says whether it has.
func (d *Daemon) spawn(work func()) bool {
	d.working.Lock()
	defer d.working.Unlock()
	if d.ctx.Err() != nil {
		return false
	}
	d.work.Go(work)
	return true
}

// pid is this process.
func (d *Daemon) pid() int { return os.Getpid() }
