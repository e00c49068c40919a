-- How often each hashtag was used, in slots of five minutes: its history, as a series that one read answers.
--
-- A post that arrives up to a day after newer ones of its partition still counts, in the slot of its own time. Rows have no `keep`: the whole history stays.
CREATE MATERIALIZED VIEW hashtag_counts
WITH (
  partition_key = 'hashtag',     -- a read names the hashtag ...
  clustering = 'slot DESC',      -- ... and gets its slots, newest first
  accept_late = '1 day'
) AS
SELECT hashtag, tumble(timestamp, INTERVAL '5 minutes') AS slot, count(*) AS occurrences
FROM (SELECT unnest(hashtags(tweet)) AS hashtag, timestamp FROM tweets)
GROUP BY hashtag, slot
