-- +goose Up

-- One row: who this org is.
CREATE TABLE org (
  id                        TEXT PRIMARY KEY,
  password_authenticator_id TEXT NOT NULL,
  verify_authenticator_id   TEXT NOT NULL,
  created_at                BIGINT NOT NULL,
  demo_seeded_at            BIGINT
);

CREATE TABLE users (
  id            TEXT PRIMARY KEY,
  login         TEXT NOT NULL,
  login_folded  TEXT NOT NULL UNIQUE, -- lower case: logins differ in more than case
  first_name    TEXT NOT NULL,
  last_name     TEXT NOT NULL,
  email         TEXT NOT NULL,
  status        TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  created_at    BIGINT NOT NULL,
  updated_at    BIGINT NOT NULL
);

CREATE TABLE user_groups (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL
);

CREATE TABLE group_members (
  group_id TEXT NOT NULL REFERENCES user_groups (id) ON DELETE CASCADE,
  user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_user ON group_members (user_id);

-- Lists are JSON arrays of strings.
CREATE TABLE apps (
  client_id      TEXT PRIMARY KEY,
  label          TEXT NOT NULL,
  redirect_uris  TEXT NOT NULL,
  grant_types    TEXT NOT NULL,
  response_types TEXT NOT NULL,
  scopes         TEXT NOT NULL,
  policy_id      TEXT NOT NULL,
  built_in       INTEGER NOT NULL,
  created_at     BIGINT NOT NULL
);

CREATE TABLE app_groups (
  client_id TEXT NOT NULL REFERENCES apps (client_id) ON DELETE CASCADE,
  group_id  TEXT NOT NULL REFERENCES user_groups (id) ON DELETE CASCADE,
  PRIMARY KEY (client_id, group_id)
);

CREATE TABLE app_users (
  client_id TEXT NOT NULL REFERENCES apps (client_id) ON DELETE CASCADE,
  user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  PRIMARY KEY (client_id, user_id)
);

CREATE TABLE trusted_origins (
  origin     TEXT PRIMARY KEY,
  created_at BIGINT NOT NULL
);

-- The org's own keys. private_key is PKCS #8 in base64.
CREATE TABLE signing_keys (
  kid         TEXT PRIMARY KEY,
  state       TEXT NOT NULL, -- NEXT, ACTIVE, EXPIRED
  private_key TEXT NOT NULL,
  created_at  BIGINT NOT NULL,
  expired_at  BIGINT
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (state) WHERE state = 'ACTIVE';
CREATE UNIQUE INDEX signing_keys_one_next ON signing_keys (state) WHERE state = 'NEXT';

CREATE TABLE devices (
  id                   TEXT PRIMARY KEY,
  client_instance_id   TEXT NOT NULL UNIQUE,
  client_instance_key  TEXT NOT NULL, -- JWK
  status               TEXT NOT NULL, -- ACTIVE, SUSPENDED, DEACTIVATED, DELETED
  profile              TEXT NOT NULL, -- JSON, as the device described itself
  created_at           BIGINT NOT NULL,
  updated_at           BIGINT NOT NULL
);

-- A deleted enrolment stays as a row, so that its agent learns that it is gone
-- (410) instead of meeting a 404 that may mean anything.
CREATE TABLE enrolments (
  id               TEXT PRIMARY KEY,
  authenticator_id TEXT NOT NULL,
  user_id          TEXT NOT NULL REFERENCES users (id),
  device_id        TEXT NOT NULL REFERENCES devices (id),
  status           TEXT NOT NULL, -- ACTIVE, SUSPENDED, DELETED
  pop_thumbprint   TEXT NOT NULL, -- of the key that makes create idempotent
  created_at       BIGINT NOT NULL,
  updated_at       BIGINT NOT NULL,
  last_used_at     BIGINT
);
CREATE UNIQUE INDEX enrolments_pop ON enrolments (user_id, pop_thumbprint) WHERE status <> 'DELETED';
CREATE INDEX enrolments_user ON enrolments (user_id);
CREATE INDEX enrolments_device ON enrolments (device_id);

CREATE TABLE enrolment_methods (
  id                TEXT PRIMARY KEY,
  enrolment_id      TEXT NOT NULL REFERENCES enrolments (id) ON DELETE CASCADE,
  type              TEXT NOT NULL, -- push, signed_nonce
  status            TEXT NOT NULL,
  push_token        TEXT NOT NULL,
  transaction_types TEXT NOT NULL, -- JSON array
  created_at        BIGINT NOT NULL,
  updated_at        BIGINT NOT NULL,
  UNIQUE (enrolment_id, type)
);

CREATE TABLE method_keys (
  method_id  TEXT NOT NULL REFERENCES enrolment_methods (id) ON DELETE CASCADE,
  role       TEXT NOT NULL, -- proofOfPossession, userVerification, userVerificationBioOrPin
  thumbprint TEXT NOT NULL,
  jwk        TEXT NOT NULL,
  attested   INTEGER NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (method_id, role)
);
CREATE INDEX method_keys_thumbprint ON method_keys (thumbprint);

CREATE TABLE enrolment_links (
  token_digest   TEXT PRIMARY KEY,
  user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  created_at     BIGINT NOT NULL,
  expires_at     BIGINT NOT NULL,
  consumed_at    BIGINT,
  enrolment_id   TEXT REFERENCES enrolments (id),
  pop_thumbprint TEXT
);

-- Tokens that devices sign about themselves are good once.
CREATE TABLE device_tokens (
  issuer     TEXT NOT NULL,
  jti        TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (issuer, jti)
);
CREATE INDEX device_tokens_expiry ON device_tokens (expires_at);

-- +goose Down
DROP TABLE device_tokens;
DROP TABLE enrolment_links;
DROP TABLE method_keys;
DROP TABLE enrolment_methods;
DROP TABLE enrolments;
DROP TABLE devices;
DROP TABLE signing_keys;
DROP TABLE trusted_origins;
DROP TABLE app_users;
DROP TABLE app_groups;
DROP TABLE apps;
DROP TABLE group_members;
DROP TABLE user_groups;
DROP TABLE users;
DROP TABLE org;
