-- Whether a symptom's share of the fixes rises or falls over the months: the rank correlation with time,
-- how likely one as strong is by chance (20,000 permutations, seed 2026), adjusted for how many symptoms
-- are looked at (Benjamini and Hochberg), and the slope of a straight line, in points of a hundred a year.
WITH numbered AS (
  SELECT symptom, month, items, share,
         12 * CAST(substr(month, 1, 4) AS INTEGER) + CAST(substr(month, 6, 2) AS INTEGER) AS number
  FROM monthly
), by_symptom AS (
  SELECT symptom, count(share) AS months, sum(items) AS items,
         spearman(number, share) AS rho,
         spearman_p(number, share, 20000, 2026) AS p,
         slope(number, share) * 12 * 100 AS points_a_year
  FROM numbered
  GROUP BY symptom
), ends AS (
  SELECT symptom,
         avg(share) FILTER (WHERE place <= 12) AS first_year,
         avg(share) FILTER (WHERE place > months - 12) AS last_year
  FROM (
    SELECT symptom, share, row_number() OVER (PARTITION BY symptom ORDER BY number) AS place,
           count(*) OVER (PARTITION BY symptom) AS months
    FROM numbered
  )
  GROUP BY symptom
)
SELECT b.symptom, b.months, b.items, b.rho, b.p,
       adjusted_p(b.p, (SELECT json_group_array(p) FROM by_symptom)) AS adjusted_p,
       b.points_a_year, e.first_year, e.last_year
FROM by_symptom b JOIN ends e USING (symptom)
ORDER BY b.items DESC, b.symptom
