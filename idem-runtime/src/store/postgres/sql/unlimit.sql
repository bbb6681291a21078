set_config('lock_timeout', current_setting('idem.lock_timeout'), true)
