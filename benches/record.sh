#!/usr/bin/env bash
# Records a run of bench: the device, the commit and the command on the first line, then a JSON line
# for each case, then the verdict. Writes benches/record/FOLDER/<date>[-NAME].jsonl.
#   benches/record.sh FOLDER [NAME [ARGUMENTS]]
#
# QMATMUL is the binary (target/release/qmatmul), DEVICE what --device takes (0); a prefix such as
# another dynamic loader may stand in RUNNER. VERB is another verb than bench, RECORDS another
# folder than benches/record, DATE another day than today's.
#
# LIMIT is the longest time in seconds. Then the verb is stopped, the record has what was known by
# then, and the status is 124; GRACE (15) seconds later the verb is killed. A run that fails leaves
# `.part`, and its status is the verb's.
set -euo pipefail
folder=${RECORDS:-$(dirname "$0")/record}/$1
name=${2:+-$2}
shift $(($# < 2 ? $# : 2))
verb=${VERB:-bench}
if [ "$verb" = bench ]; then
    [ $# -gt 0 ] || set -- -t all -m 4096 -k 4096,14336 -n 1,8,64
    case " $* " in *' --seconds '*) ;; *) set -- "$@" --seconds 0.6 ;; esac
fi
out=$folder/${DATE:-$(date -u +%Y-%m-%d)}$name.jsonl
mkdir -p "$folder"
# The prefix may be several words.
read -ra command <<<"${RUNNER:-}"
command+=("${QMATMUL:-target/release/qmatmul}" "$verb" "$@" --device "${DEVICE:-0}" -f jsonl)

# Ctrl-C and TERM reach the verb, which then prints what it knows; its record stays a part.
stopped='' child=''
trap 'stopped=130; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true' INT TERM
"${command[@]}" >"$out.part" &
child=$!
if [ -n "${LIMIT:-}" ]; then
    end=$((SECONDS + LIMIT))
    while kill -0 "$child" 2>/dev/null; do
        if [ $SECONDS -ge $end ]; then
            stopped=${stopped:-124}
            kill -TERM "$child" 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
    end=$((SECONDS + ${GRACE:-15}))
    while kill -0 "$child" 2>/dev/null; do
        [ $SECONDS -lt $end ] || kill -KILL "$child" 2>/dev/null || true
        sleep 0.1
    done
fi
status=0
wait "$child" || status=$?
# A signal of ours ended the wait, not the verb.
while kill -0 "$child" 2>/dev/null; do
    status=0
    wait "$child" || status=$?
done
# Of a verb that was killed before its first line nothing is known.
case $stopped:$status in
:0 | 124:0 | 124:13[07] | 124:143) [ -s "$out.part" ] || exit 137 ;;
*) exit "$((status > 0 ? status : stopped))" ;;
esac
mv "$out.part" "$out"
echo "$out"
exit "${stopped:-0}"
