-- What was found in one look at a diff, and what was put together from its parts: the three places that are
-- most relevant, each once, and the category that the most relevant part gives. Of two that are as
-- relevant the one that comes first in the diff counts. A diff of which a part has no answer has none: the
-- cause may be in that part.
WITH places AS (
  SELECT p.id, p.part, c.key AS place, c.value ->> 'file' AS file, c.value ->> 'function' AS function,
         CAST(c.value ->> 'relevance' AS REAL) AS relevance
  FROM root_cause_parts p, json_each(p.root_causes) c
), once AS (
  SELECT id, part, file, function, relevance,
         row_number() OVER (
           PARTITION BY id, file, function ORDER BY relevance DESC, part, place
         ) AS again
  FROM places
), ranked AS (
  SELECT id, part, file, function,
         row_number() OVER (PARTITION BY id ORDER BY relevance DESC, part, file, function) AS rank
  FROM once
  WHERE again = 1
), found AS (
  SELECT id, json_group_array(json_object('file', file, 'function', function) ORDER BY rank) AS root_causes
  FROM ranked
  WHERE rank <= 3
  GROUP BY id
), whole AS (
  SELECT id FROM root_cause_parts GROUP BY id HAVING count(*) = max(parts)
), looked AS (
  -- Each diff once, by the part that says most.
  SELECT p.id, p.url, p.engine, p.title, p.parts, p.reasoning, p.category,
         row_number() OVER (PARTITION BY p.id ORDER BY r.rank IS NULL, r.rank, p.part) AS place
  FROM root_cause_parts p JOIN whole USING (id) LEFT JOIN ranked r ON r.id = p.id AND r.part = p.part
)
SELECT id, url, engine, title, reasoning, root_causes AS "root_causes: json", category, 1 AS parts
FROM root_cause
UNION ALL
SELECT l.id, l.url, l.engine, l.title, l.reasoning, coalesce(f.root_causes, '[]'), l.category, l.parts
FROM looked l LEFT JOIN found f USING (id)
WHERE l.place = 1
ORDER BY engine, id
