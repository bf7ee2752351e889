package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"countersign.dev/daemon/account"
	"countersign.dev/ipc/api"
	"countersign.dev/ipc/peer"
)

// Status says how the agent is doing, and what is wrong.
func (f front) Status(ctx context.Context) (api.Status, error) {
	d := f.d
	d.awaitUnlock(ctx)
	d.lookAround()
	d.lookAtDesktop(ctx)
	kind, state := d.vault.State()
	s := api.Status{
		Agent:          api.Agent{Version: d.config.Version, PID: d.pid(), StartedAt: d.started.UTC()},
		DeviceKey:      api.Component{Kind: string(d.keysIn), State: "locked"},
		VaultKey:       api.Component{Kind: string(kind), State: state},
		Loopback:       api.Loopback{Port: d.port(), State: "listening"},
		FrontEnds:      d.prompts.FrontEnds(),
		PendingPrompts: d.prompts.Len(),
		Accounts:       len(d.index.Accounts),
		Hold:           holdView(d.prompts.Held()),
		Session:        d.screen.view(),
	}
	if s.Loopback.Port == 0 {
		s.Loopback.State = "no_free_port"
	}
	c := d.core.Load()
	if c != nil {
		// First: what it finds out about the TPM shows in the problems.
		keys := c.store.State(ctx)
		s.DeviceKey = api.Component{Kind: string(keys.Kind), State: keys.State}
		s.Accounts = len(c.book.All())
		s.Verification, s.GraceSeconds = c.states(ctx), int(d.config.VerificationGrace/time.Second)
		if p, ok := d.tpmProblem(ctx, c); ok {
			s.Problems = append(s.Problems, p)
		}
		s.Problems = append(s.Problems, d.problems()...)
		s.Problems = append(s.Problems, d.reach.look(d.ctx, c, d.now)...)
		d.quiet.Reset(quietAfter)
		return s, nil
	}
	s.Problems = d.problems()
	return s, nil
}

// problems lists what keeps the agent from its job, without asking anybody.
func (d *Daemon) problems() []api.Problem {
	list := []api.Problem{}
	add := func(code, message, hint string) {
		list = append(list, api.Problem{Code: code, Message: message, Hint: hint})
	}
	if err := d.hub.failure(); err != nil {
		add("state_damaged", err.Error(), "stop the agent, look at the file, and put its backup in its place if that is right")
	} else if d.vault.Locked() {
		add("vault_locked", "the agent's state is locked: "+whyLocked(d.vault.LockReason()), d.unlockHint())
	}
	if err := d.vault.Fallback(); err != nil {
		add("vault_file_only", "the OS keyring did not answer at the first start, so the state is protected by file permissions only", "to change that: countersign vault rekey --to keyring, or to tpm or passphrase")
	}
	for _, left := range d.vault.Leftovers() {
		add("vault_key_left", leftoverWords(left), leftoverHint(left))
	}
	if d.pages == nil {
		message := fmt.Sprintf("no loopback port is free (%s)", portList(d.config.LoopbackPorts))
		if d.busy != "" {
			message += ": " + d.busy
		}
		add("no_free_port", message, "stop what listens there, or choose others with --loopback-ports, and start the agent again")
	}
	if c := d.core.Load(); c != nil {
		if err := d.recordProblem(c); err != nil {
			e := notWritten(err)
			if e == nil {
				e = &api.Error{Message: "the record of decisions cannot be written: " + err.Error(), Hint: "look at the disk of the state folder, and start the agent again"}
			}
			add("state_not_written", e.Message+"; sign-ins are refused until it can", e.Hint)
		}
		for _, a := range c.book.All() {
			if a.Usable() {
				if p, ok := keyProblem(d.ctx, c, a); ok {
					list = append(list, p)
				}
				if r := a.Rekeying; r != nil && r.Sent {
					add("keys_unsettled", "it is not known yet whether the org of "+accountView(a).Name+" has its new keys; the old ones are used until then", unsettledHint(r.Action, a.ID))
				}
			}
			list = append(list, c.noticeProblems(a, d.now())...)
			if a.PushesHeld && a.Usable() {
				add("pushes_held", "pushes of "+accountView(a).Name+" are held back: a sign-in was reported", "when it is safe again: countersign prompt resume "+a.ID)
			}
			switch a.State {
			case account.Gone:
				add("account_gone", "the org no longer knows the enrolment of "+accountView(a).Name, "countersign account remove "+a.ID+", then enrol again")
			case account.Suspended:
				add("account_suspended", "the org has suspended the enrolment of "+accountView(a).Name, "ask the org's administrator")
			case account.Enrolling:
				add("enrolment_pending", "an enrolment at "+a.OrgURL+" was not finished", "add the account again, or countersign account remove "+a.ID)
			case account.Removing:
				add("removal_pending", "the removal of "+accountView(a).Name+" was not finished", "countersign account remove "+a.ID)
			}
		}
	}
	return list
}

// portHolder says who listens at a loopback port, as far as this user may know.
func portHolder(port int) string {
	p, err := peer.OfListener(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)))
	if err != nil {
		return ""
	}
	who := fmt.Sprintf("user %d", p.UID)
	if p.Mine() {
		who = "this user"
	}
	if p.PID != 0 {
		who += fmt.Sprintf(", process %d", p.PID)
	}
	if p.Executable != "" {
		who += " (" + p.Executable + ")"
	}
	return who
}

// whoHas names the holders of ports.
func whoHas(ports []int) string {
	var holders []string // in the order of their first port
	held := map[string][]int{}
	for _, port := range ports {
		who := portHolder(port)
		if who == "" {
			continue
		}
		if held[who] == nil {
			holders = append(holders, who)
		}
		held[who] = append(held[who], port)
	}
	var parts []string
	for _, who := range holders {
		verb := "is"
		if len(held[who]) > 1 {
			verb = "are"
		}
		parts = append(parts, fmt.Sprintf("%s %s held by %s", portList(held[who]), verb, who))
	}
	return strings.Join(parts, "; ")
}

func portList(ports []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ports), " ", ", "), "[]")
}
