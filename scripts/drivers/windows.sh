# The command for Windows, built and run on Linux: a part of drivers.sh, which has `here`, `results` and what debian.sh gives.
#
# Debian sid has a Wine whose Direct3D 12 is enough for wgpu (vkd3d over Vulkan: feature level 11.1, shader model 5.1), mingw-w64, and a Rust
# with the sources of its standard library, which is built, too, as Debian has none for Windows. They lie in a root of their own and are run
# there (`in_root.sh`). Wine's server and a display stay until `stop_windows`.

windows=$here/windows
windows_root=$windows/root
mingw=x86_64-w64-mingw32
windows_target=x86_64-pc-windows-gnu

set_up_windows() {
    [ "$(id -u)" = 0 ] || { say "chroot needs root"; return 1; }
    mkdir -p "$windows"
    [ -e "$windows/done" ] || {
        say "fetching Wine, mingw-w64 and Rust for it (600 MB) ..."
        fetch_sid "$windows" base-files bash coreutils dash libc-bin ca-certificates rustc cargo rust-src gcc libc6-dev \
            gcc-mingw-w64-x86-64-win32 wine wine64 libwine mesa-vulkan-drivers libvulkan1 xvfb x11-xkb-utils xkb-data \
            libgl1 libegl1 libgl1-mesa-dri libx11-6 libxext6 libxrandr2 libxrender1 libxcomposite1 libxcursor1 libxfixes3 libxi6 \
            libxinerama1 libxxf86vm1 || return 1
        ln -sf gcc "$windows_root/usr/bin/cc"
        mkdir -p "$windows_root/etc/ssl/certs" "$windows/bin"
        cp -L /etc/ssl/certs/ca-certificates.crt "$windows_root/etc/ssl/certs/" && cp -L /etc/resolv.conf "$windows_root/etc/" || return 1
        # A library that the package leaves to a link that nobody makes.
        cp --remove-destination "$windows_root/usr/$mingw/lib/zlib1.dll" "$windows_root/$libraries/wine/x86_64-windows/" || return 1
        touch "$windows/done"
    }
    set_up_webgpu && cp -u "$here/package/dist/win32-x64/d3dcompiler_47.dll" "$windows/bin/"
}

# in_windows COMMAND...: in that root, with this project at /project and this folder at /windows.
in_windows() { "$scripts/../in_root.sh" "$windows_root" "$PWD=/project" "$windows=/windows" -- "$@"; }

# Microsoft's compiler lies beside the program and is taken instead of Wine's own. The display has a number that nobody else takes.
wine_of_sid() {
    in_windows env -i HOME=/root PATH=/usr/bin:/bin LC_ALL=C.UTF-8 DISPLAY=:7719 XDG_RUNTIME_DIR=/tmp WINEPREFIX=/windows/wine WINEDEBUG=-all \
        WINEDLLOVERRIDES="mscoree,mshtml=;d3dcompiler_47=n" VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json \
        WGPU_BACKEND="${WGPU_BACKEND:-dx12}" WGPU_DEBUG="${WGPU_DEBUG:-0}" WGPU_VALIDATION=0 "/$libraries/wine/$1" "${@:2}" 2>>"$here/setup.log"
}

start_windows() {
    local socket=$windows_root/tmp/.X11-unix/X7719 second
    [ -S "$socket" ] && return
    in_windows env -i HOME=/root PATH=/usr/bin:/bin Xvfb :7719 -screen 0 640x480x24 -nolisten tcp >>"$here/setup.log" 2>&1 </dev/null &
    echo $! >"$windows/display"
    for second in {1..20}; do [ -S "$socket" ] && break || sleep 1; done
    [ -S "$socket" ] || { say "no display for Wine"; return 1; }
    # Started alone, as it would keep a pipe open that the first program writes to.
    wine_of_sid wineserver -p >>"$here/setup.log" 2>&1 </dev/null
    wine_of_sid wine cmd /c exit >>"$here/setup.log" 2>&1 </dev/null
    cp -u "$windows_root/usr/$mingw/lib/zlib1.dll" "$windows/wine/drive_c/windows/system32/"
}

stop_windows() {
    local display
    [ -e "$windows/display" ] || return 0
    wine_of_sid wineserver -k >/dev/null 2>&1
    display=$(cat "$windows/display")
    kill $(pgrep -P "$display") "$display" 2>/dev/null
    rm -f "$windows/display" "$windows_root/tmp/.X11-unix/X7719" "$windows_root/tmp/.X7719-lock"
}

# cargo_for_windows VERB ARGS...
cargo_for_windows() {
    in_windows env -i HOME=/root PATH=/usr/bin:/bin RUSTC_BOOTSTRAP=1 CARGO_HOME=/windows/cargo CARGO_TARGET_DIR=/windows/target \
        CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=$mingw-gcc-win32 bash -c 'cd /project && exec cargo "$@"' _ \
        "$1" -j"$jobs" -Zbuild-std=std,panic_unwind --target $windows_target "${@:2}"
}

build_for_windows() {
    say "building for Windows ..."
    touch src/lib.rs # so that warnings are reported again
    cargo_for_windows build --release --bin qmatmul >"$results/$1.build" 2>&1 &&
        cp "$windows/target/$windows_target/release/qmatmul.exe" "$windows/bin/"
}

qmatmul_exe() { wine_of_sid wine /windows/bin/qmatmul.exe "$@" | sed -u 's/\r$//'; }

# check_to_lines NAME: rows of `check -v -f csv` to `pass` and `FAIL` lines, one for a format (or
# tensor), operation and number of tokens.
check_to_lines() {
    awk -v name="$1" '
        { line = $0; gsub(/"[^"]*"/, "q"); split($0, field, ",") }
        NR == 1 { if (line !~ /^tensor,format,shape,op,activations,n,.*,ok,problem$/) bad = line; next }
        /,true,$/ { print "pass " name "::" field[1] "::" field[4] "::" field[6]; passed++; next }
        { print "FAIL " name "::" field[1] ": " line }
        END {
            if (NR < 2) print "FAIL " name ": no rows"
            if (bad != "") print "FAIL " name ": " bad
            print "checks " passed + 0
        }'
}

# The command on a device of DirectX 12: every format with all kinds of activations, with FXC and its optimizer and without, and every
# model of this repository.
run_dx12() {
    local run=$1 start=$SECONDS activations file debug
    start_windows && build_for_windows "$run" || { cannot "$run" "Wine or the build for Windows failed (target/drivers/setup.log, results/$run.build)"; return; }
    sed -n 's/^warning: \(.*\)/FAIL build: \1/p' "$results/$run.build" >"$results/$run.lines"
    qmatmul_exe devices -f jsonl >"$results/$run.device" || { cannot "$run" "no adapter"; return; }
    for activations in f32 f16 q8 int8; do
        qmatmul_exe check -n 1,3,8,64 --activations $activations -v -f csv 2>>"$results/$run.log" | check_to_lines "$activations" >>"$results/$run.lines"
    done
    WGPU_DEBUG=1 qmatmul_exe check -n 1,8 -v -f csv 2>>"$results/$run.log" | check_to_lines "unoptimized" >>"$results/$run.lines"
    for file in tests/data/*.gguf tests/golden/checkpoints/*; do
        case $file in */lora) continue ;; esac # an adapter, not a model
        qmatmul_exe check "/project/$file" -n 1,8 -v -f csv 2>>"$results/$run.log" | check_to_lines "$(basename "$file")" >>"$results/$run.lines"
    done
    stop_windows
    row "$run" $((SECONDS - start))
}
