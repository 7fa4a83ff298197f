-- every order's total is the sum of its lines
select o.id, o.total, sum(i.quantity * i.unit_price) as lines
  from public.orders o
  left join public.order_items i on i.order_id = o.id
 group by o.id, o.total
having o.total is distinct from sum(i.quantity * i.unit_price);
