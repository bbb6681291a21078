-- $1 key  $2 the fence it must have, null: any  $3 new state  $4 how long the answer is kept
-- $5 how long it is remembered  $6 answer or note
--
-- What is in flight and kept until it is settled is unknown once its lease is out.
--
-- The token goes: a verdict is nobody's completion, so the last owner's own comes too late.
UPDATE {table} AS r
SET state = $3,
    token = NULL,
    until = CASE WHEN $3 = 2 THEN {now} + $4 END,
    forget = CASE WHEN $3 <> 5 THEN {now} + greatest($4, $5) END,
    answer = $6,
    answer_length = octet_length($6)
WHERE r.key = $1 AND ($2::bigint IS NULL OR r.fence = $2) AND {readable}
    AND (r.state IN (4, 5) OR r.state = 1 AND r.token IS NOT NULL AND r.forget IS NULL AND r.until <= {now})
