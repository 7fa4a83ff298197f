-- Who of accounts.yaml is admin on staging.
--
-- Everybody has been masked by now, colleagues too. The temporary table
-- rehearsal_accounts (email, masked_email, name, role) holds one row for each person of accounts.yaml; by the
-- masked address we find the row that is theirs and give it back the real one. The setting rehearsal.password_hash is
-- bcrypt's hash of the password in REHEARSAL_STAFF_PASSWORD, the same for all; empty where that is not set.
--
-- Returns (email, outcome): promoted or created. Who is in neither is reported as missing, and if nobody is in
-- any, the reset fails. Runs as the database's owner, in one transaction, before staging is swapped.

-- Exactly the people of accounts.yaml: whoever is admin on production is not admin here for that.
update public.staff set is_admin = false;

with promoted as (
    update public.staff s
       set email = a.email, name = a.name, is_admin = true,
           password_hash = coalesce(nullif(current_setting('rehearsal.password_hash', true), ''), s.password_hash)
      from rehearsal_accounts a
     where s.email in (a.masked_email, a.email)
 returning a.email
), created as (
    -- Both parts see the table as it was before, so nobody is promoted and created.
    -- No password fits an empty hash: without one people sign in by single sign-on, or ask for a new password.
    insert into public.staff (email, name, role, is_admin, password_hash)
    select a.email, a.name, a.role::public.staff_role, true, coalesce(current_setting('rehearsal.password_hash', true), '')
      from rehearsal_accounts a
     where not exists (select from public.staff s where s.email in (a.masked_email, a.email))
 returning email
)
select email, 'promoted' as outcome from promoted
union all
select email, 'created' from created
order by email;
