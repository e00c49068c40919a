-- The five products that brought most in each country, day by day. The product ends the order, so that equal revenue has one ranking.
CREATE MATERIALIZED VIEW best_sellers
WITH (partition_key = 'country, day', clustering = 'rank', accept_late = '6 hours') AS
SELECT day, country, product, sum(amount) AS revenue,
       row_number() OVER (PARTITION BY day, country ORDER BY sum(amount) DESC, product) AS rank
FROM (SELECT tumble(placed_at, INTERVAL '1 day') AS day, country, product, amount FROM orders)
GROUP BY day, country, product
QUALIFY rank <= 5
