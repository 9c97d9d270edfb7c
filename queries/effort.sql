-- How long fixed bugs were open and how large their fixes are, by engine and over all. Days are counted
-- for issues, from their creation to their closing; lines are those that merged pull requests add and take away.
WITH each AS (
  SELECT engine, is_pr, julianday(closed_at) - julianday(created_at) AS days,
         lines_added + lines_deleted AS lines, files_changed
  FROM final
  WHERE is_fixed
), twice AS (
  SELECT * FROM each
  UNION ALL
  SELECT 'all' AS engine, is_pr, days, lines, files_changed FROM each
)
SELECT engine,
       count(*) FILTER (WHERE NOT is_pr) AS issues,
       median(days) FILTER (WHERE NOT is_pr) AS median_days,
       avg(days) FILTER (WHERE NOT is_pr) AS mean_days,
       count(lines) AS fixes,
       median(lines) AS median_lines,
       quantile(lines, 0.9) AS lines_90,
       top_share(lines, 0.2) AS top_share,
       median(files_changed) AS median_files
FROM twice
GROUP BY engine
ORDER BY engine = 'all', engine
