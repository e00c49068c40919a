-- The twenty articles that were edited most by people in the last ten minutes, anew every ten seconds.
CREATE MATERIALIZED VIEW top_pages
WITH (
  partition_key = 'slot',
  clustering = 'rank',
  accept_late = '1 minute',
  keep = '1 day',
  dashboard_title = 'Most edited articles'
) AS
SELECT slot, wiki, title, count(*) AS edits,
       row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, wiki, title) AS rank
FROM (SELECT unnest(hop(at, INTERVAL '10 seconds', INTERVAL '10 minutes')) AS slot, wiki, title
      FROM edits WHERE namespace = 0 AND NOT is_bot)
GROUP BY slot, wiki, title
QUALIFY rank <= 20
