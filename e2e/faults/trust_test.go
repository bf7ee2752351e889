//go:build linux

package faults

import (
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
)

// wayFault is a fault of the way to the org as a whole: nothing arrives there,
// least of all what is secret.
type wayFault struct {
	name string
	hurt func(*world) error
	mend func(*world) error
	says string // part of the agent's word for it
}

// shown is a fault of the certificate that whoever answers shows.
func shown(issue func(w *world) (*tls.Config, error)) (hurt, mend func(*world) error) {
	show := func(w *world, issue func(*world) (*tls.Config, error)) error {
		config, err := issue(w)
		if err == nil {
			w.proxy.Certificate(config)
			w.proxy.Cut()
		}
		return err
	}
	return func(w *world) error { return show(w, issue) }, func(w *world) error {
		return show(w, func(w *world) (*tls.Config, error) { return ca.issue(w.host, time.Now().Add(time.Hour)) })
	}
}

func certificate(name, says string, issue func(w *world) (*tls.Config, error)) wayFault {
	f := wayFault{name: name, says: says}
	f.hurt, f.mend = shown(issue)
	return f
}

// later are the faults that only a slow run tries.
var later = []string{"another name", "the resolver fails", "the resolver is silent", "nobody listens"}

func resolver(name string, fault nameFault, says string) wayFault {
	return wayFault{name: name, says: says,
		hurt: func(w *world) error { names.faults.Store(w.host, fault); w.proxy.Cut(); return nil },
		mend: func(w *world) error { names.faults.Delete(w.host); return nil },
	}
}

var wayFaults = []wayFault{
	certificate("another authority", "certificate", func(w *world) (*tls.Config, error) {
		other, err := newAuthority()
		if err != nil {
			return nil, err
		}
		return other.issue(w.host, time.Now().Add(time.Hour))
	}),
	certificate("another name", "certificate", func(*world) (*tls.Config, error) { return ca.issue("evil."+domain, time.Now().Add(time.Hour)) }),
	certificate("expired", "certificate", func(w *world) (*tls.Config, error) { return ca.issue(w.host, time.Now().Add(-time.Minute)) }),
	resolver("no such name", noSuchName, "no such host"),
	resolver("the resolver fails", serverFails, ""),
	resolver("the resolver is silent", serverSilent, ""),
	{name: "nobody listens", says: "refused",
		hurt: func(w *world) error { w.proxy.Refuse(); return nil },
		mend: func(w *world) error { return nil }},
	{name: "the network is gone", says: "",
		hurt: func(w *world) error { w.proxy.Break(everything, harness.CutBefore); w.proxy.Cut(); return nil },
		mend: func(w *world) error { return nil }},
}

func everything(*http.Request) bool { return true }

// E11: names, certificates and the network as a whole fail, before an enrolment
// and before and during an answer: the agent says which, tells nothing to who
// answers in the org's place, and everything works when it is over.
func TestE11NamesAndCertificates(t *testing.T) {
	t.Parallel()
	for _, f := range wayFaults {
		if !slow && slices.Contains(later, f.name) {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, place{})
			hurt := func() {
				if err := f.hurt(w); err != nil {
					t.Errorf("%s: %v", f.name, err)
				}
			}
			heal := func() { must(t, f.mend(w)); must(t, w.proxy.Heal()) }
			nothingTold := func(before int) {
				t.Helper()
				if w.proxy.Handshakes() != before && f.name != "the network is gone" {
					t.Error("the agent finished a handshake with whoever it was")
				}
			}

			link := w.link()
			hurt()
			before := w.proxy.Handshakes()
			_, err := w.client.AddAccount(w.ctx(), addition(link))
			if code := w.code(err); code != "org_unreachable" || !strings.Contains(err.Error(), f.says) {
				t.Errorf("enrolling says %v", err)
			}
			nothingTold(before)
			if p := w.problems(); len(p) != 0 {
				t.Errorf("nothing was begun, and the agent reports %v", p)
			}
			heal()
			if _, code := w.add(link); code != "" {
				t.Fatalf("the same link afterwards: %s", code)
			}
			w.mustHold()

			// Before the challenge, with the org's keys at hand or not.
			for _, keys := range []bool{true, false} {
				if keys {
					w.signIn(silent)
				} else {
					w.restartAgent()
				}
				v := w.begin(silent)
				hurt()
				before = w.proxy.Handshakes()
				if got := v.hand(""); got != http.StatusBadGateway {
					t.Errorf("keys at hand %t: the page is told %d", keys, got)
				}
				nothingTold(before)
				w.eventually("the agent names the trouble", func() bool {
					p := w.problems()["org_unreachable"]
					return p != "" && strings.Contains(p, f.says)
				})
				heal()
				if got := v.status(); got != "PENDING" {
					t.Errorf("keys at hand %t: the org's challenge is %s", keys, got)
				}
				w.eventually("the org's keys are asked for again", func() bool {
					v := w.begin(silent)
					return v.hand("") == http.StatusOK && v.signedIn()
				})
				w.mustHold()
			}

			// While the person decides.
			v := w.begin(asking)
			w.person.before(hurt)
			if got := v.hand("approve"); got != http.StatusBadGateway {
				t.Errorf("while deciding: the page is told %d", got)
			}
			heal()
			if got := v.status(); got != "PENDING" {
				t.Errorf("while deciding: the org's challenge is %s", got)
			}
			w.eventually("a sign-in works again", func() bool { // who asked the resolver before it was mended waits in vain
				v := w.begin(asking)
				return v.hand("approve") == http.StatusOK && v.signedIn()
			})
			w.signIn(asking)
			w.mustHold()
		})
	}
}
