select at, what || ', person ' || person_id as what from public.events order by at desc, id desc;
