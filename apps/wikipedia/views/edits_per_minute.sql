-- What happens in each wiki, minute by minute: edits, how many of them by people, bytes added and removed, and about how many people edited.
CREATE MATERIALIZED VIEW edits_per_minute
WITH (
  partition_key = 'wiki',
  clustering = 'minute DESC',
  accept_late = '1 hour',
  dashboard_title = 'Edits'
) AS
SELECT wiki, tumble(at, INTERVAL '1 minute') AS minute,
       count(*) AS edits,
       count(*) FILTER (WHERE NOT is_bot) AS edits_by_people,
       sum(greatest(coalesce(bytes_after, 0) - coalesce(bytes_before, 0), 0)) AS bytes_added,
       sum(greatest(coalesce(bytes_before, 0) - coalesce(bytes_after, 0), 0)) AS bytes_removed,
       approx_distinct(editor) AS editors
FROM edits
GROUP BY wiki, minute
