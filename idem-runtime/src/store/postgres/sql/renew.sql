-- $1 key  $2 token  $3 lease  $4 retention, null: until settled
UPDATE {table} AS r
SET until = {now} + $3, forget = {now} + $3 + $4
WHERE r.key = $1 AND r.token = $2 AND r.state = 1 AND {readable} AND (r.forget > {now}) IS NOT FALSE
