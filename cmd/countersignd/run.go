package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"countersign.dev/daemon"
	"countersign.dev/ipc/paths"
	"countersign.dev/program"
	"countersign.dev/version"
)

// runFlags are the flags of run as they were typed.
type runFlags struct {
	state, socket  string
	loopbackPorts  []int
	deviceKey, tpm string
	vaultKey       string
	passphraseFile string
	grace          time.Duration
	screenLock     string
	desktop        string
	keyDevices     []string
	logLevel       string
}

// maxGrace bounds --verification-grace: whoever comes to a desk within it is
// taken for the person.
const maxGrace = 15 * time.Minute

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the agent in the foreground",
		Long: `Run the agent in the foreground until SIGTERM or SIGINT.

When it is ready it prints one line of JSON on standard output.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return run(c, f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.state, "state", "", "state folder (default $"+paths.EnvStateDir+", or the system's place for it)")
	flags.StringVar(&f.socket, "socket", "", "socket for the command line and the tray (default $"+paths.EnvSocket+", or in the runtime folder)")
	flags.IntSliceVar(&f.loopbackPorts, "loopback-ports", paths.DefaultLoopbackPorts, "ports for browsers; the first free one is taken, 0 picks any")
	flags.StringVar(&f.deviceKey, "device-key", "auto", "where new keys live: auto, tpm or software")
	flags.StringVar(&f.tpm, "tpm", "", "address of the TPM: a device or a socket (default the system's)")
	flags.StringVar(&f.vaultKey, "vault-key", "auto", "what protects the state: auto, keyring, tpm, passphrase or file")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "file whose first line is the passphrase; implies --vault-key passphrase")
	flags.DurationVar(&f.grace, "verification-grace", 0, "for how long your PIN or fingerprint counts for further sign-ins, up to "+maxGrace.String())
	flags.StringVar(&f.screenLock, "screen-lock", "hold", "what a locked screen does: hold (nothing is shown or signed) or ignore")
	flags.StringVar(&f.desktop, "desktop", daemon.DesktopAuto, "notifications and dialogs: auto, or off, e.g. on a server")
	flags.StringSliceVar(&f.keyDevices, "security-key-device", nil, "path of a security key that the system does not list; for tests and unusual systems")
	_ = flags.MarkHidden("security-key-device") // it is there
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

// config checks the flags; its errors are wrong usage.
func (f runFlags) config(stderr io.Writer) (daemon.Config, error) {
	none := daemon.Config{}
	for _, choice := range []struct {
		flag, value string
		of          []string
	}{
		{"device-key", f.deviceKey, []string{"auto", "tpm", "software"}},
		{"vault-key", f.vaultKey, []string{"auto", "keyring", "tpm", "passphrase", "file"}},
		{"screen-lock", f.screenLock, []string{"hold", daemon.ScreenLockIgnore}},
		{"desktop", f.desktop, []string{daemon.DesktopAuto, daemon.DesktopOff}},
		{"log-level", f.logLevel, []string{"debug", "info", "warn", "error"}},
	} {
		if !slices.Contains(choice.of, choice.value) {
			return none, fmt.Errorf("--%s is %q, not one of %s", choice.flag, choice.value, strings.Join(choice.of, ", "))
		}
	}
	if f.passphraseFile != "" && f.vaultKey != "auto" && f.vaultKey != "passphrase" {
		return none, fmt.Errorf("--passphrase-file does not go with --vault-key %s", f.vaultKey)
	}
	if len(f.loopbackPorts) == 0 || len(f.loopbackPorts) > 32 {
		return none, errors.New("--loopback-ports needs 1 to 32 ports")
	}
	for _, p := range f.loopbackPorts {
		if p < 0 || p > 65535 {
			return none, fmt.Errorf("--loopback-ports: %d is not a port", p)
		}
	}
	if f.grace < 0 || f.grace > maxGrace {
		return none, fmt.Errorf("--verification-grace is between 0 and %s", maxGrace)
	}
	for _, path := range f.keyDevices {
		if !filepath.IsAbs(path) {
			return none, fmt.Errorf("--security-key-device: %q is no absolute path", path)
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return none, err
	}
	state, socket := f.state, f.socket
	var err error
	if state == "" {
		state, err = paths.StateDir()
	} else {
		state, err = filepath.Abs(state)
	}
	switch {
	case err != nil:
	case socket == "":
		socket, err = paths.Socket(state)
	case runtime.GOOS != "windows":
		socket, err = filepath.Abs(socket) // the ready line must hold anywhere
	}
	if err != nil {
		return none, &program.Failure{Err: err, Hint: "say where with --state DIR (or $" + paths.EnvStateDir + ") and --socket PATH (or $" + paths.EnvSocket + ")", Code: program.Usage}
	}
	if err := paths.CheckSocket(socket); err != nil {
		return none, &program.Failure{Err: fmt.Errorf("place the socket: %w", err), Hint: "choose a shorter one with --socket", Code: program.Usage}
	}
	return daemon.Config{
		StateDir: state, Socket: socket, LoopbackPorts: f.loopbackPorts,
		DeviceKey: f.deviceKey, VaultKey: f.vaultKey, PassphraseFile: f.passphraseFile, TPM: f.tpm,
		VerificationGrace: f.grace, ScreenLock: f.screenLock, Desktop: f.desktop, SecurityKeyDevices: f.keyDevices, Version: version.Number(),
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	}, nil
}

// othersCanRead is about a regular file: a pipe of a service manager has a mode
// that says nothing.
func othersCanRead(path string) bool {
	if path == "" || runtime.GOOS == "windows" {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0
}

func run(c *cobra.Command, f runFlags) error {
	config, err := f.config(c.ErrOrStderr())
	if err != nil {
		return err
	}
	if err := daemon.ProtectMemory(); err != nil {
		config.Log.Warn("core dumps stay possible", "error", err)
	}
	if othersCanRead(f.passphraseFile) {
		config.Log.Warn("other users can read the passphrase file", "file", f.passphraseFile, "mend", "chmod 600 "+f.passphraseFile)
	}
	d, err := daemon.Open(c.Context(), config)
	if err != nil {
		return &program.Failure{Err: fmt.Errorf("start the agent: %w", err), Hint: daemon.Hint(err)}
	}
	if err := json.NewEncoder(c.OutOrStdout()).Encode(d.Ready()); err != nil {
		return &program.Failure{Err: errors.Join(fmt.Errorf("say that the agent is ready: %w", err), d.Close())}
	}
	if err := d.Run(c.Context()); err != nil {
		return &program.Failure{Err: fmt.Errorf("run the agent: %w", err)}
	}
	return nil
}
