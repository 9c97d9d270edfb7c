-- What people say, a row for each label: `labels/human.csv` has a line for each item and person. An
-- empty cell is no label. What cannot be read stands in `unread_labels`.
WITH lines AS (
  SELECT rtrim(lower(trim(h.url)), '/') AS address, lower(trim(h.person)) AS person,
         lower(trim(h.is_bug_related)) AS is_bug, lower(trim(h.symptom)) AS symptom
  FROM human h
), said AS (
  SELECT address, person, 'is_bug_related' AS variable,
         CASE WHEN is_bug IN ('true', 't', 'yes', 'y', '1') THEN 'true'
              WHEN is_bug IN ('false', 'f', 'no', 'n', '0') THEN 'false' END AS label
  FROM lines
  UNION ALL
  SELECT l.address, l.person, 'symptom', s.symptom
  FROM lines l JOIN symptoms s ON lower(s.symptom) = l.symptom
)
SELECT s.variable, i.url, i.engine, s.person, s.label
FROM said s JOIN items i ON rtrim(lower(i.url), '/') = s.address
WHERE s.label IS NOT NULL AND s.person <> ''
ORDER BY variable, url, person
