-- $1 keys
SELECT 0::bigint AS place, false AS written, clock.now AS now, 0::bigint AS late,
    r.key, r.format, r.state, r.fingerprint, r.token, r.fence, r.attempt, r.until, r.forget, r.answer, r.answer_length
FROM {table} AS r
CROSS JOIN (SELECT {now} AS now) AS clock
WHERE r.key = ANY ($1::bytea[]) AND r.state = 2 AND {readable} AND r.until > clock.now AND r.forget > clock.now
