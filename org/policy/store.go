package policy

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"countersign.dev/okta/jose"
	"countersign.dev/org/ids"
	"countersign.dev/org/store"
)

// ruleID prefixes the ids of ACCESS_POLICY rules.
const ruleID = "rul"

// maxRule bounds the size of a rule's JSON.
const maxRule = 64 << 10

// Seed stores a policy of the given rules, first rule first, and returns its
// id for the app. Rules that do not compile are refused.
func Seed(ctx context.Context, tx store.Tx, appClientID string, rules ...Rule) (policyID string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("seeding the policy of %s: %w", appClientID, err)
		}
	}()
	if _, err := Compile(rules); err != nil {
		return "", err
	}
	now := store.Millis(time.Now())
	policyID = ids.New(ids.Policy)
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO policies (id, type, name, status, version, created_at, updated_at) VALUES (?, 'ACCESS_POLICY', ?, 'ACTIVE', 1, ?, ?)`,
		policyID, appClientID, now, now); err != nil {
		return "", err
	}
	for i, r := range rules {
		doc, err := json.Marshal(r)
		if err != nil {
			return "", err
		}
		if _, err := tx.ExecContext(ctx,
			`INSERT INTO policy_rules (id, policy_id, priority, status, rule, created_at, updated_at) VALUES (?, ?, ?, 'ACTIVE', ?, ?, ?)`,
			ids.New(ruleID), policyID, i, string(doc), now, now); err != nil {
			return "", err
		}
	}
	return policyID, nil
}

// Cache keeps compiled policies. Its zero value is ready for use.
type Cache struct {
	mu   sync.Mutex
	sets map[string]cached // guarded by mu
}

type cached struct {
	version int64
	set     *Set
}

// maxCached bounds the cache. When it is full it starts anew: the next look-up
// of each policy compiles it again.
const maxCached = 4096

// Load returns the compiled policy, compiling it when its version changed. A
// policy that is missing or inactive is an empty one, which denies.
func (c *Cache) Load(ctx context.Context, tx store.Tx, policyID string) (*Set, error) {
	var version int64
	err := tx.QueryRowContext(ctx, `SELECT version FROM policies WHERE id = ? AND status = 'ACTIVE'`, policyID).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return &Set{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking up policy %s: %w", policyID, err)
	}
	c.mu.Lock()
	have, ok := c.sets[policyID]
	c.mu.Unlock()
	if ok && have.version == version {
		return have.set, nil
	}
	set, err := load(ctx, tx, policyID)
	if err != nil {
		return nil, fmt.Errorf("loading policy %s: %w", policyID, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sets == nil || len(c.sets) >= maxCached {
		c.sets = make(map[string]cached)
	}
	c.sets[policyID] = cached{version, set}
	return set, nil
}

func load(ctx context.Context, tx store.Tx, policyID string) (*Set, error) {
	rows, err := tx.QueryContext(ctx, `SELECT rule FROM policy_rules WHERE policy_id = ? AND status = 'ACTIVE' ORDER BY priority`, policyID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var rules []Rule
	for rows.Next() {
		var doc string
		if err := rows.Scan(&doc); err != nil {
			return nil, err
		}
		r, err := Parse([]byte(doc))
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return Compile(rules)
}

// Parse reads a rule. A member it does not know is an error: a condition that
// is ignored would be a door left open.
func Parse(doc []byte) (Rule, error) {
	var r Rule
	if err := jose.DecodeStrict(doc, &r, maxRule); err != nil {
		return Rule{}, fmt.Errorf("%w: %w", ErrRule, err)
	}
	known := json.NewDecoder(bytes.NewReader(doc))
	known.DisallowUnknownFields()
	if err := known.Decode(&r); err != nil {
		return Rule{}, fmt.Errorf("%w: %w", ErrRule, err)
	}
	return r, nil
}
