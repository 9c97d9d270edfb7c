-- Bug-related items with what the facts say of them.
-- A fix is linked to an issue by evidence, the strongest kind first:
--   1 closing_reference  GitHub says that the pull request closes the issue
--   2 closing_keyword    the pull request's text says so ("fixes #12")
WITH links AS (
  SELECT c.value AS issue, p.id AS pull_request, 1 AS strength, 'closing_reference' AS evidence
  FROM pull_requests p, json_each(p.closes) c
  UNION ALL
  SELECT i.id, m.id, 2, 'closing_keyword'
  FROM merged m, json_each(m.closing_keywords) k
  JOIN merged i ON i.repo = m.repo AND i.number = k.value AND NOT i.is_pr
  WHERE m.is_pr AND m.is_bug_related
),
best AS (
  SELECT l.issue, m.url, l.evidence,
         row_number() OVER (PARTITION BY l.issue ORDER BY l.strength, p.merged_at, m.number) AS place
  FROM links l
  JOIN pull_requests p ON p.id = l.pull_request AND p.pr_state = 'MERGED'
  JOIN merged m ON m.id = l.pull_request
)
SELECT
  m.*,
  CASE
    WHEN NOT m.is_pr THEN NULL
    WHEN p.pr_state = 'MERGED' THEN 'Merged'
    WHEN p.pr_state = 'CLOSED' THEN 'Closed'
    WHEN p.is_draft THEN 'Draft'
    WHEN p.pr_state = 'OPEN' THEN 'Open'
  END AS pr_status,
  p.merged_at,
  p.files_changed,
  p.lines_added,
  p.lines_deleted,
  b.url AS fixed_by,
  b.evidence AS fixed_by_evidence,
  (p.pr_state IS 'MERGED' OR (NOT m.is_pr AND m.state = 'closed' AND b.url IS NOT NULL)) AS "is_fixed: bool"
FROM merged m
LEFT JOIN pull_requests p USING (id)
LEFT JOIN best b ON b.issue = m.id AND b.place = 1 AND NOT m.is_pr
WHERE m.is_bug_related
