package signin_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"countersign.dev/okta"
	"countersign.dev/okta/jose"
	"countersign.dev/org/factor"
	"countersign.dev/org/signin"
	"countersign.dev/org/signin/signintest"
	"countersign.dev/org/store"
)

// E8: however steps with security keys are mixed, with whosever keys, for whatever
// question, success needs what the policy asks for, and a key is enrolled by who
// has given the password and shown what they had before. A model remembers what was
// really shown since the last fresh start. Alice has a device, bob nothing at first.
func TestE8RandomOrderWithKeys(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := signintest.New(t).TakeKeys(t)
	agent := w.Enrol(t, w.Alice.ID, jose.ProtectionSoftware)
	keys, owner := []*signintest.SoftKey{signintest.NewSoftKey()}, map[*signintest.SoftKey]string{} // all, and whose they are
	ends, enrolled := map[string]int{}, 0
	var asked []*signin.KeyView // questions of all sign-ins, to be answered in any other
	for range 20 {
		app := []string{signintest.Web, signintest.Strict, signintest.UV, signintest.Enrol, signintest.Resist}[rng.IntN(5)]
		intent := signin.Intent{ClientID: app, Mode: signin.Redirect, PageOrigin: signintest.BaseURL}
		if rng.IntN(2) == 0 {
			intent.Prompt = signin.PromptEnrol
		}
		h, err := w.Engine.Start(ctx, intent)
		if err != nil {
			t.Fatal(err)
		}
		v := must(t)(w.Engine.Introspect(ctx, h.StateToken, ""))
		user, password := "", false
		shown := map[any]string{} // a key or the agent, and how: "", "present", "verified"
		var trail []string
		for range 30 {
			k := keys[rng.IntN(len(keys))]
			if mine := slices.DeleteFunc(slices.Clone(keys), func(k *signintest.SoftKey) bool { return owner[k] != user }); len(mine) > 0 && rng.IntN(3) > 0 {
				k = mine[rng.IntN(len(mine))]
			}
			question := v.Key
			if question != nil {
				asked = append(asked, question)
			}
			if question == nil || rng.IntN(5) == 0 {
				if len(asked) > 0 {
					question = asked[rng.IntN(len(asked))]
				}
			}
			var edits []func(*signintest.KeyAnswer)
			verifies := rng.IntN(3) > 0
			if !verifies {
				edits = append(edits, func(a *signintest.KeyAnswer) { a.Flags &^= signintest.FlagUV })
			}
			before, had := v, 0
			if user != "" {
				had = len(keysOf(t, w, user))
			}
			op := rng.IntN(11)
			if rng.IntN(10) < 6 { // mostly what the page would do next
				op = map[signin.Step]int{signin.StepIdentify: 0, signin.StepPassword: 1, signin.StepSelect: 2, signin.StepChallenge: 7 + rng.IntN(2),
					signin.StepKey: 3, signin.StepSetUp: 4 + 2*rng.IntN(2), signin.StepEnrol: 5}[v.Step]
			}
			switch op {
			case 0:
				login := []string{signintest.AliceLogin, signintest.BobLogin, signintest.BobLogin, "nobody"}[rng.IntN(4)]
				if v, err = w.Engine.Identify(ctx, v.StateHandle, login); before.Step == signin.StepIdentify {
					user = map[string]string{signintest.AliceLogin: w.Alice.ID, signintest.BobLogin: w.Bob.ID}[login]
					password, shown = false, map[any]string{}
				}
				trail = append(trail, login)
			case 1:
				w.Clock.Advance(31 * time.Second)
				right := rng.IntN(4) > 0
				v, err = w.Engine.Password(ctx, v.StateHandle, map[bool]okta.Secret{true: signintest.Password, false: "wrong"}[right])
				password = password || right && before.Step == signin.StepPassword && user != ""
				trail = append(trail, fmt.Sprint("password ", right))
			case 2:
				v, err = w.Engine.Select(ctx, v.StateHandle, []string{w.Org.Authenticators.WebAuthn, w.Org.Authenticators.OktaVerify}[rng.IntN(2)], "")
				trail = append(trail, "select")
			case 3:
				if question == nil {
					continue
				}
				v, err = w.Engine.Key(ctx, v.StateHandle, k.Assert(question, signintest.BaseURL, edits...))
				if before.Step == signin.StepKey && question.Challenge == before.Key.Challenge && owner[k] == user && (verifies || question.UserVerification != okta.NeedRequired) {
					shown[k] = map[bool]string{true: "verified", false: "present"}[verifies]
				}
				trail = append(trail, fmt.Sprint("key of ", owner[k], verifies))
			case 4:
				v, err = w.Engine.SetUp(ctx, v.StateHandle, w.Org.Authenticators.WebAuthn)
				trail = append(trail, "set up")
			case 5:
				if question == nil {
					continue
				}
				if rng.IntN(3) > 0 {
					k = signintest.NewSoftKey()
				}
				v, err = w.Engine.EnrolKey(ctx, v.StateHandle, k.Make(question, signintest.BaseURL, edits...))
				trail = append(trail, fmt.Sprint("enrol key of ", owner[k], verifies))
				if user == "" || len(keysOf(t, w, user)) == had {
					break
				}
				if before.Step != signin.StepEnrol || question.Challenge != before.Key.Challenge || owner[k] != "" || !password || len(shown) == 0 && (had > 0 || user == w.Alice.ID) {
					t.Fatalf("enrolled: password %v, shown %v: %v", password, shown, trail)
				}
				if !slices.Contains(keys, k) {
					keys = append(keys, k)
				}
				owner[k], shown[k] = user, map[bool]string{true: "verified", false: "present"}[verifies]
				enrolled++
			case 6:
				v, err = w.Engine.Skip(ctx, v.StateHandle)
				trail = append(trail, "skip")
			case 7:
				if v.Challenge == nil {
					continue
				}
				edit := []edit{silently, signintest.Approve, agent.Verify}[rng.IntN(3)]
				if ok, err := w.Engine.AnswerChallenge(ctx, signintest.Claims(t, v.Challenge.Token).TransactionID, agent.Answer(t, w, v.Challenge.Token, edit)); err == nil && ok {
					shown[agent] = "verified" // or less: the other test knows
				}
				trail = append(trail, "device")
				continue
			case 8:
				v, err = w.Engine.Poll(ctx, v.StateHandle)
				trail = append(trail, "poll")
			case 9:
				if v, err = w.Engine.Cancel(ctx, v.StateHandle); err == nil {
					user, password, shown = "", false, map[any]string{}
				}
				trail = append(trail, "cancel")
			case 10: // the administrator takes a key away
				if owner[k] == "" || rng.IntN(2) > 0 {
					continue
				}
				w.Write(t, func(tx store.Tx) error {
					all, err := factor.KeysOfUser(ctx, tx, owner[k])
					i := slices.IndexFunc(all, func(s factor.SecurityKey) bool { return s.CredentialID == credentialID(k) })
					if err != nil || i < 0 {
						return errors.Join(err, fmt.Errorf("%s has no such key", owner[k]))
					}
					return factor.RemoveKey(ctx, tx, owner[k], all[i].ID)
				})
				delete(owner, k)
				delete(shown, k)
				trail = append(trail, "remove key")
				continue
			}
			if err != nil && !errors.Is(err, signin.ErrRequest) {
				t.Fatalf("%v: %v", trail, err)
			}
			if err != nil {
				v = before
				continue
			}
			if v.Step != signin.StepDone {
				continue
			}
			done, err := w.Engine.Complete(ctx, v.Success.StateToken)
			if err != nil {
				t.Fatal(err)
			}
			verified := false
			for _, how := range shown {
				verified = verified || how == "verified"
			}
			enough := len(shown) > 0 || app == signintest.Enrol && user == w.Bob.ID && had == 0
			if app == signintest.UV {
				enough = verified
			}
			if done.UserID != user || user == "" || !password || !enough {
				t.Fatalf("%s reached success with user %q password %v shown %v (%s): %v", app, user, password, shown, done.UserID, trail)
			}
			ends[app]++
			break
		}
	}
	t.Logf("%d keys were enrolled, and sign-ins ended at %v", enrolled, ends)
}

func credentialID(k *signintest.SoftKey) string { return base64.RawURLEncoding.EncodeToString(k.ID) }
