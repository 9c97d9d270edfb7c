-- What was fixed in each month from the first to the last, by symptom: counts, and shares of the month.
WITH RECURSIVE dated AS (
  SELECT substr(s.closed_at, 1, 7) AS month, l.label AS symptom
  FROM symptom s JOIN labels l ON l.url = s.url AND l.variable = 'symptom'
  WHERE s.closed_at IS NOT NULL
), every (month) AS (
  SELECT min(month) FROM dated
  UNION
  SELECT strftime('%Y-%m', month || '-01', '+1 month') FROM every WHERE month < (SELECT max(month) FROM dated)
), months AS (
  SELECT e.month, count(d.month) AS fixes
  FROM every e LEFT JOIN dated d USING (month)
  WHERE e.month IS NOT NULL
  GROUP BY e.month
), symptoms AS (
  SELECT symptom, count(*) AS often FROM dated GROUP BY symptom
)
SELECT m.month, s.symptom, count(d.month) AS items, m.fixes, count(d.month) * 1.0 / nullif(m.fixes, 0) AS share
FROM months m CROSS JOIN symptoms s LEFT JOIN dated d USING (month, symptom)
GROUP BY m.month, s.symptom
ORDER BY s.often DESC, s.symptom, m.month
