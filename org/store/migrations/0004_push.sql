-- +goose Up

-- A push goes to all of a user's devices at once: one challenge, which is
-- answered once, and for each device the token that its pending list shows.
CREATE TABLE challenge_targets (
  challenge_id TEXT NOT NULL REFERENCES challenges (id) ON DELETE CASCADE,
  enrolment_id TEXT NOT NULL,
  token        TEXT NOT NULL,
  PRIMARY KEY (challenge_id, enrolment_id)
);
CREATE INDEX challenge_targets_enrolment ON challenge_targets (enrolment_id);

DROP INDEX challenges_target;
ALTER TABLE challenges DROP COLUMN target_enrolment;
-- What is shown on the page, and must come back signed; '' without a number challenge.
ALTER TABLE challenges ADD COLUMN correct_number TEXT NOT NULL DEFAULT '';
ALTER TABLE challenges ADD COLUMN transaction_type TEXT NOT NULL DEFAULT 'LOGIN'; -- or CIBA
CREATE INDEX challenges_user ON challenges (user_id, created_at);

-- The shared secret of a TOTP method, and the last step that was taken: a code
-- is good once (RFC 6238, 5.2).
CREATE TABLE totp_secrets (
  method_id  TEXT PRIMARY KEY REFERENCES enrolment_methods (id) ON DELETE CASCADE,
  secret     TEXT NOT NULL,    -- base32 without padding
  algorithm  TEXT NOT NULL,    -- SHA1, SHA256, SHA512
  digits     INTEGER NOT NULL,
  period     INTEGER NOT NULL, -- seconds
  last_step  BIGINT NOT NULL DEFAULT 0
);

-- Whether the person has a push sent without being asked for it.
ALTER TABLE users ADD COLUMN auto_push INTEGER NOT NULL DEFAULT 0;

-- NEVER, HIGH_RISK_ONLY or ALWAYS: whether a push asks for the number.
ALTER TABLE org ADD COLUMN number_challenge TEXT NOT NULL DEFAULT 'ALWAYS';

-- From where a user has signed in before, by digest: what is new is unusual.
CREATE TABLE sign_in_places (
  user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  kind      TEXT NOT NULL, -- browser, address
  digest    TEXT NOT NULL,
  last_seen BIGINT NOT NULL,
  PRIMARY KEY (user_id, kind, digest)
);

-- "This wasn't me": what a person reported about a push.
CREATE TABLE push_reports (
  id           TEXT PRIMARY KEY,
  user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  enrolment_id TEXT NOT NULL,
  challenge_id TEXT NOT NULL,
  client_id    TEXT NOT NULL,
  client_ip    TEXT NOT NULL,
  user_agent   TEXT NOT NULL,
  created_at   BIGINT NOT NULL
);
CREATE INDEX push_reports_user ON push_reports (user_id, created_at);

-- +goose Down
DROP TABLE push_reports;
DROP TABLE sign_in_places;
ALTER TABLE org DROP COLUMN number_challenge;
ALTER TABLE users DROP COLUMN auto_push;
DROP TABLE totp_secrets;
DROP INDEX challenges_user;
ALTER TABLE challenges DROP COLUMN transaction_type;
ALTER TABLE challenges DROP COLUMN correct_number;
ALTER TABLE challenges ADD COLUMN target_enrolment TEXT NOT NULL DEFAULT '';
CREATE INDEX challenges_target ON challenges (target_enrolment, status);
DROP TABLE challenge_targets;
