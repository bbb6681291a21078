-- ?1 key, ?2 .. ?9 the other columns of a record in flight. If no fence of the file is as large and nothing lies under the key.
INSERT INTO idem_records (key, format, state, fingerprint, token, fence, attempt, until, forget)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM idem_schema WHERE id = 1 AND last_fence < ?6
ON CONFLICT (key) DO NOTHING;
UPDATE idem_schema SET last_fence = ?6 WHERE id = 1 AND changes() = 1
