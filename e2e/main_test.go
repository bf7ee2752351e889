// Package e2e holds the stories of the whole product: what a person sees who
// signs in with the published widget, or with the org's own page, while the
// agent runs beside the browser.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
)

// One browser process and one set of programs serve all tests; each test has
// pages, profiles, orgs and agents of its own.
var (
	programs harness.Programs
	browser  *harness.Browser
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if programs, err = harness.FindPrograms(context.Background()); err == nil {
		_, err = harness.WidgetDir()
	}
	if err == nil {
		browser, err = harness.StartBrowser()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	// Stories wait for a good part of their time: one more than there are processors.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1)); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
	code := m.Run()
	if err := browser.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: closing the browser:", err)
	}
	return code
}

const storyTime = 45 * time.Second

// deadline bounds one story. It is long because a busy machine with race
// binaries is slow; no story waits for it unless something is broken.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), storyTime, fmt.Errorf("the story took longer than %v", storyTime))
	t.Cleanup(cancel)
	return ctx
}

// must ends the story when a step of it failed.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newStage starts a demo org, and when the test ends stops everything on it.
// A program that crashes, hangs or races fails the test.
func newStage(t *testing.T, o harness.StageOptions) *harness.Stage {
	t.Helper()
	s, err := harness.NewStage(deadline(t), programs, o)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.Org.Tail())
			for _, a := range s.Agents {
				t.Log(a.Tail())
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newAgent starts an agent and enrols the users on it.
func newAgent(t *testing.T, s *harness.Stage, ports []int, users ...string) *harness.Agent {
	t.Helper()
	ctx := deadline(t)
	a, err := s.StartAgent(ctx, ports...)
	must(t, err)
	for _, u := range users {
		must(t, s.Enrol(ctx, a, u))
	}
	return a
}

func newSite(t *testing.T, org *harness.Org) *harness.Site {
	t.Helper()
	site, err := harness.StartSite(org.URL)
	must(t, err)
	t.Cleanup(func() { site.Close() })
	return site
}

func newPage(t *testing.T) *harness.Page {
	t.Helper()
	p, err := browser.NewPage()
	must(t, err)
	t.Cleanup(p.Close)
	return p
}
