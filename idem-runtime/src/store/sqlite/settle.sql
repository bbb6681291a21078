-- ?1 key, ?2 token, ?3 now, ?4 .. ?8 the columns of the state. If what lies there can be read, is in flight, alive and the
-- token's, and no other process is ahead of this one's clock.
UPDATE idem_records SET state = ?4, until = ?5, forget = ?6, length = ?7, answer = ?8
WHERE key = ?1 AND token = ?2 AND format = 1 AND state = 1 AND length(fingerprint) = 32
    AND fence >= 0 AND attempt BETWEEN 0 AND 4294967295
    AND until >= 0 AND (forget IS NULL OR forget > ?3) AND length IS NULL AND answer IS NULL
    AND (SELECT last_fence FROM idem_schema WHERE id = 1) <= ?3
