-- The fixed bugs of each month from the first to the last, by symptom: counts, and shares of the month. A
-- bug is of the month in which its pull request was opened, or its issue where that has none.
WITH RECURSIVE dated AS (
  SELECT substr(created_at, 1, 7) AS month, symptom FROM bugs WHERE left_out IS NULL
), every (month) AS (
  SELECT min(month) FROM dated
  UNION
  SELECT strftime('%Y-%m', month || '-01', '+1 month') FROM every WHERE month < (SELECT max(month) FROM dated)
), months AS (
  SELECT e.month, count(d.month) AS bugs
  FROM every e LEFT JOIN dated d USING (month)
  WHERE e.month IS NOT NULL
  GROUP BY e.month
), symptoms AS (
  SELECT symptom, count(*) AS often FROM dated GROUP BY symptom
)
SELECT m.month, s.symptom, count(d.month) AS items, m.bugs, count(d.month) * 1.0 / nullif(m.bugs, 0) AS share
FROM months m CROSS JOIN symptoms s LEFT JOIN dated d USING (month, symptom)
GROUP BY m.month, s.symptom
ORDER BY s.often DESC, s.symptom, m.month
