-- Each item's labels side by side, and the one that counts. People win over the model; nothing is
-- overwritten. Where people do not agree and nobody has decided, the model's label stands.
WITH model AS (
  SELECT 'is_bug_related' AS variable, url, engine,
         CASE WHEN is_bug_by_model THEN 'true' ELSE 'false' END AS label, confidence
  FROM merged
  WHERE is_bug_by_model IS NOT NULL
  UNION ALL
  SELECT 'symptom', url, engine, symptom, NULL FROM symptom
)
SELECT coalesce(m.variable, p.variable) AS variable, coalesce(m.url, p.url) AS url,
       coalesce(m.engine, p.engine) AS engine,
       p.label AS people, m.label AS model, m.confidence, coalesce(p.label, m.label) AS label,
       CASE WHEN p.label IS NOT NULL THEN p.label_by
            WHEN p.label_by = 'open' THEN 'model, people disagree'
            ELSE 'model' END AS label_by,
       coalesce(p.persons, 0) AS persons, coalesce(p.opinions, 0) AS opinions
FROM model m FULL JOIN people p ON p.variable = m.variable AND p.url = m.url
ORDER BY 1, 3, 2
