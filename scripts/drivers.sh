#!/usr/bin/env bash
# The tests on every software driver that there is, and every composed shader through other compilers.   drivers.sh [RUN...]
#
#   lavapipe{,-128,-512}   Mesa's driver as installed, at subgroups of 8, 4 and 16
#   sid{,-128,-512}        the newest Mesa of Debian, with cooperative matrices at 8
#   swiftshader, gl        the low end: subgroups of 4 without f16; neither subgroups nor f16
#   lavapipe-layer, sid-layer   under the Vulkan validation layer, which must report nothing
#   tint, tint-defaults, dxc, fxc, msl, spirv, spirv-sid   compilers and validators on what naga reads and writes; -defaults: on a
#                          device with the limits that a page gets which asks for no others
#   dx12                   the command for Windows on Wine's Direct3D 12: every format, all activations, the models of this repository (root only)
#
# Sets up what is missing below target/drivers from Debian's packages and one of npm, without installing anything. What must fail stands
# in drivers/expected.txt with its reason. Results go to target/drivers/results, a table to standard output; the exit status is not 0
# if something failed that is not expected, or if a run could not be set up.
set -uo pipefail
cd "$(dirname "$0")/.."
scripts=$PWD/scripts/drivers
target=${CARGO_TARGET_DIR:-$PWD/target}
here=$PWD/target/drivers
tools=$here/tools
sid=$here/sid/root
results=$here/results
jobs=${JOBS:-2}
# The longest that one of them may take, in seconds.
limit=${LIMIT:-3600}
# Parts of the gpu lane (tests/gpu) that are about shaders, each in a process of its own; `full` is the full lane (tests/full), every
# format × every kernel × every shape.
quick=(golden grid full)
all=("${quick[@]}" mistakes determinism bitsandbytes uniform hub_floats hub_integers encode int8 lora runtime)
# Fewer, as in TESTS=grid.
[ -z "${TESTS:-}" ] || read -ra all <<<"$TESTS"
[ -z "${TESTS:-}" ] || quick=("${all[@]}")
runs=(tint tint-defaults dxc fxc msl spirv spirv-sid dx12 sid swiftshader gl lavapipe sid-128 sid-512 lavapipe-128 lavapipe-512 sid-layer lavapipe-layer)
[ $# = 0 ] || runs=("$@")
mkdir -p "$results" "$here/cache"
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$here} RUST_BACKTRACE=0
for run in "${runs[@]}"; do rm -f "$results/$run".*; done

. scripts/debian.sh

# --- setting up -----------------------------------------------------------------------------------------------------------------

# Programs of the machine's own suite: SwiftShader, the validation layer, clang, Wine, a compiler for it.
set_up_tools() {
    [ -e "$tools/done" ] && return
    say "fetching the compilers and SwiftShader (200 MB) ..."
    local archives=$here/archives
    mkdir -p "$archives/partial"
    rm -f "$archives"/*.deb
    # What is installed already is not fetched; a closure of dependencies is for what runs, single packages for what is only taken from.
    apt -o Dir::Cache::archives="$archives" install -y --download-only --no-install-recommends --reinstall \
        wine64 clang-14 gcc-mingw-w64-x86-64-win32 vulkan-validationlayers &&
        (cd "$archives" && apt download chromium-common) && unpack "$archives" "$tools" || return 1
    # A wrapper that looks for the server in /usr, and a library that the package leaves to a link.
    ln -sf wineserver64 "$tools/usr/lib/wine/wineserver"
    cp --remove-destination "$tools/usr/x86_64-w64-mingw32/lib/zlib1.dll" "$tools/$libraries/wine/x86_64-windows/" || return 1
    touch "$tools/done"
}

# Libraries only: nothing in this root is started but the dynamic linker, so it needs no chroot.
set_up_sid() {
    [ -e "$sid/done" ] && return
    say "fetching the newest Mesa (80 MB) ..."
    fetch_sid "$here/sid" mesa-vulkan-drivers libvulkan1 libstdc++6 vulkan-validationlayers spirv-tools && touch "$sid/done"
}

# Chromium's WebGPU for node, and Microsoft's compiler, which it ships for Windows.
set_up_webgpu() {
    [ -e "$here/package/index.js" ] && return
    say "fetching Dawn (50 MB) ..."
    (cd "$here" && npm pack --silent webgpu >>setup.log 2>&1 && tar xzf webgpu-*.tgz)
}

set_up_dxc() {
    [ "$here/dxc/done" -nt "$scripts/fxc.c" ] && [ "$here/dxc/done" -nt "$scripts/dxc.c" ] && return
    set_up_tools && set_up_webgpu || return 1
    mkdir -p "$here/dxc"
    cp "$here/package/dist/win32-x64"/{dxcompiler,d3dcompiler_47}.dll "$tools/usr/x86_64-w64-mingw32/lib/zlib1.dll" "$here/dxc" || return 1
    local compiler
    for compiler in dxc fxc; do
        PATH=$tools/usr/bin:$PATH x86_64-w64-mingw32-gcc-win32 -O1 -Wall "$scripts/$compiler.c" -o "$here/dxc/$compiler.exe" || return 1
    done
    wine "$here/dxc/dxc.exe" && touch "$here/dxc/done" # the first start makes Wine's own folder
}

wine() {
    WINEPREFIX=$here/wine WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml=;d3dcompiler_47=n" LD_LIBRARY_PATH=$tools/$libraries \
        "$tools/usr/lib/wine/wine64" "$@" 2>>"$here/setup.log"
}

# The tests and the command, with the OpenGL backend. Lines `NAME PATH`.
build() {
    say "building ..."
    cargo build -j"$jobs" --features gl &&
        cargo test -j"$jobs" --features gl --lib --test gpu --test full --no-run 2>&1 | tee "$here/build.log" >&2 || return 1
    sed -nE 's#^ *Executable [a-z ]*(src|tests)/([a-z_0-9]+)(/main)?\.rs \((.*)\)$#\2 \4#p' "$here/build.log" >"$here/binaries"
}

binary() { awk -v name="$1" '$1 == name { print $2; exit }' "$here/binaries"; }

# Every composed shader in every language, from the test that translates them.
set_up_shaders() {
    # Those of this build, once for all compilers.
    [ "$here/shaders/done" -nt "$(binary lib)" ] && return
    rm -rf "$here/shaders"
    mkdir -p "$here/shaders"
    QMATMUL_SHADERS=$here/shaders "$(binary lib)" every_cell_translates >>"$here/setup.log" 2>&1 && touch "$here/shaders/done"
}

# --- running --------------------------------------------------------------------------------------------------------------------

# Sets `on`: how to start a binary on the driver of a run.
driver() {
    local run=$1 width=256 layer=
    case $run in *-128) width=128 ;; *-512) width=512 ;; esac
    # A cache for each run: the key of Mesa's own does not tell all of these apart.
    on=(env MESA_SHADER_CACHE_DIR="$here/cache/$run" XDG_CACHE_HOME="$here/cache/$run")
    [ $width = 256 ] || on+=(LP_NATIVE_VECTOR_WIDTH=$width)
    case $run in
    lavapipe*) layer=$tools ;;
    sid*) layer=$sid ;;
    esac
    case $run in *-layer)
        # Its messages go to a file: a test binary has no log. `info` shows that it is there at all. No names in shaders, as the
        # layer of Debian's stable suite stops at the mention of WGSL.
        cat >"$here/$run.settings" <<EOF
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn,info
khronos_validation.log_filename = $results/$run.layer
EOF
        rm -f "$results/$run.layer"
        on+=(WGPU_VALIDATION=1 WGPU_DEBUG=0 VK_LAYER_PATH="$layer/usr/share/vulkan/explicit_layer.d" VK_LAYER_SETTINGS_PATH="$here/$run.settings"
            VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation LD_LIBRARY_PATH="$layer/$libraries")
        ;;
    esac
    case $run in
    lavapipe*) on+=(WGPU_BACKEND=vulkan VK_DRIVER_FILES="$(ls /usr/share/vulkan/icd.d/lvp_icd*.json | head -n 1)") ;;
    sid*)
        on+=(WGPU_BACKEND=vulkan VK_DRIVER_FILES="$sid/usr/share/vulkan/icd.d/lvp_icd.json"
            "$sid/usr/lib64/ld-linux-x86-64.so.2" --library-path "$sid/$libraries")
        ;;
    swiftshader) on+=(WGPU_BACKEND=vulkan VK_DRIVER_FILES="$tools/usr/lib/chromium/vk_swiftshader_icd.json") ;;
    gl) on+=(WGPU_BACKEND=gl EGL_PLATFORM=surfaceless) ;;
    esac
}

# tests_to_lines FILE: libtest's output to `pass TEST` and `FAIL TEST: message` lines, and the sum of what tests say they checked.
tests_to_lines() {
    awk -v file="$1" '
        /^test .* \.\.\. ok$/ { print "pass " file "::" $2 }
        /^test .* \.\.\. ignored/ { print "SKIP " file "::" $2 ": ignored by the tests themselves" }
        /^test .* \.\.\. FAILED$/ { failed[$2] = 1 }
        /^---- .* stdout ----$/ { test = $2; message = 0 }
        /^checks: / { checks += $2 }
        /panicked at/ { message = 1; next }
        /^note: / || /^stack backtrace:/ || /^$/ { message = 0 }
        message && failed[test] && !/^[0-9]+ of [0-9]+ failed:$/ { print "FAIL " file "::" test ": " $0; told[test] = 1 }
        /^test result: / { finished = 1 }
        END {
            for (t in failed) if (!told[t]) print "FAIL " file "::" t ": no message"
            if (!finished) print "FAIL " file ": died or ran out of time"
            print "checks " checks + 0
        }'
}

run_tests() {
    local run=$1 file start=$SECONDS
    shift
    local log=$results/$run.log
    : >"$results/$run.lines"
    : >"$log"
    driver "$run"
    "${on[@]}" "$target/debug/qmatmul" devices -f jsonl >"$results/$run.device" 2>>"$log" || { cannot "$run" "no adapter"; return; }
    for file in "$@"; do
        case $file in
        full) timeout "$limit" "${on[@]}" "$(binary full)" --show-output >"$results/$run.out" 2>&1 ;;
        *) timeout "$limit" "${on[@]}" "$(binary gpu)" "$file::" --show-output >"$results/$run.out" 2>&1 ;;
        esac
        cat "$results/$run.out" >>"$log"
        tests_to_lines "$file" <"$results/$run.out" >>"$results/$run.lines"
    done
    case $run in *-layer) layer_to_lines "$run" >>"$results/$run.lines" ;; esac
    row "$run" $((SECONDS - start))
}

# The validation layer's complaints, one line for each id; a layer that was not there has not passed.
layer_to_lines() {
    local log=$results/$1.layer
    if ! [ -s "$log" ]; then
        echo "FAIL layer: it said nothing at all, so it was not loaded"
        return
    fi
    grep -E 'Validation (Error|Warning|Performance Warning): ' "$log" |
        sed -E 's/.*Validation (Error|Warning|Performance Warning): \[ ([^ ]*) \]/\2/; s/0x[0-9a-f]+/0x.../g' | sort | uniq -c |
        while read -r count text; do echo "FAIL layer: $text ($count times)"; done
    echo "pass layer: loaded"
}

run_compiler() {
    local run=$1 start=$SECONDS
    set_up_shaders || { cannot "$run" "the shaders do not translate (setup.log)"; return; }
    cd "$here/shaders"
    "compile_$run" >"$results/$run.lines" 2>"$results/$run.log" || echo "FAIL $run: ended with status $?" >>"$results/$run.lines"
    cd - >/dev/null
    grep -q '^pass ' "$results/$run.lines" || echo "FAIL $run: not one shader passed" >>"$results/$run.lines"
    # What must be refused: else the compiler checks nothing.
    "control_$run" 2>>"$results/$run.log" | grep -q '^FAIL ' || echo "FAIL $run: takes a shader that is wrong" >>"$results/$run.lines"
    compiler "$run" >"$results/$run.device"
    [ "$run" != fxc ] || fxc_times | tee "$results/fxc.times" >&2
    row "$run" $((SECONDS - start))
}

# Some at a time: a command line of Windows holds 32,767 characters, and Dawn once died after 600.
in_parts() {
    local i command=$1
    shift
    for ((i = 1; i <= $#; i += 300)); do "$command" "${@:i:300}" || return; done
}
compile_tint() { in_parts tint ./*.wgsl; }
compile_tint-defaults() { in_parts tint_defaults ./*.wgsl; }
compile_dxc() { in_parts dxc ./*.hlsl | sed -u 's/\r$//'; }
dxc() { wine "$here/dxc/dxc.exe" "$@"; }
# What is offered to devices without DXC, some at a time on each core.
compile_fxc() {
    local core files=(./*.hlsl51)
    for ((core = 0; core < jobs; core++)); do
        fxc_part $(for ((i = core; i < ${#files[@]}; i += jobs)); do echo "${files[i]}"; done) >"$here/fxc.$core" &
    done
    wait
    for ((core = 0; core < jobs; core++)); do cat "$here/fxc.$core"; done
}
# It ends where a shader takes too long: the others are taken up again behind it.
fxc_part() {
    local lines
    while [ $# -gt 0 ]; do
        lines=$(fxc "${@:1:60}")
        [ -n "$lines" ] || { echo "FAIL $1: FXC died"; shift; continue; }
        printf '%s\n' "$lines"
        shift "$(wc -l <<<"$lines")"
    done
}
fxc() { wine "$here/dxc/fxc.exe" "$@" | sed -u 's/\r$//'; }
# The time that FXC takes for a shader, by kernel: shaders, median and longest.
fxc_times() {
    sed -nE 's/^pass [0-9]+\.([a-z_0-9]+)\..*: ([0-9]+) ms$/\1 \2/p' "$results/fxc.lines" | sort -k1,1 -k2,2n |
        awk '{ if ($1 != kernel) { tell(); kernel = $1; n = 0 } time[n++] = $2 }
            function tell() { if (n) printf "%s: %d shaders, median %d ms, longest %d ms\n", kernel, n, time[int(n / 2)], time[n - 1] }
            END { tell() }'
}
compile_msl() { printf '%s\0' ./*.metal | xargs -0 -n 50 -P "$jobs" "$scripts/msl/check.sh" "$clang"; }
compile_spirv() { spirv_val spirv-val ./*.spv; }
compile_spirv-sid() { spirv_val "$newest_spirv_val" ./*.spv; }
newest_spirv_val="$sid/usr/lib64/ld-linux-x86-64.so.2 --library-path $sid/$libraries $sid/usr/bin/spirv-val"
clang=$tools/usr/lib/llvm-14/bin/clang

# On the newest Mesa, as Dawn wants more than Debian's stable one has.
tint() { dawn "$here/package" "$@"; }
tint_defaults() { dawn --default-limits "$here/package" "$@"; }
dawn() {
    MESA_SHADER_CACHE_DIR=$here/cache/tint VK_DRIVER_FILES=$sid/usr/share/vulkan/icd.d/lvp_icd.json \
        "$sid/usr/lib64/ld-linux-x86-64.so.2" --library-path "$sid/$libraries" "$(readlink -f "$(command -v node)")" \
        "$scripts/tint.mjs" "$@"
}

# As Vulkan wants modules and, as the first error ends it, those that are refused by the rules of SPIR-V alone.
spirv_val() {
    local command=$1 file errors others
    shift
    for file; do
        if errors=$($command --target-env vulkan1.1 "$file" 2>&1); then
            echo "pass $(basename "$file")"
        else
            others=$($command --target-env spv1.3 "$file" 2>&1) && others=none
            echo "FAIL $(basename "$file"): $errors; by the rules of SPIR-V alone: $others" | tr '\n' ' '
            echo
        fi
    done
}

control() { printf '%s\n' "$2" >"$here/control.$1" && echo "$here/control.$1"; }
# Control flow that is not uniform: naga takes it.
control_tint() {
    tint "$(control wgsl '@compute @workgroup_size(8) fn main(@builtin(local_invocation_index) i: u32) { if (i < 4u) { workgroupBarrier(); } }')"
}
control_tint-defaults() { control_tint; }
control_dxc() { wine "$here/dxc/dxc.exe" "$(control hlsl '[numthreads(8, 1, 1)] void main(uint3 i) { }')"; }
# A component at an index that only the device knows: it compiles, and is wrong.
control_fxc() {
    wine "$here/dxc/fxc.exe" "$(control hlsl51 'ByteAddressBuffer x : register(t0); RWByteAddressBuffer y : register(u0);
[numthreads(4, 1, 1)] void main(uint3 i : SV_DispatchThreadID) { float4 v = asfloat(x.Load4(0)); y.Store(4 * i.x, asuint(v[x.Load(16 + 4 * i.x) & 3])); }')"
}
control_msl() {
    "$scripts/msl/check.sh" "$clang" "$(control metal '#include <metal_stdlib>
kernel void main_(device metal::float4& y, device metal::uint4 const& x) { y = x; }')"
}
control_spirv() { half_a_module && spirv_val spirv-val "$here/control.spv"; }
control_spirv-sid() { half_a_module && spirv_val "$newest_spirv_val" "$here/control.spv"; }
half_a_module() { head -c 2000 "$(binary_of_a_shader)" >"$here/control.spv"; }
binary_of_a_shader() { find "$here/shaders" -name '*.dequantize.*.spv' | head -n 1; }

# One line: what a compiler calls itself.
compiler() {
    case $1 in
    tint*) echo "Tint of Dawn for node $(sed -nE 's/^ *"version": "(.*)",/\1/p' "$here/package/package.json"), $(sed -n 's/^Dawn //p' "$results/$1.log" | head -n 1)" ;;
    dxc) echo "DXC of the same package, under $(wine --version)" ;;
    fxc) echo "FXC of the same package, under $(wine --version)" ;;
    msl) echo "$("$clang" --version | head -n 1), a header for Metal" ;;
    spirv) spirv-val --version | head -n 1 ;;
    spirv-sid) $newest_spirv_val --version | head -n 1 ;;
    esac
}

# --- telling --------------------------------------------------------------------------------------------------------------------

# expected RUN: the lines of a run that failed, told apart by drivers/expected.txt. Prints counts `unexpected expected` and leaves
# the lines themselves in RUN.unexpected and RUN.expected; entries that did not come true are in RUN.passes.
sort_failures() {
    local run=$1 runs pattern reason
    grep '^FAIL ' "$results/$run.lines" >"$results/$run.unexpected"
    : >"$results/$run.expected"
    : >"$results/$run.passes"
    while IFS=$'\t' read -r runs pattern reason; do
        # shellcheck disable=SC2254
        case $runs in '' | '#'*) continue ;; esac
        case ",$runs," in *",$run,"*) ;; *) continue ;; esac
        if grep -qE -- "$pattern" "$results/$run.unexpected"; then
            grep -E -- "$pattern" "$results/$run.unexpected" | sed "s|^FAIL|expected ($reason):|" >>"$results/$run.expected"
            grep -vE -- "$pattern" "$results/$run.unexpected" >"$results/$run.rest"
            mv "$results/$run.rest" "$results/$run.unexpected"
        else
            echo "$run: expected to fail and does not: $pattern ($reason)" >>"$results/$run.passes"
        fi
    done <"$scripts/expected.txt"
}

# row RUN SECONDS: a line of the table.
row() {
    local run=$1 seconds=$2 passed checks name driver subgroup features failed
    sort_failures "$run"
    passed=$(grep -c '^pass ' "$results/$run.lines")
    checks=$(awk '$1 == "checks" { n += $2 } END { print n + 0 }' "$results/$run.lines")
    failed=$(wc -l <"$results/$run.unexpected")
    if [ "$(wc -l <"$results/$run.device")" -gt 1 ]; then
        IFS='|' read -r driver subgroup features < <(device "$run")
        [ "$run" != swiftshader ] || driver+=" of Chromium $(sed -nE 's/.*chromium-common_([^-]*)-.*/\1/p' <<<"$(ls "$here"/archives/chromium-common*)")"
    else
        driver=$(cat "$results/$run.device") subgroup=- features=- checks=-
    fi
    echo "| $run | $driver | $subgroup | $features | $passed | $checks | $failed | $(wc -l <"$results/$run.expected") | $seconds |" \
        >"$results/$run.row"
    [ "$failed" = 0 ] || { say "$run:"; head -n 20 "$results/$run.unexpected" | cut -c 1-400 >&2; }
    # How many failed for each reason.
    sed -nE 's/^expected \((.*)\): .*/\1/p' "$results/$run.expected" | sed 's/): .*//' | sort | uniq -c | sort -rn | sed "s/^/$run: /" >&2
    cat "$results/$run.passes" >&2
    say "$(cat "$results/$run.row")"
}

# The first adapter of `qmatmul devices`, which is the one that tests take.
device() {
    local driver subgroup features
    driver=$(sed -nE '2 s/.*"driver":"([^"]*)".*/\1/p' "$results/$1.device")
    # [8,8] as 8, [4,8] as 4 to 8.
    subgroup=$(sed -nE '2 s/.*"subgroup":(null|\[[0-9,]*\]).*/\1/p' "$results/$1.device" | sed -E 's/null/none/; s/\[([0-9]+),\1\]/\1/; s/\[([0-9]+),([0-9]+)\]/\1 to \2/')
    features=$(sed -nE '2 s/.*"features":\[([^]]*)\].*/\1/p' "$results/$1.device" | tr -d '"' | tr ',' ' ')
    echo "$driver|$subgroup|$features"
}

cannot() {
    say "$1 was not run: $2"
    echo "| $1 | not run: $2 | - | - | 0 | - | - | - | - |" >"$results/$1.row"
    touch "$results/$1.not-run"
}

. "$scripts/windows.sh"
trap stop_windows EXIT

build || exit 1
for run in "${runs[@]}"; do
    case $run in
    lavapipe | gl) ;;
    lavapipe-layer | swiftshader) set_up_tools || { cannot "$run" "packages cannot be fetched (target/drivers/setup.log)"; continue; } ;;
    sid*) set_up_sid || { cannot "$run" "Debian sid cannot be fetched (target/drivers/setup.log)"; continue; } ;;
    tint*) set_up_sid && set_up_webgpu || { cannot "$run" "Dawn or Mesa cannot be fetched (target/drivers/setup.log)"; continue; } ;;
    dxc | fxc) set_up_dxc || { cannot "$run" "Wine, mingw-w64 or DXC cannot be fetched or do not start (target/drivers/setup.log)"; continue; } ;;
    dx12) set_up_windows || { cannot "$run" "packages cannot be fetched, or this is not root (target/drivers/setup.log)"; continue; } ;;
    spirv) command -v spirv-val >/dev/null || { cannot "$run" "spirv-val (package spirv-tools) is not installed"; continue; } ;;
    msl) set_up_tools || { cannot "$run" "clang cannot be fetched (target/drivers/setup.log)"; continue; } ;;
    esac
    case $run in
    lavapipe | sid | swiftshader | gl) run_tests "$run" "${all[@]}" ;;
    lavapipe* | sid*) run_tests "$run" "${quick[@]}" ;;
    tint | tint-defaults | dxc | fxc | msl | spirv | spirv-sid) run_compiler "$run" ;;
    dx12) run_dx12 "$run" ;;
    *) say "no run is called $run"; exit 2 ;;
    esac
done

echo "| run | driver | subgroup | features | passed | checks in them | failed | expected failures | s |"
echo "|---|---|---|---|---|---|---|---|---|"
for run in "${runs[@]}"; do cat "$results/$run.row"; done
for run in "${runs[@]}"; do
    cut -c 1-300 "$results/$run.unexpected" "$results/$run.passes" 2>/dev/null
done
for run in "${runs[@]}"; do [ ! -e "$results/$run.not-run" ] && [ ! -s "$results/$run.unexpected" ] || exit 1; done
