package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/authenticators/devicekey/tpm/tpmtest"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// onChip is an agent's configuration with a TPM.
func onChip(t *testing.T) (Config, *tpmtest.TPM) {
	t.Helper()
	x, c := tpmtest.New(t), testConfig(t)
	c.DeviceKey, c.TPM = "auto", x.Socket
	return c, x
}

func (a *agent) problem(t *testing.T, code string) (api.Status, bool) {
	t.Helper()
	s, err := a.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Problems {
		if p.Code == code {
			if p.Message == "" || p.Hint == "" {
				t.Errorf("%+v", p)
			}
			return s, true
		}
	}
	return s, false
}

func (a *agent) silent(t *testing.T, org *oktatest.Org) int {
	t.Helper()
	return a.post(t, org.URL, org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedNone }))
}

// An account on a TPM signs in, after a restart too, and the agent says where
// its keys are.
func TestKeysInTPM(t *testing.T) {
	org := oktatest.NewOrg(t)
	c, x := onChip(t)
	a := startAgent(t, c)
	if ready := a.Ready(); ready.DeviceKey != "tpm" {
		t.Fatalf("%+v", ready)
	}
	if added := a.enrol(t, org); added.Protection != "hardware" {
		t.Errorf("protection %s", added.Protection)
	}
	if got := a.silent(t, org); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	s, err := a.client.Status(t.Context())
	if err != nil || s.DeviceKey != (api.Component{Kind: "tpm", State: "ready"}) || len(s.Problems) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if left, err := x.Loaded(); err != nil || len(left) != 0 {
		t.Errorf("left in the TPM: %x, %v", left, err)
	}
	if err := x.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := startAgent(t, c).silent(t, org); got != http.StatusOK {
		t.Errorf("after a restart: status %d", got)
	}
}

// C10: in each state of the TPM the agent starts, serves the accounts that do
// not need it, and says in one sentence what is wrong; the account that needs it
// is kept, and is refused.
func TestC10AgentStartsInEveryState(t *testing.T) {
	for _, row := range []struct {
		code string
		harm func(t *testing.T, c *Config, x *tpmtest.TPM)
		mend func(t *testing.T, c *Config, x *tpmtest.TPM) // nil: nothing does
	}{
		{"tpm_absent", func(t *testing.T, _ *Config, x *tpmtest.TPM) { x.Kill() },
			func(t *testing.T, _ *Config, x *tpmtest.TPM) {
				if err := x.Start(); err != nil {
					t.Fatal(err)
				}
			}},
		{"tpm_owner_auth_set", func(t *testing.T, _ *Config, x *tpmtest.TPM) {
			if err := x.SetOwnerAuth("theirs"); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"keys_cleared", func(t *testing.T, _ *Config, x *tpmtest.TPM) {
			if err := x.Clear(); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"keys_other_device", func(t *testing.T, c *Config, _ *tpmtest.TPM) { c.TPM = tpmtest.New(t).Socket }, nil},
	} {
		t.Run(row.code, func(t *testing.T) {
			soft, hard := oktatest.NewOrg(t), oktatest.NewOrg(t)
			c, x := onChip(t)
			address := c.TPM
			c.DeviceKey = "software"
			a := startAgent(t, c)
			a.enrol(t, soft)
			_ = a.stop()
			c.DeviceKey = "tpm"
			a = startAgent(t, c)
			a.enrol(t, hard)
			_ = a.stop()

			row.harm(t, &c, x)
			begin := time.Now()
			a = startAgent(t, c)
			t.Logf("started in %s", time.Since(begin))
			if got := a.silent(t, soft); got != http.StatusOK {
				t.Errorf("the other account: status %d", got)
			}
			if got := a.silent(t, hard); got == http.StatusOK {
				t.Error("signed without its key")
			}
			s, said := a.problem(t, row.code)
			if !said || s.Accounts != 2 {
				t.Errorf("%+v", s)
			}
			report, err := a.client.Doctor(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			named := false
			for _, check := range report.Checks {
				named = named || check.State == "failed" && check.Hint != "" && (check.Name == "TPM" || strings.HasPrefix(check.Name, "keys of "))
			}
			if !named {
				t.Errorf("doctor: %+v", report.Checks)
			}
			_ = a.stop()
			if row.mend == nil {
				return
			}
			row.mend(t, &c, x)
			c.TPM = address
			a = startAgent(t, c)
			if got := a.silent(t, hard); got != http.StatusOK {
				t.Errorf("mended: status %d", got)
			}
		})
	}
}

// The TPM stops under a running agent, and comes back.
func TestC10TPMStopsMeanwhile(t *testing.T) {
	soft, hard := oktatest.NewOrg(t), oktatest.NewOrg(t)
	c, x := onChip(t)
	c.DeviceKey = "software"
	a := startAgent(t, c)
	a.enrol(t, soft)
	_ = a.stop()
	c.DeviceKey = "auto"
	a = startAgent(t, c)
	a.enrol(t, hard)
	x.Kill()
	if got := a.silent(t, hard); got == http.StatusOK {
		t.Error("signed without its TPM")
	}
	if got := a.silent(t, soft); got != http.StatusOK {
		t.Errorf("the other account: status %d", got)
	}
	if s, said := a.problem(t, "tpm_absent"); !said || !strings.Contains(s.Problems[0].Message, "an account with its keys there cannot sign in") || s.Accounts != 2 || s.DeviceKey != (api.Component{Kind: "tpm", State: "absent"}) {
		t.Errorf("%+v", s)
	}
	// Nothing is put elsewhere in silence.
	if _, _, err := a.core.Load().store.Create(t.Context(), devicekey.Spec{Role: okta.KeyProofOfPossession}); err == nil {
		t.Error("made a key somewhere")
	}
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	if got := a.silent(t, hard); got != http.StatusOK {
		t.Errorf("back again: status %d", got)
	}
	if s, said := a.problem(t, "tpm_absent"); said {
		t.Errorf("%+v", s)
	}
}

// "auto" does without a TPM where there is none to be used, and says so where
// that could be changed.
func TestAutoWithoutTPM(t *testing.T) {
	c := testConfig(t)
	c.DeviceKey = "auto"
	a := startAgent(t, c)
	if s, err := a.client.Status(t.Context()); err != nil || s.DeviceKey != (api.Component{Kind: "software", State: "ready"}) || len(s.Problems) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	// As it is with a TPM whose device may not be opened, which root always may.
	forbidden := devicekey.State{Kind: devicekey.KindTPM, State: devicekey.PermissionDenied, Hint: "a rule"}
	_ = a.stop()
	d, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.noTPM = forbidden
	p, said := d.tpmProblem(t.Context(), d.core.Load())
	if !said || p.Code != "tpm_permission_denied" || p.Hint != "a rule" || !strings.Contains(p.Message, "software") {
		t.Errorf("%+v", p)
	}
}

// Without a TPM the agent starts as fast as ever: it looks once, and sends no
// command.
func TestMissingTPMCostsNothing(t *testing.T) {
	best := time.Hour
	for range 5 { // a machine that is busy with others is slow in none of five
		d := &Daemon{config: Config{DeviceKey: "auto", TPM: filepath.Join(t.TempDir(), "none")}, now: time.Now}
		begin := time.Now()
		if err := d.chooseKeys(); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(begin))
		if d.keysIn != devicekey.KindSoftware {
			t.Errorf("keys in %s", d.keysIn)
		}
		_ = d.tpm.Close()
	}
	if best > 20*time.Millisecond {
		t.Errorf("took %s", best)
	}
}

// Before the ready line nothing is sent to a TPM, though it is looked for.
func TestNoTPMCommandBeforeReady(t *testing.T) {
	c := testConfig(t)
	c.DeviceKey, c.TPM = "auto", filepath.Join(filepath.Dir(c.StateDir), "tpm")
	listener, err := net.Listen("unix", c.TPM)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	visits := make(chan int64, 16)
	go func() {
		defer close(visits)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, conn)
			conn.Close()
			visits <- n
		}
	}()
	d, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if ready := d.Ready(); ready.DeviceKey != "tpm" {
		t.Errorf("%+v", ready)
	}
	_ = d.Close()
	listener.Close()
	looked := 0
	for bytes := range visits {
		looked++
		if bytes != 0 {
			t.Errorf("%d bytes were sent", bytes)
		}
	}
	if looked == 0 {
		t.Error("nobody looked whether it is there")
	}
}

// C10: a TPM that takes no PIN is said to, until when; keys without one go on.
func TestC10LockoutIsSaid(t *testing.T) {
	org := oktatest.NewOrg(t)
	c, x := onChip(t)
	if err := x.SetLockout(1, 600, 600); err != nil { // the first wrong one would lock it
		t.Fatal(err)
	}
	a := startAgent(t, c)
	a.enrol(t, org)
	s, said := a.problem(t, "tpm_lockout")
	if !said || s.DeviceKey != (api.Component{Kind: "tpm", State: "lockout"}) {
		t.Errorf("%+v", s)
	}
	if got := a.silent(t, org); got != http.StatusOK {
		t.Errorf("a silent key: status %d", got)
	}
	report, err := a.client.Doctor(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(report.Checks, func(c api.Check) bool {
		return c.Name == "TPM" && c.State == "warning" && strings.Contains(c.Message, " at ") && c.Hint != ""
	}) {
		t.Errorf("doctor: %+v", report.Checks)
	}
}

// Each state has one sentence.
func TestStatesOfTPMHaveWords(t *testing.T) {
	for _, state := range []string{
		devicekey.Absent, devicekey.PermissionDenied, devicekey.Busy, devicekey.Lockout, devicekey.Cleared, devicekey.OtherDevice,
		devicekey.OwnerAuthSet, devicekey.TooOld, devicekey.SelfTestFailed, devicekey.Unavailable,
	} {
		err := explain(fmt.Errorf("make a key: %w", &devicekey.StateError{State: devicekey.State{Kind: devicekey.KindTPM, State: state, Hint: "a remedy"}}))
		var said *api.Error
		if !errors.As(err, &said) || said.Code != "tpm_"+state || said.Message == "" || said.Hint != "a remedy" {
			t.Errorf("%s: %v", state, err)
		}
	}
}
