-- +goose Up

-- Policies. What a rule says is one JSON document, shaped like a rule of an
-- Okta ACCESS_POLICY; priority and status stand outside because queries order
-- and filter by them. Whoever changes a rule raises the version of its policy,
-- so that compiled copies are thrown away.
CREATE TABLE policies (
  id         TEXT PRIMARY KEY,
  type       TEXT NOT NULL,
  name       TEXT NOT NULL,
  status     TEXT NOT NULL,
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);

CREATE TABLE policy_rules (
  id         TEXT PRIMARY KEY,
  policy_id  TEXT NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
  priority   INTEGER NOT NULL,
  status     TEXT NOT NULL,
  rule       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (policy_id, priority)
);

-- Sign-in transactions. The state is one JSON document; version rises with
-- each step, and a step commits only over the version it read.
CREATE TABLE signin_transactions (
  id         TEXT PRIMARY KEY,
  intent     TEXT NOT NULL,
  state      TEXT NOT NULL,
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
);
CREATE INDEX signin_transactions_expires ON signin_transactions (expires_at);

-- The bearer values that lead to a transaction, by digest: entry (state token
-- or interaction handle), step (state handle), exit (completes it, once).
-- page_origin is that of the page which holds it; '' is the one that started.
CREATE TABLE signin_handles (
  digest      TEXT PRIMARY KEY,
  signin_id   TEXT NOT NULL REFERENCES signin_transactions (id) ON DELETE CASCADE,
  kind        TEXT NOT NULL,
  page_origin TEXT NOT NULL DEFAULT '',
  created_at  INTEGER NOT NULL
);
CREATE INDEX signin_handles_signin ON signin_handles (signin_id);

-- Challenges for authenticators. token is the signed challenge, repeated
-- unchanged while it is pending. A challenge leaves PENDING once.
CREATE TABLE challenges (
  id                TEXT PRIMARY KEY,
  signin_id         TEXT NOT NULL REFERENCES signin_transactions (id) ON DELETE CASCADE,
  method            TEXT NOT NULL,
  target_enrolment  TEXT NOT NULL DEFAULT '', -- push only: whose pending list shows it
  user_id           TEXT NOT NULL DEFAULT '', -- '' while the answer is to tell who it is
  issuer            TEXT NOT NULL,
  nonce             TEXT NOT NULL,
  page_origin       TEXT NOT NULL,
  user_verification TEXT NOT NULL,
  user_mediation    TEXT NOT NULL,
  token             TEXT NOT NULL,
  status            TEXT NOT NULL,
  result            TEXT NOT NULL DEFAULT '', -- JSON: who answered, with what
  created_at        INTEGER NOT NULL,
  expires_at        INTEGER NOT NULL,
  answered_at       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX challenges_signin ON challenges (signin_id);
CREATE INDEX challenges_target ON challenges (target_enrolment, status);

-- Ids of answers already taken, until their tokens have expired.
CREATE TABLE answer_ids (
  enrolment_id TEXT NOT NULL,
  jti          TEXT NOT NULL,
  expires_at   INTEGER NOT NULL,
  PRIMARY KEY (enrolment_id, jti)
);
CREATE INDEX answer_ids_expires ON answer_ids (expires_at);

-- Consecutive wrong passwords, by digest of the login that was typed (known or
-- not, so that the back-off tells nobody who has an account).
CREATE TABLE password_attempts (
  subject    TEXT PRIMARY KEY,
  failures   INTEGER NOT NULL,
  not_before INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE INDEX password_attempts_updated ON password_attempts (updated_at);

-- +goose Down
DROP TABLE password_attempts;
DROP TABLE answer_ids;
DROP TABLE challenges;
DROP TABLE signin_handles;
DROP TABLE signin_transactions;
DROP TABLE policy_rules;
DROP TABLE policies;
