-- +goose Up

-- 1 when a device got it by its own key and nobody signed in: it is for that
-- enrolment alone, and ends with it.
ALTER TABLE oauth_grants ADD COLUMN by_device INTEGER NOT NULL DEFAULT 0;

-- The thumbprint of the key that a token is bound to (DPoP), '' for a bearer's.
ALTER TABLE oauth_access_tokens ADD COLUMN key_thumbprint TEXT NOT NULL DEFAULT '';
ALTER TABLE oauth_refresh_tokens ADD COLUMN key_thumbprint TEXT NOT NULL DEFAULT '';

-- What clients sign is good once: proofs of possession by their key, client
-- assertions by their client.
CREATE TABLE oauth_signed_once (
  signer     TEXT   NOT NULL, -- 'jkt:' and a thumbprint, or 'client:' and a client id
  digest     TEXT   NOT NULL, -- of the claim jti
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (signer, digest)
);
CREATE INDEX oauth_signed_once_expiry ON oauth_signed_once (expires_at);

-- How a client proves itself at the token endpoint: none, client_secret_basic,
-- client_secret_post or private_key_jwt.
ALTER TABLE apps ADD COLUMN auth_method TEXT NOT NULL DEFAULT 'none';
ALTER TABLE apps ADD COLUMN jwks TEXT NOT NULL DEFAULT '[]'; -- of private_key_jwt: public keys, JSON

-- Secrets are long and random; a digest is all that is kept. A client may have
-- two, so that one can be replaced without an outage.
CREATE TABLE app_secrets (
  client_id  TEXT   NOT NULL REFERENCES apps (client_id) ON DELETE CASCADE,
  digest     TEXT   NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (client_id, digest)
);

-- Requests over the back channel (CIBA), as the token endpoint knows them: who
-- may ask how they stand, and how often.
CREATE TABLE backchannel_requests (
  digest               TEXT    PRIMARY KEY, -- of auth_req_id
  client_id            TEXT    NOT NULL,
  authorization_server TEXT    NOT NULL,
  pace                 INTEGER NOT NULL, -- seconds between two questions
  asked_at             BIGINT  NOT NULL,
  expires_at           BIGINT  NOT NULL
);
CREATE INDEX backchannel_requests_expiry ON backchannel_requests (expires_at);

-- +goose Down
DROP TABLE backchannel_requests;
DROP TABLE app_secrets;
ALTER TABLE apps DROP COLUMN jwks;
ALTER TABLE apps DROP COLUMN auth_method;
DROP TABLE oauth_signed_once;
ALTER TABLE oauth_refresh_tokens DROP COLUMN key_thumbprint;
ALTER TABLE oauth_access_tokens DROP COLUMN key_thumbprint;
ALTER TABLE oauth_grants DROP COLUMN by_device;
