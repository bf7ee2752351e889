-- +goose Up

-- Authenticators beside the two that every org has (table org). Those have no
-- row here.
CREATE TABLE authenticators (
  id         TEXT   PRIMARY KEY,
  key        TEXT   NOT NULL UNIQUE, -- webauthn
  status     TEXT   NOT NULL,        -- ACTIVE, INACTIVE
  settings   TEXT   NOT NULL,        -- JSON: those of its method
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);

-- Security keys (WebAuthn credentials). A credential is one person's: its id
-- and its public key are there once.
CREATE TABLE security_keys (
  id              TEXT    PRIMARY KEY,
  user_id         TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  credential_id   TEXT    NOT NULL UNIQUE, -- base64url, like the next one
  public_key      TEXT    NOT NULL UNIQUE, -- COSE
  aaguid          TEXT    NOT NULL,        -- of the model; zeroes: unknown
  format          TEXT    NOT NULL,        -- of the attestation: none, packed, fido-u2f, …
  attestation     TEXT    NOT NULL,        -- what it was worth: none, basic_surrogate, basic_full, …
  transports      TEXT    NOT NULL,        -- JSON array
  sign_count      BIGINT  NOT NULL,
  backup_eligible INTEGER NOT NULL,        -- 1: the private key may be copied to other devices
  verified_at     BIGINT  NOT NULL,        -- when it last verified the person, 0: never
  suspect_at      BIGINT  NOT NULL,        -- when its counter went back, 0: never
  created_at      BIGINT  NOT NULL,
  last_used_at    BIGINT  NOT NULL
);
CREATE INDEX security_keys_user ON security_keys (user_id);

-- +goose Down
DROP TABLE security_keys;
DROP TABLE authenticators;
