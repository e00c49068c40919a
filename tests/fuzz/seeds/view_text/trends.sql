CREATE MATERIALIZED VIEW hashtag_trends
WITH (partition_key = 'slot', clustering = 'rank', accept_late = '1 minute', keep = '1 day') AS
SELECT slot, hashtag, count(*) AS occurrences,
       row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, hashtag) AS rank
FROM (SELECT slot, unnest(hashtags(tweet)) AS hashtag
      FROM (SELECT unnest(hop(timestamp, INTERVAL '10 seconds', INTERVAL '10 minutes')) AS slot, tweet FROM tweets))
GROUP BY slot, hashtag
QUALIFY rank <= 20
