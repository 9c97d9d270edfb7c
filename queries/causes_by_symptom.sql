-- How often each cause comes with each symptom, and how much more often than if they had nothing to do
-- with each other (lift: 1 is as often).
WITH both AS (
  SELECT cause, symptom FROM bugs WHERE left_out IS NULL AND cause IS NOT NULL
), counted AS (
  SELECT cause, symptom, count(*) AS items FROM both GROUP BY cause, symptom
), summed AS (
  SELECT *, sum(items) OVER (PARTITION BY cause) AS of_cause, sum(items) OVER (PARTITION BY symptom) AS of_symptom,
         sum(items) OVER () AS of_all
  FROM counted
)
SELECT cause, symptom, items, items * 1.0 * of_all / (of_cause * of_symptom) AS lift
FROM summed
ORDER BY of_cause DESC, cause, of_symptom DESC, symptom
