-- ?1 now, ?2 how many. Never what is kept until it is settled, nor what another version wrote.
DELETE FROM idem_records WHERE key IN (
    SELECT key FROM idem_records WHERE forget <= ?1 AND format = 1 AND state IN (1, 2, 3) LIMIT ?2
)
