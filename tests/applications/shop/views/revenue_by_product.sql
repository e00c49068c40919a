-- What each product brought in each country, by the hour: two partition-key columns, sums and averages of decimals, a condition on the groups.
CREATE MATERIALIZED VIEW revenue_by_product
WITH (partition_key = 'country, product', clustering = 'hour DESC', accept_late = '2 days', keep = '90 days') AS
SELECT country, product, tumble(placed_at, INTERVAL '1 hour') AS hour,
       count(*) AS orders,
       sum(CASE WHEN discount IS NULL THEN amount ELSE amount - discount END) AS revenue,
       avg(amount) AS mean_amount,
       min(amount) AS smallest,
       max(amount) AS largest
FROM orders
GROUP BY country, product, hour
HAVING sum(quantity) >= 2
