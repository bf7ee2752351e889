package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/client"
)

const (
	desktopRounds = 20
	// What has just come cannot be pressed yet, and an org bounds how often one
	// device asks in a minute.
	reading = 2200 * time.Millisecond
)

// desk is an agent and its tray in a session whose panel and notification
// service are played, so that what they are told is known at once.
type desk struct {
	desktop *harness.Desktop
	stage   *harness.Stage
	agent   *harness.Agent
	client  *client.Client
	tray    *harness.Tray
	changes <-chan struct{}
	notes   *harness.Notifications
	heard   chan heard
}

// heard is an event of the agent, and when it came.
type heard struct {
	api.Event
	at time.Time
}

func (b *bench) newDesk(ctx context.Context) (d *desk, err error) {
	d = &desk{heard: make(chan heard, 100)}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.desktop, err = harness.StartDesktop(ctx); err != nil {
		return d, err
	}
	if _, err = d.desktop.Session.PlayPanel(); err != nil {
		return d, err
	}
	if d.notes, err = d.desktop.Session.PlayNotifications(); err != nil {
		return d, err
	}
	programs := harness.Programs{Org: b.program("countersign-org"), Agent: b.program("countersignd"), CLI: b.program("countersign"), Tray: b.program("countersign-tray")}
	if d.stage, err = harness.NewStage(ctx, programs, harness.StageOptions{AgentEnv: d.desktop.Env(), AgentArgs: []string{"--desktop", "auto", "--log-level", "error"}}); err != nil {
		return d, err
	}
	if err = d.stage.Org.NumberChallenge(ctx, "NEVER"); err != nil { // a notification approves nothing with a number
		return d, err
	}
	if d.agent, err = d.stage.StartAgent(ctx); err != nil {
		return d, err
	}
	if err = d.stage.Enrol(ctx, d.agent, harness.Alice); err != nil {
		return d, err
	}
	if d.tray, err = d.desktop.StartTray(ctx, programs, d.agent); err != nil {
		return d, err
	}
	d.changes, err = d.tray.OnChange(ctx)
	d.client = client.New(d.agent.Socket)
	return d, err
}

// listen hears the agent's events.
func (d *desk) listen(ctx context.Context) error {
	events, err := d.client.Subscribe(ctx, "")
	if err != nil {
		return err
	}
	go func() {
		for e, err := range events {
			if err != nil {
				return
			}
			d.heard <- heard{e, time.Now()}
		}
	}()
	return nil
}

func (d *desk) close() {
	if d.tray != nil {
		d.tray.End() //nolint:errcheck
	}
	if d.stage != nil {
		d.stage.Close() //nolint:errcheck
	}
	if d.desktop != nil {
		d.desktop.Close()
	}
}

// event waits for an event of the agent.
func (d *desk) event(ctx context.Context, is func(api.Event) bool) (heard, error) {
	for {
		select {
		case h := <-d.heard:
			if is(h.Event) {
				return h, nil
			}
		case <-ctx.Done():
			return heard{}, context.Cause(ctx)
		}
	}
}

// inMenu waits until the tray's menu, as a panel reads it, has the sign-in.
func (d *desk) inMenu(ctx context.Context) (time.Time, error) {
	for {
		select {
		case <-d.changes:
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
		menu, err := d.tray.Menu(ctx)
		at := time.Now()
		if err != nil {
			return at, err
		}
		if slices.ContainsFunc(menu, func(e harness.MenuEntry) bool { return strings.HasPrefix(e.Label, "Sign in to") }) {
			return at, nil
		}
	}
}

// round has a push sent, sees it everywhere, and decides it in some way.
func (d *desk) round(ctx context.Context, decide func(context.Context, shownPush) error) (list, menu, org time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("nothing happens"))
	defer cancel()
	o := d.stage.Org
	t, err := o.BeginTransaction(ctx, o.NewSignIn("demo-strict", "", "http://localhost:1/callback"))
	if err == nil {
		err = t.Choice(ctx, harness.Alice, harness.Password)
	}
	if err == nil {
		err = d.tray.Without(ctx, "Sign in to")
	}
	if err != nil {
		return 0, 0, 0, err
	}
	began := time.Now()
	if err := t.Choose(ctx, "push"); err != nil {
		return 0, 0, 0, err
	}
	seen, err := d.inMenu(ctx)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("the tray's menu: %w", err)
	}
	asked, err := d.event(ctx, func(e api.Event) bool { return e.Type == "prompt" })
	if err != nil {
		return 0, 0, 0, fmt.Errorf("the prompt: %w", err)
	}
	var note harness.ShownNote
	select {
	case note = <-d.notes.Shown:
	case <-ctx.Done():
		return 0, 0, 0, fmt.Errorf("the notification: %w", context.Cause(ctx))
	}
	entry, err := d.tray.Await(ctx, "Sign in to", "Approve")
	if err != nil {
		return 0, 0, 0, err
	}
	time.Sleep(reading)
	pressed := time.Now()
	if err := decide(ctx, shownPush{*asked.Prompt, note, entry}); err != nil {
		return 0, 0, 0, err
	}
	// The agent records what the org has said to its answer.
	done, err := d.event(ctx, func(e api.Event) bool { return e.Type == "audit" && e.Audit.Event == "challenge" })
	if err != nil {
		return 0, 0, 0, fmt.Errorf("the end: %w", err)
	}
	if done.Audit.Outcome != "approved" {
		return 0, 0, 0, fmt.Errorf("it ended as %+v", done.Audit)
	}
	return asked.at.Sub(began), seen.Sub(began), done.at.Sub(pressed), nil
}

// shownPush is a push on all surfaces.
type shownPush struct {
	prompt api.Prompt
	note   harness.ShownNote
	entry  harness.MenuEntry // that approves
}

func (d *desk) byTray(ctx context.Context, p shownPush) error { return d.tray.PressOnce(ctx, p.entry) }

func (d *desk) byNotification(_ context.Context, p shownPush) error {
	for i := 1; i < len(p.note.Actions); i += 2 {
		if p.note.Actions[i] == "Approve" {
			return d.notes.Press(p.note.ID, p.note.Actions[i-1])
		}
	}
	return fmt.Errorf("the notification has no such button: %q", p.note.Actions)
}

func (d *desk) byAPI(ctx context.Context, p shownPush) error {
	_, err := d.client.DecidePrompt(ctx, p.prompt.ID, api.Decision{Action: "approve"})
	return err
}

// desktop measures how long a push takes to the tray's menu, and a decision to
// the org, and what agent and tray cost at rest on a desktop.
func (b *bench) desktop() ([]row, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	d, err := b.newDesk(ctx)
	if err != nil {
		return nil, err
	}
	defer d.close()

	// At rest first: what a burst costs is another row. Connections that the start
	// has left open are closed after half a minute.
	time.Sleep(40 * time.Second)
	agent, tray := observe(d.agent.PID()), observe(d.tray.PID())
	agentRest, trayRest := agent.rss(), tray.rss()
	floor, err := b.bareTray(ctx, d.desktop)
	if err != nil {
		return nil, err
	}

	if err := d.listen(ctx); err != nil {
		return nil, err
	}
	var list, menu []time.Duration
	toOrg := map[string][]time.Duration{}
	for i := range desktopRounds {
		for _, way := range []struct {
			name   string
			decide func(context.Context, shownPush) error
		}{{"the tray's menu", d.byTray}, {"a notification", d.byNotification}, {"the local API", d.byAPI}} {
			toList, toMenu, decided, err := d.round(ctx, way.decide)
			if err != nil {
				return nil, fmt.Errorf("round %d, by %s: %w\n%s%s", i, way.name, err, d.agent.Tail(), d.tray.Tail())
			}
			if i == 0 {
				continue // first use
			}
			list, menu = append(list, toList), append(menu, toMenu)
			toOrg[way.name] = append(toOrg[way.name], decided)
		}
	}
	trayAfter := tray.rss()
	time.Sleep(40 * time.Second)
	agentWakes, trayWakes := wakeUps([]*waiter{{process: agent}}, time.Minute), wakeUps([]*waiter{{process: tray}}, 20*time.Second)
	const shown, decided = 100 * time.Millisecond, 50 * time.Millisecond
	rows := []row{
		{what: "   push created to the tray's menu, p99 : 100 ms", ours: us(p99(menu)), floor: us(shown), ratio: quotient(p99(menu), shown), goal: 1, atMost: true},
		{what: "   push created to the tray's menu, p50 : to the prompt list", ours: us(p50(menu)), floor: us(p50(list)), ratio: quotient(p50(menu), p50(list)), goal: 3, atMost: true},
	}
	api := toOrg["the local API"]
	for _, way := range []string{"the tray's menu", "a notification", "the local API"} {
		l := toOrg[way]
		rows = append(rows, row{what: "   pressed in " + way + " to the org, p99 : 50 ms", ours: us(p99(l)), floor: us(decided), ratio: quotient(p99(l), decided), goal: 1, atMost: true})
		if way != "the local API" {
			rows = append(rows, row{what: "   pressed in " + way + ", p50 : by the local API", ours: us(p50(l)), floor: us(p50(api)), ratio: quotient(p50(l), p50(api)), goal: 3, atMost: true})
		}
	}
	return append(rows,
		row{what: "   memory of the tray : 20 MB", ours: mib(trayRest), floor: mib(20e6), ratio: trayRest / 20e6, goal: 1, atMost: true, gate: true},
		row{what: "   memory of the tray : icon by the same library alone", ours: mib(trayRest), floor: mib(floor), ratio: trayRest / floor, goal: 2.5, atMost: true},
		row{what: "   memory of the tray after all that : 20 MB", ours: mib(trayAfter), floor: mib(20e6), ratio: trayAfter / 20e6, goal: 1, atMost: true, gate: true},
		row{what: "12 memory at rest on a desktop : 15 MiB", ours: mib(agentRest), floor: mib(15 << 20), ratio: agentRest / (15 << 20), goal: 1, atMost: true, gate: true},
		row{what: "15 wake-ups in a minute on a desktop : 2 a long poll", ours: fmt.Sprintf("%.0f", agentWakes), floor: "2", ratio: agentWakes / 2, goal: 1, atMost: true, gate: true},
		row{what: "   wake-ups of the tray in 20 s at rest : 1", ours: fmt.Sprintf("%.0f", trayWakes), floor: "1", ratio: trayWakes, goal: 1, atMost: true},
	), nil
}

// observe is a process that somebody else has started.
func observe(pid int) *process {
	p := &process{cmd: &exec.Cmd{}}
	p.cmd.Process, _ = os.FindProcess(pid)
	return p
}

// bareTray is what an icon costs by the same library.
func (b *bench) bareTray(ctx context.Context, d *harness.Desktop) (float64, error) {
	p, err := d.Launch("dtray", b.floor("dtray"))
	if err != nil {
		return 0, err
	}
	defer p.Kill()
	if err := d.Session.Awaits(ctx, fmt.Sprintf("org.kde.StatusNotifierItem-%d-1", p.PID())); err != nil {
		return 0, err
	}
	time.Sleep(5 * time.Second)
	return observe(p.PID()).rss(), nil
}

func p50(l []time.Duration) time.Duration { return slices.Sorted(slices.Values(l))[len(l)/2] }
func p99(l []time.Duration) time.Duration { return slices.Sorted(slices.Values(l))[len(l)*99/100] }

// desktopStarts compares starts in a session with both buses with starts without.
func (b *bench) desktopStarts() ([]row, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	d, err := harness.StartDesktop(ctx)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	state, err := os.MkdirTemp(b.work, "start-")
	if err != nil {
		return nil, err
	}
	nowhere := []string{"HOME=" + d.Home, "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent", "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent"}
	agent := func(socket string) *exec.Cmd {
		return exec.Command(b.program("countersignd"), "run", "--state", state, "--socket", socket, "--vault-key", "file", "--device-key", "software", "--loopback-ports", "0", "--log-level", "error")
	}
	floor := func(socket string) *exec.Cmd { return exec.Command(b.floor("ddeps"), socket) }
	var with, without, status, deps []time.Duration
	for i := range 4*b.rounds + 1 {
		for _, c := range []struct {
			program func(socket string) *exec.Cmd
			env     []string
			path    string
			times   *[]time.Duration
		}{
			{agent, d.Env(), "/v1/accounts", &with}, {agent, nowhere, "/v1/accounts", &without},
			{agent, d.Env(), "/v1/status", &status}, {floor, nowhere, "/", &deps},
		} {
			socket := filepath.Join(state, "s"+strconv.Itoa(i))
			cmd := c.program(socket)
			cmd.Env = c.env
			p, took, err := firstAnswer(cmd, socket, c.path)
			if err != nil {
				return nil, err
			}
			p.stop()
			os.Remove(socket) // the floor leaves it
			if i > 0 {        // the first start makes the state
				*c.times = append(*c.times, took)
			}
		}
	}
	return []row{
		{what: "14 start to first answer on a desktop : without one", ours: us(p50(with)), floor: us(p50(without)), ratio: quotient(p50(with), p50(without)), goal: 1.1, atMost: true},
		{what: "14 start to first status on a desktop : same libraries", ours: us(p50(status)), floor: us(p50(deps)), ratio: quotient(p50(status), p50(deps)), goal: 2, atMost: true},
	}, nil
}
