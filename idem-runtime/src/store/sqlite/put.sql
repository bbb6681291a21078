-- ?1 key, ?2 .. ?11 the other columns in their order; ?6 is the fence.
INSERT INTO idem_records (key, format, state, fingerprint, token, fence, attempt, until, forget, length, answer)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (key) DO UPDATE SET
    format = excluded.format,
    state = excluded.state,
    fingerprint = excluded.fingerprint,
    token = excluded.token,
    fence = excluded.fence,
    attempt = excluded.attempt,
    until = excluded.until,
    forget = excluded.forget,
    length = excluded.length,
    answer = excluded.answer;
UPDATE idem_schema SET last_fence = ?6 WHERE id = 1 AND last_fence < ?6
