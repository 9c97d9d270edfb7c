-- Lines of `labels/human.csv` of which something counts for nothing, and why. `line` counts from the
-- heading, which is the first.
WITH lines AS (
  SELECT rowid + 1 AS line, h.url, h.person, trim(h.is_bug_related) AS is_bug, trim(h.symptom) AS symptom,
         rtrim(lower(trim(h.url)), '/') AS address
  FROM human h
)
SELECT l.line, l.url, l.person,
       CASE WHEN trim(l.person) = '' THEN 'it does not say who'
            WHEN l.address NOT IN (SELECT rtrim(lower(url), '/') FROM items) THEN 'no such item was collected'
            WHEN l.is_bug <> '' AND lower(l.is_bug) NOT IN ('true', 't', 'yes', 'y', '1', 'false', 'f', 'no', 'n', '0')
              THEN printf('`%s` is neither true nor false', l.is_bug)
            ELSE printf('`%s` is none of the symptoms', l.symptom) END AS why
FROM lines l
WHERE trim(l.person) = ''
   OR l.address NOT IN (SELECT rtrim(lower(url), '/') FROM items)
   OR (l.is_bug <> '' AND lower(l.is_bug) NOT IN ('true', 't', 'yes', 'y', '1', 'false', 'f', 'no', 'n', '0'))
   OR (l.symptom <> '' AND lower(l.symptom) NOT IN (SELECT lower(symptom) FROM symptoms))
ORDER BY l.line
