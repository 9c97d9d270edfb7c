-- From what was collected to what is told of, each step with what it leaves out and why; and how far the
-- causes of the merged fixes are known.
WITH counts AS (
  SELECT
    (SELECT count(*) FROM items) AS collected,
    (SELECT count(*) FROM merged WHERE is_bug_related IS NOT NULL) AS classified,
    (SELECT count(*) FROM merged WHERE NOT is_bug_related AND is_bug_by <> 'model') AS not_by_people,
    (SELECT count(*) FROM final) AS bugs,
    (SELECT count(*) FROM final WHERE is_fixed) AS fixed,
    (SELECT count(*) FROM final WHERE NOT is_fixed AND state = 'open') AS open,
    (SELECT count(*) FROM final WHERE NOT is_fixed AND state <> 'open' AND is_pr) AS dropped,
    (SELECT count(*) FROM bugs) AS with_symptom,
    (SELECT count(*) FROM bugs WHERE left_out IS NOT 'its fix is counted') AS once,
    (SELECT count(*) FROM bugs WHERE left_out IS NULL) AS told,
    (SELECT count(*) FROM fixes WHERE is_pr) AS pulls,
    (SELECT count(*) FROM diffs WHERE diff IS NOT NULL AND diff <> '') AS with_diff,
    (SELECT count(*) FROM fixes WHERE is_pr AND root_causes IS NOT NULL) AS with_cause
)
SELECT 'bugs' AS branch, 1 AS place, 'collected' AS step, collected AS items, NULL AS left_out,
       'issues and pull requests of the engines' AS reason FROM counts
UNION ALL
SELECT 'bugs', 2, 'classified', classified, collected - classified, 'no valid answer of the model, and no label of people'
FROM counts
UNION ALL
SELECT 'bugs', 3, 'about a bug', bugs, classified - bugs,
       printf('about something else: %d as people say, %d as the model says', not_by_people,
              classified - bugs - not_by_people) FROM counts
UNION ALL
SELECT 'bugs', 4, 'fixed', fixed, bugs - fixed,
       printf('%d open; %d pull requests closed unmerged; %d issues closed without a merged fix',
              open, dropped, bugs - fixed - open - dropped) FROM counts
UNION ALL
SELECT 'bugs', 5, 'with a symptom', with_symptom, fixed - with_symptom, 'no valid answer of the model' FROM counts
UNION ALL
SELECT 'bugs', 6, 'each once', once, with_symptom - once, 'issues whose fix, a pull request, is counted itself' FROM counts
UNION ALL
SELECT 'bugs', 7, 'bugs that are told of', told, once - told, 'no bugs, by their symptom: feature requests' FROM counts
UNION ALL
SELECT 'causes', 1, 'merged pull requests about a bug', pulls, NULL, 'of the fixed items' FROM counts
UNION ALL
SELECT 'causes', 2, 'with a diff', with_diff, pulls - with_diff, 'GitHub has no diff of them' FROM counts
UNION ALL
SELECT 'causes', 3, 'with a root cause', with_cause, with_diff - with_cause,
       'no valid answer of the model, for the whole or for a part' FROM counts
ORDER BY branch, place
