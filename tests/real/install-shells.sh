#!/bin/sh
# Installs the shells whose completions are tried, and zstd, which `tar --zstd` wants, where they are missing.
set -eu

wanted=
for program in zsh fish zstd; do
    command -v "$program" || wanted="$wanted $program"
done
[ -n "$wanted" ] || exit 0

root=
if [ "$(id -u)" != 0 ]; then
    root=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$root apt-get update
# shellcheck disable=SC2086
$root apt-get install -y --no-install-recommends $wanted
