-- Bug-related items with what the facts say of them.
-- An issue's fix is what the strongest evidence names of all that was merged since it was opened.
WITH best AS (
  SELECT l.*, row_number() OVER (
    PARTITION BY l.issue ORDER BY l.strength, l.merged_at, l.fix_number, l.fix
  ) AS place
  FROM links l
  JOIN merged i ON i.id = l.issue AND l.merged_at >= i.created_at
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
  p.files_changed,
  p.lines_added,
  p.lines_deleted,
  b.fix_url AS fixed_by,
  b.evidence AS fixed_by_evidence,
  (
    p.pr_state IS 'MERGED'
    OR (m.state = 'closed' AND coalesce(m.state_reason, 'completed') = 'completed' AND b.issue IS NOT NULL)
  ) AS "is_fixed: bool"
FROM merged m
LEFT JOIN pull_requests p USING (id)
LEFT JOIN best b ON b.issue = m.id AND b.place = 1
WHERE m.is_bug_related
