-- $1 key  $2 token  $3 new state  $4 how long the answer is kept  $5 how long it is remembered  $6 answer or note
--
-- What is completed already is written again as it is: the row is locked, and so asked about in the same step.
UPDATE {table} AS r
SET state = CASE WHEN r.state IN (1, 4) THEN $3 ELSE r.state END,
    until = CASE WHEN r.state IN (1, 4) THEN CASE WHEN $3 = 2 THEN {now} + $4 END ELSE r.until END,
    forget = CASE WHEN r.state IN (1, 4) THEN {now} + greatest($4, $5) ELSE r.forget END,
    answer = CASE WHEN r.state IN (1, 4) THEN $6 ELSE r.answer END,
    answer_length = CASE WHEN r.state IN (1, 4) THEN octet_length($6) ELSE r.answer_length END
WHERE r.key = $1 AND r.token = $2 AND r.state BETWEEN 1 AND 5 AND {readable} AND (r.forget > {now}) IS NOT FALSE
