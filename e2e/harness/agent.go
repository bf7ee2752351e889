package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"countersign.dev/ipc/api"
)

// Agent is a running agent with its own state folder and socket.
type Agent struct {
	*Process
	Socket string
	Port   int // the loopback port it took
	State  string
	dir    string

	programs Programs
	ports    []int
	args     []string
	env      []string
}

func startAgent(ctx context.Context, programs Programs, dir string, ports []int, args, env []string) (*Agent, error) {
	if env == nil {
		env = programEnv(dir)
	}
	a := &Agent{args: args, env: env, State: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "run", "agent.sock"), dir: dir, programs: programs, ports: ports}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return a, a.Restart(ctx)
}

// Restart starts an agent again that was stopped, on the state it left.
func (a *Agent) Restart(ctx context.Context) error {
	var ready struct {
		Ready  bool   `json:"ready"`
		Socket string `json:"socket"`
		Port   int    `json:"loopbackPort"`
	}
	// The OS keyring and the screen of the person who runs this are none of our
	// business; a test that has a desktop of its own adds --desktop auto.
	args := append([]string{"run", "--state", a.State, "--socket", a.Socket, "--loopback-ports", portList(a.ports),
		"--device-key", "software", "--vault-key", "file", "--desktop", "off"}, a.args...)
	p, err := startProcess(ctx, a.dir, filepath.Base(a.dir), a.env, &ready, a.programs.Agent, args...)
	if err != nil {
		return err
	}
	a.Process, a.Port = p, ready.Port
	if !ready.Ready || ready.Port == 0 || ready.Socket != a.Socket {
		return errors.Join(fmt.Errorf("starting %s: unexpected ready line %+v", p.Name, ready), p.Stop())
	}
	return nil
}

// More adds arguments for the next start; the last of a kind counts.
func (a *Agent) More(args ...string) { a.args = append(slices.Clone(a.args), args...) }

// Command prepares `countersign args…` for this agent.
func (a *Agent) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, a.programs.CLI, args...)
	cmd.Env = append(programEnv(a.dir), "COUNTERSIGN_SOCKET="+a.Socket, "COUNTERSIGN_STATE_DIR="+a.State)
	return cmd
}

// Run runs `countersign args…` and returns its standard output. The error is
// an *exec.ExitError when the program ended with another code than 0.
func (a *Agent) Run(ctx context.Context, args ...string) ([]byte, error) {
	return a.Tell(ctx, "", args...)
}

// Tell is Run with something on the standard input: secrets, a line each.
func (a *Agent) Tell(ctx context.Context, in string, args ...string) ([]byte, error) {
	cmd := a.Command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("countersign %s: %w\n%s", args[0], err, stderr.Bytes())
	}
	return out, nil
}

// AddAccount enrols with an enrolment link.
func (a *Agent) AddAccount(ctx context.Context, link string) error {
	_, err := a.Run(ctx, "account", "add", link)
	return err
}

// Decision is a `countersign prompt approve|deny --wait` that is under way.
type Decision struct {
	done    chan struct{}
	outcome api.PromptOutcome
	err     error
}

// Decide starts `countersign prompt ACTION --wait 30s …` like a person who sits
// in front of a terminal. It returns at once; Outcome waits.
func (a *Agent) Decide(ctx context.Context, action string, flags ...string) *Decision {
	return a.decide(ctx, "", action, flags...)
}

// Verify approves like Decide, and types the PIN.
func (a *Agent) Verify(ctx context.Context, pin string, flags ...string) *Decision {
	return a.decide(ctx, pin+"\n", "approve", append(flags, "--pin-stdin")...)
}

func (a *Agent) decide(ctx context.Context, in, action string, flags ...string) *Decision {
	d := &Decision{done: make(chan struct{})}
	go func() {
		defer close(d.done)
		out, err := a.Tell(ctx, in, append([]string{"prompt", action, "--wait", "30s", "--json"}, flags...)...)
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && len(out) > 0) {
			d.err = err
			return
		}
		if err := json.Unmarshal(out, &d.outcome); err != nil {
			d.err = fmt.Errorf("countersign prompt %s: reading %q: %w", action, out, err)
		}
	}()
	return d
}

// Outcome waits for the end of the decision.
func (d *Decision) Outcome(ctx context.Context) (api.PromptOutcome, error) {
	select {
	case <-d.done:
		return d.outcome, d.err
	case <-ctx.Done():
		return api.PromptOutcome{}, fmt.Errorf("waiting for the prompt to be answered: %w", ctx.Err())
	}
}

// Code returns the one-time code of an account, as a person reads it off.
func (a *Agent) Code(ctx context.Context, login string) (string, error) {
	out, err := a.Run(ctx, "code", "get", login)
	return strings.TrimSuffix(string(out), "\n"), err
}

// Audit returns the agent's record of decisions.
func (a *Agent) Audit(ctx context.Context) ([]api.AuditRecord, error) {
	out, err := a.Run(ctx, "audit", "--json")
	if err != nil {
		return nil, err
	}
	var records []api.AuditRecord
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var r api.AuditRecord
		if err := dec.Decode(&r); err != nil {
			return nil, fmt.Errorf("reading the audit record: %w", err)
		}
		records = append(records, r)
	}
	return records, nil
}

// WaitForPrompt waits until something waits for the person.
func (a *Agent) WaitForPrompt(ctx context.Context) (prompts []api.Prompt, err error) {
	if !await(ctx, func() bool { prompts, err = a.Prompts(ctx); return err != nil || len(prompts) > 0 }) {
		return nil, fmt.Errorf("waiting for a prompt: %w", context.Cause(ctx))
	}
	return prompts, err
}

// WaitForPromptOtherThan waits until a prompt waits for the person that is not
// the one with this id.
func (a *Agent) WaitForPromptOtherThan(ctx context.Context, id string) (prompt api.Prompt, err error) {
	there := func() bool {
		var prompts []api.Prompt
		prompts, err = a.Prompts(ctx)
		for _, p := range prompts {
			if p.ID != id {
				prompt = p
			}
		}
		return err != nil || prompt.ID != ""
	}
	if !await(ctx, there) {
		return api.Prompt{}, fmt.Errorf("waiting for another prompt than %s: %w", id, context.Cause(ctx))
	}
	return prompt, err
}

// NothingWaits waits until no prompt waits for the person any more.
func (a *Agent) NothingWaits(ctx context.Context) (err error) {
	var prompts []api.Prompt
	if !await(ctx, func() bool { prompts, err = a.Prompts(ctx); return err != nil || len(prompts) == 0 }) {
		return fmt.Errorf("waiting for %+v to go away: %w", prompts, context.Cause(ctx))
	}
	return err
}

// Status is the agent at a glance.
func (a *Agent) Status(ctx context.Context) (s api.Status, err error) {
	out, err := a.Run(ctx, "status", "--json")
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	return s, err
}

// Problem waits until the agent's status names the problem with this code.
func (a *Agent) Problem(ctx context.Context, code string) (err error) {
	var s api.Status
	there := func() bool {
		s, err = a.Status(ctx)
		return err != nil || slices.ContainsFunc(s.Problems, func(p api.Problem) bool { return p.Code == code })
	}
	if !await(ctx, there) {
		return fmt.Errorf("waiting for the problem %s, there are %+v: %w", code, s.Problems, context.Cause(ctx))
	}
	return err
}

// Prompts returns what waits for the person.
func (a *Agent) Prompts(ctx context.Context) ([]api.Prompt, error) {
	out, err := a.Run(ctx, "prompt", "list", "--json")
	if err != nil {
		return nil, err
	}
	var list api.PromptList
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("reading the prompts: %w", err)
	}
	return list.Prompts, nil
}
