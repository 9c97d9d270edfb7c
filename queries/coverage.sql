-- How much of each engine people have looked at: what was collected, what stands on the sheet for people,
-- and what they labelled; with the newest item that was collected.
WITH sheet AS (
  SELECT url FROM label_sheet
), each AS (
  SELECT m.engine, m.url, m.created_at,
         m.url IN (SELECT url FROM sheet) AS on_sheet,
         m.url IN (SELECT url FROM people WHERE label_by <> 'open') AS decided,
         m.url IN (SELECT url FROM people WHERE label_by = 'open') AS open,
         m.url IN (SELECT url FROM people WHERE persons > 1) AS by_two
  FROM merged m
), twice AS (
  SELECT * FROM each
  UNION ALL
  SELECT 'all', url, created_at, on_sheet, decided, open, by_two FROM each
)
SELECT engine, count(*) AS items, sum(on_sheet) AS on_sheet, sum(decided) AS decided, sum(by_two) AS by_two,
       sum(open) AS open, substr(max(created_at), 1, 10) AS newest
FROM twice
GROUP BY engine
ORDER BY engine = 'all', engine
