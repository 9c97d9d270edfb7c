-- Every link from a bug-related issue to a pull request or commit that may have fixed it, a row for
-- each kind of evidence, the strongest first:
--   1 closing_event      it closed the issue
--   2 closing_reference  GitHub says that the pull request closes the issue
--   3 connected          somebody linked the pull request by hand
--   4 cross_referenced   the pull request named the issue, and was merged
--   5 closing_keyword    the pull request's text says that it closes the issue ("fixes #12")
--   6 mention            the text of one names the other
WITH kinds (evidence, strength) AS (
  VALUES ('closing_event', 1), ('closing_reference', 2), ('connected', 3),
         ('cross_referenced', 4), ('closing_keyword', 5), ('mention', 6)
),
issues AS (
  SELECT id, url, ref, mentions FROM merged WHERE is_bug_related AND NOT is_pr
),
pulls AS (
  SELECT id, number, m.url, ref, m.merged_at, merge_commit, closing_keywords, mentions, closes
  FROM merged m LEFT JOIN pull_requests USING (id)
  WHERE is_pr
),
named (issue, evidence, pull) AS (
  SELECT e.value, 'closing_reference', p.id FROM pulls p, json_each(p.closes) e
  UNION
  SELECT i.id, 'closing_keyword', p.id
  FROM pulls p, json_each(p.closing_keywords) e JOIN issues i ON i.ref = e.value
  UNION
  SELECT i.id, 'mention', p.id FROM pulls p, json_each(p.mentions) e JOIN issues i ON i.ref = e.value
  UNION
  SELECT i.id, 'mention', p.id FROM issues i, json_each(i.mentions) e JOIN pulls p ON p.ref = e.value
),
found (issue, evidence, fix, number, url, "commit", merged_at) AS (
  SELECT n.issue, n.evidence, p.id, p.number, p.url, p.merge_commit, p.merged_at
  FROM named n JOIN pulls p ON p.id = n.pull
  UNION ALL
  -- As GitHub tells them: the pull request may be of a repository that was not collected.
  SELECT l.id, e.value ->> 'evidence', e.value ->> 'fix', e.value ->> 'number', e.value ->> 'url',
         e.value ->> 'commit', e.value ->> 'merged_at'
  FROM issue_links l, json_each(l.links) e
)
SELECT
  i.id AS issue,
  i.url AS issue_url,
  f.fix,
  max(f.number) AS fix_number,
  max(f.url) AS fix_url,
  max(f."commit") AS fix_commit,
  f.evidence,
  k.strength,
  max(f.merged_at) AS merged_at
FROM found f
JOIN issues i ON i.id = f.issue
JOIN kinds k USING (evidence)
GROUP BY i.id, f.fix, f.evidence
ORDER BY issue, k.strength, merged_at, fix_number, fix
