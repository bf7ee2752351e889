// Command demo runs the main jobs of Countersign once, without questions: it
// starts the reference org and the agent on temporary state, enrols alice by
// a link, and signs her in at the published Okta Sign-In Widget in a real
// headless Chromium, by her password and four things that the agent does: a
// signature of this device, a push that is approved in the terminal with the
// number that the page shows, a one-time code, and a signature that takes her
// PIN. It prints what happened and how long each step took.
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
	verifyingApp  = "demo-uv" // wants to know that it is the user
	pin           = "471108"
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
	agent   *harness.Agent
	site    *harness.Site
	browser *harness.Browser
	page    *harness.Page
}

func run(ctx context.Context, dir string) (err error) {
	s := &show{dir: dir}
	defer func() {
		if closing := s.close(); err == nil {
			err = closing
		}
	}()
	fmt.Println("Countersign: signing in with the published widget in a real browser")
	fmt.Println()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	for _, way := range []struct {
		heading, by string
		app         string
		verify      func(context.Context) error
		amr         []string
	}{
		{"1. The key on this device", "the widget finds the agent, which answers by itself", app, s.byDevice, []string{"pwd", "okta_verify", "phr", "mfa"}},
		{"2. A push, with a number", "the agent asks, the person picks the number that the page shows", app, s.byPush, []string{"pwd", "okta_verify", "mfa"}},
		{"3. A one-time code", "the person types what the agent shows", app, s.byCode, []string{"pwd", "okta_verify", "otp", "mfa"}},
		{"4. The key that the PIN unlocks", "the app wants to know that it is the user", verifyingApp, s.byPIN, []string{"pwd", "okta_verify", "phr", "mfa"}},
	} {
		fmt.Printf("\n%s: %s\n", way.heading, way.by)
		if err := s.signIn(ctx, way.app, way.verify, way.amr); err != nil {
			s.page.KeepScreenshot(filepath.Join(dir, "page.png"))
			return err
		}
	}
	fmt.Printf("\nSigned in four times: %s, in a browser that saw no secret but the password.\n", harness.Alice)
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
	if err := step("agent started", func() (string, error) {
		s.agent, err = s.stage.StartAgent(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("listens to browsers on port %d", s.agent.Port), nil
	}); err != nil {
		return err
	}
	if err := step("PIN set", func() (string, error) {
		_, err := s.agent.Tell(ctx, pin+"\n", "pin", "set", "--stdin")
		return "a key is encrypted under it, or is in a TPM that asks for it", err
	}); err != nil {
		return err
	}
	if err := step("account enrolled", func() (string, error) {
		link, err := s.stage.Org.EnrolmentLink(ctx, harness.Alice)
		if err != nil {
			return "", err
		}
		_, err = s.agent.Tell(ctx, link+"\n"+pin+"\n", "account", "add", "-", "--pin-stdin")
		return harness.Alice + ", by an enrolment link", err
	}); err != nil {
		return err
	}
	return step("browser started", func() (string, error) {
		if s.site, err = harness.StartSite(s.stage.Org.URL); err != nil {
			return "", err
		}
		s.browser, err = harness.StartBrowser()
		if err != nil {
			return "", err
		}
		return s.browser.Version(), nil
	})
}

// signIn does what alice does on a fresh page, and then what the app does.
func (s *show) signIn(ctx context.Context, app string, verify func(context.Context) error, amr []string) error {
	if s.page != nil {
		s.page.Close()
	}
	var err error
	if s.page, err = s.browser.NewPage(); err != nil {
		return err
	}
	if err := step("name and password typed", func() (string, error) {
		if err := s.page.Open(ctx, s.site.Page(harness.Gen3, app, "default", harness.Tokens)); err != nil {
			return "", err
		}
		if err := s.page.Identify(ctx, harness.Alice); err != nil {
			return "", err
		}
		return "Okta Sign-In Widget " + widgetVersion + ", generation 3", s.page.EnterPassword(ctx, harness.Password)
	}); err != nil {
		return err
	}
	if err := verify(ctx); err != nil {
		return err
	}
	return step("id token verified", func() (string, error) {
		var result struct {
			Error   string `json:"error"`
			IDToken string `json:"idToken"`
		}
		if err := s.page.Result(ctx, &result); err != nil {
			return "", err
		}
		if result.Error != "" {
			return "", fmt.Errorf("the widget told the app: %s", result.Error)
		}
		who, err := harness.VerifyIDToken(ctx, s.stage.Org.URL+"/oauth2/default", app, result.IDToken)
		if err != nil {
			return "", err
		}
		for _, m := range amr {
			if who.Username != harness.Alice || !slices.Contains(who.AMR, m) {
				return "", fmt.Errorf("%s signed in by %v, want %s by %v", who.Username, who.AMR, harness.Alice, amr)
			}
		}
		return "with the keys the org publishes; amr " + strings.Join(who.AMR, ", "), nil
	})
}

func (s *show) byDevice(ctx context.Context) error {
	if err := step("signed in", func() (string, error) {
		return "the device answered without a question", s.page.VerifyWithDevice(ctx, "the tokens", harness.ResultShown)
	}); err != nil {
		return err
	}
	probe, challenge, err := s.onLoopback(ctx)
	if err != nil {
		return err
	}
	took("  of that, probe", probe, "GET /probe, as the browser measured it")
	took("  of that, challenge", challenge, "POST /challenge: checked, signed, delivered to the org")
	return nil
}

func (s *show) byPush(ctx context.Context) error {
	var number string
	if err := step("push sent", func() (string, error) {
		if err := s.page.ChoosePush(ctx); err != nil {
			return "", err
		}
		var err error
		number, err = s.page.Number(ctx)
		return "the page shows " + number, err
	}); err != nil {
		return err
	}
	if err := step("asked", func() (string, error) {
		prompts, err := s.agent.WaitForPrompt(ctx)
		if err != nil {
			return "", err
		}
		p := prompts[0]
		return fmt.Sprintf("sign in to %s? %s, from %s", p.App, p.User, p.Location), nil
	}); err != nil {
		return err
	}
	return step("approved, signed in", func() (string, error) {
		if _, err := s.agent.Run(ctx, "prompt", "approve", "--number", number); err != nil {
			return "", err
		}
		return "countersign prompt approve --number " + number, s.page.Until(ctx, "the tokens", harness.ResultShown)
	})
}

func (s *show) byCode(ctx context.Context) error {
	var code string
	if err := step("code read", func() (string, error) {
		if err := s.page.ChooseCode(ctx); err != nil {
			return "", err
		}
		var err error
		code, err = s.agent.Code(ctx, harness.Alice)
		return "countersign code get " + harness.Alice + ": " + code, err
	}); err != nil {
		return err
	}
	return step("code typed, signed in", func() (string, error) {
		if err := s.page.EnterCode(ctx, code); err != nil {
			return "", err
		}
		return "good once", s.page.Until(ctx, "the tokens", harness.ResultShown)
	})
}

func (s *show) byPIN(ctx context.Context) error {
	decision := s.agent.Verify(ctx, pin)
	return step("PIN typed, signed in", func() (string, error) {
		if err := s.page.VerifyWithDevice(ctx, "the tokens", harness.ResultShown); err != nil {
			return "", err
		}
		_, err := decision.Outcome(ctx)
		return "countersign prompt approve; a key that nobody can use without the PIN", err
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
