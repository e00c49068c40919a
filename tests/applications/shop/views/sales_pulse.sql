-- The last hour of each country, every quarter of an hour: overlapping windows without a ranking.
CREATE MATERIALIZED VIEW sales_pulse
WITH (partition_key = 'country', clustering = 'slot DESC', accept_late = '1 hour', keep = '30 days') AS
SELECT slot, country,
       count(*) AS orders,
       sum(amount) AS revenue,
       approx_distinct(customer) AS customers,
       sum(CASE WHEN quantity >= 10 THEN 1 ELSE 0 END) AS bulk_orders
FROM (SELECT unnest(hop(placed_at, INTERVAL '15 minutes', INTERVAL '1 hour')) AS slot, country, amount, customer, quantity FROM orders)
GROUP BY slot, country
