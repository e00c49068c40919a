CREATE MATERIALIZED VIEW hashtag_counts
WITH (partition_key = 'hashtag', clustering = 'slot DESC', accept_late = '1 day') AS
SELECT hashtag, tumble(timestamp, INTERVAL '5 minutes') AS slot, count(*) AS occurrences
FROM (SELECT unnest(hashtags(tweet)) AS hashtag, timestamp FROM tweets)
GROUP BY hashtag, slot
