-- How often each page is looked at, minute by minute, and about by how many visitors.
CREATE MATERIALIZED VIEW visits_per_minute
WITH (
  partition_key = 'page',        -- a read names the page ...
  clustering = 'minute DESC',    -- ... and gets its minutes, newest first
  accept_late = '1 hour'
) AS
SELECT page, tumble(at, INTERVAL '1 minute') AS minute, count(*) AS visits, approx_distinct(visitor) AS visitors
FROM visits
GROUP BY page, minute
