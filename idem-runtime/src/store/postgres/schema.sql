-- Records of idem, layout 1. Run it once, as the owner of the schema; running it again changes nothing.

-- One row for each key. Times are microseconds since the Unix epoch by the clock of this server.
CREATE TABLE IF NOT EXISTS idem_records (
    key           bytea    NOT NULL PRIMARY KEY,  -- the storage key, a digest of 32 bytes
    format        smallint NOT NULL,              -- layout of the row: 1
    state         smallint NOT NULL,              -- 1 in flight, 2 completed with an answer, 3 completed without one,
                                                  -- 4 unknown, 5 parked, 6 absent, kept for its fence
    fingerprint   bytea    NOT NULL,              -- 32 bytes
    token         bytea,                          -- of the last owner, 16 bytes; null: nobody's
    fence         bigint   NOT NULL,
    attempt       integer  NOT NULL,
    until         bigint,                         -- in flight: end of the lease; with an answer: how long it is replayed
    forget        bigint,                         -- from then on the row is absent; null: kept until it is settled
    answer        bytea,                          -- the answer, or the note of a parked record
    answer_length integer                         -- its bytes, to tell when some are missing
);

CREATE INDEX IF NOT EXISTS idem_records_forget ON idem_records (forget) WHERE forget IS NOT NULL;
CREATE INDEX IF NOT EXISTS idem_records_parked ON idem_records (key) WHERE state = 5;

-- Which layout this is. The store reads it when it connects.
CREATE TABLE IF NOT EXISTS idem_records_schema (
    version integer NOT NULL PRIMARY KEY
);

INSERT INTO idem_records_schema (version)
SELECT 1 WHERE NOT EXISTS (SELECT FROM idem_records_schema)
ON CONFLICT DO NOTHING;
