-- How often each hashtag was used, in slots of five minutes.
CREATE MATERIALIZED VIEW hashtag_counts
WITH (partition_key = 'hashtag', clustering = 'slot DESC', accept_late = '1 hour') AS
SELECT hashtag, tumble(at, INTERVAL '5 minutes') AS slot, count(*) AS occurrences
FROM (SELECT lower(unnest(tags)) AS hashtag, at FROM posts)
GROUP BY hashtag, slot
