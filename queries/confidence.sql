-- How sure the model says it is that an item is about a bug, or is not: in ranges, over all and by what
-- it says.
WITH rated AS (
  SELECT confidence, CASE WHEN is_bug_by_model THEN 'bug' ELSE 'no bug' END AS said
  FROM merged
  WHERE confidence IS NOT NULL
), ranged AS (
  SELECT *, CASE
    WHEN confidence < 0.6 THEN 1 WHEN confidence < 0.85 THEN 2 WHEN confidence < 0.9 THEN 3
    WHEN confidence < 0.95 THEN 4 WHEN confidence < 1 THEN 5 ELSE 6 END AS place
  FROM rated
), ranges (place, range) AS (
  VALUES (1, 'low: below 0.6'), (2, 'medium: 0.6 to 0.85'), (3, 'high: 0.85 to 0.9'),
         (4, 'very high: 0.9 to 0.95'), (5, 'extremely high: 0.95 to 1'), (6, 'perfect: 1')
), sides (said) AS (VALUES ('bug'), ('no bug'))
SELECT s.said, n.place, n.range, count(r.confidence) AS items,
       count(r.confidence) * 1.0 / nullif(sum(count(r.confidence)) OVER (PARTITION BY s.said), 0) AS share,
       avg(r.confidence) AS mean
FROM sides s CROSS JOIN ranges n LEFT JOIN ranged r USING (said, place)
GROUP BY s.said, n.place, n.range
ORDER BY s.said, n.place
