#!/usr/bin/env bash
# Fetches what the test `github_api` needs, both from npm's packages, into target/real/github/:
# GitHub's own OpenAPI description, and exchanges that were recorded from GitHub.
set -euo pipefail
cd "$(dirname "$0")/../.."
packages="@octokit/openapi@23.0.2 @octokit/fixtures@23.1.2"
scenarios="paginate-issues rename-repository search-issues"
folder=target/real/github
if [ "$(cat "$folder/packages" 2>/dev/null)" != "$packages" ]; then
  if ! command -v npm >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends npm
  fi
  mkdir -p target/real
  work=$(mktemp -d -p target/real)
  trap 'rm -rf "$work"' EXIT
  # The two names are two words.
  # shellcheck disable=SC2086
  npm pack --silent --pack-destination "$work" $packages >/dev/null
  # The whole description, in every variant, takes 385 MB.
  tar -xzf "$work"/octokit-openapi-*.tgz -C "$work" package/generated/api.github.com.json
  mkdir "$work/github"
  mv "$work/package/generated/api.github.com.json" "$work/github/"
  for scenario in $scenarios; do
    recorded=package/scenarios/api.github.com/$scenario/normalized-fixture.json
    tar -xzf "$work"/octokit-fixtures-*.tgz -C "$work" "$recorded"
    mv "$work/$recorded" "$work/github/$scenario.json"
  done
  echo "$packages" > "$work/github/packages"
  rm -rf "$folder"
  mv "$work/github" "$folder"
fi
echo "GitHub's description and recorded exchanges are in $folder"
