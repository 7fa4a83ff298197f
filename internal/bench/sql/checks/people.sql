-- every address has the form of one
select id from public.people where email !~ '^[^@[:space:]]+@[^@[:space:]]+$';
