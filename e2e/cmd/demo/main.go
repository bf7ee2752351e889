// Command demo runs the main job of Countersign once, without questions: it
// starts the reference org and the agent on temporary state, enrols alice by
// a link, and signs her in at the published Okta Sign-In Widget in a real
// headless Chromium: by her password, and by a signature of this device. It
// prints what happened and how long each step took.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"countersign.dev/e2e/harness"
)

const (
	app           = "demo-web"
	wholeDemo     = 2 * time.Minute
	widgetVersion = "7.49.0"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, wholeDemo, fmt.Errorf("the demo took longer than %v", wholeDemo))
	defer cancel()
	dir, err := os.MkdirTemp("", "countersign-demo-")
	if err == nil {
		err = run(ctx, dir)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\nhint: the logs are in %s\n", err, dir)
		stop()
		os.Exit(1)
	}
	os.RemoveAll(dir)
}

// took prints one line of the report.
func took(what string, d time.Duration, detail string) {
	fmt.Printf("  %-26s %6d ms  %s\n", what, d.Milliseconds(), detail)
}

// step runs one step and prints its line.
func step(what string, do func() (detail string, err error)) error {
	began := time.Now()
	detail, err := do()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	took(what, time.Since(began), detail)
	return nil
}

// show is the whole demo; what it has started is ended by run.
type show struct {
	dir     string
	stage   *harness.Stage
	site    *harness.Site
	browser *harness.Browser
	page    *harness.Page
	result  struct {
		Error   string `json:"error"`
		IDToken string `json:"idToken"`
	}
	who harness.Identity
}

func run(ctx context.Context, dir string) (err error) {
	s := &show{dir: dir}
	defer func() {
		if closing := s.close(); err == nil {
			err = closing
		}
	}()
	fmt.Println("Countersign: a sign-in with the published widget in a real browser")
	fmt.Println()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	fmt.Println()
	began := time.Now()
	if err := s.signIn(ctx); err != nil {
		s.page.KeepScreenshot(filepath.Join(dir, "page.png"))
		return err
	}
	whole := time.Since(began)
	fmt.Println()
	fmt.Printf("Signed in: %s to %s, by %s, in %d ms\n", s.who.Username, app, inWords(s.who.AMR), whole.Milliseconds())
	return nil
}

func (s *show) close() error {
	if s.browser != nil {
		s.browser.Close()
	}
	if s.site != nil {
		s.site.Close()
	}
	if s.stage != nil {
		return s.stage.Stop()
	}
	return nil
}

// prepare starts all that takes part, and enrols alice.
func (s *show) prepare(ctx context.Context) error {
	programs, err := harness.FindPrograms(ctx)
	if err != nil {
		return err
	}
	if err := step("org started", func() (string, error) {
		s.stage, err = harness.NewStage(ctx, programs, harness.StageOptions{Dir: s.dir})
		if err != nil {
			return "", err
		}
		return s.stage.Org.URL, nil
	}); err != nil {
		return err
	}
	var agent *harness.Agent
	if err := step("agent started", func() (string, error) {
		agent, err = s.stage.StartAgent(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("listens to browsers on port %d", agent.Port), nil
	}); err != nil {
		return err
	}
	if err := step("account enrolled", func() (string, error) {
		return harness.Alice + ", by an enrolment link", s.stage.Enrol(ctx, agent, harness.Alice)
	}); err != nil {
		return err
	}
	return step("browser started", func() (string, error) {
		if s.site, err = harness.StartSite(s.stage.Org.URL); err != nil {
			return "", err
		}
		if s.browser, err = harness.StartBrowser(); err != nil {
			return "", err
		}
		s.page, err = s.browser.NewPage()
		return s.browser.Version(), err
	})
}

// signIn does what alice does, and then what the app does.
func (s *show) signIn(ctx context.Context) error {
	if err := step("sign-in page shown", func() (string, error) {
		if err := s.page.Open(ctx, s.site.Page(harness.Gen3, app, "default", harness.Tokens)); err != nil {
			return "", err
		}
		return "Okta Sign-In Widget " + widgetVersion + ", generation 3", s.page.WaitFor(ctx, harness.FieldIdentifier)
	}); err != nil {
		return err
	}
	if err := step("name typed", func() (string, error) {
		if err := s.page.Identify(ctx, harness.Alice); err != nil {
			return "", err
		}
		return harness.Alice, s.page.WaitFor(ctx, harness.FieldPassword)
	}); err != nil {
		return err
	}
	if err := step("password typed, signed in", func() (string, error) {
		if err := s.page.EnterPassword(ctx, harness.Password); err != nil {
			return "", err
		}
		if err := s.page.VerifyWithDevice(ctx, "the tokens", harness.ResultShown); err != nil {
			return "", err
		}
		return "the widget found the agent and handed it the challenge", s.page.Result(ctx, &s.result)
	}); err != nil {
		return err
	}
	probe, challenge, err := s.onLoopback(ctx)
	if err != nil {
		return err
	}
	took("  of that, probe", probe, "GET /probe, as the browser measured it")
	took("  of that, challenge", challenge, "POST /challenge: checked, signed, delivered to the org")
	if s.result.Error != "" {
		return fmt.Errorf("the widget told the app: %s", s.result.Error)
	}
	return step("id token verified", func() (detail string, err error) {
		s.who, err = harness.VerifyIDToken(ctx, s.stage.Org.URL+"/oauth2/default", app, s.result.IDToken)
		if err == nil && !s.who.ByPasswordAndKey() {
			err = fmt.Errorf("the sign-in was not by password and key: amr %v", s.who.AMR)
		}
		return "with the keys the org publishes; amr " + strings.Join(s.who.AMR, ", "), err
	})
}

// onLoopback reads how long the browser's two calls to the agent took.
func (s *show) onLoopback(ctx context.Context) (probe, challenge time.Duration, err error) {
	var ms struct{ Probe, Challenge float64 }
	err = s.page.Eval(ctx, &ms, `(() => {
		const took = (path) => performance.getEntriesByType('resource').filter((e) => e.name.endsWith(path)).reduce((sum, e) => sum + e.duration, 0);
		return { Probe: took('/probe'), Challenge: took('/challenge') };
	})()`)
	if err == nil && ms.Challenge == 0 {
		err = fmt.Errorf("the browser never asked the agent")
	}
	return time.Duration(ms.Probe * 1e6), time.Duration(ms.Challenge * 1e6), err
}

// inWords says how somebody signed in.
func inWords(amr []string) string {
	var said []string
	for _, m := range []struct{ method, word string }{
		{"pwd", "a password"}, {"hwk", "a key kept by hardware"}, {"swk", "a key kept by software"},
	} {
		if slices.Contains(amr, m.method) {
			said = append(said, m.word)
		}
	}
	words := strings.Join(said, " and ")
	if slices.Contains(amr, "phr") {
		words += ", safe from phishing"
	}
	return words
}
