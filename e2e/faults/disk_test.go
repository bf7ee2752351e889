//go:build linux

package faults

import (
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
	"countersign.dev/okta"
)

// onDisk makes a world whose agent, or org, keeps its state on a disk that can
// be filled.
func onDisk(t *testing.T, whose string) (*world, *smallDisk) {
	t.Helper()
	d := newSmallDisk(t, "16m")
	if d.own {
		t.Parallel()
	}
	p := place{agent: filepath.Join(d.dir, "state")}
	if whose == "org" {
		p = place{org: filepath.Join(d.dir, "org")}
	}
	w := newWorld(t, p)
	t.Cleanup(func() { _ = d.drain() }) // before the world is taken down
	return w, d
}

// full fills the disk.
func (w *world) full(t *testing.T, d *smallDisk) func() {
	return func() {
		if err := d.fill(); err != nil {
			t.Errorf("filling the disk: %v", err)
		}
	}
}

// lastByte fills the disk down to what is left in the last block of the record:
// enrolments that fail are put on record, too.
func (w *world) lastByte(t *testing.T, d *smallDisk) func() {
	nobody := okta.EnrolmentLink{Login: harness.Alice, Token: "a-token-that-nobody-sees", AuthenticatorID: "aut", OrgURL: "https://127.0.0.1:1"}.URL()
	return func() {
		w.full(t, d)()
		for range 40 {
			if s, err := w.client.Status(t.Context()); err != nil || slices.ContainsFunc(s.Problems, func(p api.Problem) bool { return p.Code == "state_not_written" }) {
				return
			}
			_, _ = w.client.AddAccount(t.Context(), addition(nobody))
		}
		t.Error("the record never ran out of room")
	}
}

// The agent's disk is full at each step of an enrolment.
func TestC4AgentDiskFullWhileEnrolling(t *testing.T) {
	w, d := onDisk(t, "agent")
	for _, row := range []struct {
		name string
		when func(fill func())
	}{
		{"before", func(fill func()) { fill() }},
		{"when it has asked what is offered", func(fill func()) {
			w.proxy.Break(harness.On(http.MethodGet, okta.AuthenticatorConfigurationPath), harness.Then(fill))
		}},
		{"when the org is about to enrol", func(fill func()) {
			w.proxy.Break(harness.On(http.MethodPost, okta.AppAuthenticatorsPath), harness.First(fill))
		}},
		{"when the org has enrolled", func(fill func()) {
			w.proxy.Break(harness.On(http.MethodPost, okta.AppAuthenticatorsPath), harness.Then(fill))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.t = t
			link := w.link()
			row.when(w.full(t, d))
			if _, code := w.add(link); code != "state_not_written" {
				t.Errorf("enrolling without room to remember it says %q", code)
			}
			w.problems() // answered at all
			must(t, d.drain())
			must(t, w.proxy.Heal())
			if _, code := w.add(link); code != "" {
				t.Fatalf("the same link afterwards: %s", code)
			}
			w.mustHold()
			w.signIn(silent)
			w.signIn(asking)
			w.restartAgent() // what it remembers is on the disk
			w.mustHold()
			w.signIn(silent)
			w.forget()
		})
	}
}

// The agent's disk is full at each step of an answer.
func TestC4AgentDiskFullWhileAnswering(t *testing.T) {
	w, d := onDisk(t, "agent")
	w.enrolled()
	for _, row := range []struct {
		name   string
		when   func(fill func())
		action string
		org    string
	}{
		{"before the challenge", func(fill func()) { fill() }, "approve", "PENDING"},
		{"while the person decides, approve", func(fill func()) { w.person.before(fill) }, "approve", "PENDING"},
		{"while the person decides, deny", func(fill func()) { w.person.before(fill) }, "deny", "PENDING"},
		{"when the answer is on its way", func(fill func()) {
			w.proxy.Break(harness.On(http.MethodPost, "/verify"), harness.First(fill))
		}, "approve", "APPROVED"},
		{"when the org has taken the answer", func(fill func()) {
			w.proxy.Break(harness.On(http.MethodPost, "/verify"), harness.Then(fill))
		}, "approve", "APPROVED"},
		{"when the answer is lost", func(fill func()) {
			w.proxy.Break(harness.On(http.MethodPost, "/verify"), func(x *harness.Crossing) bool { fill(); return false })
		}, "approve", "PENDING"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.t = t
			if !d.own && row.name == "when the answer is on its way" {
				row.org = "PENDING" // then the org cannot write either
			}
			v := w.begin(asking)
			row.when(w.lastByte(t, d))
			told := v.hand(row.action)
			if (told == http.StatusOK) != (row.org == "APPROVED") {
				t.Errorf("the page is told %d, and the challenge should be %s", told, row.org)
			}
			if p := w.problems(); p["state_not_written"] == "" {
				t.Errorf("the agent does not say that its disk is full: %v", p)
			}
			must(t, d.drain())
			must(t, w.proxy.Heal())
			if got := v.status(); got != row.org {
				t.Errorf("the org's challenge is %s, want %s", got, row.org)
			}
			if v.signedIn() != (row.org == "APPROVED") {
				t.Errorf("signed in: %t", v.signedIn())
			}
			w.mustHold()
			w.signIn(asking)
			w.restartAgent()
			w.mustHold()
			w.signIn(silent)
		})
	}
}

// orgDisk is a way in which the org cannot write its database any more.
type orgDisk struct {
	name string
	hurt func() error
	mend func() error
}

func orgDisks(t *testing.T, w *world, d *smallDisk) []orgDisk {
	t.Helper()
	var undo func() error
	list := []orgDisk{{"read-only", func() (err error) { undo, err = readOnly(w.orgState); return err }, func() error { return undo() }}}
	if d.own {
		list = append(list, orgDisk{"full", d.fill, d.drain})
	}
	return list
}

// The org cannot write, at each step of an enrolment and of an answer: it says
// so with an error of its own and has done nothing, and goes on without a
// restart when it can write again.
func TestC4OrgDatabaseNotWritable(t *testing.T) {
	w, d := onDisk(t, "org")
	disks := orgDisks(t, w, d)
	w.enrolled()
	for n, disk := range disks {
		hurt := func() {
			if err := disk.hurt(); err != nil {
				w.t.Errorf("%s: %v", disk.name, err)
			}
		}
		for _, row := range []struct {
			name string
			do   func(t *testing.T)
		}{
			{"enrol", func(t *testing.T) {
				link := w.link()
				w.proxy.Break(harness.On(http.MethodPost, okta.AppAuthenticatorsPath), harness.First(hurt))
				if _, code := w.add(link); code != "org_busy" {
					t.Errorf("enrolling says %q", code)
				}
				if p := w.problems(); p["enrolment_pending"] == "" {
					t.Errorf("no word of the pending enrolment: %v", p)
				}
				must(t, w.proxy.Heal())
				must(t, disk.mend())
				if _, code := w.add(link); code != "" {
					t.Errorf("the same link afterwards: %q", code)
				}
			}},
			{"answer", func(t *testing.T) {
				v := w.begin(asking)
				w.proxy.Break(harness.On(http.MethodPost, "/verify"), harness.First(hurt))
				if got := v.hand("approve"); got != http.StatusBadGateway {
					t.Errorf("the page is told %d", got)
				}
				must(t, w.proxy.Heal())
				must(t, disk.mend())
				if got := v.status(); got != "PENDING" {
					t.Errorf("the org's challenge is %s", got)
				}
				if v.signedIn() {
					t.Error("signed in")
				}
			}},
			{"page", func(t *testing.T) {
				o := harness.RunningOrg(w.url, "", "")
				hurt()
				_, err := o.BeginTransaction(w.ctx(), o.NewSignIn(silent, "", "http://localhost:3000/callback"))
				must(t, disk.mend())
				if err == nil {
					t.Error("a sign-in began that nobody can remember")
				}
			}},
			{"remove", func(t *testing.T) {
				a := w.enrolled()
				w.proxy.Break(harness.On(http.MethodDelete, okta.AppAuthenticatorsPath), harness.First(hurt))
				if code := w.code(w.client.RemoveAccount(w.ctx(), a.ID, false)); code != "org_busy" {
					t.Errorf("removing says %q", code)
				}
				must(t, w.proxy.Heal())
				must(t, disk.mend())
				w.mustHold()
				if code := w.code(w.client.RemoveAccount(w.ctx(), a.ID, false)); code != "" {
					t.Errorf("removing afterwards: %q", code)
				}
			}},
		} {
			if n > 0 && !slow && row.name != "answer" {
				continue
			}
			t.Run(disk.name+", "+row.name, func(t *testing.T) {
				w.t = t
				row.do(t)
				w.signIn(silent)
				w.mustHold()
				w.restartOrg()
				w.signIn(asking)
				w.mustHold()
			})
		}
	}
}
