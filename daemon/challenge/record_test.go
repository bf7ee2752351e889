package challenge

import (
	"context"
	"errors"
	"testing"

	"countersign.dev/daemon/account"
	"countersign.dev/okta"
	"countersign.dev/okta/oktatest"
)

// C4: what cannot be put on record is not answered.
func TestNoAnswerWithoutRecord(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org, accountAt(org, "acc1"))
	w.unrecorded = errors.New("the disk is full")
	if r := w.receive(t, org.Challenge(nil)); r.Outcome != Failed || r.Reason == "" {
		t.Fatalf("%+v", r)
	}
	if n := len(org.Answers()); n != 0 {
		t.Fatalf("%d answers", n)
	}
}

// The record comes before the answer: an agent that dies while it sends has
// left word. What became of it follows only when the org did not take it.
func TestRecordedBeforeSent(t *testing.T) {
	org := oktatest.NewOrg(t)
	w := newWorld(t, org, accountAt(org, "acc1"))
	deliver, before := w.Deliver, 0
	w.Deliver = func(ctx context.Context, a *account.Account, uri string, r okta.AnswerRequest) error {
		before = len(w.records)
		if err := deliver(ctx, a, uri, r); err != nil {
			return err
		}
		return errors.New("lost")
	}
	if r := w.receive(t, org.Challenge(nil)); r.Outcome != OrgUnreachable {
		t.Fatalf("%+v", r)
	}
	if before != 1 || len(w.records) != 2 || w.records[0].Outcome != "approved" || w.records[0].Reason != "not asked" || w.records[1].Outcome != "org_unreachable" || w.records[0].Transaction != w.records[1].Transaction {
		t.Fatalf("%d before, %+v", before, w.records)
	}
}
