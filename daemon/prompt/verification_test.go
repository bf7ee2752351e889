package prompt

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

// shown is a verification for one prompt.
type shown string

func (s shown) For(prompt string) bool { return string(s) == prompt }

// An approval of a prompt that requires verification has one for that very
// prompt. C3: no other does, whatever else it is, and what a prompt needs is
// everything until it says otherwise.
func TestC3ApprovalNeedsItsVerification(t *testing.T) {
	const own = "its own"
	for _, row := range []struct {
		name    string
		need    string
		choice  string // what the second of two choices needs; "-": no choices
		d       Decision
		with    string // whose verification; "": none
		refused error
		verdict Verdict
	}{
		{name: "required, verified", need: "required", choice: "-", d: Decision{Action: Approve}, with: own, verdict: Approved},
		{name: "required, not", need: "required", choice: "-", d: Decision{Action: Approve}, refused: ErrVerificationRequired},
		{name: "required, for another", need: "required", choice: "-", d: Decision{Action: Approve}, with: "another", refused: ErrVerificationRequired},
		{name: "required, denied", need: "required", choice: "-", d: Decision{Action: Deny}, verdict: Denied},
		{name: "required, denied and verified", need: "required", choice: "-", d: Decision{Action: Deny}, with: own, verdict: Denied},
		{name: "required, cancelled", need: "required", choice: "-", d: Decision{Action: CancelVerification}, verdict: Unverified},
		{name: "cancelled and reported", need: "required", choice: "-", d: Decision{Action: CancelVerification, Report: true}, refused: ErrUnknownAction},
		{name: "preferred, verified", need: "preferred", choice: "-", d: Decision{Action: Approve}, with: own, verdict: Approved},
		{name: "preferred, not", need: "preferred", choice: "-", d: Decision{Action: Approve}, verdict: Approved},
		{name: "preferred, for another", need: "preferred", choice: "-", d: Decision{Action: Approve}, with: "another", refused: ErrVerificationRequired},
		{name: "preferred, cancelled", need: "preferred", choice: "-", d: Decision{Action: CancelVerification}, verdict: Unverified},
		{name: "none", need: "none", choice: "-", d: Decision{Action: Approve}, verdict: Approved},
		{name: "none, for another", need: "none", choice: "-", d: Decision{Action: Approve}, with: "another", refused: ErrVerificationRequired},
		{name: "none, cancelled", need: "none", choice: "-", d: Decision{Action: CancelVerification}, refused: ErrUnknownAction},
		{name: "nothing said", need: "", choice: "-", d: Decision{Action: Approve}, refused: ErrVerificationRequired},
		{name: "a new word", need: "REQUIRED", choice: "-", d: Decision{Action: Approve}, refused: ErrVerificationRequired},
		{name: "choice without need", need: "required", choice: "none", d: Decision{Action: Approve, Account: "acc2"}, verdict: Approved},
		{name: "choice with need", need: "none", choice: "required", d: Decision{Action: Approve, Account: "acc2"}, refused: ErrVerificationRequired},
		{name: "choice with need, verified", need: "none", choice: "required", d: Decision{Action: Approve, Account: "acc2"}, with: own, verdict: Approved},
		{name: "the other choice", need: "required", choice: "required", d: Decision{Action: Approve, Account: "acc1"}, verdict: Approved},
		{name: "choice that says nothing", need: "none", choice: "", d: Decision{Action: Approve, Account: "acc2"}, refused: ErrVerificationRequired},
		{name: "cancelled for a choice without need", need: "required", choice: "none", d: Decision{Action: CancelVerification, Account: "acc2"}, refused: ErrUnknownAction},
		{name: "cancelled for none of the choices", need: "required", choice: "required", d: Decision{Action: CancelVerification}, refused: ErrAccountNeeded},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(nil, nil)
				defer b.Attach("cli")()
				p := question()
				p.UserVerification = row.need
				if row.choice != "-" {
					p.Account, p.Choices = "", []Choice{{"acc1", "a", VerificationNone}, {"acc2", "b", row.choice}}
				}
				id, done := ask(t, b, t.Context(), p)
				switch row.with {
				case own:
					row.d.Verification = shown(id)
				case "":
				default:
					row.d.Verification = shown(row.with)
				}
				if _, err := b.Check(id, row.d); (err != nil) != (row.refused != nil && !errors.Is(row.refused, ErrVerificationRequired)) {
					t.Errorf("checked: %v", err)
				}
				_, err := b.decide(id, row.d)
				if !errors.Is(err, row.refused) || (err == nil) != (row.refused == nil) {
					t.Fatalf("%v, want %v", err, row.refused)
				}
				if row.refused != nil && b.Len() != 1 {
					t.Fatal("a refused decision took the prompt away")
				}
				got := <-done
				if got.answer.Verdict != row.verdict {
					t.Fatalf("%+v", got)
				}
				if want := row.with == own && row.verdict == Approved; (got.answer.Verification != nil) != want {
					t.Errorf("carries %v", got.answer.Verification)
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				for _, e := range b.recent {
					if e.answer.Verification != nil {
						t.Error("the queue keeps the verification")
					}
				}
			})
		})
	}
}

func TestCheckChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, nil)
		defer b.Attach("cli")()
		p := question()
		p.UserVerification, p.Numbers, p.Methods = VerificationRequired, []string{"1", "2"}, []string{"pin"}
		id, done := ask(t, b, t.Context(), p)
		for _, row := range []struct {
			id   string
			d    Decision
			want error
		}{
			{id, Decision{Action: Approve, Number: "1"}, nil},
			{id, Decision{Action: Approve}, ErrNumberRequired},
			{id, Decision{Action: Approve, Number: "3"}, ErrWrongNumber},
			{id, Decision{Action: Approve, Number: "1", Account: "acc9"}, ErrWrongAccount},
			{id, Decision{}, ErrUnknownAction},
			{"NOPE", Decision{Action: Approve}, ErrUnknown},
		} {
			got, err := b.Check(row.id, row.d)
			if !errors.Is(err, row.want) || (err == nil) != (row.want == nil) || err == nil && (got.ID != id || len(got.Methods) != 1) {
				t.Errorf("%+v: %+v, %v", row.d, got, err)
			}
		}
		if got := <-done; !errors.Is(got.err, ErrExpired) || got.answer.Approved() {
			t.Fatalf("%+v", got)
		}
	})
}

// Many decide one prompt at once, with verifications right and wrong: one wins
// at most, and only with the right one.
func TestRacingVerifications(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			b := New(nil, nil)
			defer b.Attach("cli")()
			p := question()
			p.UserVerification = VerificationRequired
			id, done := ask(t, b, t.Context(), p)
			dice := rand.New(rand.NewPCG(seed, 2))
			var wg sync.WaitGroup
			won := make([]bool, 20)
			right := make([]bool, 20)
			for i := range won {
				d := Decision{Action: Approve}
				switch dice.IntN(3) {
				case 0:
					d.Verification, right[i] = shown(id), true
				case 1:
					d.Verification = shown("another")
				}
				wg.Go(func() {
					_, err := b.decide(id, d)
					won[i] = err == nil
				})
			}
			wg.Wait()
			wins := 0
			for i := range won {
				if won[i] {
					wins++
				}
				if won[i] && !right[i] {
					t.Fatal("approved without the prompt's own verification")
				}
			}
			if got := <-done; wins != 1 || !got.answer.Approved() || got.answer.Verification == nil || !got.answer.Verification.For(id) {
				t.Fatalf("%d wins, %+v", wins, got)
			}
		})
	}
}
