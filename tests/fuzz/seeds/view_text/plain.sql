CREATE MATERIALIZED VIEW per_user WITH (partition_key = 'userid', unbounded = true) AS
SELECT userid, sum(length(tweet)) AS s, max(timestamp) AS m FROM tweets WHERE ratio > 0.5 GROUP BY userid HAVING count(*) > 1
