-- What `SqliteStore` keeps. Every name begins with `idem_`: the tables of a service may lie in the same file.

-- One row. `last_fence` is the largest fence ever given here, and with it the latest time that any process saw.
CREATE TABLE idem_schema (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    version    INTEGER NOT NULL,
    last_fence INTEGER NOT NULL
) STRICT;

INSERT INTO idem_schema (id, version, last_fence) VALUES (1, 1, 0);

-- Times are microseconds since the Unix epoch.
CREATE TABLE idem_records (
    key         BLOB    NOT NULL PRIMARY KEY, -- 32 bytes
    format      INTEGER NOT NULL,             -- of this row: 1
    state       INTEGER NOT NULL,             -- 1 in flight, 2 answered, 3 tombstone, 4 unknown, 5 parked
    fingerprint BLOB    NOT NULL,             -- 32 bytes
    token       BLOB,                         -- 16 bytes; null: nobody's
    fence       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    until       INTEGER,                      -- in flight: end of the lease; answered: end of the `ttl`
    forget      INTEGER,                      -- when the record is absent; null: kept until it is settled
    length      INTEGER,                      -- of the answer
    answer      BLOB                          -- the answer; parked: why
) STRICT, WITHOUT ROWID;

-- For what is past its time, for answers that are kept for a shorter time than they are remembered, and for lists.
CREATE INDEX idem_records_forget ON idem_records (forget) WHERE forget IS NOT NULL;
CREATE INDEX idem_records_until ON idem_records (until) WHERE state = 2 AND until < forget;
CREATE INDEX idem_records_parked ON idem_records (key) WHERE state = 5;
