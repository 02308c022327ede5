#!/bin/sh
# Cost against size (Q4_0, n = 1): the time grows with m·k, and not with the number of matrices that are uploaded.
#   benches/sweep.sh FOLDER      writes benches/record/FOLDER/<date>-sweep.{jsonl,svg} and <date>-copies-{1,4,16,64}.jsonl
# QMATMUL, DEVICE and RUNNER as for benches/record.sh.
set -eu
cd "$(dirname "$0")/.."
plot=benches/record/$1/$(date -u +%Y-%m-%d)-sweep.svg
benches/record.sh "$1" sweep -t q4_0 -n 1 --plot "$plot" --shapes \
    256x256,512x512,1024x1024,2048x2048,4096x4096,4096x14336,8192x8192,16384x16384,16384x53248
# 4096 × 4096 weights of Q4_0 are 9 MiB. More copies than a cache holds take longer than fewer; beyond that, no more.
for copies in 1 4 16 64; do
    benches/record.sh "$1" "copies-$copies" -t q4_0 -m 4096 -k 4096 -n 1 --footprint "$((9 * copies))"
done
