-- The newest events: whoever reads them sees at once whether the backup holds yesterday.
--
-- One query that returns (at timestamptz, what text), newest first; the tool takes as many rows as it needs.
-- backup:create runs it on production and keeps the result beside the backup, so it must not say anything about
-- a person that columns.yaml does not keep: numbers, not names.
select at,
       what || coalesce(', order ' || order_id, '') || coalesce(', customer ' || customer_id, '') as what
  from public.events
 order by at desc, id desc;
