-- Claims a key that has no record, or reads the record that it has.
--
-- $1 key  $2 token  $3 fingerprint  $4 lease  $5 retention, null: until settled
--
-- What is read is as old as the statement. Where somebody else wrote since, neither half gives a row. Then, and where the
-- record that was read can be won, the claim is asked again as `claim.sql`, which costs more and knows every case.
WITH clock AS MATERIALIZED (
    SELECT {now} AS now
),
seen AS MATERIALIZED (
    SELECT * FROM {table} AS r WHERE r.key = $1
),
won AS (
    INSERT INTO {table} AS r (key, format, state, fingerprint, token, fence, attempt, until, forget)
    SELECT $1, 1, 1, $3, $2, clock.now, 1, clock.now + $4, clock.now + $4 + $5
    FROM clock
    WHERE NOT EXISTS (SELECT FROM seen)
    ON CONFLICT (key) DO NOTHING
    RETURNING r.fence, r.until, r.forget, {now} - r.fence AS late
)
SELECT 1::bigint AS place, true AS written, won.fence AS now, won.late,
    $1 AS key, 1::smallint AS format, 1::smallint AS state, $3 AS fingerprint, $2 AS token,
    won.fence, 1 AS attempt, won.until, won.forget, NULL::bytea AS answer, NULL::integer AS answer_length
FROM won
UNION ALL
SELECT 1, false, clock.now, 0,
    seen.key, seen.format, seen.state, seen.fingerprint, seen.token,
    seen.fence, seen.attempt, seen.until, seen.forget, seen.answer, seen.answer_length
FROM seen
CROSS JOIN clock
