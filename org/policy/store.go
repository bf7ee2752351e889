package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// ruleID prefixes the ids of ACCESS_POLICY rules.
const ruleID = "rul"

// Seed stores a policy of the given rules, first rule first, and returns its
// id for the app. Rules that do not compile are refused.
func Seed(ctx context.Context, tx store.Tx, appClientID string, rules ...Rule) (policyID string, err error) {
	if _, err := Compile(rules); err != nil {
		return "", fmt.Errorf("seeding the policy of %s: %w", appClientID, err)
	}
	now := store.Millis(time.Now())
	policyID = ids.New(ids.Policy)
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO policies (id, type, name, status, version, created_at, updated_at) VALUES (?, 'ACCESS_POLICY', ?, 'ACTIVE', 1, ?, ?)`,
		policyID, appClientID, now, now); err != nil {
		return "", fmt.Errorf("seeding the policy of %s: %w", appClientID, err)
	}
	for i, r := range rules {
		doc, err := json.Marshal(r)
		if err != nil {
			return "", fmt.Errorf("seeding the policy of %s: %w", appClientID, err)
		}
		if _, err := tx.ExecContext(ctx,
			`INSERT INTO policy_rules (id, policy_id, priority, status, rule, created_at, updated_at) VALUES (?, ?, ?, 'ACTIVE', ?, ?, ?)`,
			ids.New(ruleID), policyID, i, string(doc), now, now); err != nil {
			return "", fmt.Errorf("seeding the policy of %s: %w", appClientID, err)
		}
	}
	return policyID, nil
}
