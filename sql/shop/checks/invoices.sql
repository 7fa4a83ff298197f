-- every invoice asks for what its order costs, and lists lines
select v.id, v.total, o.total_with_tax
  from public.invoices v
  join public.orders o on o.id = v.order_id
 where v.total <> o.total_with_tax
    or coalesce(jsonb_array_length(v.payload -> 'lines'), 0) = 0;
