-- The twenty most used hashtags of the last ten minutes, anew every ten seconds.
--
-- `slot` is the start of a window of ten minutes. The hashtag itself ends the order, so that equal counts have one ranking, always the same.
CREATE MATERIALIZED VIEW hashtag_trends
WITH (
  partition_key = 'slot',        -- a read names the window ...
  clustering = 'rank',           -- ... and gets its ranking, first place first
  accept_late = '1 minute',
  keep = '1 day',
  dashboard_title = 'Trending hashtags',
  dashboard_series = 'hashtag_counts'    -- the history of each entry
) AS
SELECT slot, hashtag, count(*) AS occurrences,
       row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, hashtag) AS rank
FROM (SELECT slot, unnest(hashtags(tweet)) AS hashtag
      FROM (SELECT unnest(hop(timestamp, INTERVAL '10 seconds', INTERVAL '10 minutes')) AS slot, tweet FROM tweets))
GROUP BY slot, hashtag
QUALIFY rank <= 20
