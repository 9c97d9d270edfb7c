# The links of one issue that GitHub tells, each with its evidence.
def link($evidence): select(.id) | {
  evidence: $evidence,
  fix: .id,
  number,
  url,
  commit: (.mergeCommit.oid // .oid),
  merged_at: (.mergedAt // .committedDate)
};
.node | {
  links: [
    # A commit's pull request says more than the commit, if that is how it came in.
    (.closings.nodes[].closer | values
      | (.associatedPullRequests.nodes[0]? | values | select(.mergedAt)) // . | link("closing_event")),
    (.closedBy.nodes[]? | link("closing_reference")),
    # What was linked by hand counts until the link is taken away.
    ([.events.nodes[] | select(.subject.id)] | group_by(.subject.id)[] | last
      | select(.__typename == "ConnectedEvent") | .subject | link("connected")),
    (.events.nodes[] | select(.__typename == "CrossReferencedEvent")
      | if .willCloseTarget then .source | link("closing_reference")
        else .source | select(.mergedAt) | link("cross_referenced") end)
  ] | unique,
  # False where GitHub has more of them than were asked for.
  links_complete: (
    (.events.pageInfo.hasNextPage | not)
    and (.closedBy == null or .closedBy.totalCount == (.closedBy.nodes | length))
  )
}
