-- $1 the key before the page  $2 how many at most
SELECT 0::bigint AS place, false AS written, 0::bigint AS now, 0::bigint AS late,
    r.key, r.format, r.state, r.fingerprint, r.token, r.fence, r.attempt, r.until, r.forget, r.answer, r.answer_length
FROM {table} AS r
WHERE r.state = 5 AND r.key > $1 AND {readable}
ORDER BY r.key
LIMIT $2
