-- ?1 now, ?2 how many. What is remembered for longer than its answer is kept becomes a tombstone.
UPDATE idem_records SET state = 3, until = NULL, length = NULL, answer = NULL WHERE key IN (
    SELECT key FROM idem_records WHERE state = 2 AND until < forget AND until <= ?1 AND format = 1 LIMIT ?2
)
