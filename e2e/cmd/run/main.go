// Command run starts the reference org and the agent in the foreground, with
// alice enrolled, and says what to open and type. Sign-ins that ask are shown
// as they come. On Linux a security key in software is plugged in, which the
// person touches. Ctrl-C stops everything and removes the temporary state.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"countersign.dev/e2e/harness"
)

const (
	firstPort = 8080
	lastPort  = 8099
)

// The product's own ports: what a real installation uses.
var loopbackPorts = []int{8769, 65111, 65121, 65131, 65141, 65151}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // also a terminal that is closed
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	programs, err := harness.FindPrograms(ctx)
	if err != nil {
		return err
	}
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "countersign-run-")
	if err != nil {
		return err
	}
	options := harness.StageOptions{Dir: dir, Listen: listen, LoopbackPorts: loopbackPorts}
	desktop := os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	if desktop { // the one of whoever runs this
		options.AgentEnv, options.AgentArgs = os.Environ(), []string{"--desktop", "auto"}
	}
	key, err := plugInKey(ctx, os.Stdin)
	switch {
	case err == nil:
		defer key.close()
		options.AgentArgs = append(options.AgentArgs, "--security-key-device", key.path)
	case !errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("plugging in a security key: %w", err)
	}
	stage, err := harness.NewStage(ctx, programs, options)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	agent, err := stage.StartAgent(ctx)
	if err != nil {
		return interrupted(ctx, err)
	}
	if err := stage.Enrol(ctx, agent, harness.Alice); err != nil {
		return interrupted(ctx, err)
	}
	app, err := startApp(stage.Org)
	if err != nil {
		return err
	}
	defer app.Close()
	explain(programs, stage, agent, app, desktop, key != nil)

	if desktop {
		tray := exec.CommandContext(ctx, programs.Tray, "--socket", agent.Socket)
		tray.Cancel = func() error { return tray.Process.Signal(syscall.SIGTERM) }
		if err := tray.Start(); err != nil {
			return fmt.Errorf("starting the tray: %w", err)
		}
		defer func() {
			tray.Cancel() //nolint:errcheck // it may have ended by itself
			tray.Wait()   //nolint:errcheck
		}()
	}

	// Watching counts as a place where the person can be asked.
	watch := agent.Command(ctx, "prompt", "watch")
	watch.Stdout, watch.Stderr = os.Stdout, os.Stderr
	watch.Cancel = func() error { return watch.Process.Signal(syscall.SIGTERM) }
	if err := watch.Start(); err != nil {
		return fmt.Errorf("watching for sign-ins: %w", err)
	}
	select {
	case <-ctx.Done():
	case <-stage.Org.Exited():
		err = fmt.Errorf("the org ended by itself\n%s", stage.Org.Tail())
	case <-agent.Exited():
		err = fmt.Errorf("the agent ended by itself\n%s", agent.Tail())
	}
	if err == nil {
		fmt.Println("\nstopping")
	} else {
		watch.Cancel()
	}
	watch.Wait()
	return err
}

// interrupted forgets an error that is only the echo of Ctrl-C.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// freeAddress is the first free one of the usual ports.
func freeAddress() (string, error) {
	for port := firstPort; port <= lastPort; port++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address, nil
		}
	}
	return "", fmt.Errorf("looking for a port for the org: %d to %d are all in use", firstPort, lastPort)
}

func explain(programs harness.Programs, stage *harness.Stage, agent *harness.Agent, app *app, desktop, key bool) {
	cli := programs.CLI
	if wd, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(wd, cli); err == nil && len(short) < len(cli) {
			cli = short
		}
	}
	if _, err := exec.LookPath("countersign"); err == nil {
		cli = "countersign"
	}
	where := ""
	if desktop {
		where = " on your desktop, or"
	}
	fmt.Printf(`Countersign runs. Ctrl-C stops it.

  open       %s/login
  user       %s
  password   %s

Your device answers by itself there. Apps to sign in to:

  silent     %s/
  asks you   %s/strict
  verifies   %s/verified   (it says what it takes)

Answer a sign-in that asks%s from another terminal:

  export COUNTERSIGN_SOCKET=%s
  %s prompt approve
  %[9]s prompt deny

`, stage.Org.URL, harness.Alice, harness.Password, app.URL, app.URL, app.URL, where, agent.Socket, cli)
	if key {
		fmt.Printf(`A security key in software is plugged in. Enter touches it, here, when it
blinks; pull pulls it out, plug plugs it in again. %s has none at the org
yet (the same password): from the other terminal,

  %[2]s securitykey list
  %[2]s securitykey pin set
  %[2]s securitykey signin %[3]s --username %[1]s
  %[2]s securitykey credential list

`, harness.Bob, cli, stage.Org.URL)
	}
}
