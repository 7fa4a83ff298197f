-- How many teams mask: after the restore, in place. The same columns as columns.yaml, by the cheapest expressions that
-- keep an address unique; md5 without a key can be guessed back.
update people set
    email       = md5(email) || '@example.invalid',
    full_name   = 'Person ' || left(md5(full_name), 8),
    mobile      = '+1555' || lpad((id % 10000000)::text, 7, '0'),
    reset_token = null,
    profile     = jsonb_set(profile, '{contact,email}', to_jsonb(md5(profile #>> '{contact,email}') || '@example.invalid'));
