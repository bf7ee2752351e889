-- +goose Up

-- What one sign-in gave one client. Everything issued from it points here, so
-- that revoking the row ends all of it at once.
CREATE TABLE oauth_grants (
  id                   TEXT    PRIMARY KEY,
  client_id            TEXT    NOT NULL,
  user_id              TEXT    NOT NULL,
  authorization_server TEXT    NOT NULL, -- '' = the org's own, else 'default'
  scopes               TEXT    NOT NULL, -- space separated
  amr                  TEXT    NOT NULL, -- JSON array
  acr                  TEXT    NOT NULL,
  auth_time            INTEGER NOT NULL, -- unix milliseconds, like all times here
  enrolment_id         TEXT    NOT NULL,
  device_id            TEXT    NOT NULL,
  key_id               TEXT    NOT NULL,
  session_id           TEXT    NOT NULL, -- hash of the browser session, '' without one
  created_at           INTEGER NOT NULL,
  expires_at           INTEGER NOT NULL, -- when the last thing issued from it ends
  revoked_at           INTEGER
);
CREATE INDEX oauth_grants_expiry ON oauth_grants (expires_at);
CREATE INDEX oauth_grants_user ON oauth_grants (user_id);

-- Authorization codes and interaction codes, kept as hashes. A used row stays
-- until it expires: it is how a second redemption is recognised.
CREATE TABLE oauth_codes (
  hash           TEXT    PRIMARY KEY, -- digest of the code
  kind           TEXT    NOT NULL,    -- 'authorization' or 'interaction'
  grant_id       TEXT    NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
  redirect_uri   TEXT    NOT NULL,
  nonce          TEXT    NOT NULL,
  code_challenge TEXT    NOT NULL,
  expires_at     INTEGER NOT NULL,
  used_at        INTEGER
);
CREATE INDEX oauth_codes_expiry ON oauth_codes (expires_at);
CREATE INDEX oauth_codes_grant ON oauth_codes (grant_id);

CREATE TABLE oauth_refresh_tokens (
  hash       TEXT    PRIMARY KEY, -- digest of the token
  grant_id   TEXT    NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
  expires_at INTEGER NOT NULL,    -- inherited through rotation
  rotated_at INTEGER              -- first use; the grace starts here
);
CREATE INDEX oauth_refresh_tokens_grant ON oauth_refresh_tokens (grant_id);

-- Access tokens are JWTs; this row is what makes one revocable. No row, no access.
CREATE TABLE oauth_access_tokens (
  id         TEXT    PRIMARY KEY, -- the claim jti
  grant_id   TEXT    NOT NULL REFERENCES oauth_grants (id) ON DELETE CASCADE,
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER
);
CREATE INDEX oauth_access_tokens_expiry ON oauth_access_tokens (expires_at);
CREATE INDEX oauth_access_tokens_grant ON oauth_access_tokens (grant_id);

-- Browser sessions: who signed in, and how.
CREATE TABLE sessions (
  hash           TEXT    PRIMARY KEY, -- digest of the cookie's value
  user_id        TEXT    NOT NULL,
  amr            TEXT    NOT NULL,    -- JSON array
  auth_time      INTEGER NOT NULL,
  enrolment_id   TEXT    NOT NULL,
  device_id      TEXT    NOT NULL,
  key_id         TEXT    NOT NULL,
  key_protection TEXT    NOT NULL,
  created_at     INTEGER NOT NULL,
  last_seen_at   INTEGER NOT NULL,
  expires_at     INTEGER NOT NULL     -- the absolute end
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- +goose Down
DROP TABLE sessions;
DROP TABLE oauth_access_tokens;
DROP TABLE oauth_refresh_tokens;
DROP TABLE oauth_codes;
DROP TABLE oauth_grants;
