-- Claims, one or many: what can be won is written, what cannot is read.
--
-- $1 keys, no two alike  $2 tokens  $3 fingerprints  $4 leases  $5 retentions, null: until settled
-- $6 whether an abandoned record becomes unknown instead of being taken over, as one does that is kept until it is settled
--
-- What is read is as old as the statement. Where somebody else wrote since, neither half gives a row, and the claim is
-- asked again: a new statement sees what was written.
WITH clock AS MATERIALIZED (
    SELECT {now} AS now
),
asked AS MATERIALIZED (
    SELECT *
    FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[], $6::boolean[])
        WITH ORDINALITY AS asked (key, token, fingerprint, lease, retention, mark, place)
),
seen AS MATERIALIZED (
    SELECT asked.place, r.*,
        coalesce({readable} AND (
            r.state = 6 OR r.forget <= clock.now
            OR r.fingerprint = asked.fingerprint AND r.state = 1
                AND (r.token IS NULL OR r.token = asked.token OR r.until <= clock.now)
        ), false) AS open
    FROM asked
    CROSS JOIN clock
    -- One search of the index for each claim, whatever the planner thinks the size of the table is.
    CROSS JOIN LATERAL (SELECT * FROM {table} AS r WHERE r.key = asked.key OFFSET 0) AS r
),
won AS (
    INSERT INTO {table} AS r (key, format, state, fingerprint, token, fence, attempt, until, forget)
    SELECT claim.key, 1, 1, claim.fingerprint, claim.token, at.now, 1,
        at.now + claim.lease, at.now + claim.lease + claim.retention
    FROM (
        SELECT *
        FROM asked
        WHERE NOT EXISTS (SELECT FROM seen WHERE seen.place = asked.place AND NOT seen.open)
        -- Every statement locks in one order, so that no two wait for each other.
        ORDER BY asked.key
    ) AS claim
    -- Just before the row is written.
    CROSS JOIN LATERAL (SELECT {now} AS now, claim.key) AS at
    -- The row may be another one than was seen, and is locked now. `excluded.fence` is the clock from before it was;
    -- what is written counts from now.
    ON CONFLICT (key) DO UPDATE SET (state, fingerprint, token, fence, attempt, until, forget, answer, answer_length) = (
        SELECT
            CASE WHEN now.marks THEN 4 ELSE 1 END,
            excluded.fingerprint,
            CASE WHEN now.marks THEN r.token ELSE excluded.token END,
            CASE WHEN now.marks OR now.mine THEN r.fence ELSE greatest(r.fence + 1, {now}) END,
            CASE
                WHEN now.gone THEN 1
                WHEN now.marks OR now.mine THEN r.attempt
                ELSE least(r.attempt, 2147483646) + 1
            END,
            CASE WHEN NOT now.marks THEN {now} + (excluded.until - excluded.fence) END,
            CASE WHEN NOT now.marks THEN {now} + (excluded.forget - excluded.fence) END,
            NULL::bytea,
            NULL::integer
        FROM (
            SELECT
                held.gone,
                NOT held.gone AND r.token IS NOT DISTINCT FROM excluded.token AS mine,
                NOT held.gone AND r.token <> excluded.token IS TRUE
                    AND (r.forget IS NULL OR (SELECT asked.mark FROM asked WHERE asked.key = excluded.key)) AS marks
            FROM (SELECT r.state = 6 OR coalesce(r.forget <= excluded.fence, false) AS gone) AS held
        ) AS now
    )
    WHERE {readable} AND (
        r.state = 6 OR r.forget <= excluded.fence
        OR r.fingerprint = excluded.fingerprint AND r.state = 1
            AND (r.token IS NULL OR r.token = excluded.token OR r.until <= excluded.fence)
    )
    RETURNING r.*, {now} - r.fence AS late
)
SELECT asked.place, true AS written, clock.now, won.late,
    won.key, won.format, won.state, won.fingerprint, won.token, won.fence, won.attempt, won.until, won.forget,
    won.answer, won.answer_length
FROM won
JOIN asked ON asked.key = won.key
CROSS JOIN clock
UNION ALL
SELECT seen.place, false, clock.now, 0,
    seen.key, seen.format, seen.state, seen.fingerprint, seen.token, seen.fence, seen.attempt, seen.until, seen.forget,
    seen.answer, seen.answer_length
FROM seen
CROSS JOIN clock
WHERE NOT seen.open
