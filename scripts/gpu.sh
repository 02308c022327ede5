#!/usr/bin/env bash
# Measures a machine with a GPU, in six minutes after the build: whether its results are right, what
# the device can do at best, which kernels are the fastest, and how fast they are. Writes records, a
# page about them, and an archive to send.
usage() {
    cat <<'END'
scripts/gpu.sh [OPTIONS]

  --short            two minutes in place of six
  --again            starts anew where this day has a run already; without it the run is continued
  --binary PATH      takes this binary and builds none (so does QMATMUL=PATH)
  --device DEVICE    a number of `qmatmul devices` or part of a name, as the command takes it [default: 0]
  --name NAME        names the run [default: gpu, with --short: short]
  --records FOLDER   where records go [default: benches/record; the archive then goes to target/gpu]

Writes FOLDER/<adapter-driver>/<date>-NAME-<step>.jsonl, <date>-NAME.md (the page), .log and .steps, and an archive of all of them.
Exit codes: 0 fine, 1 a step failed, 2 usage, 3 no such adapter, 130 interrupted. benches/README.md has more.
END
}
# --sizes tiny: matrices and times so small that a software driver takes seconds; what is measured
# then says nothing. For tests.
set -uo pipefail
here=$PWD
cd "$(dirname "$0")/.." || exit 2

say() { printf '%s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }
# A path as whoever called this sees it.
absolute() {
    case $1 in
    /* | [A-Za-z]:*) say "$1" ;;
    *) say "$here/$1" ;;
    esac
}

short='' again='' binary=${QMATMUL:+$(absolute "$QMATMUL")} device=0 name='' records='' sizes=full
while [ $# -gt 0 ]; do
    case $1 in
    --short) short=1 ;;
    --again) again=1 ;;
    --binary | --device | --name | --records | --sizes)
        [ $# -gt 1 ] || { complain "$1 needs a value"; exit 2; }
        case $1 in
        --binary) binary=$(absolute "$2") ;;
        --device) device=$2 ;;
        --name) name=$2 ;;
        --records) records=$(absolute "$2") ;;
        --sizes) sizes=$2 ;;
        esac
        shift
        ;;
    -h | --help) usage; exit 0 ;;
    *) complain "no option is called $1"; usage >&2; exit 2 ;;
    esac
    shift
done
case $sizes in full | tiny) ;; *) complain "--sizes takes full or tiny, not $sizes"; exit 2 ;; esac
name=${name:-${short:+short}}
name=${name:-gpu}
# Nothing that would make the name of one run begin with that of another.
case $name in *[!A-Za-z0-9_]*) complain "--name takes letters, digits and _, not $name"; exit 2 ;; esac

# --- the binary and the adapter -------------------------------------------------------------------

if [ -z "$binary" ]; then
    command -v cargo >/dev/null || { complain "no cargo to build with: --binary PATH takes a binary"; exit 2; }
    cargo build --release -p qmatmul-cli || { complain "the build failed: --binary PATH takes a binary"; exit 1; }
    binary=${CARGO_TARGET_DIR:-target}/release/qmatmul
fi
[ -x "$binary" ] || { complain "$binary is no program"; exit 2; }
export QMATMUL=$binary DEVICE=$device
archives=${records:-${CARGO_TARGET_DIR:-target}/gpu}
export RECORDS=${records:-benches/record}
mkdir -p "$archives" "$RECORDS" || exit 2

# Choices of `tune` are those of this run alone, whatever was measured on this machine before.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export MESA_SHADER_CACHE_DIR=${MESA_SHADER_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-$scratch}/.cache}}
export XDG_CACHE_HOME=$scratch LOCALAPPDATA=$scratch
# Without it Mesa complains.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$scratch}

"$binary" devices || { complain "no adapter: scripts/vulkan.sh $binary installs a software one on Debian and Ubuntu"; exit 3; }
"$binary" tune --list --device "$device" -f jsonl >"$scratch/adapter.jsonl" || exit 3
adapter=$("$binary" summary --name "$scratch/adapter.jsonl") || exit 3
folder=$RECORDS/$adapter
mkdir -p "$folder" || exit 2

# --- the run that is begun or continued -----------------------------------------------------------

# The last one if it is not at its end, be it of another day; else that of today.
DATE=$(date -u +%Y-%m-%d) last=''
for steps in "$folder"/????-??-??-"$name.steps"; do last=$steps; done
if [ -z "$again" ] && [ -e "$last" ] && ! grep -q '^end' "$last"; then
    DATE=$(basename "$last" "-$name.steps")
fi
export DATE
run=$folder/$DATE-$name
steps=$run.steps log=$run.log
build="binary $(cksum <"$binary")"
if [ -n "$again" ]; then
    rm -rf "$run.steps" "$run.log" "$run.md" "$run.tuning" "$run"-*.jsonl "$run"-*.jsonl.part
fi
if [ -e "$steps" ]; then
    if [ "$(head -n 1 "$steps")" != "$build" ]; then
        complain "$steps is of another build: --again replaces its run, --name NAME begins one beside it"
        exit 2
    fi
    say "continued: $run"
else
    printf '%s\n' "$build" >"$steps"
fi
# A run that is continued reaches the choices of its first part.
[ ! -d "$run.tuning" ] || cp -R "$run.tuning" "$scratch/qmatmul"

# Six minutes, or two, with what an interrupted step may take to end.
total=340
[ -z "$short" ] || total=105
[ "$sizes" = full ] || { total=300; export GRACE=3; }
SECONDS=0 stopped='' child='' failed='' late=''
trap 'stopped=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' INT TERM HUP

# waits COMMAND...: its status; a signal to this script goes to the command.
waits() {
    local status
    "$@" &
    child=$!
    wait "$child"
    status=$?
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        status=$?
    done
    child=''
    return $status
}

# How a step ended before: the last word on it.
ended() { awk -F '\t' -v step="$1" '$1 == step { last = $2 } END { print last }' "$steps"; }

# step NAME SECONDS VERB ARGUMENTS...: records a run of the verb unless that is done, within so
# many seconds of what is left.
step() {
    local step=$1 limit=$2 left began=$SECONDS status ending
    export VERB=$3
    shift 3
    [ -z "$stopped" ] || return 0
    case $(ended "$step") in ok | 'out of time') return 0 ;; esac
    left=$((deadline - SECONDS))
    [ "$limit" -le $left ] || limit=$left
    if [ "$limit" -lt "$least" ]; then
        late="$late $step"
        return 0
    fi
    printf '\n=== %s: qmatmul %s %s\n' "$step" "$VERB" "$*" >>"$log"
    LIMIT=$limit waits benches/record.sh "$adapter" "$name-$step" "$@" >>"$log" 2>&1
    status=$?
    case $status in
    0) ending=ok ;;
    124) ending='out of time' ;;
    *) ending="failed with $status" failed="$failed $step" ;;
    esac
    [ -z "$stopped" ] || [ $status = 0 ] || ending=interrupted
    printf '=== %s after %s s\n' "$ending" $((SECONDS - began)) >>"$log"
    printf '%s\t%s\t%s\t%s\n' "$step" "$ending" $((SECONDS - began)) "$VERB $*" >>"$steps"
    say "$(printf '%4d s  %-18s %s' "$SECONDS" "$step" "$ending")"
}

nvidia=name,driver_version,pstate,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,temperature.gpu
nvidia=$nvidia,power.draw,power.limit,utilization.gpu,memory.used
# What else works on the GPU, and at which clocks.
state() {
    [ -z "$stopped" ] || return 0
    {
        printf '\n=== %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(uname -srm)"
        [ "$1" != begin ] || "$binary" devices -f jsonl
        if command -v nvidia-smi >/dev/null; then
            nvidia-smi --format=csv --query-gpu="$nvidia"
        fi
    } >>"$log" 2>&1
}

# --- the steps, the most telling ones first -------------------------------------------------------

types=q4_0,q4_k,q6_k,q8_0,nf4,iq3_s,f16
# Those of them that activations of integers can be multiplied by.
codes=q4_0,q4_k,q6_k,q8_0,iq3_s
# Those that kernels are looked for in a short time.
few=q4_0,q4_k
main=4096x14336 others='14336x4096 4096x4096 128256x4096'
each=0.15 tuned=0.03 peak=0.1 copies=256 least=5 sample=1000 batches=1,8 all=45 tune=45 rest=25
tuned_types=$types
if [ -n "$short" ]; then
    each=0.1 tuned=0.02 peak=0.05 batches=1 all=15 tune=15 rest=8
    tuned_types=$few
fi
if [ "$sizes" = tiny ]; then
    types=q4_0 codes=q4_0 few=q4_0 tuned_types=q4_0 main=256x512 others='512x256 256x256 1024x256'
    each=0 tuned=0 peak=0 copies=1 least=1 sample=1 batches=1 all=1 tune=60 rest=1
fi
model=tests/data/storybook-3.7M-Q4_K_M.gguf
tuned_shape=(-m "${main%x*}" -k "${main#*x}")
bench() {
    local step=$1 limit=$2
    shift 2
    step "$step" "$limit" bench --seconds "$each" --footprint "$copies" "$@"
}

state begin
# The last step has what is left, and at least so much.
deadline=$((total - rest))
step check-model 15 check $model --sample $sample -n $batches
step check $all check -n $batches
step peak 20 peak -v --seconds $peak
step tune $tune tune -t "$tuned_types" "${tuned_shape[@]}" -n 1 --seconds $tuned
state benches
bench gemv 25 -t $types --shapes $main -n 1,8
bench gemm 25 -t $types --shapes $main -n 512
bench gemm-f16 20 --activations f16 -t $types --shapes $main -n 512
bench q8 20 --activations q8 -t $codes --shapes $main -n 1,8,512
# Builds that have them.
if "$binary" bench --help | grep -qw q24; then
    bench q24 20 --activations q24 -t $codes --shapes $main -n 1,8,512
fi
bench all $all -t all --shapes $main -n 1
if [ -z "$short" ]; then
    bench tokens 25 -t $types --shapes $main -n 2,4,64
    for shape in $others; do
        bench "$shape" 30 -t $types --shapes "$shape" -n 1,8,512,2,4,64
    done
    bench q8-shapes 25 --activations q8 -t $codes --shapes "${others// /,}" -n 1,8,512
    [ "$sizes" = tiny ] || step tune-tokens 30 tune -t $few "${tuned_shape[@]}" -n 8,512 --seconds $tuned
fi
deadline=$total
[ "$sizes" = full ] || deadline=$((SECONDS + rest))
step check-full $total check --full -v
state end
rm -rf "$run.tuning"
for choices in "$scratch"/qmatmul/tuning-*.json; do
    [ ! -e "$choices" ] || { mkdir -p "$run.tuning" && cp "$choices" "$run.tuning/"; }
done

# --- the page and the archive ---------------------------------------------------------------------

page=$run.md parts=()
for record in "$run"-*.jsonl "$run"-*.jsonl.part; do
    [ ! -s "$record" ] || parts+=("$record")
done
if [ ${#parts[@]} -gt 0 ] && ! "$binary" summary -o "$page" "${parts[@]}"; then failed="$failed summary"; fi
{
    printf '\n## Steps\n\n| step | ended | s |\n|---|---|--:|\n'
    # The last word on each, in the order of the first.
    awk -F '\t' 'NF > 2 { if (!($1 in last)) order[count++] = $1; last[$1] = $2 " | " $3 }
        END { for (i = 0; i < count; i++) print "| " order[i] " | " last[order[i]] " |" }' "$steps"
    for step in $late; do echo "| $step | not begun | |"; done
} >>"$page"
[ -n "$failed$late$stopped" ] || grep -q '^end' "$steps" || echo end >>"$steps"
# What is sent says nobody's name.
tilde='~'
if [ -n "${HOME:-}" ] && [ "$HOME" != / ]; then
    text=$(cat "$log")
    printf '%s\n' "${text//"$HOME"/$tilde}" >"$log"
fi
archive=$archives/$adapter-$DATE-$name.tar.gz
(
    shopt -s nullglob
    cd "$RECORDS" && tar -czf "$scratch/archive" "$adapter/$DATE-$name".* "$adapter/$DATE-$name"-*.jsonl*
) && mv "$scratch/archive" "$archive" || failed="$failed archive"

say
sed -E '/^## (One|Several|Tuning|Peak|Records)/,$d' "$page"
say "records  $run-*.jsonl"
say "page     $page"
say "log      $log"
say "archive  $archive: all of it, to attach to an issue"
[ -z "$late" ] || complain "no time was left for:$late; run it again to continue"
[ -z "$stopped" ] || { complain "interrupted: run it again to continue"; exit 130; }
[ -z "$failed" ] || { complain "failed:$failed (see the log)"; exit 1; }
