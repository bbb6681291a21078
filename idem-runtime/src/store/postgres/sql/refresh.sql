-- A claim that waited for somebody else's row before it could write its own: its clock is behind.
--
-- $1 key  $2 token  $3 lease  $4 retention, null: until settled
UPDATE {table} AS r
SET fence = greatest(r.fence, {now}), until = {now} + $3, forget = {now} + $3 + $4
WHERE r.key = $1 AND r.token = $2 AND r.state = 1 AND {readable}
RETURNING 1::bigint AS place, true AS written, {now} AS now, 0::bigint AS late,
    r.key, r.format, r.state, r.fingerprint, r.token, r.fence, r.attempt, r.until, r.forget, r.answer, r.answer_length
