package e2e

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"countersign.dev/e2e/harness"
	"countersign.dev/ipc/api"
	"countersign.dev/org/directory"
	"countersign.dev/org/policy"
	"countersign.dev/org/store"
)

// toChoice takes a visit past the password, to where it asks how to verify.
func (v *visit) toChoice(t *testing.T, ctx context.Context, user string) {
	t.Helper()
	must(t, v.page.Identify(ctx, user))
	must(t, v.page.EnterPassword(ctx, harness.Password))
}

// mustBe fails unless the user signed in by the password and exactly these
// further methods.
func mustBe(t *testing.T, user string, who harness.Identity, err error, amr ...string) {
	t.Helper()
	must(t, err)
	want := append([]string{"mfa", "okta_verify", "pwd"}, amr...)
	slices.Sort(want)
	got := slices.Sorted(slices.Values(who.AMR))
	if who.Username != user || !slices.Equal(got, want) {
		t.Fatalf("signed in %s by %v, want %s by %v", who.Username, got, user, want)
	}
}

// byEnd waits until the app has the result.
func (v *visit) byEnd(ctx context.Context) (harness.Identity, error) {
	if err := v.page.Until(ctx, "the end of the sign-in", harness.ResultShown); err != nil {
		return harness.Identity{}, err
	}
	return v.identity(ctx)
}

// newPusher is an org that pushes, with alice on one agent.
func newPusher(t *testing.T, number string) (*harness.Stage, *harness.Agent, *harness.Site) {
	t.Helper()
	stage := newStage(t, harness.StageOptions{})
	must(t, stage.Org.NumberChallenge(deadline(t), number))
	return stage, newAgent(t, stage, nil, harness.Alice), newSite(t, stage.Org)
}

// The org pushes the sign-in, the person approves it in a terminal.
func TestPushApproved(t *testing.T) {
	t.Parallel()
	stage, agent, site := newPusher(t, "NEVER")
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			v.toChoice(t, ctx, harness.Alice)
			decision := agent.Decide(ctx, "approve")
			must(t, v.page.ChoosePush(ctx))
			who, err := v.byEnd(ctx)
			mustBe(t, harness.Alice, who, err, "swk")
			outcome, err := decision.Outcome(ctx)
			must(t, err)
			if outcome.Outcome != "approved" {
				t.Errorf("the terminal says %+v, want approved", outcome)
			}
		})
	}
}

// With a number challenge the page shows a number, and only who sees the page
// can approve.
func TestPushWithTheRightNumber(t *testing.T) {
	t.Parallel()
	stage, agent, site := newPusher(t, "ALWAYS")
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.ChoosePush(ctx))
			number, err := v.page.Number(ctx)
			must(t, err)
			p := onlyPrompt(t, ctx, agent)
			if p.Kind != "push" || !p.NeedsNumber || len(p.Numbers) != 3 || !slices.Contains(p.Numbers, number) || p.User != harness.Alice || p.App == "" {
				t.Fatalf("asked %+v, the page shows %s", p, number)
			}
			// Without a number nothing is approved, and the question stays.
			if _, err := agent.Run(ctx, "prompt", "approve", p.ID); err == nil {
				t.Fatal("approved without a number")
			}
			_, err = agent.Run(ctx, "prompt", "approve", p.ID, "--number", number)
			must(t, err)
			who, err := v.byEnd(ctx)
			mustBe(t, harness.Alice, who, err, "swk")
		})
	}
}

// B2: another number than the page shows ends the request: there is one guess,
// and nobody is signed in. Asked anew, the right one signs in.
func TestPushWithAWrongNumber(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			stage, agent, site := newPusher(t, "ALWAYS") // of its own: pushes that nobody approves are held back soon
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.ChoosePush(ctx))
			number, err := v.page.Number(ctx)
			must(t, err)
			p := onlyPrompt(t, ctx, agent)
			wrong := slices.DeleteFunc(slices.Clone(p.Numbers), func(n string) bool { return n == number })[0]
			if _, err := agent.Run(ctx, "prompt", "approve", p.ID, "--number", wrong); err == nil {
				t.Error("the terminal says that a wrong number is an approval")
			}
			must(t, v.page.Until(ctx, "the word that it was rejected", v.saying("reject this login", "denied on your device")))
			v.mustNotBeSignedIn(t)

			must(t, v.page.AskAgain(ctx))
			number, err = v.page.Number(ctx)
			must(t, err)
			next, err := agent.WaitForPromptOtherThan(ctx, p.ID)
			must(t, err)
			_, err = agent.Run(ctx, "prompt", "approve", next.ID, "--number", number)
			must(t, err)
			who, err := v.byEnd(ctx)
			mustBe(t, harness.Alice, who, err, "swk")
		})
	}
}

// The person says no on the device: the page says so, nobody is signed in, and
// it can be asked again.
func TestPushDenied(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			stage, agent, site := newPusher(t, "NEVER") // of its own: pushes that nobody approves are held back soon
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			v.toChoice(t, ctx, harness.Alice)
			decision := agent.Decide(ctx, "deny")
			must(t, v.page.ChoosePush(ctx))
			must(t, v.page.Until(ctx, "the word that it was rejected", v.saying("reject this login", "denied on your device")))
			outcome, err := decision.Outcome(ctx)
			must(t, err)
			if outcome.Outcome != "denied" {
				t.Errorf("the terminal says %+v, want denied", outcome)
			}
			v.mustNotBeSignedIn(t)

			decision = agent.Decide(ctx, "approve")
			must(t, v.page.AskAgain(ctx))
			who, err := v.byEnd(ctx)
			mustBe(t, harness.Alice, who, err, "swk")
			_, err = decision.Outcome(ctx)
			must(t, err)
		})
	}
}

// A page that has waited for a while offers to ask again: a new request takes
// the place of the old one, which nobody can approve any more.
func TestPushResent(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			stage, agent, site := newPusher(t, "ALWAYS") // of its own: pushes that nobody approves are held back soon
			ctx := deadline(t)
			tab := newPage(t)
			must(t, tab.HurryLongWaits(ctx))
			v := d.knockIn(t, tab, stage.Org, site, "demo-strict")
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.ChoosePush(ctx))
			_, err := v.page.Number(ctx)
			must(t, err)
			old := onlyPrompt(t, ctx, agent)
			must(t, v.page.Resend(ctx))
			next, err := agent.WaitForPromptOtherThan(ctx, old.ID)
			must(t, err)
			if _, err := agent.Run(ctx, "prompt", "approve", old.ID, "--number", old.Numbers[0]); err == nil {
				t.Error("the request that was replaced can be approved")
			}
			number, err := v.page.NumberAmong(ctx, next.Numbers)
			must(t, err)
			_, err = agent.Run(ctx, "prompt", "approve", next.ID, "--number", number)
			must(t, err)
			who, err := v.byEnd(ctx)
			mustBe(t, harness.Alice, who, err, "swk")
		})
	}
}

// Somebody who was not signing in says so: the page gets no second chance, and
// further pushes of the account are held back until the person lets them in.
func TestPushReported(t *testing.T) {
	t.Parallel()
	stage, agent, site := newPusher(t, "NEVER")
	ctx := deadline(t)
	own := doors[len(doors)-1]
	v := own.knock(t, stage.Org, site, "demo-strict")
	v.toChoice(t, ctx, harness.Alice)
	must(t, v.page.ChoosePush(ctx))
	p := onlyPrompt(t, ctx, agent)
	_, err := agent.Run(ctx, "prompt", "deny", p.ID, "--report")
	must(t, err)
	must(t, v.page.Until(ctx, "the end", v.saying("", "This sign-in has ended")))
	v.mustNotBeSignedIn(t)

	again := own.knock(t, stage.Org, site, "demo-strict")
	again.toChoice(t, ctx, harness.Alice)
	must(t, again.page.ChoosePush(ctx))
	must(t, agent.Problem(ctx, "pushes_held"))
	if waiting, err := agent.Prompts(ctx); err != nil || len(waiting) > 0 {
		t.Fatalf("asked all the same: %+v, %v", waiting, err)
	}
	_, err = agent.Run(ctx, "prompt", "resume", p.Account)
	must(t, err)
	last := own.knock(t, stage.Org, site, "demo-strict")
	last.toChoice(t, ctx, harness.Alice)
	decision := agent.Decide(ctx, "approve")
	must(t, last.page.ChoosePush(ctx))
	who, err := last.byEnd(ctx)
	mustBe(t, harness.Alice, who, err, "swk")
	_, err = decision.Outcome(ctx)
	must(t, err)
}

// Two devices of one person are both asked. The first answer wins, and the
// other device stops asking.
func TestPushToTwoDevices(t *testing.T) {
	t.Parallel()
	stage := newStage(t, harness.StageOptions{})
	must(t, stage.Org.NumberChallenge(deadline(t), "NEVER"))
	laptop := newAgent(t, stage, stage.Ports[:1], harness.Alice)
	desktop := newAgent(t, stage, stage.Ports[1:], harness.Alice)
	site := newSite(t, stage.Org)
	ctx := deadline(t)
	v := doors[0].knock(t, stage.Org, site, "demo-strict")
	v.toChoice(t, ctx, harness.Alice)
	must(t, v.page.ChoosePush(ctx))
	onLaptop, onDesktop := onlyPrompt(t, ctx, laptop), onlyPrompt(t, ctx, desktop)
	_, err := laptop.Run(ctx, "prompt", "approve", onLaptop.ID)
	must(t, err)
	who, err := v.byEnd(ctx)
	mustBe(t, harness.Alice, who, err, "swk")
	must(t, desktop.NothingWaits(ctx))
	if _, err := desktop.Run(ctx, "prompt", "approve", onDesktop.ID); err == nil {
		t.Error("the other device approved what was answered already")
	}
	mustHaveAnsweredNothingWell(t, desktop)
}

// mustHaveAnsweredNothingWell fails when the agent's record says that the org
// took an approval of it.
func mustHaveAnsweredNothingWell(t *testing.T, a *harness.Agent) {
	t.Helper()
	records, err := a.Audit(deadline(t))
	must(t, err)
	for _, r := range records {
		if r.Event == "challenge" && r.Outcome == "approved" {
			t.Errorf("%s approved: %+v", a.Name, r)
		}
	}
}

// onlyPrompt waits until something waits for the person, and fails unless it
// is one thing.
func onlyPrompt(t *testing.T, ctx context.Context, a *harness.Agent) api.Prompt {
	t.Helper()
	prompts, err := a.WaitForPrompt(ctx)
	must(t, err)
	if len(prompts) != 1 {
		t.Fatalf("waiting: %+v, want one", prompts)
	}
	return prompts[0]
}

// The agent gives the org's one-time code; typed into the page it signs in.
// Each code is good once, whatever page it is typed into.
func TestCodes(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			stage := newStage(t, harness.StageOptions{})
			agent := newAgent(t, stage, nil, harness.Alice)
			site := newSite(t, stage.Org)
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.ChooseCode(ctx))
			code, err := agent.Code(ctx, harness.Alice)
			must(t, err)
			must(t, v.page.EnterCode(ctx, other(code)))
			must(t, v.page.Until(ctx, "the word that the code is wrong", v.saying("Invalid code", "That code is not right")))
			v.mustNotBeSignedIn(t)
			must(t, v.page.EnterCode(ctx, code))
			who, err := v.byEnd(ctx)
			mustBe(t, harness.Alice, who, err, "otp")

			again := d.knockIn(t, newPage(t), stage.Org, site, "demo-strict")
			again.toChoice(t, ctx, harness.Alice)
			must(t, again.page.ChooseCode(ctx))
			must(t, again.page.EnterCode(ctx, code))
			must(t, again.page.Until(ctx, "the word that the code is used up", again.saying("Invalid code", "was used before")))
			again.mustNotBeSignedIn(t)
		})
	}
}

// other is a code of the same length that is none of those around it.
func other(code string) string {
	n, _ := strconv.Atoi(code)
	wrong := strconv.Itoa((n + 123457) % 1000000)
	for len(wrong) < len(code) {
		wrong = "0" + wrong
	}
	return wrong
}

// What is asked names the app, the account, the place and the browser, so that
// the person knows what they approve.
func TestPushSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	stage, agent, site := newPusher(t, "ALWAYS")
	ctx := deadline(t)
	v := doors[0].knock(t, stage.Org, site, "demo-strict")
	v.toChoice(t, ctx, harness.Alice)
	must(t, v.page.ChoosePush(ctx))
	p := onlyPrompt(t, ctx, agent)
	if p.App != "Demo, strict" || p.Org != stage.Org.URL || p.User != harness.Alice || p.Location == "" || p.IP == "" ||
		time.Until(p.ExpiresAt) > 5*time.Minute || time.Since(p.CreatedAt) > time.Minute {
		t.Errorf("the prompt does not say enough: %+v", p)
	}
	_, err := agent.Run(ctx, "prompt", "deny", p.ID)
	must(t, err)
}

// Nobody answers in time: the page says so and offers to ask again, and what
// was asked for can be approved no more.
func TestPushExpires(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			clock := &harness.Clock{}
			stage := newStage(t, harness.StageOptions{Clock: clock})
			must(t, stage.Org.NumberChallenge(deadline(t), "NEVER"))
			agent := newAgent(t, stage, nil, harness.Alice)
			site := newSite(t, stage.Org)
			ctx := deadline(t)
			v := d.knock(t, stage.Org, site, "demo-strict")
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.ChoosePush(ctx))
			old := onlyPrompt(t, ctx, agent)
			clock.Advance(301 * time.Second)
			must(t, v.page.Until(ctx, "the word that nobody answered", v.saying("did not answer in time", "Nobody answered in time")))
			v.mustNotBeSignedIn(t)
			if _, err := agent.Run(ctx, "prompt", "approve", old.ID); err == nil {
				t.Error("approved what had expired")
			}
			v.mustNotBeSignedIn(t)
		})
	}
}

// Where a push is the only way, the page asks before it sends one; the person
// may say that it need not next time.
func TestPushOnly(t *testing.T) {
	t.Parallel()
	const app = "push-only"
	stage, agent, site := newPusher(t, "NEVER")
	addApp(t, stage, app, policy.Rule{Name: "Password and a push", Actions: policy.Actions{AppSignOn: policy.AppSignOn{
		Access: policy.Allow, VerificationMethod: &policy.VerificationMethod{Type: "ASSURANCE", FactorMode: "2FA", Constraints: []policy.Constraint{{
			Knowledge:  &policy.ClassConstraint{Types: []string{"PASSWORD"}},
			Possession: &policy.ClassConstraint{Methods: []string{"PUSH"}},
		}}},
	}}})
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			ctx := deadline(t)
			must(t, setAutoPush(ctx, stage, harness.Alice, false))
			v := d.knock(t, stage.Org, site, app)
			v.toChoice(t, ctx, harness.Alice)
			must(t, v.page.WaitFor(ctx, harness.CheckAutoPush))
			if waiting, err := agent.Prompts(ctx); err != nil || len(waiting) > 0 {
				t.Fatalf("asked before the person said so: %+v, %v", waiting, err)
			}
			decision := agent.Decide(ctx, "approve")
			must(t, v.page.SendPush(ctx, true))
			who, err := v.byEnd(ctx)
			mustBe(t, harness.Alice, who, err, "swk")
			_, err = decision.Outcome(ctx)
			must(t, err)

			again := d.knockIn(t, newPage(t), stage.Org, site, app)
			decision = agent.Decide(ctx, "approve")
			again.toChoice(t, ctx, harness.Alice)
			who, err = again.byEnd(ctx)
			mustBe(t, harness.Alice, who, err, "swk")
			_, err = decision.Outcome(ctx)
			must(t, err)
		})
	}
}

// addApp adds an app to a running org, as its administrator would.
func addApp(t *testing.T, s *harness.Stage, id string, rule policy.Rule) {
	t.Helper()
	ctx := deadline(t)
	must(t, s.Write(ctx, func(tx store.Tx) error {
		like, err := directory.AppByClientID(ctx, tx, "demo-web")
		if err != nil {
			return err
		}
		like.ClientID, like.Label = id, "App "+id
		if like.PolicyID, err = policy.Seed(ctx, tx, id, rule); err != nil {
			return err
		}
		everyone, err := directory.EnsureGroup(ctx, tx, directory.EveryoneGroup, time.Now())
		if err != nil {
			return err
		}
		if err := directory.PutApp(ctx, tx, like, time.Now()); err != nil {
			return err
		}
		return directory.AssignGroup(ctx, tx, id, everyone.ID)
	}))
}

func setAutoPush(ctx context.Context, s *harness.Stage, login string, on bool) error {
	return s.Write(ctx, func(tx store.Tx) error {
		u, err := directory.UserByLogin(ctx, tx, login)
		if err != nil {
			return err
		}
		return directory.SetAutoPush(ctx, tx, u.ID, on, time.Now())
	})
}
