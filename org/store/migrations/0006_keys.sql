-- +goose Up

-- What a device is told about the user's other devices. Ids are never used
-- again: an agent asks for what is newer than the last one that it has seen.
CREATE TABLE notices (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  enrolment_id TEXT   NOT NULL REFERENCES enrolments (id) ON DELETE CASCADE, -- whom it tells
  event        TEXT   NOT NULL, -- ENROLLED, KEYS_REPLACED, USER_VERIFICATION_…
  about        TEXT   NOT NULL, -- the enrolment that it happened to
  device       TEXT   NOT NULL, -- its name at that time
  created_at   BIGINT NOT NULL
);
CREATE INDEX notices_enrolment ON notices (enrolment_id, id);
CREATE INDEX notices_created ON notices (created_at);

-- +goose Down
DROP TABLE notices;
