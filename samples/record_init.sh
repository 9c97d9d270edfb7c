#!/usr/bin/env bash
# Records templates/init/github-bugs/samples/cassette.jsonl: every call of the sample that
# `flow init` makes, answered by the project's own simulator from samples/upstream and samples/answers.jsonl.
#
#   samples/record_init.sh [FILE]      FILE: where to write; that file if not given
#
# FLOW and FLOW_SIMULATOR name the programs; they are built where they are not given.
set -euo pipefail
cd "$(dirname "$0")/.."
made=templates/init/github-bugs
out=$(realpath -m "${1:-$made/samples/cassette.jsonl}")
if [ -z "${FLOW:-}" ] || [ -z "${FLOW_SIMULATOR:-}" ]; then
  cargo build --release --workspace
  FLOW=target/release/flow
  FLOW_SIMULATOR=target/release/flow-simulator
fi

work=$(mktemp -d)
simulator=
trap '[ -z "$simulator" ] || kill "$simulator"; rm -rf "$work"' EXIT
cp -r "$made"/* "$work"

# The sample's profile, but calling, and with the repository that may be added.
sed -i -e '/^offline = true$/d' -e '/^cassette = /d' "$work/pipeline.toml"
cat >> "$work/pipeline.toml" <<'END'

[[profiles.sample.tables.repos]]
repo = "deepspeedai/DeepSpeed"
END

"$FLOW_SIMULATOR" --data samples/upstream --answers samples/answers.jsonl > "$work/listening" &
simulator=$!
for _ in $(seq 100); do
  address=$(sed -n 's/^listening on //p' "$work/listening")
  [ -n "$address" ] && break
  sleep 0.1
done
[ -n "$address" ] || { echo "the simulator does not listen" >&2; exit 1; }

# The sample's addresses are of a host that cannot exist; the simulator stands in as their proxy.
export http_proxy="$address" GITHUB_TOKEN=recording OPENAI_API_KEY=recording
unset no_proxy NO_PROXY all_proxy ALL_PROXY || true
"$FLOW" -C "$work" --profile sample --quiet run
"$FLOW" -C "$work" --profile sample cassette "$out"
