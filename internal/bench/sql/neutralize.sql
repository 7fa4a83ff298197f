-- Nothing here acts on the world outside.
select;
