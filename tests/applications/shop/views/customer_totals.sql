-- A customer's whole history in one row. There is no window, so its size is the number of customers: the author says that this is meant.
CREATE MATERIALIZED VIEW customer_totals
WITH (partition_key = 'customer', unbounded = true) AS
SELECT customer,
       count(*) AS orders,
       sum(quantity) AS pieces,
       sum(amount) AS spent,
       min(placed_at) AS first_order,
       max(placed_at) AS last_order,
       approx_distinct(product) AS products
FROM orders
GROUP BY customer
