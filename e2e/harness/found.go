package harness

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"

	"countersign.dev/org"
)

// The apps of FoundOrg that ask for the device alone: one that signs a proven
// page in without a question, and one that has the person asked.
const (
	QuickSilent = "quick-web"
	QuickAsking = "quick-strict"
)

// FoundOrg makes the state of a demo org with two apps more, QuickSilent and
// QuickAsking, and leaves it closed. They are for tests that sign in very often:
// a password costs more than all the rest together. The org's URL may be
// another when it is started.
func FoundOrg(ctx context.Context, state string) error {
	server, err := org.Open(ctx, org.Config{BaseURL: "http://localhost:1", StateDir: state, Demo: true})
	if err != nil {
		return err
	}
	if err := server.Close(); err != nil {
		return err
	}
	db, err := OpenOrgDatabase(state)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // temporary tables belong to a connection
	const method = "$.actions.appSignOn.verificationMethod"
	for _, statement := range []string{
		// Each table is copied whole, whatever columns it has.
		`CREATE TEMP TABLE a AS SELECT * FROM apps WHERE client_id IN ('demo-web', 'demo-strict')`,
		`CREATE TEMP TABLE p AS SELECT * FROM policies WHERE id IN (SELECT policy_id FROM a)`,
		`CREATE TEMP TABLE r AS SELECT * FROM policy_rules WHERE policy_id IN (SELECT id FROM p)`,
		`CREATE TEMP TABLE g AS SELECT * FROM app_groups WHERE client_id IN (SELECT client_id FROM a)`,
		`UPDATE a SET client_id = replace(client_id, 'demo-', 'quick-'), policy_id = policy_id || 'q'`,
		`UPDATE p SET id = id || 'q', name = name || ', quick'`,
		`UPDATE r SET id = id || 'q', policy_id = policy_id || 'q',
			rule = json_remove(json_set(rule, '` + method + `.factorMode', '1FA'), '` + method + `.constraints[0].knowledge')`,
		`UPDATE g SET client_id = replace(client_id, 'demo-', 'quick-')`,
		`INSERT INTO policies SELECT * FROM p`, `INSERT INTO policy_rules SELECT * FROM r`,
		`INSERT INTO apps SELECT * FROM a`, `INSERT INTO app_groups SELECT * FROM g`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("adding the quick apps: %w", err)
		}
	}
	return nil
}

// OpenOrgDatabase opens the database of an org beside it, to see what it has
// really stored.
func OpenOrgDatabase(state string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(state, "org.db"))+"?_pragma=busy_timeout(5000)")
}
