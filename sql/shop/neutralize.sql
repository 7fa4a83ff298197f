-- Makes the copy unable to act on the world outside: no mail, no text message, no charge, no call to a partner.
--
-- Masking has taken the secrets away already. This overwrites what would act, with values that are valid in form
-- and lead nowhere, and does not merely switch it off: a fallback or an admin's click would switch it on again.
-- Runs as the database's owner, in one transaction, before staging is swapped.

-- Mail: one server, which cannot exist. The name .invalid is reserved for this (RFC 2606).
delete from public.mail_settings;
insert into public.mail_settings (smtp_host, smtp_port, from_address, enabled)
values ('smtp.invalid', 25, 'staging@shop.invalid', false);

-- Waiting work: receipts, reminders, charges. What is done stays, as history to look at.
delete from public.jobs where finished_at is null;
delete from public.scheduled_messages where sent_at is null;

-- Partners.
update public.webhooks set url = 'https://webhook.invalid/' || id, secret = 'neutralized', active = false;
update public.api_tokens set revoked_at = coalesce(revoked_at, now());

-- Money.
update public.payment_keys set mode = 'test', public_key = 'pk_neutralized', secret_key = 'sk_neutralized';

-- Links in what staging does render lead to staging, and nobody takes it for production.
update public.site_settings
   set base_url = 'https://staging.shop.example',
       banner = 'STAGING: a masked copy of production. Nothing here is real.',
       analytics_key = null;
update public.feature_flags set enabled = (name = 'staging_banner')
 where name in ('real_payments', 'newsletter', 'staging_banner');
