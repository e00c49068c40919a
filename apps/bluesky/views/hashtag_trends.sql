-- The twenty most used hashtags of the last ten minutes, anew every ten seconds.
CREATE MATERIALIZED VIEW hashtag_trends
WITH (
  partition_key = 'slot',
  clustering = 'rank',
  accept_late = '1 minute',
  keep = '1 day',
  dashboard_title = 'Trending hashtags',
  dashboard_series = 'hashtag_counts'
) AS
SELECT slot, hashtag, count(*) AS occurrences,
       row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, hashtag) AS rank
FROM (SELECT slot, lower(unnest(tags)) AS hashtag
      FROM (SELECT unnest(hop(at, INTERVAL '10 seconds', INTERVAL '10 minutes')) AS slot, tags FROM posts))
GROUP BY slot, hashtag
QUALIFY rank <= 20
