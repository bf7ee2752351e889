package challenge

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"countersign.dev/authenticators/devicekey"
	"countersign.dev/daemon/account"
	"countersign.dev/daemon/audit"
	"countersign.dev/daemon/prompt"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// The moments between a challenge's arrival and its last record at which an
// agent may be killed.
const (
	whileAsking   = "while the person is asked"
	beforeClaim   = "decided, before the claim"
	afterClaim    = "the claim is written"
	beforeSigning = "before the key signs"
	afterSigning  = "signed"
	beforeRecord  = "before the decision is recorded"
	afterRecord   = "recorded"
	beforeSending = "before it is sent"
	afterSending  = "sent, before the org's word is read"
	afterAll      = "when all is done"
)

var moments = []string{whileAsking, beforeClaim, afterClaim, beforeSigning, afterSigning, beforeRecord, afterRecord, beforeSending, afterSending, afterAll}

// dying is a world whose agent is killed at a moment: what was to follow never
// happens. What is on disk and at the org stays.
type dying struct {
	*world
	at   string
	died bool
}

func (d *dying) moment(name string) {
	if name == d.at {
		d.died = true
		runtime.Goexit()
	}
}

func (d *dying) Ask(ctx context.Context, p prompt.Prompt) (prompt.Answer, error) {
	d.asker.asked.Add(1)
	d.moment(whileAsking)
	return d.asker.answer(ctx, p)
}
func (d *dying) Settle(string, string, string) { d.moment(afterAll) }
func (d *dying) HoldBack(string)               {}

func (d *dying) Append(ctx context.Context, line []byte) (uint64, error) {
	d.moment(beforeClaim)
	n, err := d.paper.Append(ctx, line)
	d.moment(afterClaim)
	return n, err
}
func (d *dying) Replay(fn func(uint64, []byte, []byte, []byte) error) error {
	return d.paper.Replay(fn)
}
func (d *dying) Rewrite(keep func([]byte) bool) error { return d.paper.Rewrite(keep) }

// dyingKeys are the keys of a dying world.
type dyingKeys struct {
	*keyring
	d *dying
}

func (k dyingKeys) Open(context.Context, devicekey.Ref) (devicekey.Key, error) { return k, nil }
func (k dyingKeys) Sign(ctx context.Context, digest []byte, a devicekey.Authorisation) ([]byte, error) {
	k.d.moment(beforeSigning)
	s, err := k.keyring.Sign(ctx, digest, a)
	k.d.moment(afterSigning)
	return s, err
}

// killedAt lets a challenge come to a moment, and the agent end there.
func (w *world) killedAt(t *testing.T, moment, token string, transport Transport) (died bool) {
	t.Helper()
	d := &dying{world: w, at: moment}
	record, deliver := w.Record, w.Deliver
	w.Pipeline.Prompts, w.Pipeline.Keys, w.Claims.journal = d, dyingKeys{w.keyring, d}, d
	w.Pipeline.Record = func(r audit.Record) error {
		d.moment(beforeRecord)
		err := record(r)
		d.moment(afterRecord)
		return err
	}
	w.Pipeline.Deliver = func(ctx context.Context, a *account.Account, uri string, r okta.AnswerRequest) error {
		d.moment(beforeSending)
		err := deliver(ctx, a, uri, r)
		d.moment(afterSending)
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.Receive(t.Context(), token, transport) })
	wg.Wait()
	w.Pipeline.Stop()
	return d.died
}

// B3, B6: an agent that is killed anywhere between a challenge's arrival and its
// last record: when nothing was claimed, the same challenge is asked about again
// after the start, from the beginning; when it was, it is neither asked about
// nor signed. Never are there two signatures, or two answers.
func TestKilledAtAnyMoment(t *testing.T) {
	org := oktatest.NewOrg(t)
	ask := func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired }
	push, page := Transport{Kind: Push, Account: "acc1"}, Transport{Kind: Loopback, Origin: org.URL}
	for _, row := range []struct {
		name      string
		token     func() string
		transport Transport
		verdict   prompt.Verdict
		asks      bool
	}{
		{"push approved", func() string { return org.PushChallenge("pfd-acc1", nil) }, push, prompt.Approved, true},
		{"push denied", func() string { return org.PushChallenge("pfd-acc1", nil) }, push, prompt.Denied, true},
		{"page approved", func() string { return org.Challenge(ask) }, page, prompt.Approved, true},
		{"page denied", func() string { return org.Challenge(ask) }, page, prompt.Denied, true},
		{"silent", func() string { return org.Challenge(nil) }, page, prompt.Approved, false},
	} {
		for _, moment := range moments {
			if !row.asks && (moment == whileAsking || moment == afterAll) {
				continue // it never gets there
			}
			t.Run(row.name+", "+moment, func(t *testing.T) {
				w := pushWorld(t, org)
				w.asker.answer = decided(row.verdict)
				token, before := row.token(), len(org.Answers())
				if !w.killedAt(t, moment, token, row.transport) {
					t.Fatal("never came to that moment")
				}
				signed, asked, sent := w.keyring.signed.Load(), w.asker.asked.Load(), len(org.Answers())-before
				claimed := moment != whileAsking && moment != beforeClaim
				if (len(w.paper.lines) == 1) != claimed || !claimed && (signed != 0 || sent != 0) {
					t.Fatalf("%d claims, %d signatures, %d answers", len(w.paper.lines), signed, sent)
				}
				for start := range 2 {
					w.start(t)
					w.asker.answer = decided(prompt.Approved)
					got := w.Receive(t.Context(), token, row.transport)
					if claimed || start > 0 {
						if got.Outcome != AlreadyAnswered || w.asker.asked.Load() != asked || w.keyring.signed.Load() != signed || len(org.Answers())-before != sent {
							t.Fatalf("start %d: %+v", start, got)
						}
						continue
					}
					if row.asks {
						asked++
					}
					signed, sent = 1, 1
					if got.Outcome != Approved || w.asker.asked.Load() != asked || w.keyring.signed.Load() != 1 || len(org.Answers())-before != 1 {
						t.Fatalf("not asked again: %+v", got)
					}
				}
			})
		}
	}
}

// C4: the disk is full when the person has decided. A yes is not signed, and
// counts for nothing later; a no stays one.
func TestDecidedOnFullDisk(t *testing.T) {
	org := oktatest.NewOrg(t)
	for verdict, want := range map[prompt.Verdict]Outcome{prompt.Approved: Denied, prompt.Denied: AlreadyAnswered} {
		w := pushWorld(t, org)
		w.asker.answer, w.paper.full = decided(verdict), errDisk
		token, before := org.PushChallenge("pfd-acc1", nil), len(org.Answers())
		if got := w.pushed(t, token); got.Outcome != Failed || w.keyring.signed.Load() != 0 || len(org.Answers()) != before {
			t.Fatalf("%+v", got)
		}
		w.asker.answer, w.paper.full = decided(3-verdict), nil // the other way round
		if got := w.pushed(t, token); got.Outcome != want {
			t.Errorf("after %v: %+v", verdict, got)
		}
	}
	// A disk that stays full is not a reason to ask for ever.
	w := pushWorld(t, org)
	w.asker.answer, w.paper.full = decided(prompt.Approved), errDisk
	token := org.PushChallenge("pfd-acc1", nil)
	for range 2 * maxRuns {
		w.pushed(t, token)
	}
	if w.asker.asked.Load() != maxRuns {
		t.Fatalf("asked %d times", w.asker.asked.Load())
	}
}

// An approval whose key is locked is no decision that lasts: after the unlock,
// or a restart, the person is asked again.
func TestLockedWhenDecided(t *testing.T) {
	org := oktatest.NewOrg(t)
	for _, restart := range []bool{false, true} {
		w := pushWorld(t, org)
		w.asker.answer, w.keyring.refuses = decided(prompt.Approved), devicekey.ErrLocked
		token := org.PushChallenge("pfd-acc1", nil)
		if got := w.pushed(t, token); got.Outcome != Locked || len(w.paper.lines) != 0 {
			t.Fatalf("%+v, %d claims", got, len(w.paper.lines))
		}
		if restart {
			w.start(t)
		}
		w.keyring.refuses = nil
		if got := w.pushed(t, token); got.Outcome != Approved || w.asker.asked.Load() != 2 || w.keyring.signed.Load() != 1 {
			t.Fatalf("%+v after %d prompts", got, w.asker.asked.Load())
		}
	}
}

// B1, B3: no is no. A denial that cannot be signed, because the keys are locked
// just now, is not asked for again until it is a yes.
func TestDenialIsFinal(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org)
	w.asker.answer = decided(prompt.Denied)
	w.keyring.refuses = devicekey.ErrLocked
	token := org.Challenge(func(c *okta.Challenge) { c.UserMediation = okta.NeedRequired })
	if got := w.receive(t, token); got.Outcome.Delivered() || w.keyring.signed.Load() != 0 {
		t.Fatalf("%+v", got)
	}
	w.asker.answer, w.keyring.refuses = decided(prompt.Approved), nil
	for range 2 { // also after a restart
		if got := w.receive(t, token); got.Outcome != AlreadyAnswered || w.asker.asked.Load() != 1 || w.keyring.signed.Load() != 0 {
			t.Fatalf("%+v after %d prompts", got, w.asker.asked.Load())
		}
		w.start(t)
	}
}
