#!/bin/sh
# Records a bench run: the adapter, the commit and the command on the first line, then one JSON line a row.
#   benches/record.sh FOLDER [DEVICE]      writes benches/record/FOLDER/<date>.jsonl
# QMATMUL is the binary (target/release/qmatmul); a prefix such as another dynamic loader may stand in RUNNER.
set -eu
folder=$(dirname "$0")/record/$1
device=${2:-0}
qmatmul="${RUNNER:-} ${QMATMUL:-target/release/qmatmul}"
out=$folder/$(date -u +%Y-%m-%d).jsonl
mkdir -p "$folder"
adapter=$($qmatmul devices -o jsonl | sed -n "$((device + 1))p")
printf '{"adapter":%s,"commit":"%s","command":"bench -t all -m 4096 -k 4096,14336 -n 1,8,64"}\n' \
    "$adapter" "$(git rev-parse --short HEAD)" >"$out.part"
$qmatmul bench -q -t all -m 4096 -k 4096,14336 -n 1,8,64 --seconds 0.6 --device "$device" -o jsonl >>"$out.part"
mv "$out.part" "$out"
echo "$out"
