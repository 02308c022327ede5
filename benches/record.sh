#!/bin/sh
# Records a bench run: the device, the commit and the command on the first line, then a JSON line
# for each case, then the verdict.
#   benches/record.sh FOLDER [NAME [BENCH ARGUMENTS]]      writes benches/record/FOLDER/<date>[-NAME].jsonl
# QMATMUL is the binary (target/release/qmatmul), DEVICE its number; a prefix such as another dynamic loader may stand in RUNNER.
set -eu
folder=$(dirname "$0")/record/$1
name=${2:+-$2}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- -t all -m 4096 -k 4096,14336 -n 1,8,64
device=${DEVICE:-0}
qmatmul="${RUNNER:-} ${QMATMUL:-target/release/qmatmul}"
out=$folder/$(date -u +%Y-%m-%d)$name.jsonl
mkdir -p "$folder"
$qmatmul bench -q "$@" --seconds 0.6 --device "$device" -f jsonl >"$out.part"
mv "$out.part" "$out"
echo "$out"
