-- $1 how many at most  $2 how long a row stays after its time
--
-- Rows that somebody else holds are passed over: any number of these may run at once. The clock is a subquery, for an
-- index is searched only by what does not change while it is.
DELETE FROM {table}
WHERE ctid = ANY (ARRAY(
    SELECT r.ctid
    FROM {table} AS r
    WHERE r.forget <= (SELECT {now}) - $2
        AND r.state IN (1, 2, 3, 6) AND (r.state <> 1 OR r.until <= (SELECT {now})) AND {readable}
    ORDER BY r.forget
    LIMIT $1
    FOR UPDATE SKIP LOCKED
))
