-- Each item's labels side by side, and the one that counts. People win over the model: where they agree,
-- or, where they do not, once somebody has decided (`person` is `adjudicated`). Nothing is overwritten:
-- until then the model's label stands, and `label_by` says so.
WITH people AS (
  SELECT variable, url,
         max(label) FILTER (WHERE person = 'adjudicated') AS adjudicated,
         count(DISTINCT label) FILTER (WHERE person <> 'adjudicated') AS opinions,
         min(label) FILTER (WHERE person <> 'adjudicated') AS first
  FROM people_labels
  GROUP BY variable, url
), model AS (
  SELECT 'is_bug_related' AS variable, url, engine,
         CASE WHEN is_bug_related THEN 'true' ELSE 'false' END AS label, confidence
  FROM merged
  WHERE is_bug_related IS NOT NULL
  UNION ALL
  SELECT 'symptom', url, engine, symptom, NULL FROM symptom
), beside AS (
  SELECT m.variable, m.url, m.engine, m.label AS model, m.confidence,
         coalesce(p.adjudicated, CASE WHEN p.opinions = 1 THEN p.first END) AS people,
         CASE WHEN p.adjudicated IS NOT NULL THEN 'adjudicated'
              WHEN p.opinions = 1 THEN 'people'
              WHEN p.opinions > 1 THEN 'model, people disagree'
              ELSE 'model' END AS label_by
  FROM model m LEFT JOIN people p USING (variable, url)
)
SELECT variable, url, engine, people, model, confidence, coalesce(people, model) AS label, label_by
FROM beside
ORDER BY variable, engine, url
