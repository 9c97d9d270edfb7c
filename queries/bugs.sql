-- Each fixed bug once, by the labels that count: a bug whose issue and whose fix were both collected is
-- counted by its fix. What is left out says why.
SELECT s.id, s.url, s.engine, s.is_pr, s.created_at, s.category AS cause, l.label AS symptom,
       CASE WHEN NOT s.is_pr AND s.fixed_by IN (SELECT url FROM symptom) THEN 'its fix is counted'
            WHEN l.label = 'Feature Request' THEN 'no bug, by its symptom' END AS left_out
FROM symptom s JOIN labels l ON l.url = s.url AND l.variable = 'symptom'
ORDER BY s.engine, s.id
