package daemon

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"countersign.dev/ipc/api"
	"countersign.dev/okta/oktatest"
)

// lose takes the keys of all accounts away, as a folder does that was restored
// in part.
func (a *agent) lose(t *testing.T) *agent {
	t.Helper()
	_ = a.stop()
	for _, name := range []string{"keys.sealed", "keys.bak"} {
		if err := os.Remove(filepath.Join(a.config.StateDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return startAgent(t, a.config)
}

// C10: an account whose keys are lost says so, keeps its codes, and is replaced
// by adding it again, as a new device.
func TestC10LostKeysToReenrolment(t *testing.T) {
	org := oktatest.NewOrg(t)
	a := startAgent(t, testConfig(t))
	old := a.enrol(t, org)
	a = a.lose(t)
	list, err := a.client.Accounts(t.Context())
	if err != nil || list.Accounts[0].State != "keys_lost" {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, said := a.problem(t, "keys_missing"); !said {
		t.Error("not said")
	}
	if code, err := a.client.Code(t.Context(), old.ID); err != nil || len(code.Code) != 6 {
		t.Errorf("%+v, %v", code, err)
	}
	for _, in := range []api.ChangeKeys{{Action: "rotate"}, {Action: "verify"}} {
		if _, err := a.client.ChangeKeys(t.Context(), old.ID, in); refusalOf(t, err).Code != "keys_lost" {
			t.Errorf("%v", err)
		}
	}
	now, _, err := a.add(t, api.BeginEnrolment{Org: org.URL})
	if err != nil || now.State != "active" || len(now.Notes) != 0 {
		t.Fatalf("%+v, %v", now, err)
	}
	if d := org.Enrolments()[1].Device; d.ID != "" || d.ClientInstanceKey == nil {
		t.Errorf("enrolled as %+v", d)
	}
	list, err = a.client.Accounts(t.Context())
	if err != nil || len(list.Accounts) != 1 || list.Accounts[0].ID != now.ID || !slices.Equal(org.Deleted(), []string{old.EnrolmentID}) {
		t.Fatalf("%+v, deleted %v, %v", list, org.Deleted(), err)
	}
	if got := a.silent(t, org); got != http.StatusOK {
		t.Errorf("status %d", got)
	}
}

// C10: the TPM is cleared under a running agent. It says so, and adding the
// account again replaces it, with a key that is in the TPM.
func TestC10ClearedTPMToReenrolment(t *testing.T) {
	org := oktatest.NewOrg(t)
	c, x := onChip(t)
	a := startAgent(t, c)
	old := a.enrol(t, org)
	if err := x.Clear(); err != nil {
		t.Fatal(err)
	}
	if got := a.silent(t, org); got == http.StatusOK {
		t.Error("signed with a key that is gone")
	}
	if _, said := a.problem(t, "keys_cleared"); !said {
		t.Error("not said")
	}
	list, err := a.client.Accounts(t.Context())
	if err != nil || len(list.Accounts) != 1 || list.Accounts[0].State != "keys_lost" {
		t.Fatalf("%+v, %v", list, err)
	}
	keys, err := a.client.Keys(t.Context())
	if err != nil || len(keys.Keys) != 3 || keys.Keys[0].State != "lost" || keys.Keys[0].Kind != "tpm" {
		t.Errorf("%+v, %v", keys, err)
	}
	now, _, err := a.add(t, api.BeginEnrolment{Org: org.URL})
	if err != nil || now.Protection != "hardware" || !slices.Equal(org.Deleted(), []string{old.EnrolmentID}) {
		t.Fatalf("%+v, %v", now, err)
	}
	if got := a.silent(t, org); got != http.StatusOK {
		t.Errorf("status %d", got)
	}
	if _, said := a.problem(t, "keys_cleared"); said {
		t.Error("said still")
	}
}

// C1: the state on another computer signs nothing, and says why; back at home it
// is as it was.
func TestC1CopiedStateSaysWhereItsKeysAre(t *testing.T) {
	org := oktatest.NewOrg(t)
	c, _ := onChip(t)
	a := startAgent(t, c)
	a.enrol(t, org)
	_ = a.stop()
	home := c.TPM
	other, _ := onChip(t)
	c.TPM = other.TPM
	b := startAgent(t, c)
	if got := b.silent(t, org); got == http.StatusOK {
		t.Error("signed elsewhere")
	}
	list, err := b.client.Accounts(t.Context())
	if err != nil || len(list.Accounts) != 1 || list.Accounts[0].State != "keys_lost" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, said := b.problem(t, "keys_other_device"); !said {
		t.Error("not said")
	}
	_ = b.stop()
	c.TPM = home
	if got := startAgent(t, c).silent(t, org); got != http.StatusOK {
		t.Errorf("at home: status %d", got)
	}
}

// A TPM that is away: its keys are listed as what they are, and come back with it.
func TestKeysOfATPMThatIsAway(t *testing.T) {
	org := oktatest.NewOrg(t)
	c, x := onChip(t)
	a := startAgent(t, c)
	a.enrol(t, org)
	for _, want := range []string{"ready", "absent", "ready"} {
		if want == "absent" {
			x.Kill()
		} else if err := x.Start(); err != nil {
			t.Fatal(err)
		}
		keys, err := a.client.Keys(t.Context())
		if err != nil || len(keys.Keys) != 3 {
			t.Fatalf("%+v, %v", keys, err)
		}
		for _, k := range keys.Keys {
			if k.State != want {
				t.Errorf("%s: %+v", want, k)
			}
		}
	}
}
