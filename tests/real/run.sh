#!/usr/bin/env bash
# Real issues through a real model: FLOW_TEST_DATA names the folder that holds
# llm-serving-issues.jsonl.gz; the model server comes from tests/real/install.sh.
#
#   FLOW_TEST_DATA=FOLDER tests/real/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${FLOW_TEST_DATA:?name the folder of the real issues}"
tests/real/install.sh
cargo build --release --workspace
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cp tests/real/pipeline.toml tests/real/label.md tests/real/label.schema.json "$work"
target/release/flow-simulator --data "$FLOW_TEST_DATA/llm-serving-issues.jsonl.gz" > "$work/github" &
target/real/venv/bin/python tests/real/model_server.py > "$work/model" 2> "$work/model.log" &
address() {
  for _ in $(seq 600); do
    sed -n 's/^listening on //p' "$work/$1" | grep . && return
    sleep 0.1
  done
  echo "the $1 server does not listen" >&2
  return 1
}
FLOW_GITHUB=$(address github)/github
FLOW_MODEL=$(address model)/v1
export FLOW_GITHUB FLOW_MODEL
target/release/flow -C "$work" run
target/release/flow -C "$work" run
head -n 11 "$work/data/labels.json"
