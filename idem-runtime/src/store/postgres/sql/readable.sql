(r.format = 1
    AND octet_length(r.fingerprint) = 32
    AND coalesce(octet_length(r.token), 16) = 16
    AND r.fence BETWEEN 0 AND 4611686018427387903
    AND r.attempt >= 1
    AND r.answer_length IS NOT DISTINCT FROM octet_length(r.answer)
    AND (r.answer IS NOT NULL) = (r.state IN (2, 5))
    AND CASE r.state
        WHEN 1 THEN r.until IS NOT NULL
        WHEN 2 THEN r.until IS NOT NULL AND r.forget IS NOT NULL
        WHEN 3 THEN r.forget IS NOT NULL
        WHEN 4 THEN r.forget IS NULL
        WHEN 5 THEN r.forget IS NULL
        WHEN 6 THEN true
        ELSE false
    END)
