-- Posts and replies by the languages that their authors name, minute by minute.
CREATE MATERIALIZED VIEW languages
WITH (partition_key = 'lang', clustering = 'minute DESC', accept_late = '1 hour', dashboard_title = 'Languages') AS
SELECT lang, tumble(at, INTERVAL '1 minute') AS minute, count(*) AS posts, count(reply_to) AS replies
FROM (SELECT unnest(langs) AS lang, at, reply_to FROM posts)
GROUP BY lang, minute
