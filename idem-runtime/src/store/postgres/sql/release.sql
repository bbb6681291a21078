-- $1 key  $2 token  $3 how long the attempt is remembered, null: the key becomes absent
--
-- An absent key keeps its row for a while, so that the next claim sees its fence.
UPDATE {table} AS r
SET state = CASE WHEN $3::bigint IS NULL THEN 6 ELSE 1 END,
    token = NULL,
    until = CASE WHEN $3 IS NOT NULL THEN {now} END,
    forget = {now} + coalesce($3, 0)
WHERE r.key = $1 AND r.token = $2 AND r.state IN (1, 4) AND {readable} AND (r.forget > {now}) IS NOT FALSE
