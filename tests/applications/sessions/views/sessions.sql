-- Every session there ever was: the state is as large as the history, on disk.
CREATE MATERIALIZED VIEW sessions
WITH (partition_key = 'session', unbounded = true) AS
SELECT session,
       count(*) AS clicks,
       sum(took_ms) AS took_ms,
       min(page) AS first_page,
       max(clicked_at) AS last_click
FROM clicks
GROUP BY session
