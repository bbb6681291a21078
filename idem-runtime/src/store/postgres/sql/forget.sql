-- Makes a key absent, if what lies there is nobody's to end or to settle.
--
-- $1 key
--
-- `place` says what lay there: 1 it is forgotten, 2 nothing, 3 in flight, 4 unknown or parked. No row: nothing.
--
-- The row is locked before it is judged, so what is written is what was judged. It stays for a while, so that the next claim sees its
-- fence.
WITH seen AS MATERIALIZED (
    SELECT r.key,
        CASE
            WHEN NOT coalesce({readable}, false) THEN 1
            WHEN r.state = 6 OR coalesce(r.forget <= {now}, false) THEN 2
            WHEN r.state = 1 AND r.token IS NOT NULL AND r.forget IS NULL AND r.until <= {now} THEN 4
            WHEN r.state = 1 AND r.token IS NOT NULL THEN 3
            WHEN r.state IN (4, 5) THEN 4
            ELSE 1
        END AS what
    FROM {table} AS r
    WHERE r.key = $1
    FOR UPDATE
),
forgotten AS (
    UPDATE {table} AS r
    SET format = 1, state = 6, fingerprint = decode(repeat('00', 32), 'hex'), token = NULL,
        fence = CASE WHEN r.fence BETWEEN 0 AND 4611686018427387903 THEN r.fence ELSE 0 END,
        attempt = 1, until = NULL, forget = {now}, answer = NULL, answer_length = NULL
    FROM seen
    WHERE r.key = seen.key AND seen.what = 1
)
SELECT seen.what::bigint AS place, false AS written, 0::bigint AS now, 0::bigint AS late,
    seen.key, 1::smallint AS format, 6::smallint AS state, ''::bytea AS fingerprint, NULL::bytea AS token,
    0::bigint AS fence, 1 AS attempt, NULL::bigint AS until, NULL::bigint AS forget, NULL::bytea AS answer,
    NULL::integer AS answer_length
FROM seen
