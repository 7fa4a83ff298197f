-- there are events, and none is in the future
-- Five minutes for clocks that differ.
select max(at) as newest
  from public.events
having count(*) = 0
    or max(at) > now() + interval '5 minutes';
