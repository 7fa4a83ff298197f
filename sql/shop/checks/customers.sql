-- every order belongs to a customer whose address has the form of one
-- Masked addresses do; an address that lost its @ would show that a mask broke what the application relies on.
select o.id, o.customer_id
  from public.orders o
  left join public.customers c on c.id = o.customer_id
 where c.id is null
    or c.email !~ '^[^@[:space:]]+@[^@[:space:]]+$';
