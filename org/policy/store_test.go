package policy

import (
	"errors"
	"path/filepath"
	"testing"

	"countersign.dev/org/store"
)

func TestSeedAndLoad(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "state", "org.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	var id string
	err = db.Write(ctx, func(tx store.Tx) (err error) {
		if _, err := Seed(ctx, tx, "bad", Rule{}); !errors.Is(err, ErrRule) {
			t.Errorf("a rule that says nothing: %v", err)
		}
		id, err = Seed(ctx, tx, "app", Rule{Name: "no bob",
			Conditions: &Conditions{People: &People{Users: Selection{Include: []string{"bob"}}}},
			Actions:    Actions{AppSignOn{Access: Deny}}}, TwoFactors(Required))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var cache Cache
	load := func(id string) (set *Set) {
		t.Helper()
		if err := db.Read(ctx, func(tx store.Tx) (err error) { set, err = cache.Load(ctx, tx, id); return err }); err != nil {
			t.Fatal(err)
		}
		return set
	}
	done := Facts{Now: now, UserID: "alice", Proofs: proofs(pwd(), nonce(allTraits))}
	set := load(id)
	if d := Evaluate(set, &done); d.Outcome != Satisfied {
		t.Errorf("alice: %+v", d)
	}
	done.UserID = "bob"
	if d := Evaluate(set, &done); d.Outcome != Denied || d.Reason != Refused {
		t.Errorf("bob: %+v", d)
	}
	if load(id) != set {
		t.Error("compiled twice")
	}
	if d := Evaluate(load("other"), &done); d.Outcome != Denied {
		t.Errorf("no policy: %+v", d)
	}
	change := func(query string) {
		t.Helper()
		if err := db.Write(ctx, func(tx store.Tx) error { _, err := tx.ExecContext(ctx, query); return err }); err != nil {
			t.Fatal(err)
		}
	}
	change(`UPDATE policy_rules SET status = 'INACTIVE' WHERE priority = 1`)
	change(`UPDATE policies SET version = version + 1`)
	done.UserID = "alice"
	if d := Evaluate(load(id), &done); d.Outcome != Denied {
		t.Errorf("rule switched off: %+v", d)
	}
	// A rule with a condition that is not understood opens nothing.
	change(`UPDATE policy_rules SET rule = '{"conditions":{"riskScore":{"level":"LOW"}},"actions":{"appSignOn":{"access":"ALLOW"}}}', status = 'ACTIVE'`)
	change(`UPDATE policies SET version = version + 1`)
	if err := db.Read(ctx, func(tx store.Tx) error { _, err := cache.Load(ctx, tx, id); return err }); !errors.Is(err, ErrRule) {
		t.Errorf("unknown condition: %v", err)
	}
	change(`UPDATE policies SET status = 'INACTIVE'`)
	if d := Evaluate(load(id), &done); d.Outcome != Denied {
		t.Errorf("policy switched off: %+v", d)
	}
}
