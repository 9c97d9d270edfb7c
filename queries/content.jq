# One object of all that was said; each review with the comments that were made inline with it.
(.inline | group_by(.pull_request_review_id) | map({key: (.[0].pull_request_review_id | tostring), value: .})
  | from_entries) as $inline
| {
    comments: [.comments[] | {author: .user.login, created_at, body}],
    reviews: [
      .reviews[] | {
        author: .user.login,
        submitted_at,
        state,
        body,
        comments: [
          $inline[.id | tostring][]? | {author: .user.login, created_at, path, line, body}
        ]
      }
    ],
    timeline: [
      .timeline[] | {
        event,
        actor: (.actor.login? // .user.login?),
        created_at: (.created_at // .submitted_at),
        commit_id,
        label: .label.name?,
        source: .source.issue.html_url?
      } | with_entries(select(.value != null))
    ]
  }
