-- What people say of each item together: what all of them say, or, where they do not agree, what
-- somebody has decided (`person` is `adjudicated`). Until then it is open, and there is no label.
WITH each AS (
  SELECT variable, url, engine,
         max(label) FILTER (WHERE person = 'adjudicated') AS adjudicated,
         count(*) FILTER (WHERE person <> 'adjudicated') AS persons,
         count(DISTINCT label) FILTER (WHERE person <> 'adjudicated') AS opinions,
         min(label) FILTER (WHERE person <> 'adjudicated') AS first
  FROM people_labels
  GROUP BY variable, url, engine
)
SELECT variable, url, engine, persons, opinions,
       coalesce(adjudicated, CASE WHEN opinions = 1 THEN first END) AS label,
       CASE WHEN adjudicated IS NOT NULL THEN 'adjudicated'
            WHEN opinions > 1 THEN 'open'
            WHEN persons = 1 THEN 'one person'
            ELSE 'people' END AS label_by
FROM each
ORDER BY variable, url
