-- Claims a key that has no record, as part of a transaction. A row is given only where it is won.
--
-- $1 key  $2 token  $3 fingerprint  $4 lease  $5 retention, null: until settled
--
-- It waits for whoever writes the same key, within the store's own lock time-out. Where a row is given, the lock time-out of
-- the transaction is again what it was. Where none is, the store's own holds until `unlimit.sql`.
INSERT INTO {table} AS r (key, format, state, fingerprint, token, fence, attempt, until, forget)
SELECT $1, 1, 1, $3, $2, at.now, 1, at.now + $4, at.now + $4 + $5
FROM (
    SELECT set_config('idem.lock_timeout', current_setting('lock_timeout'), true) AS before,
        set_config('lock_timeout', '{lock_timeout}', true) AS limited,
        {now} AS now
) AS at
ON CONFLICT (key) DO NOTHING
RETURNING r.fence, {now} - r.fence AS late, {unlimit} AS after
