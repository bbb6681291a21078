-- ?1 the key before the page (no key is as short as the empty one), ?2 how many.
SELECT key, format, state, fingerprint, token, fence, attempt, until, forget, length, answer
FROM idem_records
WHERE state = 5 AND key > ?1
ORDER BY key
LIMIT ?2
