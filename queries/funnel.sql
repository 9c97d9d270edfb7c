-- From what was collected to what is told of, each step with what it leaves out and why.
WITH counts AS (
  SELECT
    (SELECT count(*) FROM items) AS collected,
    (SELECT count(*) FROM merged WHERE is_bug_related IS NOT NULL) AS classified,
    (SELECT count(*) FROM final) AS bugs,
    (SELECT count(*) FROM final WHERE is_fixed) AS fixed,
    (SELECT count(*) FROM final WHERE NOT is_fixed AND state = 'open') AS open,
    (SELECT count(*) FROM final WHERE NOT is_fixed AND state <> 'open' AND is_pr) AS dropped,
    (SELECT count(*) FROM symptom) AS with_symptom,
    (SELECT count(*) FROM fixes WHERE is_pr) AS pulls,
    (SELECT count(*) FROM fixes WHERE is_pr AND root_causes IS NOT NULL) AS with_cause
)
SELECT 1 AS place, 'collected' AS step, collected AS items, NULL AS left_out,
       'issues and pull requests of the engines' AS reason FROM counts
UNION ALL
SELECT 2, 'classified', classified, collected - classified, 'no valid answer of the model' FROM counts
UNION ALL
SELECT 3, 'about a bug', bugs, classified - bugs, 'about something else, as the model says' FROM counts
UNION ALL
SELECT 4, 'fixed', fixed, bugs - fixed,
       printf('%d open; %d pull requests closed unmerged; %d issues closed without a merged fix',
              open, dropped, bugs - fixed - open - dropped) FROM counts
UNION ALL
SELECT 5, 'fixed, with a symptom', with_symptom, fixed - with_symptom, 'no valid answer of the model' FROM counts
UNION ALL
SELECT 6, 'fixed by a pull request of their own', pulls, fixed - pulls,
       'issues: their causes are told of the pull requests that fixed them' FROM counts
UNION ALL
SELECT 7, 'those with a root cause', with_cause, pulls - with_cause,
       'no diff, or no valid answer of the model' FROM counts
ORDER BY place
