-- The benchmark's production: a third of :rows are people, whose rows are masked; orders, order lines and events are
-- kept. Rows are as wide as those of a shop, and derived from their number: two runs of one size hold the same.

\set QUIET on
set client_min_messages = warning;
set jit = off;
set role shop;
select :rows / 3 as people, :rows / 3 as orders, :rows / 6 as events, :rows - :rows / 3 * 2 - :rows / 6 as lines, now() as t0 \gset

create table people (
    id          bigint not null,
    email       text not null,
    full_name   text not null,
    mobile      text,
    reset_token text,
    profile     jsonb not null,
    locale      char(2) not null,
    created_at  timestamptz not null
);
create table orders (
    id        bigint not null,
    person_id bigint not null,
    status    text not null,
    total     numeric(10,2) not null,
    placed_at timestamptz not null,
    remark    text not null
);
create table order_lines (
    order_id    bigint not null,
    line        int not null,
    sku         text not null,
    quantity    int not null,
    price       numeric(10,2) not null,
    description text not null
);
create table events (
    id        bigint not null,
    at        timestamptz not null,
    what      text not null,
    person_id bigint,
    detail    text not null
);

insert into people
select i, lower(given || '.' || family) || i || '@example.com', given || ' ' || family, '+49 151 ' || 2000000 + i,
       case when i % 2 = 0 then md5('reset' || i) end,
       jsonb_build_object('theme', theme, 'visits', i % 997, 'contact',
           jsonb_build_object('email', lower(family) || i || '@example.net', 'newsletter', i % 3 = 0)),
       (array['en','de','fr','pt','es'])[1 + i % 5], :'t0'::timestamptz - i * interval '1 minute'
from (select i, (array['Anna','Thomas','John','Mary','Emma','Paul','Laura','Marco','Olga','Ahmed'])[1 + i % 10] as given,
             (array['Smith','Jones','Brown','Wilson','Rossi','Silva','Khan','Chen','Patel','Weber','Koch'])[1 + i % 11] as family,
             (array['dark','light','system'])[1 + i % 3] as theme
      from generate_series(1, :people) i) named;

insert into orders
select i, 1 + i * 7919::bigint % :people, (array['new','paid','shipped','delivered'])[1 + i % 4], i % 100000 / 100.0,
       :'t0'::timestamptz - (:orders - i) * interval '20 seconds',
       'deliver between ' || i % 12 || ' and ' || 12 + i % 12 || ', batch ' || md5(i::text) || ', no substitutes, signed ' || md5('signed' || i)
from generate_series(1, :orders) i;

insert into order_lines
select i / 2, i % 2, 'SKU-' || i % 5000, 1 + i % 5, i % 9000 / 100.0,
       'article ' || i % 5000 || ' in colour ' || (array['red','green','blue'])[1 + i % 3] || ', lot ' || md5(i::text)
from generate_series(2, :lines + 1) i;

insert into events
select i, :'t0'::timestamptz - (:events - i) * interval '15 seconds', (array['signed in','ordered','paid','asked a question'])[1 + i % 4],
       1 + i * 104729::bigint % :people, 'request ' || md5('event' || i) || ' answered in ' || i % 800 || ' ms by node ' || i % 7 || ', trace ' || md5('trace' || i)
from generate_series(1, :events) i;

alter table people add primary key (id), add unique (email);
create index on people (created_at);
create index on people (lower(full_name));
alter table orders add primary key (id), add foreign key (person_id) references people;
create index on orders (person_id);
create index on orders (placed_at);
alter table order_lines add primary key (order_id, line);
alter table events add primary key (id);
create index on events (at);
analyze;
