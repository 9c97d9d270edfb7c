-- What people say, a row for each label: `labels/human.csv` has a line for each item and person. An
-- empty cell is no label.
WITH said AS (
  SELECT h.url, h.person, 'is_bug_related' AS variable,
         CASE WHEN lower(trim(h.is_bug_related)) IN ('true', 'yes', '1') THEN 'true'
              WHEN lower(trim(h.is_bug_related)) IN ('false', 'no', '0') THEN 'false' END AS label
  FROM human h
  UNION ALL
  SELECT h.url, h.person, 'symptom', nullif(trim(h.symptom), '') FROM human h
)
SELECT s.variable, s.url, m.engine, trim(s.person) AS person, s.label
FROM said s JOIN merged m USING (url)
WHERE s.label IS NOT NULL
ORDER BY variable, url, person
