-- ?1 key. One row always: the last fence, and the record or nulls.
SELECT last_fence, format, state, fingerprint, token, fence, attempt, until, forget, length, answer
FROM idem_schema LEFT JOIN idem_records ON key = ?1
WHERE id = 1
