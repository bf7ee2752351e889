package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"countersign.dev/org/store"
)

// Stage is one org with its agents and their temporary state. Every stage is
// independent of every other: own ports, own folders, own keys.
type Stage struct {
	Dir      string // 0700, short enough for a socket path
	Ports    []int  // the loopback ports that the org names in its challenges
	Org      *Org
	Agents   []*Agent
	programs Programs

	agentArgs, agentEnv []string
}

// StageOptions change how the org of a stage is started. The zero value is
// the demo org on a free port.
type StageOptions struct {
	Dir            string   // default: a fresh temporary folder, removed by Close
	Listen         string   // default 127.0.0.1:0
	Ports          int      // how many loopback ports the org lists, default 2
	LoopbackPorts  []int    // the very ports to list, instead of free ones
	TrustedOrigins []string // besides the demo's http://localhost:*
	OrgArgs        []string // further arguments of the org
	AgentArgs      []string // further arguments of every agent; the last of a kind counts
	KeyHelper      string   // a countersign-sk that agents find beside them; default: none
	AgentEnv       []string // what agents see of their surroundings, e.g. a desktop's; default: nothing
	Clock          *Clock   // runs the org in this process, by this clock
}

// NewStage starts the demo org.
func NewStage(ctx context.Context, programs Programs, o StageOptions) (*Stage, error) {
	s := &Stage{Dir: o.Dir, Ports: o.LoopbackPorts, programs: programs, agentArgs: o.AgentArgs, agentEnv: o.AgentEnv}
	if s.Dir == "" {
		dir, err := os.MkdirTemp("", "cs-e2e-")
		if err != nil {
			return nil, err
		}
		s.Dir = dir
	}
	if s.Ports == nil {
		var err error
		if s.Ports, err = FreePorts(max(o.Ports, 2)); err != nil {
			return nil, err
		}
	}
	if o.KeyHelper != "" {
		var err error
		if s.programs.Agent, err = beside(o.KeyHelper, programs.Agent, filepath.Join(s.Dir, "bin")); err != nil {
			return nil, err
		}
	}
	start := startOrg
	if o.Clock != nil {
		start = openOrg
	}
	org, err := start(ctx, programs, s.Dir, s.Ports, o)
	if err != nil {
		return nil, err
	}
	s.Org = org
	return s, nil
}

// StartAgent starts one more agent on the first free of the given loopback
// ports; none given means the ports of the stage.
func (s *Stage) StartAgent(ctx context.Context, ports ...int) (*Agent, error) {
	if len(ports) == 0 {
		ports = s.Ports
	}
	name := fmt.Sprintf("agent%d", len(s.Agents)+1)
	a, err := startAgent(ctx, s.programs, filepath.Join(s.Dir, name), ports, s.agentArgs, s.agentEnv)
	if err != nil {
		return nil, err
	}
	s.Agents = append(s.Agents, a)
	return a, nil
}

// Enrol gives user an account on agent by an enrolment link.
func (s *Stage) Enrol(ctx context.Context, agent *Agent, user string) error {
	link, err := s.Org.EnrolmentLink(ctx, user)
	if err != nil {
		return err
	}
	return agent.AddAccount(ctx, link)
}

// Write changes what the org has stored, past its back.
func (s *Stage) Write(ctx context.Context, change func(store.Tx) error) error {
	db, err := store.Open(ctx, filepath.Join(s.Dir, "org", "org.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Write(ctx, change)
}

// Stop ends every process of the stage, agents first, and keeps the folder.
func (s *Stage) Stop() error {
	var errs []error
	for _, a := range s.Agents {
		errs = append(errs, a.Stop())
	}
	if s.Org != nil {
		errs = append(errs, s.Org.Stop())
	}
	return errors.Join(errs...)
}

// Close stops every process and removes the folder.
func (s *Stage) Close() error {
	return errors.Join(s.Stop(), os.RemoveAll(s.Dir))
}

// beside copies the agent and what talks to security keys for it into one folder,
// which is where the agent looks for it, and returns the agent there.
func beside(helper, agent, folder string) (string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for from, name := range map[string]string{helper: "countersign-sk", agent: filepath.Base(agent)} {
		program, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		syscall.ForkLock.RLock() // no child that starts meanwhile holds it open for writing
		err = os.WriteFile(filepath.Join(folder, name), program, 0o755)
		syscall.ForkLock.RUnlock()
		if err != nil {
			return "", err
		}
	}
	return filepath.Join(folder, filepath.Base(agent)), nil
}
